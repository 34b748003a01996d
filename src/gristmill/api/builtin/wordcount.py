"""``wordcount``: how often does each word stand? A word is a run of letters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from gristmill.api.builtin import is_yes
from gristmill.api.mapreduce import MapReduce

_find_words = re.compile(r"[^\W\d_]+").findall


class WordCount(MapReduce):
    """Count the words of text files: each word and how often it stands. A word is a run of letters."""

    PARAMETERS: ClassVar[dict[str, str]] = {"ignore_case": "yes: The and the are one word, written small."}

    def mapper_init(self) -> None:
        """Look at the parameters once a task."""
        self._lower = is_yes(self.params.get("ignore_case"))

    def mapper(self, _: None, line: str) -> Iterator[tuple[str, int]]:
        """One of each word."""
        for word in _find_words(line.lower() if self._lower else line):
            yield word, 1

    def combiner(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        """Add up early, so that less goes through the shuffle."""
        yield word, sum(counts)

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        """The word and how often it stands."""
        yield word, sum(counts)
