"""What a block is, as plain data. A map task makes one block: one file, segments sorted by (partition, key)."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import PurePath
from typing import Any, NamedTuple, overload


class SegmentInfo(NamedTuple):
    """One partition's bytes within a block file. There are as many of them as tasks times partitions: kept small."""

    offset: int
    length: int
    rows: int  # values, not distinct keys
    crc32: int


EMPTY_SEGMENT = SegmentInfo(0, 0, 0, 0)


class PackedSegments(Sequence[SegmentInfo]):
    """A block's segments in a sixth of the memory, for whoever keeps many blocks and reads few segments of each."""

    __slots__ = ("_numbers",)

    def __init__(self, segments: Sequence[SegmentInfo]) -> None:
        self._numbers = array("Q", chain.from_iterable(segments))

    def __len__(self) -> int:
        return len(self._numbers) // 4

    @overload
    def __getitem__(self, place: int) -> SegmentInfo: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[SegmentInfo]: ...

    def __getitem__(self, place: int | slice) -> SegmentInfo | Sequence[SegmentInfo]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        at = 4 * range(len(self))[place]
        return SegmentInfo(*self._numbers[at : at + 4])

    def column(self, place: int) -> Sequence[int]:
        """One number of each segment, by its place in ``SegmentInfo``."""
        return self._numbers[place::4]


@dataclass(frozen=True)
class BlockInfo:
    """A finished block. ``segments[p]`` belongs to partition p; empty partitions have length 0.

    A task that made no rows makes no file: then ``path`` and ``segments`` are empty. ``path`` may be a URI (see
    ``shuffle.store``). ``worker`` keeps it; empty: whoever reads it sees the path (one machine, or shared storage).
    """

    path: str
    segments: Sequence[SegmentInfo]
    worker: str = ""

    def segment(self, partition: int) -> SegmentInfo:
        """A partition's segment, of a block without rows as well."""
        return self.segments[partition] if self.segments else EMPTY_SEGMENT

    @property
    def size_bytes(self) -> int:
        """Of all segments together."""
        return sum(segment.length for segment in self.segments)

    def to_json(self) -> dict[str, Any]:
        """As values that ``json.dumps`` takes."""
        return {"path": self.path, "segments": self.segments, "worker": self.worker}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BlockInfo:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: its segments are no segments: user code has spoken in its executor's name, say.
        """
        try:
            segments = tuple([SegmentInfo(*segment) for segment in data["segments"]])
            numbers = array("Q", chain.from_iterable(segments))
        except (TypeError, OverflowError) as error:
            raise ValueError(f"not the segments of a block: {error}") from error
        if segments and list(numbers[0::4]) != [0, *accumulate(numbers[1:-4:4])]:
            raise ValueError("not the segments of a block: they do not lie one behind the other")
        if segments and max(numbers[3::4]) >> 32:
            raise ValueError("not the segments of a block: a CRC-32 has 32 bits")
        return cls(data["path"], segments, data.get("worker", ""))


def owner_of(block: BlockInfo) -> str:
    """The job, or the session, whose block it is: it lies in ``FOLDER/OWNER/blocks/``. Empty if it has no file."""
    return PurePath(block.path).parent.parent.name


@dataclass(frozen=True)
class BlockSource:
    """Where the blocks of a worker can be asked for.

    Attributes:
        worker: whose blocks they are.
        address: of its Flight server, ``host:port``, or of whatever else a scheme names.
        machine: the file system that it sees; a reader that sees the same one reads the files themselves.
        via: the Flight server of a neighbour that passes questions on to ``address``; empty: it is asked itself.
    """

    worker: str
    address: str
    machine: str
    via: str = ""
