"""``orc``: stripes as splits, a row a record. A stripe is read as a whole: its maker has bounded it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from gristmill.errors import InputUnreadable
from gristmill.records.block import RecordBlock
from gristmill.storage.contracts import Split
from gristmill.storage.read_options import USUAL, ReadOptions
from gristmill.storage.readers.blocks import CHUNK_BYTES, source_of
from gristmill.storage.readers.columns import Rows, Shaper, blocks_of, missing_column
from gristmill.storage.readers.opening import open_columns
from gristmill.storage.uris import is_uri

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_BATCH_ROWS = 16_384


def stripes(path: str, name: str = "", options: ReadOptions = USUAL) -> int:
    """How many stripes a file has.

    Raises:
        InputUnreadable: it is not an orc file, or lacks a column.
    """
    import pyarrow as pa
    from pyarrow import orc

    try:
        with ExitStack() as stack:
            source: Any = path
            if is_uri(path):
                from gristmill.storage.filesystems import naming, open_filesystem

                with naming(path):
                    system, key = open_filesystem(path)
                    source = stack.enter_context(system.open_input_file(key))
            file = orc.ORCFile(source)
            names, count = file.schema.names, file.nstripes
    except (OSError, pa.ArrowException) as error:
        raise InputUnreadable(f"The input {name or path} is not a readable orc file: {error}") from error
    if problem := missing_column(options, names):
        raise InputUnreadable(f"The input {name or path} cannot be read: {problem}")
    return int(count)


def read(split: Split, max_record_bytes: int) -> Iterator[RecordBlock]:  # noqa: ARG001 - rows have no limit of their own
    """The rows of stripes ``start`` to ``start + length`` as dicts. Timestamps are read to the microsecond."""
    from pyarrow import orc

    with open_columns(split) as file:
        opened = orc.ORCFile(file)
        rows = _rows(split, opened)
        yield from blocks_of(rows, _row_bytes(split, opened), source_of(split), partial(_rows_before, split))


def read_batches(split: Split) -> Iterator[pa.RecordBatch]:
    """The same rows as batches."""
    from pyarrow import orc

    with open_columns(split) as file:
        for rows in _rows(split, orc.ORCFile(file)):
            if rows.batch.num_rows:
                yield rows.batch


def _rows(split: Split, file: Any) -> Iterator[Rows]:
    shaper = Shaper(ReadOptions.from_pairs(split.options), source_of(split))
    columns = shaper.check(file.schema.names)
    if columns == []:  # a stripe without columns says nothing of its rows: read one, if there is one
        columns = file.schema.names[:1]
    row = 0
    batch_rows = min(max(CHUNK_BYTES // _row_bytes(split, file), 1), _MAX_BATCH_ROWS)
    for number in range(split.start, split.start + split.length):
        stripe = file.read_stripe(number, columns=columns)
        for start in range(0, stripe.num_rows, batch_rows):
            batch = stripe.slice(start, batch_rows)
            yield shaper.shape(batch, row)
            row += batch.num_rows


def _rows_before(split: Split) -> int:
    """How many rows there are in front of a split. A file does not tell: one column of all these stripes is read."""
    from pyarrow import orc

    with open_columns(split) as file:
        opened = orc.ORCFile(file)
        name = opened.schema.names[:1]
        return sum(opened.read_stripe(number, columns=name).num_rows for number in range(split.start))


def _row_bytes(split: Split, file: Any) -> int:
    rows = file.nrows * split.length // max(file.nstripes, 1)
    return max(int(split.size_bytes // max(rows, 1)), 1)
