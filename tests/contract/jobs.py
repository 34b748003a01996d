"""Jobs for the contract suite. A marker file makes an executor kill itself once, in the middle of its work."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gristmill import MapReduce

WORD = re.compile(r"[^\W\d_]+")


def die_once(marker: str) -> None:
    """SIGKILL this process, the first time anybody asks for it."""
    try:
        descriptor = os.open(marker, os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    os.close(descriptor)
    os.kill(os.getpid(), signal.SIGKILL)


class WordCount(MapReduce):
    """Counts words; dies once at a word in the mapper or the reducer, if told to."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        for word in WORD.findall(line):
            yield word, 1

    def combiner(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)


class DyingWordCount(WordCount):
    """The same words, with executors that die at ``die_at`` in the mapper and in the reducer."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        for word in WORD.findall(line):
            if word == self.params["die_at"]:
                die_once(self.params["marker"] + "-map")
            yield word, 1

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        if word == self.params["die_at"]:
            die_once(self.params["marker"] + "-reduce")
        yield word, sum(counts)


class Index(MapReduce):
    """Words and the files they stand in: values are grouped, not combined."""

    input_format = "whole"

    def mapper(self, path: str, text: str) -> Iterator[tuple[str, str]]:
        for word in WORD.findall(text):
            yield word, Path(path).name

    def reducer(self, word: str, names: Iterator[str]) -> Iterator[tuple[str, str]]:
        yield word, ",".join(sorted(set(names)))


class Joined(MapReduce):
    """Keeps the order of values visible: they are joined, not added."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[int, str]]:
        yield len(line) % 5, line

    def combiner(self, length: int, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
        yield length, "|".join(lines)

    def reducer(self, length: int, lines: Iterator[str]) -> Iterator[tuple[int, str]]:
        yield length, "|".join(lines)


class TopWords(WordCount):
    """Two steps: count, then the commonest of all."""

    def steps(self) -> Any:
        return [
            self.step(mapper=self.mapper, combiner=self.combiner, reducer=self.reducer),
            self.step(mapper=self.turn, reducer=self.first),
        ]

    def turn(self, word: str, count: int) -> Iterator[tuple[int, tuple[int, str]]]:
        yield 0, (-count, word)

    def first(self, _: int, pairs: Iterator[tuple[int, str]]) -> Iterator[tuple[str, int]]:
        for negative, word in sorted(pairs)[:5]:
            yield word, -negative


class Lines(MapReduce):
    """Map-only: the lines that hold a word."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[None, str]]:
        if "the" in line:
            self.counter("lines", "found")
            yield None, line


class Remembering(MapReduce):
    """Keeps state on self, from its constructor on: it must be gone with the attempt."""

    def __init__(self) -> None:
        self.lines = 0

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        self.lines += 1
        yield "lines", self.lines

    def reducer(self, key: str, values: Iterator[int]) -> Iterator[tuple[str, str]]:
        yield key, ",".join(map(str, values))
