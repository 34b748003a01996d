"""``pickle``: a dataset's checkpoint. Its elements come back as the objects that they were."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from typing import cast

from gristmill.errors import FailureReport, RecordMalformed
from gristmill.records.block import RecordBlock
from gristmill.storage.contracts import Split
from gristmill.storage.readers.blocks import Block, source_of
from gristmill.storage.readers.streams import ByteStream, open_stream


def read(split: Split, max_record_bytes: int) -> Iterator[RecordBlock]:  # noqa: ARG001 - they were records before
    """The elements, chunk by chunk as they were written."""
    source = source_of(split)
    with open_stream(split) as stream:
        buffered = io.BufferedReader(cast(io.RawIOBase, _Raw(stream)))
        while buffered.peek(1):
            try:
                _, values = pickle.load(buffered)
            except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, ImportError) as error:
                message = f"{source} is no whole checkpoint: {type(error).__name__}: {error}"
                raise RecordMalformed(FailureReport("RecordMalformed", message, source=source)) from error
            yield Block(values, 0, source, _nowhere)


class _Raw(io.RawIOBase):
    """A stream as ``pickle`` wants it."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Fill a buffer, or a part of it."""
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _nowhere(_: int) -> int:
    return -1
