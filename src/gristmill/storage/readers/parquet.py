"""``parquet``: row groups as splits, a row a record."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from gristmill.config import MIB
from gristmill.errors import InputUnreadable
from gristmill.records.block import RecordBlock
from gristmill.storage.contracts import Split
from gristmill.storage.readers.blocks import CHUNK_BYTES, Block, source_of, unreadable_file

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_BATCH_ROWS = 16_384


def row_group_sizes(path: str, name: str = "") -> list[int]:
    """The stored bytes of each row group of a file.

    Raises:
        InputUnreadable: it is not a parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise InputUnreadable(f"The input {name or path} is not a readable parquet file: {error}") from error
    return [_stored_bytes(metadata.row_group(group)) for group in range(metadata.num_row_groups)]


def read(split: Split, max_record_bytes: int) -> Iterator[RecordBlock]:  # noqa: ARG001 - rows have no limit of their own
    """The rows of row groups ``start`` to ``start + length`` as dicts.

    Timestamps are read to the microsecond, which is what Python's datetime holds.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = source_of(split)
    try:
        # Buffered, so that a large row group is never in memory as a whole.
        with pq.ParquetFile(split.path, buffer_size=MIB) as file:
            metadata = file.metadata
            groups = range(split.start, split.start + split.length)
            row = sum(metadata.row_group(group).num_rows for group in range(split.start))
            rows = sum(metadata.row_group(group).num_rows for group in groups)
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise unreadable_file(source, "two of its columns have the same name.")
            row_bytes = max(split.size_bytes // max(rows, 1), 1)
            batch_rows = min(max(CHUNK_BYTES // row_bytes, 1), _MAX_BATCH_ROWS)
            for batch in file.iter_batches(batch_size=batch_rows, row_groups=list(groups), use_threads=False):
                if batch.num_rows:
                    locate = partial(int.__add__, row)
                    yield Block(_records(batch), row_bytes * batch.num_rows, source, locate)
                row += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise unreadable_file(source, f"it is not a whole parquet file ({error}).") from error


def _records(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    names = batch.schema.names
    if not names:
        return [{} for _ in range(batch.num_rows)]
    columns = [_plain(column).to_pylist() for column in batch.columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _plain(column: pa.Array) -> pa.Array:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return column.cast(pa.timestamp("us", kind.tz), safe=False)
    return column


def _stored_bytes(group: Any) -> int:
    return sum(group.column(index).total_compressed_size for index in range(group.num_columns))
