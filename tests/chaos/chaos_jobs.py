"""Jobs for the chaos tests. With ``--set pause=SECONDS`` their tasks take long enough to be hit while they run."""

from __future__ import annotations

import hashlib
import os
import random
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gristmill import MapReduce
from gristmill.shuffle.blocks import read_index

MIB = 1 << 20


class Pausing(MapReduce):
    """Every task waits before its first record."""

    def mapper_init(self) -> None:
        time.sleep(float(self.params.get("pause", 0)))

    def reducer_init(self) -> None:
        time.sleep(float(self.params.get("pause", 0)))


class WordCount(Pausing):
    """Counts words, and its lines by a counter."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        self.counter("lines", "read")
        for word in line.split():
            yield word, 1

    def combiner(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)


class Ordered(Pausing):
    """Lines by their length, in the order of the input: an order of values that went wrong shows."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[int, str]]:
        self.counter("lines", "read")
        yield len(line) % 11, line

    def reducer(self, length: int, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(lines):
            yield length, f"{number} {line}"


class TwoSteps(WordCount):
    """Counts words, then gathers the words of each count."""

    def steps(self) -> Any:
        first = {role: getattr(self, role) for role in ("mapper_init", "mapper", "combiner", "reducer_init", "reducer")}
        return [self.step(**first), self.step(mapper=self.turn, reducer_init=self.reducer_init, reducer=self.gather)]

    def turn(self, word: str, count: int) -> Iterator[tuple[int, str]]:
        yield count, word

    def gather(self, count: int, words: Iterator[str]) -> Iterator[tuple[int, str]]:
        yield count, " ".join(words)


class Shouted(MapReduce):
    """Map-only."""

    def mapper_init(self) -> None:
        time.sleep(float(self.params.get("pause", 0)))

    def mapper(self, _: Any, line: str) -> Iterator[tuple[None, str]]:
        self.counter("lines", "read")
        yield None, line.upper()


class Damaging(WordCount):
    """The first reducer to begin damages blocks before it reads them. Parameters: damage, seed, blocks, data."""

    def reducer_init(self) -> None:
        damage_once(self.params)


class DamagingTwoSteps(TwoSteps):
    """The first reducer of the second step does so. The blocks of the first step may be gone by then."""

    def steps(self) -> Any:
        first, second = super().steps()
        return [first, self.step(mapper=self.turn, reducer_init=self.damage, reducer=second.reducer)]

    def damage(self) -> None:
        damage_once(self.params)


def damage_once(params: Mapping[str, Any]) -> None:
    """Damage some of the newest step's blocks, unless somebody has done it before."""
    data = Path(params["data"])
    try:
        os.close(os.open(data / "damaged", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    chance = random.Random(int(params["seed"]))
    found = sorted(data.glob("**/jobs/*/blocks/*.block"))
    newest = max(re.findall("-s[0-9]+-", path.name)[-1] for path in found)
    blocks = [path for path in found if newest in path.name]
    chosen = chance.sample(blocks, min(int(params["blocks"]), len(blocks)))
    for path in chosen:
        damage(path, params["damage"], chance)
    (data / "damaged").write_text(str(len(chosen)))


def damage(path: Path, how: str, chance: random.Random) -> None:
    """Flip a bit, cut, empty or delete a block; what is flipped or cut away is data, not the index."""
    size = max(segment.offset + segment.length for segment in read_index(path).segments)
    if how == "delete":
        path.unlink()
    elif how == "flip":
        with path.open("r+b") as file:
            at = chance.randrange(size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))
    else:
        os.truncate(path, chance.randrange(1, size) if how == "cut" else 0)


class Bulky(MapReduce):
    """Makes 100 KB of each line."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[int, bytes]]:
        number = int(line)
        yield number % 7, random.Random(number).randbytes(100_000)

    def reducer(self, key: int, values: Iterator[bytes]) -> Iterator[tuple[int, str]]:
        digest = hashlib.sha256()
        for value in values:
            digest.update(value)
        yield key, digest.hexdigest()


class Hoarding(MapReduce):
    """Collects memory in one map task, and waits to be ended for it."""

    def mapper_init(self) -> None:
        self.hoard: list[bytes] = []

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        if line == "much":
            while len(self.hoard) < 400:
                self.hoard.append(os.urandom(1) * MIB)
            time.sleep(30)
        yield line, 1

    def reducer(self, line: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield line, sum(counts)
