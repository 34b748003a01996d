"""Jobs for the tests of the cluster, and what they must give."""

from __future__ import annotations

import ctypes
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gristmill import MapReduce


class WordCount(MapReduce):
    """Counts words."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)


class SlowMaps(WordCount):
    """Each map task takes a while, and says in a folder that it has begun. Reduce tasks wait for a file.

    With ``places``, map tasks wait until some have begun on so many workers.
    """

    def mapper_init(self) -> None:
        folder = Path(self.params["folder"])
        (folder / f"map-{time.monotonic_ns()}-{os.getppid()}").touch()
        deadline = time.monotonic() + 60
        while len(_parents(folder)) < self.params.get("places", 1) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(self.params.get("seconds", 0.1))

    def reducer_init(self) -> None:
        folder = Path(self.params["folder"])
        (folder / f"reduce-{time.monotonic_ns()}").touch()
        deadline = time.monotonic() + 60
        while self.params.get("gate") and not (folder / "gate").exists() and time.monotonic() < deadline:
            time.sleep(0.01)


def _parents(folder: Path) -> set[str]:
    """The processes above those that have begun map tasks: each worker has its own."""
    return {path.name.rpartition("-")[2] for path in folder.glob("map-*")}


class HoldsTheGil(WordCount):
    """A mapper that holds the interpreter's lock in one call to C, for a while."""

    def mapper_init(self) -> None:
        ctypes.PyDLL(None).usleep(int(self.params["seconds"] * 1e6))


def write_words(folder: Path, lines: int = 2000) -> tuple[Path, Counter[str]]:
    """Some text, and how often each of its words is in it."""
    text = "".join(
        f"{' '.join(f'w{(line * 7 + place * place) % 97}' for place in range(9))}\n" for line in range(lines)
    )
    path = folder / "words.txt"
    path.write_text(text)
    return path, Counter(text.split())


def counts_in(output: Path) -> Counter[str]:
    """What a word count wrote."""
    found: Counter[str] = Counter()
    for part in output.glob("part-*"):
        for line in part.read_text().splitlines():
            word, count = line.split("\t")
            found[word] += int(count)
    return found
