"""``grep``: the lines that match a regular expression, in the order of the input. There is no reducer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from gristmill.api.builtin import is_yes
from gristmill.api.mapreduce import MapReduce
from gristmill.errors import UsageError

_MAX_PATTERN = 4096  # characters: to compile one takes the server's time


class Grep(MapReduce):
    """The lines of text files that match a regular expression, in their order."""

    PARAMETERS: ClassVar[dict[str, str]] = {
        "pattern": "the regular expression, as Python writes them. There must be one.",
        "ignore_case": "yes: capital and small letters are the same.",
        "invert": "yes: the lines that do not match.",
    }

    def steps(self) -> Any:
        """One step; an expression that is none is found before anything is started."""
        pattern = self.params.get("pattern")
        if not isinstance(pattern, str) or not 0 < len(pattern) <= _MAX_PATTERN:
            limit = f" It has at most {_MAX_PATTERN:,} characters." if isinstance(pattern, str) and pattern else ""
            raise UsageError(f'The job grep wants the parameter "pattern": --set pattern=REGEX.{limit}')
        try:
            self._pattern = re.compile(pattern, re.IGNORECASE if is_yes(self.params.get("ignore_case")) else 0)
        except (re.error, RecursionError, OverflowError) as error:
            raise UsageError(f"The pattern {pattern[:200]!r} is not a regular expression: {error}.") from None
        self._wanted = not is_yes(self.params.get("invert"))
        return super().steps()

    def mapper(self, _: None, line: str) -> Iterator[tuple[None, str]]:
        """The line, if it matches."""
        if (self._pattern.search(line) is not None) is self._wanted:
            self.counter("grep", "matching lines")
            yield None, line
