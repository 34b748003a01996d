"""``jsonl``: ``{"key": …, "value": …}`` a line; or the value itself where the key is None and the value is a dict.

An element of a dataset is its own JSON: what has columns by name an object, a tuple a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

from gristmill.storage.writers.base import PartWriter, unencodable
from gristmill.storage.writers.plain import to_ascii_json, to_json
from gristmill.storage.writers.rows import record_of

_FAILURES = (TypeError, ValueError, RecursionError, AttributeError)
_ADVICE = "Yield numbers, strings, lists and dicts with string keys, or turn the value into them."


class JsonlPart(PartWriter):
    """Writes ``jsonl``, always as valid UTF-8."""

    format = "jsonl"
    compresses = True

    def _write_batch(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        if self._options.elements:
            self._file.write(self._elements(values))
            return
        try:
            try:
                data = _join(keys, values, encode_basestring, to_json).encode()
            except UnicodeEncodeError:  # what surrogateescape kept has no UTF-8, but it has an escape
                data = _join(keys, values, encode_basestring_ascii, to_ascii_json).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise _unencodable(keys, values) from error
        self._file.write(data)

    def _elements(self, values: Sequence[Any]) -> bytes:
        given = self._options.columns
        try:
            try:
                return "".join([to_json(record_of(value, given)) + "\n" for value in values]).encode()
            except UnicodeEncodeError:
                return "".join([to_ascii_json(record_of(value, given)) + "\n" for value in values]).encode()
        except _FAILURES as error:
            for value in values:
                try:
                    to_ascii_json(record_of(value, given))
                except _FAILURES as reason:
                    raise unencodable("jsonl", reason, None, value, _ADVICE, element=True) from error
            raise AssertionError("one of the elements cannot be encoded") from error


Encode = Callable[[Any], str]


def _join(keys: Sequence[Any], values: Sequence[Any], encode_str: Callable[[str], str], encode: Encode) -> str:
    rows = len(keys)
    if type(None) in set(map(type, keys)):
        return "".join([_line(key, value, encode) for key, value in zip(keys, values, strict=True)])
    fields: list[Any] = [None] * (2 * rows)
    fields[0::2] = _column(keys, encode_str, encode)
    fields[1::2] = _column(values, encode_str, encode)
    return ('{"key": %s, "value": %s}\n' * rows) % tuple(fields)


def _column(column: Sequence[Any], encode_str: Callable[[str], str], encode: Encode) -> Iterable[Any]:
    kinds = set(map(type, column))
    if kinds == {str}:
        return map(encode_str, column)
    if kinds == {int}:
        return column
    return map(encode, column)


def _line(key: Any, value: Any, encode: Encode) -> str:
    if key is None and isinstance(value, dict):
        return encode(value) + "\n"
    return f'{{"key": {encode(key)}, "value": {encode(value)}}}\n'


def _unencodable(keys: Sequence[Any], values: Sequence[Any]) -> Exception:
    for key, value in zip(keys, values, strict=True):
        try:
            _line(key, value, to_ascii_json)
        except (TypeError, ValueError, RecursionError) as error:
            return unencodable("jsonl", error, key, value, _ADVICE)
    raise AssertionError("one of the lines cannot be encoded")
