"""``whole``: a file a record."""

from __future__ import annotations

from collections.abc import Iterator

from gristmill.records.block import RecordBlock
from gristmill.storage.contracts import Split
from gristmill.storage.readers.blocks import CHUNK_BYTES, Block, source_of, too_long_record
from gristmill.storage.readers.streams import open_stream


def read(split: Split, max_record_bytes: int) -> Iterator[RecordBlock]:
    """One record: the file's name, and its content as it is, decoded as UTF-8 with surrogateescape."""
    source = source_of(split)
    pieces: list[bytes] = []
    size_bytes = 0
    with open_stream(split) as stream:
        while piece := stream.read(CHUNK_BYTES):
            size_bytes += len(piece)
            pieces.append(piece)
            if size_bytes > max_record_bytes:
                break
    if size_bytes > max_record_bytes:
        bad = too_long_record(max(size_bytes, split.size_bytes), max_record_bytes, source, 0, pieces[0])
        yield Block([bad], split.size_bytes, source, _start, malformed=1, key=source)
    else:
        content = b"".join(pieces).decode("utf-8", "surrogateescape")
        yield Block([content], split.size_bytes, source, _start, key=source)


def _start(_: int) -> int:
    return 0
