"""The job of ``gristmill demo``: count words. Also ``gristmill run gristmill.cli.demo_job FILE...``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gristmill import MapReduce

_find_words = re.compile(r"[^\W\d_]+").findall


class WordCount(MapReduce):
    """Count the words; a word is a run of letters."""

    def mapper(self, _: None, line: str) -> Iterator[tuple[str, int]]:
        """One of each word."""
        for word in _find_words(line):
            yield word, 1

    def combiner(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        """Add up early, so that less goes through the shuffle."""
        yield word, sum(counts)

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        """The word and how often it stands."""
        yield word, sum(counts)
