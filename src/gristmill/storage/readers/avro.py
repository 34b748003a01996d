"""``avro``: the records of blocks, by the package ``fastavro``. A file is cut between blocks, at their sync markers.

A block belongs to the split in which its first byte lies. So the first block of a split is found behind the first
marker that ends in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, cast

from gristmill.config import KIB
from gristmill.errors import InputUnreadable, TaskError
from gristmill.records.block import RecordBlock
from gristmill.storage.contracts import Split
from gristmill.storage.read_options import ReadOptions
from gristmill.storage.readers.blocks import CHUNK_BYTES, Block, source_of, unreadable_file
from gristmill.storage.readers.columns import missing_column
from gristmill.storage.readers.opening import open_bytes

_SYNC_BYTES = 16
_SEARCH_BYTES = 64 * KIB
_INSTALL = "Install it on all machines: pip install gristmill[avro]."


def check_installed() -> None:
    """See whether avro can be read here.

    Raises:
        InputUnreadable: a package is missing.
    """
    try:
        import fastavro  # noqa: F401
    except ImportError as error:
        raise InputUnreadable(f"To read avro the package fastavro is needed, which is not here. {_INSTALL}") from error


def read(split: Split, max_record_bytes: int) -> Iterator[RecordBlock]:  # noqa: ARG001 - a block's maker has bounded it
    """The records of a split's blocks. Their offset is that of their block."""
    source = source_of(split)
    try:
        import fastavro
    except ImportError as error:
        raise unreadable_file(source, f"the package fastavro is not installed. {_INSTALL}") from error
    try:
        with open_bytes(split) as file:
            blocks = fastavro.block_reader(file)
            _check(blocks.writer_schema, ReadOptions.from_pairs(split.options), source)
            header_bytes = file.tell()
            shift = 0
            if split.start > 0:
                start = _first_block(file, blocks._header["sync"], split)
                if start is None:
                    return
                file.seek(0)
                blocks = fastavro.block_reader(cast(BinaryIO, _Joined(file.read(header_bytes), file, start)))
                shift = start - header_bytes
            end = split.start + split.length
            for block in blocks:
                offset = block.offset + shift
                if offset >= end:
                    return
                yield from _values(block, offset, source)
    except TaskError:
        raise
    except Exception as error:  # what is damaged fails in many ways
        raise unreadable_file(source, f"it is not a whole avro file ({error or type(error).__name__}).") from error


def _values(block: Any, offset: int, source: str) -> Iterator[RecordBlock]:
    """The records of a block, in some pieces if it is a large one."""
    record_bytes = max(block.size // max(block.num_records, 1), 1)
    size = max(CHUNK_BYTES // record_bytes, 1)
    records = iter(block)
    locate = partial(_same, offset)
    while values := list(islice(records, size)):
        yield Block(values, record_bytes * len(values), source, locate)


def _same(offset: int, _index: int) -> int:
    return offset


def _check(schema: Any, options: ReadOptions, source: str) -> None:
    if isinstance(schema, dict) and schema.get("type") == "record":
        names = [field["name"] for field in schema["fields"]]
        if problem := missing_column(options, names):
            raise unreadable_file(source, problem)


def _first_block(file: BinaryIO, sync: bytes, split: Split) -> int | None:
    """Where the first block of a split begins, whose marker in front of it ends at or behind the split's beginning."""
    start = max(split.start - _SYNC_BYTES, 0)
    end = split.start + split.length
    file.seek(start)
    data = b""
    while piece := file.read(_SEARCH_BYTES):
        data += piece
        found = data.find(sync)
        if found >= 0:
            block = start + found + _SYNC_BYTES
            return block if block < end else None
        cut = max(len(data) - _SYNC_BYTES + 1, 0)
        start, data = start + cut, data[cut:]
        if start >= end:
            return None
    return None


class _Joined:
    """A file's header, and then the file from another place on."""

    def __init__(self, header: bytes, file: BinaryIO, start: int) -> None:
        self._header = header
        self._file = file
        self._shift = start - len(header)
        self._at = 0  # in the header
        file.seek(start)

    def read(self, size: int = -1) -> bytes:
        if self._at < len(self._header):
            data = self._header[self._at :] if size < 0 else self._header[self._at : self._at + size]
            self._at += len(data)
            if size >= 0:
                return data if len(data) == size else data + self._file.read(size - len(data))
            return data + self._file.read()
        return self._file.read(size)

    def tell(self) -> int:
        return self._at if self._at < len(self._header) else self._file.tell() - self._shift
