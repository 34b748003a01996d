"""``csv``: a header and rows. None is an empty cell; lists, tuples and dicts are cells of JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import is_dataclass
from typing import Any

from gristmill.storage.writers.base import PartWriter, unencodable
from gristmill.storage.writers.layout import Layout
from gristmill.storage.writers.plain import plain, to_json
from gristmill.storage.writers.rows import ElementLayout

_AS_IS = frozenset((str, int, float, bool, type(None)))
_NESTED = (dict, list, tuple)
_ADVICE = "Turn the value into a string or a number, or write jsonl: --output-format jsonl."


class CsvPart(PartWriter):
    """Writes ``csv``, with LF as line end."""

    format = "csv"
    compresses = True
    _layout: Layout | ElementLayout | None = None

    def _write_batch(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        text = ""
        if self._layout is None:
            self._layout = self._layout_of(keys[0], values[0])
            text = _encode([self._layout.names])
        columns = [_cells(column) for column in self._layout.columns(keys, values)]
        try:
            text += _encode(zip(*columns, strict=True))
            self._file.write(text.encode("utf-8", "surrogateescape"))
        except (TypeError, ValueError, RecursionError) as error:
            raise self._unencodable(keys, values) from error

    def _unencodable(self, keys: Sequence[Any], values: Sequence[Any]) -> Exception:
        assert self._layout is not None
        for key, value in zip(keys, values, strict=True):
            columns = [_cells(column) for column in self._layout.columns([key], [value])]
            try:
                _encode(zip(*columns, strict=True)).encode("utf-8", "surrogateescape")
            except (TypeError, ValueError, RecursionError) as error:
                return unencodable("csv", error, key, value, _ADVICE, element=self._options.elements)
        raise AssertionError("one of the rows cannot be encoded")


def _encode(rows: Iterable[Sequence[Any]]) -> str:
    rows = list(rows)
    text = _rows(rows, csv.QUOTE_MINIMAL)
    # Python quotes what holds the line end that it is told to write, but not every lone CR, on which readers stumble.
    return _rows(rows, csv.QUOTE_ALL) if "\r" in text else text


def _rows(rows: Iterable[Sequence[Any]], quoting: int) -> str:
    buffer = io.StringIO(newline="")
    writer: Callable[..., Any] = csv.writer
    writer(buffer, lineterminator="\n", quoting=quoting).writerows(rows)
    return buffer.getvalue()


def _cells(column: Sequence[Any]) -> Iterable[Any]:
    return column if set(map(type, column)) <= _AS_IS else map(_cell, column)


def _cell(value: Any) -> Any:
    if type(value) in _AS_IS:
        return value
    if isinstance(value, _NESTED) or is_dataclass(value):
        return to_json(value)
    return plain(value)
