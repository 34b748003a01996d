"""Rest for bad workers: a circuit breaker each.

Closed: the worker gets work. When several different tasks in a row have failed on it, none of them anywhere else, it
opens: no work for a while, twice as long each time. Then it is half open: it gets one attempt. A success closes it,
another failure opens it again. A task that fails on a second worker was at fault itself, and all are pardoned for it.

The last worker that serves is never rested: bad work is better than none. If the others leave, the one that has rested
longest is tried before its time.
"""

from __future__ import annotations

from gristmill.errors import FailureKind
from gristmill.scheduling.events import AttemptId, TaskId
from gristmill.scheduling.retry import Trouble
from gristmill.scheduling.slots import refresh_worker
from gristmill.scheduling.state import Alarm, SchedulerState, Worker

FAILURES = 3
"""Different tasks that fail on a worker in a row until it is rested."""

REST_SECONDS = 30.0
REST_LIMIT_SECONDS = 600.0

_MOST_KEPT = 16  # failed tasks of a worker that cannot be rested; more would change nothing
_AT_ONCE = (FailureKind.USER, FailureKind.DEATH, FailureKind.MEMORY)


def note_failure(
    state: SchedulerState, worker: Worker, task: TaskId, trouble: Trouble, kind: FailureKind, now: float
) -> None:
    """An attempt failed on this worker. ``trouble`` is its task's.

    A fetch that fails says nothing yet: it may be the block's keeper that is gone. It counts when another worker could
    read what this one could not (see :func:`note_success`).
    """
    if kind is FailureKind.FETCH:
        trouble.unread.add(worker.name)
    if kind not in _AT_ONCE:
        return
    trouble.blamed.add(worker.name)
    if len(trouble.blamed) > 1:
        for name in trouble.blamed:
            _pardon(state, name, task)
    else:
        _blame(state, worker, task, now)


def note_success(
    state: SchedulerState, worker: Worker, attempt: AttemptId, trouble: Trouble | None, now: float
) -> None:
    """An attempt finished on this worker: it is well."""
    worker.failed_tasks.clear()
    worker.rests = 0
    if worker.rest_until is not None or worker.probing:
        _close(state, worker)
    if trouble is not None and trouble.unread and len(trouble.unread - {worker.name}) == 1 == len(trouble.unread):
        (name,) = trouble.unread
        if other := state.workers.get(name):
            _blame(state, other, attempt.task, now)


def probe(state: SchedulerState, worker: Worker) -> None:
    """The rest is over: the worker gets one attempt."""
    worker.rest_until = None
    worker.probing = True
    worker.failed_tasks.clear()
    del state.resting[worker.name]
    refresh_worker(state, worker)


def try_longest_resting(state: SchedulerState) -> None:
    """Nobody else can work."""
    for worker in state.resting.values():
        if worker.slots and not worker.draining and not worker.suspect:
            probe(state, worker)
            return


def _blame(state: SchedulerState, worker: Worker, task: TaskId, now: float) -> None:
    if len(worker.failed_tasks) < _MOST_KEPT:
        worker.failed_tasks.add(task)
    enough = worker.probing or len(worker.failed_tasks) >= FAILURES
    if not enough or worker.rest_until is not None or state.serving <= int(worker.serving):
        return
    worker.probing = False
    worker.rest_until = now + min(REST_SECONDS * 2.0 ** min(worker.rests, 60), REST_LIMIT_SECONDS)
    worker.rests += 1
    state.resting[worker.name] = worker
    state.set_timer(worker.rest_until, Alarm.PROBE, worker.name)
    refresh_worker(state, worker)


def _pardon(state: SchedulerState, name: str, task: TaskId) -> None:
    worker = state.workers.get(name)
    if worker is None or task not in worker.failed_tasks:
        return
    worker.failed_tasks.discard(task)
    if worker.rest_until is not None and len(worker.failed_tasks) < FAILURES:
        worker.rests -= 1
        _close(state, worker)


def _close(state: SchedulerState, worker: Worker) -> None:
    worker.rest_until = None
    worker.probing = False
    state.resting.pop(worker.name, None)
    refresh_worker(state, worker)
