"""What parquet and orc have in common: batches with the columns of a file's folders, filtered, and as records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

from gristmill.records.block import RecordBlock
from gristmill.storage.pruning import Condition, NotComparable
from gristmill.storage.read_options import ReadOptions
from gristmill.storage.readers.blocks import Block, unreadable_file

if TYPE_CHECKING:
    import pyarrow as pa

_COMPARISONS = {
    "==": "equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}
_EXACT_FLOAT = 1 << 53
_SHOWN_COLUMNS = 30


class Rows(NamedTuple):
    """Some consecutive rows of a file.

    Attributes:
        batch: those that the filter keeps, with the columns that records have.
        first: number of the first row, kept or not.
        read: how many there were.
        kept: which of them; None: all.
    """

    batch: pa.RecordBatch
    first: int
    read: int
    kept: Sequence[bool] | None

    def number_of(self, index: int) -> int:
        """The row of the record at ``index``."""
        if self.kept is None:
            return self.first + index
        return next(row for at, row in enumerate(compress(range(self.read), self.kept)) if at == index) + self.first


class Shaper:
    """Makes of a file's batches what its records are to be.

    Args:
        options: how it is read.
        source: the file, for people.

    Raises:
        RecordMalformed: at :meth:`check`, :meth:`shape`: the file lacks a column, or a filter does not fit one.
    """

    def __init__(self, options: ReadOptions, source: str) -> None:
        self._options = options
        self._source = source
        self._tests = [(condition, condition.test()) for condition in options.filter]

    def check(self, names: Sequence[str]) -> list[str] | None:
        """See whether a file has the columns that are wanted, and tell which of it are to be read; None: all."""
        if len(set(names)) < len(names):
            raise unreadable_file(self._source, "two of its columns have the same name.")
        if problem := missing_column(self._options, names):
            raise unreadable_file(self._source, problem)
        wanted = self._options.wanted()
        return None if wanted is None else list(wanted)

    def shape(self, batch: pa.RecordBatch, first: int) -> Rows:
        """The rows of a batch that the filter keeps, with the columns that records have."""
        import pyarrow as pa

        read = batch.num_rows
        columns = {name: plain(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
        for name, kind, value in self._options.partitions:
            columns[name] = pa.repeat(pa.scalar(value, pa.int64() if kind == "int" else pa.string()), read)
        mask = self._mask(columns)
        if self._options.columns is not None:
            columns = {name: columns[name] for name in self._options.columns}
        if not columns:  # rows without columns are still rows
            left = read if mask is None else sum(mask.to_pylist())
            shaped = pa.RecordBatch.from_struct_array(pa.array([{}] * left, pa.struct([])))
        else:
            shaped = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
            shaped = shaped if mask is None else shaped.filter(mask)
        return Rows(shaped, first, read, None if mask is None else mask.to_pylist())

    def _mask(self, columns: dict[str, pa.Array]) -> pa.Array | None:
        """Which rows the filter keeps; None: all."""
        import pyarrow as pa
        import pyarrow.compute as pc

        mask = None
        for condition, test in self._tests:
            column = columns[condition.column]
            holds = _compared(column, condition)
            if holds is None:
                try:
                    holds = pa.array([test(value) for value in column.to_pylist()], pa.bool_())
                except NotComparable as error:
                    raise unreadable_file(self._source, f"its column {condition.column!r} {error}.") from error
            mask = holds if mask is None else pc.and_(mask, holds)
        return None if mask is None or pc.all(mask, min_count=0).as_py() else mask


def blocks_of(
    rows: Iterator[Rows], row_bytes: int, source: str, before: Callable[[], int] = int
) -> Iterator[RecordBlock]:
    """Rows as blocks of dicts.

    Args:
        rows: what was read.
        row_bytes: about how many bytes of the file a row is.
        source: the file, for people.
        before: tells how many rows of the file are in front of those counted; asked only where a record is located.
    """
    for some in rows:
        if some.read:
            yield Block(records(some.batch), row_bytes * some.read, source, partial(_number, some, before))


def _number(rows: Rows, before: Callable[[], int], index: int) -> int:
    return before() + rows.number_of(index)


def records(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch as dicts."""
    names = batch.schema.names
    if not names:
        return [{} for _ in range(batch.num_rows)]
    columns = [column.to_pylist() for column in batch.columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def missing_column(options: ReadOptions, names: Sequence[str]) -> str | None:
    """What is to be said if a file, which has the columns ``names``, lacks one that is wanted."""
    known = {*names, *(name for name, _, _ in options.partitions)}
    wanted = (*(options.columns or ()), *(condition.column for condition in options.filter))
    for name in wanted:
        if name not in known:
            some = ", ".join([*names, *(name for name, _, _ in options.partitions)][:_SHOWN_COLUMNS])
            return f"it has no column {name!r}; there are: {some}."
    return None


def plain(column: pa.Array) -> pa.Array:
    """A column with timestamps to the microsecond, which is what Python's datetime holds."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return column.cast(pa.timestamp("us", kind.tz), safe=False)
    return column


def _compared(column: pa.Array, condition: Condition) -> pa.Array | None:
    """A condition by Arrow, where that is for sure the same as by Python; else None."""
    import pyarrow as pa
    import pyarrow.compute as pc

    value, kind = condition.value, column.type
    if condition.op not in _COMPARISONS or value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        exact = pa.types.is_signed_integer(kind) or (pa.types.is_float64(kind) and abs(value) < _EXACT_FLOAT)
    elif isinstance(value, float):
        exact = pa.types.is_float64(kind)
    else:
        exact = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not exact:
        return None
    try:
        scalar = pa.scalar(value, kind)
    except (pa.ArrowException, OverflowError, UnicodeError):
        return None
    holds = getattr(pc, _COMPARISONS[condition.op])(column, scalar)
    return pc.fill_null(holds, condition.op == "!=")
