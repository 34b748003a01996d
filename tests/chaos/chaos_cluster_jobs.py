"""Jobs for the chaos tests of clusters. What goes wrong with one of their rows shows in the output."""

from __future__ import annotations

import ctypes
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

from gristmill import MapReduce

FACTOR = 70_001
KEYS = 100_003  # a prime, so that FACTOR has an inverse


class Spread(MapReduce):
    """Deals numbers out to keys. A line is a range of numbers; ``write_ranges`` makes them.

    A key's numbers come in a fixed distance of each other, the smallest first: a row that is missing, comes twice, or
    in another order is found by the reducer or by the count. Parameters: ``keys``, and ``pause`` for each map task.
    """

    def mapper_init(self) -> None:
        self.keys = int(self.params.get("keys", KEYS))
        time.sleep(float(self.params.get("pause", 0)))

    def mapper(self, _: Any, line: str) -> Iterator[tuple[int, int]]:
        start, stop = map(int, line.split())
        for number in range(start, stop):
            yield number * FACTOR % self.keys, number

    def reducer_init(self) -> None:
        self.mapper_init()

    def reducer(self, key: int, numbers: Iterator[int]) -> Iterator[tuple[int, str]]:
        first = last = next(numbers)
        count = 1
        for number in numbers:
            if number != last + self.keys:
                raise AssertionError(f"{number} comes after {last} of key {key}")
            last = number
            count += 1
        yield key, f"{first} {count}"


class Chatty(Spread):
    """The same, and each attempt says that it has begun, and under a name of its own.

    Parameter ``witness``: a file, which is told of the name as well, and when it was printed.
    """

    def mapper_init(self) -> None:
        name = uuid.uuid4().hex
        print(f"a task begins: {name}", flush=True)
        with Path(self.params["witness"]).open("a") as witness:
            witness.write(f"{name} {time.time()}\n")  # at once, for it is short
        super().mapper_init()


def write_ranges(path: Path, numbers: int, lines: int) -> Path:
    """The input of Spread: all numbers below ``numbers``."""
    step = numbers // lines
    path.write_text("".join(f"{start} {start + step}\n" for start in range(0, step * lines, step)))
    return path


def expected_spread(numbers: int, keys: int = KEYS) -> dict[int, str]:
    """What Spread makes of them, by arithmetic: no row is made for it."""
    inverse = pow(FACTOR, -1, keys)
    found = {}
    for key in range(keys):
        first = key * inverse % keys
        if first < numbers:
            found[key] = f"{first} {(numbers - first + keys - 1) // keys}"
    return found


class InvertedIndex(MapReduce):
    """The lines in which each word stands."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, str]]:
        for word in sorted(set(line.split())):
            yield word, line[:20]

    def reducer(self, word: str, lines: Iterator[str]) -> Iterator[tuple[str, str]]:
        yield word, "|".join(lines)


class Moody(MapReduce):
    """Each run of a map task says something else, and all of its rows say the same.

    The reducers' output names, for each line, the run that its rows came from. A line of one run in one partition, of
    another in the next: a mixture. Parameters: ``pause`` for each reducer, ``maps`` for each map task.
    """

    def mapper_init(self) -> None:
        time.sleep(float(self.params.get("maps", 0)))

    def mapper(self, _: Any, line: str) -> Iterator[tuple[int, str]]:
        run = uuid.uuid4().hex[:12]
        for key in range(40):
            yield key, f"{line}={run}"

    def reducer_init(self) -> None:
        time.sleep(float(self.params.get("pause", 0)))

    def reducer(self, key: int, rows: Iterator[str]) -> Iterator[tuple[int, str]]:
        for row in rows:
            yield key, row


class HoldsTheGil(MapReduce):
    """Sleeps in C without letting go of the interpreter's lock: no other thread of the executor runs meanwhile."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        began = time.monotonic()
        ctypes.PyDLL(None).usleep(int(float(self.params["seconds"]) * 1e6))
        yield line, int(time.monotonic() - began + 0.5)


class Bulky(MapReduce):
    """A line is a number of MiB, which cannot be pressed into less; the reducers tell how much they got of each."""

    def mapper(self, number: Any, line: str) -> Iterator[tuple[int, bytes]]:
        chance = random.Random(line)
        for piece in range(16 * int(line.split()[-1])):
            yield piece % 7, chance.randbytes(1 << 16)

    def reducer(self, key: int, pieces: Iterator[bytes]) -> Iterator[tuple[int, str]]:
        count = checksum = 0
        for piece in pieces:
            count += 1
            checksum = crc32(piece, checksum)
        yield key, f"{count} {checksum}"


def expected_bulk(lines: list[str]) -> dict[str, str]:
    """What Bulky makes of these lines."""
    counts, checksums = [0] * 7, [0] * 7
    for line in lines:
        chance = random.Random(line)
        for piece in range(16 * int(line.split()[-1])):
            counts[piece % 7] += 1
            checksums[piece % 7] = crc32(chance.randbytes(1 << 16), checksums[piece % 7])
    return {str(key): f"{counts[key]} {checksums[key]}" for key in range(7)}


class Copying(MapReduce):
    """The output is as large as the shuffled data."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[int, bytes]]:
        yield from Bulky.mapper(self, _, line)  # type: ignore[arg-type]

    def reducer(self, key: int, pieces: Iterator[bytes]) -> Iterator[tuple[int, str]]:
        for piece in pieces:
            yield key, piece.hex()
