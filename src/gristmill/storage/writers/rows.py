"""Elements of a dataset as rows with named columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

from gristmill.storage.writers.base import unencodable

_VALUE = ("value",)
_ADVICE = "Give all elements the same columns (columns=[…] chooses some of them), or write jsonl, which takes any."


class ElementLayout:
    """The columns of one part, told by its first element, or given.

    Dicts, dataclasses and named tuples have columns by name, tuples ``_1``, ``_2`` and so on; anything else is one
    column ``value``. Given names choose among named columns; they replace the others. A later dict may lack columns;
    it has others only where columns are chosen.

    Args:
        format: for messages.
        given: names; may be empty.
        first: the first element.
    """

    def __init__(self, format: str, given: Sequence[str], first: Any) -> None:
        self._format = format
        self._chosen = bool(given)
        found = _names_of(first)
        self._is_dict = isinstance(first, dict)
        self._by_name = found is not None
        if found is None:
            found = tuple(f"_{n}" for n in range(1, len(first) + 1)) if isinstance(first, tuple) else _VALUE
        self._is_tuple = isinstance(first, tuple) and not self._by_name
        self._own = found
        self.names = tuple(given) or found
        for name in self.names:
            if not isinstance(name, str):
                raise unencodable(
                    format, f"the column {name!r} is not named by a string.", None, first, "", element=True
                )
        if not self.names:
            raise unencodable(format, "it has no columns.", None, first, "Write jsonl instead.", element=True)
        if not self._by_name and len(self.names) != len(self._own):
            problem = f"it has {len(self._own)} columns, and {len(self.names)} names were given."
            raise unencodable(format, problem, None, first, "", element=True)
        if self._by_name and not self._is_dict and (missing := set(self.names) - set(self._own)):
            raise self._misfit(f"it has no column {min(missing)!r}.", first)

    def columns(self, _keys: Sequence[Any], values: Sequence[Any]) -> list[Sequence[Any]]:
        """The elements as columns, in the order of ``names``.

        Raises:
            OutputUnencodable: an element has other columns.
        """
        if self._is_dict:
            return self._of_dicts(values)
        if self._by_name:
            return self._of_named(values)
        kinds = set(map(type, values))
        if not self._is_tuple:
            for value in values if any(map(_has_columns, kinds)) else ():
                if _has_columns(type(value)):
                    raise self._misfit("it has columns, and the first one had none.", value)
            return [values]
        width = len(self._own)
        if kinds != {tuple} or set(map(len, values)) != {width}:
            for value in values:
                if not isinstance(value, tuple) or len(value) != width:
                    raise self._misfit(f"it is not a tuple of {width}, as the first one was.", value)
        return list(zip(*values, strict=True))

    def _of_dicts(self, values: Sequence[Any]) -> list[Sequence[Any]]:
        known = set(self.names)
        for value in values:
            if not isinstance(value, dict):
                raise self._misfit("it is not a dict, as the first one was.", value)
            if not self._chosen and not known.issuperset(value):
                new = next(name for name in value if name not in known)
                raise self._misfit(f"it has a column {new!r}, which the first one had not.", value)
        return [[value.get(name) for value in values] for name in self.names]

    def _of_named(self, values: Sequence[Any]) -> list[Sequence[Any]]:
        for kind in set(map(type, values)):
            if _names_of_type(kind) != self._own:
                wrong = next(value for value in values if type(value) is kind)
                raise self._misfit("it has not the columns that the first one had.", wrong)
        return [list(map(attrgetter(name), values)) for name in self.names]

    def _misfit(self, problem: str, value: Any) -> Exception:
        return unencodable(self._format, problem, None, value, _ADVICE, element=True)


def record_of(value: Any, given: Sequence[str]) -> Any:
    """An element as a dict, if it has columns by name or ``given`` names them; else the element as it is."""
    if isinstance(value, dict):
        return {name: value.get(name) for name in given} if given else value
    names = _names_of(value)
    if names is not None:
        return {name: getattr(value, name) for name in given or names}
    if not given:
        return value
    row = value if isinstance(value, tuple) else (value,)
    if len(row) != len(given):
        raise ValueError(f"it has {len(row)} columns, and {len(given)} names were given.")
    return dict(zip(given, row, strict=True))


def _names_of(value: Any) -> tuple[str, ...] | None:
    """The columns of an element that has them by name."""
    kind: Any = type(value)
    return tuple(value) if isinstance(value, dict) else _names_of_type(kind)


@cache
def _names_of_type(kind: Hashable) -> tuple[str, ...] | None:
    assert isinstance(kind, type)
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if issubclass(kind, tuple) and isinstance(fields := getattr(kind, "_fields", None), tuple):
        return fields
    return None


def _has_columns(kind: Any) -> bool:
    return issubclass(kind, (dict, tuple)) or _names_of_type(kind) is not None
