"""The block that all readers hand out, and the reports about what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gristmill.config import KIB, format_size
from gristmill.errors import FailureReport, RecordMalformed, RecordTooLong, TaskError
from gristmill.records.block import MalformedRecord
from gristmill.records.lines import decode_lines
from gristmill.storage.contracts import Split

CHUNK_BYTES = 256 * KIB
_SHOWN_CHARS = 500


@dataclass(slots=True)
class Block:
    """Implements :class:`~gristmill.records.block.RecordBlock`."""

    values: Sequence[Any]
    nbytes: int
    source: str
    locate: Callable[[int], int]
    malformed: int = 0
    key: Any = None
    lines: bytes | None = None

    def offset_of(self, index: int) -> int:
        """Where in the (decompressed) file a record begins: a byte offset; for parquet a row number."""
        return self.locate(index)


class LineBlock:
    """The same for lines of text, which may never be needed as Python values."""

    malformed = 0
    key: Any = None

    def __init__(self, lines: bytes, nbytes: int, source: str, locate: Callable[[int], int]) -> None:
        self.lines: bytes | None = lines
        self.nbytes = nbytes
        self.source = source
        self._locate = locate

    @cached_property
    def values(self) -> Sequence[Any]:
        """The lines without their ends."""
        assert self.lines is not None
        return decode_lines(self.lines)

    def offset_of(self, index: int) -> int:
        """Where in the (decompressed) file a line begins."""
        return self._locate(index)


def source_of(split: Split) -> str:
    """A split's file, for people."""
    return split.name or split.path


def malformed_record(message: str, source: str, offset: int, record: str, advice: str = "") -> MalformedRecord:
    """The stand-in for a record that is not in its format. ``message`` continues "A record ..."."""
    return MalformedRecord(
        RecordMalformed(
            FailureReport(
                error="RecordMalformed",
                message=f"A record {message}",
                record=repr(record[:_SHOWN_CHARS]),
                source=source,
                offset=offset,
                advice=advice,
            )
        )
    )


def too_long_record(size_bytes: int, limit_bytes: int, source: str, offset: int, head: bytes) -> MalformedRecord:
    """The stand-in for a record that is longer than the limit. Its text is never held in full."""
    shown = head.decode("utf-8", "surrogateescape")
    size, limit = format_size(size_bytes), format_size(limit_bytes)
    return MalformedRecord(
        RecordTooLong(
            FailureReport(
                error="RecordTooLong",
                message=f"A record of {size} is longer than the limit of {limit}.",
                record=repr(shown[:_SHOWN_CHARS]),
                source=source,
                offset=offset,
                details={"bytes": size_bytes, "limit": limit_bytes},
                advice="Does the file have line ends, and is this its format? If so, give a larger --max-record-size.",
            )
        )
    )


def unreadable_file(source: str, reason: str) -> TaskError:
    """The failure of a whole file: it vanished, is cut short, or is not what its name says."""
    return RecordMalformed(
        FailureReport(
            error="RecordMalformed",
            message=f"The input {source} cannot be read: {reason}",
            source=source,
            advice="See whether the file is whole, and whether its suffix and --input-format say what it is.",
        )
    )
