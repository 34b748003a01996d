"""A file's bytes in pieces of whole lines: what text, jsonl and csv have in common.

A line belongs to the split in which its first byte lies. So the first line of a split is found by looking for the
line end at or after the byte in front of it, and its last line is read to its end wherever that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gristmill.storage.contracts import Split
from gristmill.storage.inputs import is_compressed
from gristmill.storage.readers.streams import ByteStream, open_stream

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEAD_BYTES = 1024  # what is kept of a line that is too long
_MIN_READ_BYTES = 4096


@dataclass(slots=True)
class LineChunk:
    """Consecutive whole lines.

    Attributes:
        offset: of the first byte of ``data`` in the decompressed file.
        data: the lines with their ends; only the last line of a file may lack its own.
        nbytes: of the file as stored.
        too_long: 0; or the length of a line over the limit, of which ``data`` holds the beginning.
    """

    offset: int
    data: bytes
    nbytes: int
    too_long: int = 0


def line_chunks(
    split: Split, chunk_bytes: int, max_line_bytes: int, *, to_end: bool = False, keep_mark: bool = False
) -> Iterator[LineChunk]:
    """The lines that belong to a split, each exactly once, in order.

    Args:
        split: what to read. All of a compressed file, whatever the split says.
        chunk_bytes: how much is read at a time.
        max_line_bytes: a longer line, not counting its end, comes as a chunk of its own, marked, in bounded memory.
        to_end: read up to the end of the file.
        keep_mark: leave a byte order mark at the file's start where it is.

    Raises:
        RecordMalformed: the file cannot be read.
    """
    whole = to_end or is_compressed(split.path)
    end = None if whole else split.start + split.length
    with open_stream(split, max(split.start - 1, 0)) as stream:
        for chunk in _Cutter(stream, split.start, end, chunk_bytes, max_line_bytes).chunks():
            if chunk.offset == 0 and not keep_mark and chunk.data.startswith(_BYTE_ORDER_MARK):
                chunk = LineChunk(3, chunk.data[3:], chunk.nbytes, chunk.too_long)
            if len(chunk.data) > max_line_bytes and not chunk.too_long:
                yield from _part_long_lines(chunk, max_line_bytes)
            elif chunk.data or chunk.too_long:
                yield chunk


def offset_of_line(chunk: LineChunk, index: int) -> int:
    """Where in the file the chunk's line number ``index`` (from 0) begins."""
    position = 0
    for _ in range(index):
        position = chunk.data.index(b"\n", position) + 1
    return chunk.offset + position


def nonblank_offsets(chunk: LineChunk) -> list[int]:
    """Where in the file the lines begin that hold more than white space (JSON's: blank, tab, CR)."""
    offsets = []
    offset = chunk.offset
    for line in chunk.data.split(b"\n"):
        if line.strip(b" \t\r"):
            offsets.append(offset)
        offset += len(line) + 1
    return offsets


