"""The workers as people see them: what they said of themselves, and what the scheduler holds of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from gristmill.config import format_duration
from gristmill.runtime.contracts import Beat, Usage, WorkerUp
from gristmill.runtime.views import WorkerView
from gristmill.scheduling.state import Worker


@dataclass
class _Seen:
    up: WorkerUp
    joined: float  # seconds since the epoch, as all that follows
    beat: float
    usage: Usage | None = None


class Crew:
    """The workers that are there. The dispatcher tells it what it hears.

    Args:
        wall: seconds since the epoch.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._seen: dict[str, _Seen] = {}

    def joined(self, up: WorkerUp) -> None:
        """A worker is there."""
        now = self._wall()
        self._seen[up.worker] = _Seen(up, now, now)

    def heard(self, beat: Beat) -> None:
        """A worker has said that it lives."""
        if seen := self._seen.get(beat.worker):
            seen.beat = self._wall()
            seen.usage = beat.usage or seen.usage

    def gone(self, worker: str) -> None:
        """A worker is no more."""
        self._seen.pop(worker, None)

    def views(
        self, workers: Mapping[str, Worker], worker_of: Mapping[str, str], busy: Collection[str], now: float
    ) -> list[WorkerView]:
        """All of them, by name.

        Args:
            workers: as the scheduler has them.
            worker_of: slot → worker.
            busy: the slots in which something runs.
            now: on the scheduler's clock.
        """
        slots, used = Counter(worker_of.values()), Counter(worker_of[slot] for slot in busy if slot in worker_of)
        views = []
        for name, seen in sorted(self._seen.items()):
            state, note = _state(workers.get(name), now)
            view = WorkerView(
                worker=name,
                host=seen.up.host,
                state=state,
                rack=seen.up.rack,
                cpus=seen.up.cpus,
                memory_bytes=seen.up.memory_bytes,
                slots=slots[name],
                busy=used[name],
                joined=seen.joined,
                beat=seen.beat,
                note=note,
            )
            views.append(view if seen.usage is None else replace(view, **vars(seen.usage)))
        return views


def _state(worker: Worker | None, now: float) -> tuple[str, str]:
    """A worker's state, and why it is not up."""
    if worker is None:
        return "gone", ""
    if worker.draining:
        return "draining", "It takes no new work, and leaves when what it runs is done."
    if worker.suspect:
        return "suspect", f"It has not been heard for {format_duration(max(0.0, now - worker.heard_at))}."
    failed = "Too many different tasks have failed there in a row"
    if worker.rest_until is not None:
        return "resting", f"{failed}: it gets no work for {format_duration(max(0.0, worker.rest_until - now))}."
    if worker.probing:
        return "resting", f"{failed}: it is tried with one."
    return "up", ""
