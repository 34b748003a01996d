"""What the writers of formats with typed columns share: rows become Arrow tables of bounded size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gristmill.config import KIB, MIB
from gristmill.storage.targets import Target
from gristmill.storage.writers.base import PartWriter, first_failing, unencodable
from gristmill.storage.writers.layout import KEY_VALUE, Layout
from gristmill.storage.writers.options import WriteOptions
from gristmill.storage.writers.rows import ElementLayout

if TYPE_CHECKING:
    import pyarrow as pa

# Rows are turned into Arrow in pieces that depend on the rows alone, never on how they were handed over, so that the
# same rows make the same file.
_MEASURED_ROWS = 256
_PIECE_ROWS = 8192
_PIECE_BYTES = 8 * MIB
_GROUP_BYTES = 16 * MIB
_SHARED_GROUP_BYTES = 2 * MIB
_MIN_GROUP_BYTES = 256 * KIB
_MAX_DECIMAL_DIGITS = 38
_ADVICE = "holds one type. Yield values of one type, or write jsonl, which takes any: --output-format jsonl."
_ELEMENT_ADVICE = "holds one type. Write values of one type, say which one with schema=…, or write jsonl."


class ColumnarPart(PartWriter):
    """A part that is written a group of rows at a time."""

    _schema_in_use: pa.Schema | None = None

    def __init__(self, target: Target, staged: str, final: str, options: WriteOptions) -> None:
        super().__init__(target, staged, final, options)
        self._layout: Layout | ElementLayout | None = None
        self._measured = 0  # pending rows of which the size is known
        self._measured_bytes = 0
        self._group_bytes, self._piece_bytes = _GROUP_BYTES, _PIECE_BYTES
        if options.partition_by:  # several are open at a time
            self._group_bytes = self._piece_bytes = _SHARED_GROUP_BYTES
        if options.target_bytes:  # it may be cut where a group ends
            share = max(options.target_bytes // 4, _MIN_GROUP_BYTES)
            self._group_bytes, self._piece_bytes = min(self._group_bytes, share), min(self._piece_bytes, share)

    @abstractmethod
    def _write_group(self, table: pa.Table) -> None:
        """Write a table; the first one tells the schema."""

    @abstractmethod
    def _close_writer(self) -> None:
        """Write what comes behind the last group."""

    def _write_batch(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        if self._layout is None:
            self._begin(self._layout_of(keys[0], values[0]))
            assert self._layout is not None
        for column, more in zip(self._columns, self._layout.columns(keys, values), strict=True):
            column.extend(more)
        while len(self._columns[0]) - self._measured >= _MEASURED_ROWS:
            begin, end = self._measured, self._measured + _MEASURED_ROWS
            self._measured = end
            self._measured_bytes += sum(_sizes(column[begin:end]) for column in self._columns)
            if end >= _PIECE_ROWS or self._measured_bytes >= self._piece_bytes:
                self._convert(end)

    def _begin(self, layout: Layout | ElementLayout) -> None:
        self._layout = layout
        self._columns: list[list[Any]] = [[] for _ in layout.names]
        self._types: dict[str, pa.DataType] = {}
        self._tables: list[pa.Table] = []
        self._wanted: dict[str, pa.DataType] = {}
        if (schema := self._options.arrow_schema()) is not None:
            self._wanted = {field.name: field.type for field in schema}

    def _finish(self) -> None:
        if self._layout is None:
            self._write_group(self._no_rows())
        else:
            if self._columns[0]:
                self._convert(len(self._columns[0]))
            self._write_tables()
        self._close_writer()

    def _no_rows(self) -> pa.Table:
        """No rows, so no types, unless they were given: the file is only there to be whole."""
        import pyarrow as pa

        if (schema := self._options.arrow_schema()) is not None:
            return schema.empty_table()
        names = self._options.columns or ("value",) if self._options.elements else KEY_VALUE
        schema = pa.schema([(name, pa.null()) for name in names])
        return pa.table({name: pa.nulls(0) for name in names}, schema=schema)

    def _give_up(self) -> None:
        with suppress(Exception):  # the disk may be full; the file is about to be removed
            self._close_writer()

    def _convert(self, rows: int) -> None:
        """Turn the first pending rows into Arrow; write a group when there are enough of them."""
        import pyarrow as pa

        assert self._layout is not None
        arrays = []
        for name, column in zip(self._layout.names, self._columns, strict=True):
            arrays.append(self._array(name, column[:rows]))
        for column in self._columns:
            del column[:rows]
        self._measured = self._measured_bytes = 0
        self._tables.append(pa.Table.from_arrays(arrays, names=list(self._layout.names)))
        if sum(table.nbytes for table in self._tables) >= self._group_bytes:
            self._write_tables()

    def _array(self, name: str, column: list[Any]) -> pa.Array:
        import pyarrow as pa

        column = _plain(column)
        wanted, kind = self._wanted.get(name), self._types.get(name)
        failures = (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError)

        def convert(rows: int) -> pa.Array:
            return _cast(column[:rows], wanted) if wanted is not None else _convert(column[:rows], kind)

        try:
            array = convert(len(column))
        except failures as error:
            raise self._misfit(name, error, first_failing(convert, len(column), failures)) from error
        if wanted is None and kind is None and "null" not in str(array.type):
            kind = self._types[name] = _roomy(array.type)
            array = array.cast(kind)
        return array

    def _misfit(self, name: str, error: object, index: int) -> Exception:
        assert self._layout is not None
        row = [column[index] for column in self._columns]
        problem = f"column {name!r}: {str(error).rstrip('.')}."
        if isinstance(self._layout, ElementLayout):
            record = dict(zip(self._layout.names, row, strict=True))
            advice = f"A {self.format} column {_ELEMENT_ADVICE}"
            return unencodable(self.format, problem, None, record, advice, element=True)
        key, value = (None, dict(zip(self._layout.names, row, strict=True))) if self._layout.is_dict else row
        return unencodable(self.format, problem, key, value, f"A {self.format} column {_ADVICE}")

    def _write_tables(self) -> None:
        import pyarrow as pa

        if not self._tables:
            return
        try:
            schemas = [table.schema for table in self._tables]
            schema = self._schema_in_use or self._schema_of(pa.unify_schemas(schemas))
            table = pa.concat_tables([table.cast(schema) for table in self._tables])
        except pa.ArrowException as error:
            advice = f"A {self.format} column {_ADVICE}"
            raise unencodable(self.format, error, "…", "…", advice, element=self._options.elements) from error
        self._tables.clear()
        self._schema_in_use = schema
        self._write_group(table)

    def _schema_of(self, schema: pa.Schema) -> pa.Schema:
        """The schema of the file, for one of the first rows."""
        return schema


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


def _cast(column: list[Any], kind: pa.DataType) -> pa.Array:
    """A column as an array of the type that was asked for. No value changes on the way."""
    import pyarrow as pa

    if "map<" in str(kind):  # nothing looks like one by itself
        return pa.array(column, type=kind)
    array = pa.array(column)
    try:
        return array if array.type == kind else array.cast(kind)
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        if not pa.types.is_nested(kind):
            raise
        return pa.array(column, type=kind)  # structs that lack fields, say


def _roomy(kind: pa.DataType) -> pa.DataType:
    """A decimal type with as many digits as there can be: later rows may need more than the first ones."""
    import pyarrow as pa

    return pa.decimal128(_MAX_DECIMAL_DIGITS, kind.scale) if pa.types.is_decimal128(kind) else kind


def _plain(column: list[Any]) -> list[Any]:
    if any(issubclass(kind, (Enum, UUID)) or is_dataclass(kind) for kind in set(map(type, column))):
        return [_plain_value(value) for value in column]
    return column


def _plain_value(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if is_dataclass(value):
        return {field.name: _plain_value(getattr(value, field.name)) for field in fields(value)}
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
