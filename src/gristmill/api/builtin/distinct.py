"""``distinct``: the different lines of the input, and how often each of them stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from gristmill.api.builtin import is_yes
from gristmill.api.mapreduce import MapReduce
from gristmill.errors import UsageError


class Distinct(MapReduce):
    """The different lines of text files, in order, each with how often it stands."""

    PARAMETERS: ClassVar[dict[str, str]] = {
        "strip": "yes: white space at the ends of a line does not count.",
        "at_least": "leave out what stands less often than that; 1.",
    }

    def steps(self) -> Any:
        """One step, with the parameters looked at before anything is started."""
        least = self.params.get("at_least", 1)
        try:
            self._least = int(least)
        except (TypeError, ValueError):
            raise UsageError(f"The parameter at_least is a number, not {least!r}.") from None
        self._strip = is_yes(self.params.get("strip"))
        return super().steps()

    def mapper(self, _: None, line: str) -> Iterator[tuple[str, int]]:
        """The line, once."""
        yield line.strip() if self._strip else line, 1

    def combiner(self, line: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        """Add up early, so that less goes through the shuffle."""
        yield line, sum(counts)

    def reducer(self, line: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        """The line and how often it stands."""
        total = sum(counts)
        if total >= self._least:
            yield line, total
