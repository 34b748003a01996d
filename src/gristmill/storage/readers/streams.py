"""A file's bytes in order, decompressed by its suffix."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, BinaryIO, Protocol, cast

from gristmill.storage.contracts import Split
from gristmill.storage.readers.blocks import source_of, unreadable_file
from gristmill.storage.readers.opening import open_bytes
from gristmill.storage.uris import file_name


class ByteStream(Protocol):
    """What readers of lines need of a file."""

    compressed: bool

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, and none only at the end."""
        ...

    def stored(self) -> int:
        """How many bytes of the file, as stored, were read so far."""
        ...


class _Stream:
    def __init__(self, raw: Any, decoder: BinaryIO | None) -> None:
        self.compressed = decoder is not None
        self.read: Callable[[int], bytes] = decoder.read if decoder else raw.read
        self.stored: Callable[[], int] = raw.tell


@contextmanager
def open_stream(split: Split, start: int = 0) -> Iterator[ByteStream]:
    """Open a split's file at byte ``start`` (of a compressed file always 0).

    Whatever goes wrong while it is open is reported as a failure of this file.

    Raises:
        RecordMalformed: it cannot be read, or is not what its suffix says.
        InputUnreachable: its storage does not give it.
    """
    source = source_of(split)
    try:
        with open_bytes(split) as raw:
            decoder = _decoder(raw, PurePath(file_name(split.path)).suffix.lower())
            if start:
                raw.seek(start)
            try:
                yield _Stream(raw, decoder)
            finally:
                if decoder is not None:
                    decoder.close()
    except EOFError as error:
        raise unreadable_file(source, "its compressed content is cut short.") from error
    except zlib.error as error:
        raise unreadable_file(source, f"its compressed content is damaged ({error}).") from error
    except OSError as error:
        raise unreadable_file(source, f"{error.strerror or error}.") from error


def _decoder(raw: BinaryIO, suffix: str) -> BinaryIO | None:
    if suffix == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb"))
    if suffix == ".bz2":
        return cast(BinaryIO, bz2.BZ2File(raw, "rb"))
    if suffix == ".zst":
        import pyarrow as pa

        return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"))
    return None
