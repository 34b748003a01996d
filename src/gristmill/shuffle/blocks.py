"""Block files: written once, checked whenever read.

Layout: segments one after another, each a run of chunks; a chunk is its length (8 bytes, little-endian) and that many
bytes of an Arrow IPC stream which holds one grouped batch (see ``groups``). Then the index as JSON, its length
(8 bytes) and the magic, so that a file explains itself. Each segment has a CRC-32 over all its bytes.

A job of many tasks and many reducers has segments of a few rows, so what is done for each of them is kept small.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from zlib import crc32

import pyarrow as pa

from gristmill.errors import BlockCorrupt, BlockMissing, FailureReport
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.shuffle.groups import BATCH_BYTES, row_count, split_batch

MAGIC = b"GRIST\x00\x01\n"
_LENGTH_BYTES = 8
_HEAD_BYTES = 8  # of an IPC message: a marker, and how long its metadata is
_COPIED_BYTES = 32 * 1024  # a segment up to this size is read rather than mapped: that is faster
_WINDOW_BYTES = 128 * 1024
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # it is this process that cannot read


class BlockWriter:
    """Writes one block. Partitions come in ascending order, the keys of each in ascending order.

    The file appears under its name when it is finished; until then it has a name of its own, beside it. A block without
    rows makes no file. An OSError names the file.
    """

    def __init__(self, path: Path, partitions: int, *, compressed: bool = False) -> None:
        self._path = path
        self._compressed = compressed
        self._partitions = partitions
        self._temporary = path.with_name(path.name + ".tmp")
        self._file: BinaryIO | None = None
        self._segments: list[SegmentInfo] = []
        self._offset = self._begun = 0
        self._rows = self._crc = 0
        self._schema: Any = None  # of the last batch, and the bytes that a stream of it begins with
        self._schema_bytes: bytes | None = None

    def write(self, partition: int, batch: Any) -> None:
        """Append a batch to a partition's segment."""
        while len(self._segments) < partition:
            self._end_segment()
        assert len(self._segments) == partition, "partitions must come in order"
        # The size of whole buffers is known at once; that of what a slice has of them is not.
        small = batch.get_total_buffer_size() <= 2 * BATCH_BYTES
        try:
            if self._file is None:
                self._file = self._temporary.open("wb")
            for piece in (batch,) if small else split_batch(batch):
                self._rows += row_count(piece)
                data = self._serialize(piece)
                length = len(data).to_bytes(_LENGTH_BYTES, "little")
                self._file.write(length)
                self._file.write(data)
                self._crc = crc32(data, crc32(length, self._crc))
                self._offset += _LENGTH_BYTES + len(data)
        except OSError as error:
            error.filename = error.filename or str(self._temporary)
            raise

    def finish(self) -> BlockInfo:
        """Give the block its name and say what is in it."""
        if self._file is None:
            return BlockInfo("", ())
        while len(self._segments) < self._partitions:
            self._end_segment()
        index = json.dumps(self._segments).encode()
        try:
            self._file.write(index + len(index).to_bytes(_LENGTH_BYTES, "little") + MAGIC)
            self._file.close()
            os.replace(self._temporary, self._path)  # noqa: PTH105 - Path.replace() is the same call, slower
        except OSError as error:
            error.filename = error.filename or str(self._temporary)
            raise
        return BlockInfo(str(self._path), tuple(self._segments))

    def discard(self) -> None:
        """Leave nothing. Does nothing after :meth:`finish`."""
        if self._file is not None:
            with suppress(OSError):  # what could not be written cannot be written now
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> BlockWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.discard()

    def _end_segment(self) -> None:
        self._segments.append(SegmentInfo(self._begun, self._offset - self._begun, self._rows, self._crc))
        self._begun = self._offset
        self._rows = self._crc = 0

    def _serialize(self, batch: Any) -> Any:
        """A stream of one batch. A stream is its schema and its batches; what comes first is mostly the same."""
        schema = batch.schema
        if self._schema is None or not schema.equals(self._schema):
            self._schema = schema
            self._schema_bytes = None if _has_dictionary(schema) else schema.serialize().to_pybytes()
        if self._schema_bytes is not None and not self._compressed:
            return self._schema_bytes + batch.serialize().to_pybytes()
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="lz4") if self._compressed else None
        with pa.ipc.new_stream(sink, schema, options=options) as writer:
            writer.write_batch(batch)
        return sink.getvalue()


