"""Jobs that ended without an output, and whose blocks workers keep for another try: the oldest go first.

Plain bookkeeping: the time is passed in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from gristmill.config import GIB

KEPT_JOBS = 100
KEPT_SECONDS = 7 * 86400.0
KEPT_BYTES = 10 * GIB


@dataclass(frozen=True)
class _Left:
    ended: float
    size_bytes: int


class Leftovers:
    """What is kept, within limits.

    Args:
        jobs: so many at most.
        seconds: so long at most.
        total_bytes: about so much at most, over all workers.
    """

    def __init__(self, jobs: int = KEPT_JOBS, seconds: float = KEPT_SECONDS, total_bytes: int = KEPT_BYTES) -> None:
        self._limits = jobs, seconds, total_bytes
        self._left: OrderedDict[str, _Left] = OrderedDict()  # the oldest first
        self._bytes = 0

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._left))

    def add(self, job: str, ended: float, size_bytes: int) -> None:
        """A job is over; its blocks are about so large."""
        self.remove(job)
        self._left[job] = _Left(ended, size_bytes)
        self._bytes += size_bytes

    def remove(self, job: str) -> bool:
        """A job is tried again, or forgotten. Whether it was kept."""
        found = self._left.pop(job, None)
        self._bytes -= found.size_bytes if found is not None else 0
        return found is not None

    def too_many(self, now: float) -> list[str]:
        """The jobs that are kept no more."""
        jobs, seconds, total_bytes = self._limits
        gone = []
        for job, left in list(self._left.items()):
            if len(self._left) <= jobs and now - left.ended <= seconds and self._bytes <= total_bytes:
                break  # what follows is younger
            self.remove(job)
            gone.append(job)
        return gone
