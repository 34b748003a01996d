"""How an input is read: what goes beyond its format, as plain values that travel with its splits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from gristmill.errors import UsageError
from gristmill.storage.hive import Value
from gristmill.storage.pruning import Condition

Pairs = tuple[tuple[str, str], ...]

RECORD_FORMATS = ("csv", "jsonl", "parquet", "orc", "avro")
"""Formats whose records are dicts: columns and filters are theirs."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How an input is read.

    Attributes:
        columns: the only ones that records have, in this order; None: all.
        filter: conditions that all must hold for a record; see ``pruning``.
        partitioning: ``hive``: all folders of a file's path that look like ``key=value`` are columns; empty: none is;
            None: those below the directory, or in the glob, that the user named.
        header: whether the first row of a csv file names its columns; else they are ``_1``, ``_2`` and so on.
        delimiter: what stands between the fields of a csv file.
        partitions: the columns that one file has by its folders: name, type (``int`` or ``str``), value.
    """

    columns: tuple[str, ...] | None = None
    filter: tuple[Condition, ...] = ()
    partitioning: str | None = None
    header: bool = True
    delimiter: str = ","
    partitions: tuple[tuple[str, str, Value], ...] = ()

    def __post_init__(self) -> None:
        if self.columns is not None and len(set(self.columns)) < len(self.columns):
            raise UsageError(f"columns names a column twice: {', '.join(self.columns)}.")
        if self.partitioning not in (None, "", "hive"):
            raise UsageError(f"{self.partitioning!r} is no partitioning; it is 'hive' or ''.")
        if len(self.delimiter) != 1 or self.delimiter in '\r\n"':
            raise UsageError(f"{self.delimiter!r} cannot be a delimiter: write one character, such as ';' or '\\t'.")

    def check(self, format: str) -> None:
        """See whether a format has these options.

        Raises:
            UsageError: it has not.
        """
        if format not in RECORD_FORMATS and (self.columns is not None or self.filter):
            raise UsageError(f"Records of the format {format} have no columns: it takes neither columns nor a filter.")
        if format != "csv" and (not self.header or self.delimiter != ","):
            raise UsageError(f"header and delimiter are options of csv, not of {format}.")

    def with_partitions(self, values: dict[str, Value], integers: set[str]) -> ReadOptions:
        """Those of one file.

        Args:
            values: its columns by its folders.
            integers: which of them are integers.
        """
        found = tuple((name, "int" if name in integers else "str", value) for name, value in values.items())
        return replace(self, partitions=found)

    def wanted(self) -> tuple[str, ...] | None:
        """The columns of a file that must be read: those of records and those of the filter. None: all."""
        if self.columns is None:
            return None
        by_folder = {name for name, _, _ in self.partitions}
        names = dict.fromkeys((*self.columns, *(condition.column for condition in self.filter)))
        return tuple(name for name in names if name not in by_folder)

    def to_pairs(self) -> Pairs:
        """As pairs of strings; none for what is as usual."""
        pairs: dict[str, str] = {}
        if self.columns is not None:
            pairs["columns"] = json.dumps(self.columns)
        if self.filter:
            pairs["filter"] = json.dumps([[each.column, each.op, each.value] for each in self.filter])
        if self.partitioning is not None:
            pairs["partitioning"] = self.partitioning
        if not self.header:
            pairs["header"] = "false"
        if self.delimiter != ",":
            pairs["delimiter"] = self.delimiter
        if self.partitions:
            pairs["partitions"] = json.dumps(self.partitions)
        return tuple(pairs.items())

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> ReadOptions:
        """The inverse of :meth:`to_pairs`.

        Raises:
            UsageError: there is no such option, or its value makes no sense.
        """
        values: dict[str, Any] = {}
        for name, text in pairs:
            if name not in _PARSERS:
                raise UsageError(f"{name!r} is not an option of inputs; there are: {', '.join(_PARSERS)}.")
            try:
                values[name] = _PARSERS[name](text)
            except (ValueError, TypeError) as error:
                raise UsageError(f"{text!r:.100} is not a value of the option {name!r} of an input.") from error
        return cls(**values) if values else USUAL


def _columns(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(text)
    return tuple(names)


def _filter(text: str) -> tuple[Condition, ...]:
    return tuple(_condition(*each) for each in json.loads(text))


def _condition(column: Any, op: Any, value: Any) -> Condition:
    if not isinstance(column, str) or not isinstance(op, str):
        raise ValueError(column)
    return Condition(column, op, tuple(value) if isinstance(value, list) else value)


def _header(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _partitions(text: str) -> tuple[tuple[str, str, Value], ...]:
    return tuple((name, kind, value) for name, kind, value in json.loads(text))


_PARSERS: dict[str, Callable[[str], Any]] = {
    "columns": _columns,
    "filter": _filter,
    "partitioning": str,
    "header": _header,
    "delimiter": str,
    "partitions": _partitions,
}

USUAL = ReadOptions()
