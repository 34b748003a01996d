"""``text``: a line a record."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from gristmill.records.block import RecordBlock
from gristmill.storage.contracts import Split
from gristmill.storage.readers.blocks import CHUNK_BYTES, Block, LineBlock, source_of, too_long_record
from gristmill.storage.readers.lines import line_chunks, offset_of_line


def read(split: Split, max_record_bytes: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[RecordBlock]:
    """The lines of a split."""
    source = source_of(split)
    for chunk in line_chunks(split, chunk_bytes, max_record_bytes):
        locate = partial(offset_of_line, chunk)
        if chunk.too_long:
            bad = too_long_record(chunk.too_long, max_record_bytes, source, chunk.offset, chunk.data)
            yield Block([bad], chunk.nbytes, source, locate, malformed=1)
        else:
            yield LineBlock(chunk.data, chunk.nbytes, source, locate)
