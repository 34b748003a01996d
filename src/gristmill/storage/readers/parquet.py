"""``parquet``: row groups as splits, a row a record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gristmill.config import MIB
from gristmill.errors import InputUnreadable
from gristmill.records.block import RecordBlock
from gristmill.storage.contracts import Split
from gristmill.storage.pruning import groups_that_may_hold
from gristmill.storage.read_options import USUAL, ReadOptions
from gristmill.storage.readers.blocks import CHUNK_BYTES, source_of
from gristmill.storage.readers.columns import Rows, Shaper, blocks_of, missing_column
from gristmill.storage.readers.opening import open_columns
from gristmill.storage.uris import is_uri

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_BATCH_ROWS = 16_384


def row_group_sizes(path: str, name: str = "", options: ReadOptions = USUAL) -> list[tuple[int, int]]:
    """The row groups of a file that may hold what its filter keeps: number, and stored bytes of what is read of it.

    Raises:
        InputUnreadable: it is not a parquet file, or lacks a column.
    """
    import pyarrow as pa

    try:
        metadata = _metadata(path)
        schema = metadata.schema.to_arrow_schema()
    except (OSError, pa.ArrowException) as error:
        raise InputUnreadable(f"The input {name or path} is not a readable parquet file: {error}") from error
    if problem := missing_column(options, schema.names):
        raise InputUnreadable(f"The input {name or path} cannot be read: {problem}")
    groups: Sequence[int] = range(metadata.num_row_groups)
    if options.filter:
        bounds = _Bounds(metadata, schema, options)
        groups = groups_that_may_hold(options.filter, bounds.of, metadata.num_row_groups)
    wanted = options.wanted()
    return [(group, _stored_bytes(metadata.row_group(group), wanted)) for group in groups]


def read(split: Split, max_record_bytes: int) -> Iterator[RecordBlock]:  # noqa: ARG001 - rows have no limit of their own
    """The rows of row groups ``start`` to ``start + length`` as dicts.

    Timestamps are read to the microsecond, which is what Python's datetime holds.
    """
    source = source_of(split)
    with open_columns(split) as file, _open(file) as opened:
        yield from blocks_of(_rows(split, opened), _row_bytes(split, opened.metadata), source)


def read_batches(split: Split) -> Iterator[pa.RecordBatch]:
    """The same rows as batches."""
    with open_columns(split) as file, _open(file) as opened:
        for rows in _rows(split, opened):
            if rows.batch.num_rows:
                yield rows.batch


def _open(file: Any) -> Any:
    import pyarrow.parquet as pq

    # Buffered, so that a large row group is never in memory as a whole.
    return pq.ParquetFile(file, buffer_size=MIB)


def _rows(split: Split, file: Any) -> Iterator[Rows]:
    metadata = file.metadata
    shaper = Shaper(ReadOptions.from_pairs(split.options), source_of(split))
    columns = shaper.check(file.schema_arrow.names)
    groups = _groups(split)
    row = sum(metadata.row_group(group).num_rows for group in range(split.start))
    batch_rows = min(max(CHUNK_BYTES // _row_bytes(split, metadata), 1), _MAX_BATCH_ROWS)
    for batch in file.iter_batches(batch_rows, row_groups=list(groups), columns=columns, use_threads=False):
        yield shaper.shape(batch, row)
        row += batch.num_rows


def _groups(split: Split) -> range:
    return range(split.start, split.start + split.length)


def _row_bytes(split: Split, metadata: Any) -> int:
    rows = sum(metadata.row_group(group).num_rows for group in _groups(split))
    return max(int(split.size_bytes // max(rows, 1)), 1)


def _metadata(path: str) -> Any:
    import pyarrow.parquet as pq

    if not is_uri(path):
        return pq.read_metadata(path)
    from gristmill.storage.filesystems import naming, open_filesystem

    with naming(path):
        system, key = open_filesystem(path)
        return pq.read_metadata(key, filesystem=system)


def _stored_bytes(group: Any, wanted: Sequence[str] | None) -> int:
    columns = (group.column(index) for index in range(group.num_columns))
    return sum(
        column.total_compressed_size
        for column in columns
        if wanted is None or column.path_in_schema in wanted or column.path_in_schema.partition(".")[0] in wanted
    )


class _Bounds:
    """What the statistics in a file's footer say of its columns."""

    def __init__(self, metadata: Any, schema: pa.Schema, options: ReadOptions) -> None:
        by_folder = {name for name, _, _ in options.partitions}
        self._metadata = metadata
        self._places = {
            metadata.schema.column(place).path: place
            for place in range(metadata.num_columns)
            if metadata.schema.column(place).path in schema.names
        }
        self._known = {
            condition.column
            for condition in options.filter
            if condition.column not in by_folder  # the folder's value wins over the file's
            and condition.column in self._places
            and _has_bounds(schema.field(condition.column).type)
        }

    def of(self, group: int, column: str) -> tuple[Any, Any, int | None, int] | None:
        """See ``groups_that_may_hold``."""
        if column not in self._known:
            return None
        chunk = self._metadata.row_group(group).column(self._places[column])
        found = chunk.statistics
        if found is None:
            return None
        nulls = found.null_count if found.has_null_count else None
        low, high = (found.min, found.max) if found.has_min_max else (None, None)
        return low, high, nulls, chunk.num_values


def _has_bounds(kind: pa.DataType) -> bool:
    """Whether a column's values are ordered as the bounds in its statistics are, and read as these are."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _has_bounds(kind.value_type)
    if types.is_timestamp(kind):
        return bool(kind.unit != "ns")  # values are read to the microsecond, bounds are not
    return any(
        check(kind)
        for check in (types.is_boolean, types.is_signed_integer, types.is_float32, types.is_float64, types.is_string,
                      types.is_large_string, types.is_binary, types.is_date32, types.is_decimal128)
    )  # fmt: skip
