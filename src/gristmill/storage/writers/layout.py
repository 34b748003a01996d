"""Which columns a part has, for formats that have columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gristmill.storage.writers.base import unencodable

KEY_VALUE = ("key", "value")


class Layout:
    """The columns of one part, told by its first pair.

    Where the key is None and the value is a dict, the columns are the dict's; otherwise ``key`` and ``value``. A later
    dict may lack some of them, but has no others.
    """

    def __init__(self, format: str, key: Any, value: Any) -> None:
        self._format = format
        self.is_dict = key is None and isinstance(value, dict)
        self.names: tuple[str, ...] = tuple(value) if self.is_dict else KEY_VALUE
        for name in self.names:
            if not isinstance(name, str):
                raise unencodable(format, f"the column {name!r} is not named by a string.", key, value, "")
        if not self.names:
            raise unencodable(format, "a dict without columns.", key, value, "Write jsonl instead.")

    def columns(self, keys: Sequence[Any], values: Sequence[Any]) -> list[Sequence[Any]]:
        """The pairs as columns, in the order of ``names``.

        Raises:
            OutputUnencodable: a pair has other columns.
        """
        if not self.is_dict:
            return [keys, values]
        known = set(self.names)
        for key, value in zip(keys, values, strict=True):
            if key is not None or not isinstance(value, dict):
                raise self._misfit("it is not a dict under the key None, as the first one was.", key, value)
            if not known.issuperset(value):
                new = next(name for name in value if name not in known)
                raise self._misfit(f"it has a column {new!r}, which the first one had not.", key, value)
        return [[value.get(name) for value in values] for name in self.names]

    def _misfit(self, problem: str, key: Any, value: Any) -> Exception:
        advice = "Yield (None, dict) with the same columns each time, or write jsonl: --output-format jsonl."
        return unencodable(self._format, problem, key, value, advice)
