"""``parquet``: row groups of bounded size, types told by the first rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gristmill.config import MIB
from gristmill.storage.writers.base import PartWriter, first_failing, unencodable
from gristmill.storage.writers.layout import KEY_VALUE, Layout

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Rows are turned into Arrow in pieces that depend on the rows alone, never on how they were handed over, so that the
# same rows make the same file.
_MEASURED_ROWS = 256
_PIECE_ROWS = 8192
_PIECE_BYTES = 8 * MIB
_ROW_GROUP_BYTES = 16 * MIB
_MAX_DECIMAL_DIGITS = 38
_ADVICE = (
    "A parquet column holds one type. Yield values of one type, or write jsonl, which takes any: --output-format jsonl."
)


class ParquetPart(PartWriter):
    """Writes ``parquet``."""

    _layout: Layout | None = None
    _writer: pq.ParquetWriter | None = None
    _measured = 0  # pending rows of which the size is known
    _measured_bytes = 0

    def _write_batch(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        if self._layout is None:
            self._layout = Layout("parquet", keys[0], values[0])
            self._columns: list[list[Any]] = [[] for _ in self._layout.names]
            self._types: dict[str, pa.DataType] = {}
            self._tables: list[pa.Table] = []
        for column, more in zip(self._columns, self._layout.columns(keys, values), strict=True):
            column.extend(more)
        while len(self._columns[0]) - self._measured >= _MEASURED_ROWS:
            begin, end = self._measured, self._measured + _MEASURED_ROWS
            self._measured = end
            self._measured_bytes += sum(_sizes(column[begin:end]) for column in self._columns)
            if end >= _PIECE_ROWS or self._measured_bytes >= _PIECE_BYTES:
                self._convert(end)

    def _finish(self) -> None:
        import pyarrow as pa

        if self._layout is None:  # no rows, so no types: the file is only there to be whole
            schema = pa.schema([(name, pa.null()) for name in KEY_VALUE])
            self._write_group(pa.table({name: pa.nulls(0) for name in KEY_VALUE}, schema=schema))
        else:
            if self._columns[0]:
                self._convert(len(self._columns[0]))
            self._write_tables()
        if self._writer is not None:
            self._writer.close()

    def _give_up(self) -> None:
        # Arrow's writer writes its footer when it is closed or collected: now, while the file is open.
        if self._writer is not None:
            with suppress(OSError):  # the disk may be full; the file is about to be removed
                self._writer.close()
            self._writer.is_open = False

    def _convert(self, rows: int) -> None:
        """Turn the first pending rows into Arrow; write a row group when there are enough of them."""
        import pyarrow as pa

        assert self._layout is not None
        arrays = []
        for name, column in zip(self._layout.names, self._columns, strict=True):
            arrays.append(self._array(name, column[:rows]))
        for column in self._columns:
            del column[:rows]
        self._measured = self._measured_bytes = 0
        self._tables.append(pa.Table.from_arrays(arrays, names=list(self._layout.names)))
        if sum(table.nbytes for table in self._tables) >= _ROW_GROUP_BYTES:
            self._write_tables()

    def _array(self, name: str, column: list[Any]) -> pa.Array:
        import pyarrow as pa

        column = _plain(column)
        kind = self._types.get(name)
        failures = (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError)
        try:
            array = _convert(column, kind)
        except failures as error:
            index = first_failing(lambda rows: _convert(column[:rows], kind), len(column), failures)
            raise self._misfit(name, error, index) from error
        if kind is None and "null" not in str(array.type):
            kind = self._types[name] = _roomy(array.type)
            array = array.cast(kind)
        return array

    def _misfit(self, name: str, error: object, index: int) -> Exception:
        assert self._layout is not None
        row = [column[index] for column in self._columns]
        key, value = (None, dict(zip(self._layout.names, row, strict=True))) if self._layout.is_dict else row
        return unencodable("parquet", f"column {name!r}: {str(error).rstrip('.')}.", key, value, _ADVICE)

    def _write_tables(self) -> None:
        import pyarrow as pa

        if not self._tables:
            return
        try:
            schemas = [table.schema for table in self._tables]
            schema = self._writer.schema if self._writer else pa.unify_schemas(schemas)
            table = pa.concat_tables([table.cast(schema) for table in self._tables])
        except pa.ArrowException as error:
            raise unencodable("parquet", error, "…", "…", _ADVICE) from error
        self._tables.clear()
        self._write_group(table)

    def _write_group(self, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))


def _convert(column: list[Any], kind: pa.DataType | None) -> pa.Array:
    """A column as an array of type ``kind``, or of the type that its values say."""
    import pyarrow as pa

    # Not pa.array(column, type=kind): that turns 1.5 into 1 without a word.
    array = pa.array(column)
    found = array.type
    if kind is None or found == kind:
        return array
    kinds = pa.types
    fits = (
        kinds.is_null(found)
        or (kinds.is_integer(found) and kinds.is_floating(kind))
        or (kinds.is_decimal(found) and kinds.is_decimal(kind))
        or (kinds.is_nested(found) and found.id == kind.id)
    )
    if not fits:
        raise pa.ArrowTypeError(f"{found} among {kind}")
    return array.cast(kind)


def _roomy(kind: pa.DataType) -> pa.DataType:
    """A decimal type with as many digits as there can be: later rows may need more than the first ones."""
    import pyarrow as pa

    return pa.decimal128(_MAX_DECIMAL_DIGITS, kind.scale) if pa.types.is_decimal128(kind) else kind


def _plain(column: list[Any]) -> list[Any]:
    if any(issubclass(kind, (Enum, UUID)) for kind in set(map(type, column))):
        return [_plain_value(value) for value in column]
    return column


def _plain_value(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    return str(value) if isinstance(value, UUID) else value


def _sizes(values: list[Any]) -> int:
    kinds = set(map(type, values))
    if kinds == {str} or kinds == {bytes}:
        return sum(map(len, values))
    if kinds <= {int, float, bool}:
        return 8 * len(values)
    return sum(map(_size, values))


def _size(value: Any) -> int:
    """About how many bytes a value takes."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, dict):
        return 8 + sum(map(_size, value)) + sum(map(_size, value.values()))
    if isinstance(value, (list, tuple)):
        return 8 + sum(map(_size, value))
    return 16 if isinstance(value, Decimal) else 8
