"""What a reader hands to a map function: a bounded list of records that share a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gristmill.errors import TaskError


@dataclass(frozen=True)
class MalformedRecord:
    """Stands in a block where a record could not be read, so that one bad line need not end the file."""

    error: TaskError  # RecordMalformed or RecordTooLong; its report has source, offset and the record, cut


class RecordBlock(Protocol):
    """Some consecutive records of one file, in order.

    Blocks are cut by their maker at about 256 KiB of input (a longer record is a block of its own), so that
    whoever consumes them can bound its buffers, report progress and be cancelled between blocks.
    """

    key: Any
    """The key of every record of the block: None, or the file's name for ``whole``."""
    malformed: int
    """How many of ``values`` are MalformedRecord."""
    nbytes: int
    """How many input bytes (as stored, before decompression where that is known) the block stands for."""
    lines: bytes | None
    """If ``values`` are lines of text: the same as they stand. ``values`` are made of them when first asked for."""
    source: str
    """The file the records come from, for people."""

    @property
    def values(self) -> Sequence[Any]:
        """The records' values; MalformedRecord objects among them where ``malformed`` is not 0."""
        ...

    def offset_of(self, index: int) -> int:
        """Byte offset (row number for parquet) in ``source`` of the record at ``index``. May be slow."""
        ...
