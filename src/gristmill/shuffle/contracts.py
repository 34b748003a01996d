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
    """A finished block. ``segments[p]`` belongs to partition p; empty partitions have length 0."""

    path: str
    segments: tuple[SegmentInfo, ...]

    def to_json(self) -> dict[str, Any]:
        """As values that ``json.dumps`` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BlockInfo:
        """The inverse of :meth:`to_json`."""
        return cls(data["path"], tuple(SegmentInfo(**segment) for segment in data["segments"]))