def read_segment(block: BlockInfo, partition: int) -> Iterator[Any]:
    """The grouped batches of one partition, without copying: they lie in the mapped file.

    Raises:
        BlockMissing: the file is gone.
        BlockCorrupt: the bytes are not those that were written.
    """
    segment = block.segment(partition)
    if not segment.length:
        return
    data = _checked_segment(block, partition)
    position = rows = 0
    while position < segment.length:
        length = int.from_bytes(data[position : position + _LENGTH_BYTES].to_pybytes(), "little")
        position += _LENGTH_BYTES
        batch = _parse(data[position : position + length])
        position += length
        rows += row_count(batch)
        yield batch
    if rows != segment.rows:
        raise _corrupt(block, partition, f"it holds {rows} rows where {segment.rows} were written")


def damaged_blocks(blocks: Iterable[BlockInfo], partition: int) -> list[str]:
    """The paths of those blocks of which one partition cannot be read, so that all can be made again at once."""
    found = []
    for block in blocks:
        if block.segment(partition).length:
            try:
                _checked_segment(block, partition)
            except (BlockMissing, BlockCorrupt):
                found.append(block.path)
    return found


def read_index(path: Path) -> BlockInfo:
    """What a block file says of itself.

    Raises:
        BlockMissing: there is no such file.
        BlockCorrupt: it is not a whole block.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise _missing(str(path)) from error
    tail = _LENGTH_BYTES + len(MAGIC)
    if data[-len(MAGIC) :] != MAGIC:
        raise _corrupt(BlockInfo(str(path), ()), -1, "it does not end as a block does")
    length = int.from_bytes(data[-tail : -len(MAGIC)], "little")
    index = json.loads(data[-tail - length : -tail])
    return BlockInfo(str(path), tuple(SegmentInfo(*segment) for segment in index))


def _checked_segment(block: BlockInfo, partition: int) -> Any:
    segment = block.segment(partition)
    try:
        crc, data = (_read_segment if segment.length <= _COPIED_BYTES else _map_segment)(block, segment)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(block.path) from error
    except OSError as error:
        if error.errno in _OURS:
            raise
        raise _corrupt(block, partition, f"it cannot be read: {error.strerror or error}") from error
    if crc != segment.crc32:
        raise _corrupt(block, partition, "its checksum is wrong")
    return data


def _read_segment(block: BlockInfo, segment: SegmentInfo) -> tuple[int, Any]:
    with open(block.path, "rb", buffering=0) as file:  # noqa: PTH123 - Path.open() is the same call, slower
        file.seek(segment.offset)
        data = file.read(segment.length)
        if len(data) < segment.length:
            raise _cut_off(block, file)
        return crc32(data), pa.py_buffer(data)


def _map_segment(block: BlockInfo, segment: SegmentInfo) -> tuple[int, Any]:
    """Read and check, then map: a disk that fails is an error while it is read, and the process's end while mapped."""
    crc, left = 0, segment.length
    window = memoryview(bytearray(min(left, _WINDOW_BYTES)))
    with open(block.path, "rb", buffering=0) as file:  # noqa: PTH123
        file.seek(segment.offset)
        while left:
            count = file.readinto(window[:left])
            if not count:
                raise _cut_off(block, file)
            crc = crc32(window[:count], crc)
            left -= count
    with pa.memory_map(block.path) as source:
        source.seek(segment.offset)
        return crc, source.read_buffer(segment.length)  # keeps the mapping alive


def _cut_off(block: BlockInfo, file: FileIO) -> BlockCorrupt:
    return _corrupt(block, -1, f"it is cut off at {os.fstat(file.fileno()).st_size} bytes")


def _parse(stream: Any) -> Any:
    """The one batch of a stream."""
    head = _HEAD_BYTES + int.from_bytes(stream[4:_HEAD_BYTES].to_pybytes(), "little")
    schema = _known_schema(stream[:head].to_pybytes())
    if schema is None:
        return pa.ipc.open_stream(stream).read_next_batch()
    return pa.ipc.read_record_batch(stream[head:], schema)


@lru_cache(maxsize=64)
def _known_schema(message: bytes) -> Any:
    """The schema that a stream begins with; None if it needs more than its batch to be read."""
    schema = pa.ipc.read_schema(pa.py_buffer(message))
    return None if _has_dictionary(schema) else schema


def _has_dictionary(schema: Any) -> bool:
    return any("dictionary" in str(kind) for kind in schema.types)


def _missing(path: str) -> BlockMissing:
    return BlockMissing(
        FailureReport(error="BlockMissing", message=f"The block {path} is gone.", details={"block": path})
    )


def _corrupt(block: BlockInfo, partition: int, why: str) -> BlockCorrupt:
    where = f"Partition {partition} of the block" if partition >= 0 else "The block"
    message = f"{where} {block.path} is damaged: {why}."
    return BlockCorrupt(FailureReport(error="BlockCorrupt", message=message, details={"block": block.path}))
