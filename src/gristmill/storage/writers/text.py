r"""``text``: ``key<TAB>value`` lines.

A pair whose key is None is only its value, and the other way around. Strings are written as the bytes they came
from, bytes as they are, all else as ``str()`` says. A tab or a line feed within a key or a value is written ``\t`` or
``\n``, so that a pair is always one line. Nothing else is escaped, a carriage return or a backslash neither: for exact
round trips there are jsonl and parquet.

An element of a dataset is a line of its own: a string or bytes as they are, all else, None too, as ``str()`` says. Tabs
stay; a line feed within is written ``\n``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gristmill.storage.writers.base import PartWriter, unencodable

if TYPE_CHECKING:
    import pyarrow as pa

_NOT_AS_IS = frozenset((type(None), bytes))


class TextPart(PartWriter):
    """Writes ``text``."""

    format = "text"
    compresses = True

    def _write_batch(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        text = join_elements(values) if self._options.elements else join_text(keys, values)
        try:
            self._file.write(text.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError as error:
            raise self._unencodable(keys, values) from error

    def _write_column(self, column: pa.Array) -> bool:
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self._options.elements or column.type not in (pa.string(), pa.binary()) or not len(column):
            return False
        _, offsets, data = column.buffers()
        begin, end = memoryview(offsets).cast("i")[column.offset : column.offset + len(column) + 1 : len(column)]
        if begin < end and b"\n" in data[begin:end].to_pybytes():
            return False
        lists = pa.ListArray.from_arrays(pa.array([0, len(column)], pa.int32()), column.view(pa.string()))
        self._file.write(pc.binary_join(lists, "\n")[0].as_buffer())
        self._file.write(b"\n")
        return True

    def _unencodable(self, keys: Sequence[Any], values: Sequence[Any]) -> Exception:
        element = self._options.elements
        for key, value in zip(keys, values, strict=True):
            try:
                (join_elements([value]) if element else _line(key, value)).encode("utf-8", "surrogateescape")
            except UnicodeEncodeError as error:
                problem = f"{error.object[error.start]!r} is not a character."
                advice = "Write jsonl, which escapes it: --output-format jsonl."
                return unencodable("text", problem, key, value, advice, element=element)
        raise AssertionError("one of the lines cannot be encoded")


def join_text(keys: Sequence[Any], values: Sequence[Any]) -> str:
    """Pairs as lines."""
    rows = len(keys)
    # Types and escapes are looked for in the batch as a whole: nothing is done for each field on the usual way.
    key_types, value_types = set(map(type, keys)), set(map(type, values))
    if key_types == {type(None)} and type(None) not in value_types:
        values = _decoded(values) if bytes in value_types else values
        text = ("%s\n" * rows) % tuple(values)
        if text.count("\n") == rows and "\t" not in text:
            return text
    elif key_types.isdisjoint(_NOT_AS_IS) and value_types.isdisjoint(_NOT_AS_IS):
        fields: list[Any] = [None] * (2 * rows)
        fields[0::2] = keys
        fields[1::2] = values
        text = ("%s\t%s\n" * rows) % tuple(fields)
        if text.count("\n") == rows == text.count("\t"):
            return text
    return "".join(map(_line, keys, values))


def join_elements(values: Sequence[Any]) -> str:
    """Elements as lines."""
    rows = len(values)
    text = ("%s\n" * rows) % tuple(_decoded(values) if bytes in set(map(type, values)) else values)
    if text.count("\n") == rows:
        return text
    return "".join([str(value).replace("\n", "\\n") + "\n" for value in _decoded(values)])


def _line(key: Any, value: Any) -> str:
    fields = [_escaped(field) for field in (key, value) if field is not None]
    return "\t".join(fields) + "\n"


def _escaped(value: Any) -> str:
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
    return text.replace("\t", "\\t").replace("\n", "\\n")


def _decoded(values: Sequence[Any]) -> list[Any]:
    return [value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value for value in values]