class _Cutter:
    """Reads a stream and cuts it behind line ends. ``offset`` is that of the line begun in ``pending``."""

    def __init__(self, stream: ByteStream, start: int, end: int | None, chunk_bytes: int, max_line: int) -> None:
        self.stream = stream
        self.end = end
        self.chunk_bytes = chunk_bytes
        self.max_line = max_line
        self.offset = start
        self.pending: list[bytes] = []
        self.pending_bytes = 0
        self.rest = b""  # read, but not looked at yet
        self.stored = 0

    def chunks(self) -> Iterator[LineChunk]:
        if self.offset > 0 and not self._find_first_line():
            return
        while chunk := self._read():
            cut, done = self._cut(chunk)
            if cut:
                yield self._take(chunk[:cut])
                if done:
                    return
                chunk = chunk[cut:]
            if chunk:
                self.pending.append(chunk)
                self.pending_bytes += len(chunk)
            if self.pending_bytes > self.max_line + 1:  # + 1: its last byte may be the CR of its end
                yield self._skip_line()
                if self.end is not None and self.offset >= self.end:
                    return
        if self.pending:
            yield self._take(b"")

    def _read(self) -> bytes:
        if self.rest:
            chunk, self.rest = self.rest, b""
            return chunk
        size = self.chunk_bytes
        if self.end is not None:  # do not read far beyond a small split
            size = min(size, max(self.end - self.offset - self.pending_bytes, _MIN_READ_BYTES))
        return self.stream.read(size)

    def _cut(self, chunk: bytes) -> tuple[int, bool]:
        """How many bytes of ``chunk`` complete lines of ours (0 if none), and whether that was the last one."""
        if self.end is not None:
            last = self.end - 1 - self.offset - self.pending_bytes  # our last byte: the line around it is the last
            if last < len(chunk) and (cut := chunk.find(b"\n", max(last, 0)) + 1):
                return cut, True
        return chunk.rfind(b"\n") + 1, False

    def _take(self, tail: bytes) -> LineChunk:
        """All that is pending, and ``tail``, as one chunk."""
        data = b"".join((*self.pending, tail)) if self.pending else tail
        chunk = LineChunk(self.offset, data, self._stored_since(len(data)))
        self._start_line(self.offset + len(data))
        return chunk

    def _start_line(self, offset: int) -> None:
        self.offset = offset
        self.pending = []
        self.pending_bytes = 0

    def _stored_since(self, size: int) -> int:
        if not self.stream.compressed:
            return size
        before, self.stored = self.stored, self.stream.stored()
        return self.stored - before

    def _skip_line(self) -> LineChunk:
        """Read on to the end of the line that is pending, keeping its beginning only."""
        head = b"".join(self.pending)[:_HEAD_BYTES]
        last = self.pending[-1][-1:]
        length = self.pending_bytes
        consumed = 0
        while chunk := self.stream.read(self.chunk_bytes):
            cut = chunk.find(b"\n")
            body = chunk if cut < 0 else chunk[:cut]
            length += len(body)
            last = body[-1:] or last
            if cut >= 0:
                self.rest = chunk[cut + 1 :]
                consumed = 1
                break
        offset = self.offset
        self._start_line(offset + length + consumed)
        nbytes = self._stored_since(length + consumed)
        if consumed and last == b"\r":
            length -= 1
        return LineChunk(offset, head, nbytes, too_long=length)

    def _find_first_line(self) -> bool:
        """Move ``offset`` to the first line that begins in the split; False if there is none.

        The stream stands one byte in front of the split: a line end there means that a line begins with the split.
        """
        position = self.offset - 1
        while self.end is None or position < self.end - 1:  # a later line end begins a line that is not ours
            chunk = self.stream.read(min(self.chunk_bytes, _MIN_READ_BYTES))
            if not chunk:
                return False
            found = chunk.find(b"\n") + 1
            if found:
                self.rest = chunk[found:]
                self._start_line(position + found)
                return self.end is None or self.offset < self.end
            position += len(chunk)
        return False


def _part_long_lines(chunk: LineChunk, max_line_bytes: int) -> Iterator[LineChunk]:
    """The chunk with its overlong lines apart. Rare: only a chunk longer than the limit can hold one."""
    data = chunk.data
    begin = position = 0
    while position < len(data):
        stop = data.find(b"\n", position) + 1 or len(data)
        length = len(data[position:stop].removesuffix(b"\n"))
        if stop - position > length and data[stop - 2 : stop - 1] == b"\r":
            length -= 1
        if length > max_line_bytes:
            if begin < position:
                yield LineChunk(chunk.offset + begin, data[begin:position], position - begin)
            head = data[position : min(stop, position + _HEAD_BYTES)]
            yield LineChunk(chunk.offset + position, head, stop - position, too_long=length)
            begin = stop
        position = stop
    if begin < len(data):
        yield LineChunk(chunk.offset + begin, data[begin:], len(data) - begin)
