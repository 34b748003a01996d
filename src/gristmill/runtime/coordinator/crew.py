"""The workers as people see them: what they said of themselves, and what the scheduler holds of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from gristmill.config import format_duration
from gristmill.runtime.contracts import Beat, Usage, WorkerUp
from gristmill.runtime.journal.facts import Fact, WorkerGone, WorkerJoined
from gristmill.runtime.views import WorkerView
from gristmill.scheduling.state import Worker

_SHOWN_SECONDS = 3600.0  # a worker that is lost
_MOST_LOST = 100


@dataclass
class _Seen:
    up: WorkerUp
    joined: float  # seconds since the epoch, as all that follows
    beat: float
    usage: Usage | None = None


class Crew:
    """The workers that are there, and for an hour those that were lost. The dispatcher tells it what it hears.

    Args:
        wall: seconds since the epoch.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._seen: dict[str, _Seen] = {}
        self._lost: dict[str, tuple[float, WorkerView]] = {}  # when, and what is left to show; the oldest first

    def joined(self, up: WorkerUp) -> None:
        """A worker is there."""
        now = self._wall()
        self._lost.pop(up.worker, None)  # after a restart of the server names begin anew
        self._seen[up.worker] = _Seen(up, now, now)

    def heard(self, beat: Beat) -> None:
        """A worker has said that it lives."""
        if seen := self._seen.get(beat.worker):
            seen.beat = self._wall()
            seen.usage = beat.usage or seen.usage

    def gone(self, worker: str, reason: str = "", left: bool = True) -> None:
        """A worker is no more: it has ``left`` in good order, or is lost."""
        seen = self._seen.pop(worker, None)
        if seen is not None and not left:
            self._lose(_lost(seen.up, seen.joined, seen.beat, self._wall(), reason), self._wall())

    def recall(self, facts: Iterable[Fact]) -> None:
        """Take in who was lost before this server was started, from the facts about workers in their order."""
        here: dict[str, WorkerJoined] = {}
        for fact in facts:
            match fact:
                case WorkerJoined():
                    here[fact.worker] = fact
                case WorkerGone(_, at, worker, reason, left):
                    joined = here.pop(worker, None)
                    if joined is not None and not left and at > self._wall() - _SHOWN_SECONDS:
                        up = WorkerUp(worker, joined.host, joined.rack, joined.cpus, joined.memory_bytes)
                        self._lose(_lost(up, joined.at, 0.0, at, reason), at)

    def _lose(self, view: WorkerView, at: float) -> None:
        self._lost.pop(view.worker, None)
        self._lost[view.worker] = at, view
        while len(self._lost) > _MOST_LOST:
            del self._lost[next(iter(self._lost))]

    def views(
        self, workers: Mapping[str, Worker], worker_of: Mapping[str, str], busy: Collection[str], now: float
    ) -> list[WorkerView]:
        """All of them, by name; and those that were lost.

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
        since = self._wall() - _SHOWN_SECONDS
        self._lost = {name: (at, view) for name, (at, view) in self._lost.items() if at > since}
        return sorted([*views, *(view for _, view in self._lost.values())], key=lambda view: view.worker)


def _lost(up: WorkerUp, joined: float, beat: float, at: float, reason: str) -> WorkerView:
    """What is shown of a worker that is lost."""
    when = datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC")
    return WorkerView(
        worker=up.worker,
        host=up.host,
        state="gone",
        rack=up.rack,
        cpus=up.cpus,
        memory_bytes=up.memory_bytes,
        joined=joined,
        beat=beat,
        note=f"It was lost at {when}: {reason.rstrip('.') or 'nothing more is known'}.",
    )


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
