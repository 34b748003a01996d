"""What a block is, as plain data. A map task makes one block: one file, segments sorted by (partition, key)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SegmentInfo:
    """One partition's bytes within a block file."""

    offset: int
    length: int
    rows: int  # values, not distinct keys
    crc32: int


@dataclass(frozen=True)
class BlockInfo:
    """A finished block. ``segments[p]`` belongs to partition p; empty partitions have length 0.

    ``worker`` keeps it; empty: whoever reads it sees the path (one machine, or shared storage).
    """

    path: str
    segments: tuple[SegmentInfo, ...]
    worker: str = ""

    def to_json(self) -> dict[str, Any]:
        """As values that ``json.dumps`` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BlockInfo:
        """The inverse of :meth:`to_json`."""
        segments = tuple(SegmentInfo(**segment) for segment in data["segments"])
        return cls(data["path"], segments, data.get("worker", ""))


@dataclass(frozen=True)
class BlockSource:
    """Where the blocks of a worker can be asked for.

    Attributes:
        worker: whose blocks they are.
        address: of its Flight server, ``host:port``.
        machine: the file system that it sees; a reader that sees the same one reads the files themselves.
    """

    worker: str
    address: str
    machine: str
