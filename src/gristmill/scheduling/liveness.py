"""Who lives: heartbeats, suspicion, loss by silence.

Silence is judged only when time passes and nothing else happens (``TimePassed``): whatever is queued is taken in first,
and may be the sign of life that was missed. If the scheduler itself was asleep (it is fed much later than it asked to
be), every worker is credited with the gap: nobody was listening.
"""

from __future__ import annotations

import heapq

from gristmill.scheduling.slots import refresh_worker
from gristmill.scheduling.state import SchedulerState, Worker

OVERSLEPT_SECONDS = 1.0
"""Fed so much later than it asked to be, the scheduler holds that it was asleep itself."""

_REFUSED_NAMES = 10_000  # dropped workers that are remembered


def heard(state: SchedulerState, worker: Worker) -> None:
    """The worker gave a sign of life."""
    worker.heard_at = state.now
    if worker.suspect:
        worker.suspect = False
        refresh_worker(state, worker)
        watch_over(state, worker)


def watch_over(state: SchedulerState, worker: Worker) -> None:
    """Look after a worker whose silence means something."""
    worker.watch_at = _deadline(worker)
    if worker.watch_at is not None:
        heapq.heappush(state.watch, (worker.watch_at, worker.number, worker.name))


def credit_sleep(state: SchedulerState, now: float) -> None:
    """If nobody fed the scheduler when it wanted to be fed, what it did not hear in that time means nothing."""
    if state.wake_at is not None and now > state.wake_at + OVERSLEPT_SECONDS and state.watch:
        gap = now - state.now
        for worker in state.workers.values():
            worker.heard_at += gap


def find_silent(state: SchedulerState, now: float) -> list[Worker]:
    """Suspect the workers that were silent for long, and return those that were silent for too long."""
    lost = []
    while state.watch and state.watch[0][0] <= now:
        entry = heapq.heappop(state.watch)
        worker = _watched(state, entry)
        if worker is None:
            continue
        if worker.lost_seconds is not None and now >= worker.heard_at + worker.lost_seconds:
            lost.append(worker)
            state.dropped[worker.name] = None
            if len(state.dropped) > _REFUSED_NAMES:
                state.dropped.popitem(last=False)
            continue
        if _is_silent(worker, now) and not worker.suspect:
            worker.suspect = True
            refresh_worker(state, worker)
        watch_over(state, worker)
    return lost


def next_look(state: SchedulerState) -> float | None:
    """When silence is to be judged next."""
    while state.watch and _watched(state, state.watch[0]) is None:
        heapq.heappop(state.watch)
    return state.watch[0][0] if state.watch else None


def _watched(state: SchedulerState, entry: tuple[float, int, str]) -> Worker | None:
    """The worker that an entry was made for, if the entry is its last."""
    when, number, name = entry
    worker = state.workers.get(name)
    return worker if worker is not None and worker.number == number and worker.watch_at == when else None


def _is_silent(worker: Worker, now: float) -> bool:
    return worker.suspect_seconds is not None and now >= worker.heard_at + worker.suspect_seconds


def _deadline(worker: Worker) -> float | None:
    """When the worker's silence will mean something new."""
    suspect = None if worker.suspect else worker.suspect_seconds
    limits = [seconds for seconds in (suspect, worker.lost_seconds) if seconds is not None]
    return worker.heard_at + min(limits) if limits else None
