"""Stragglers run twice: the first to finish counts, the other is cancelled.

How long an attempt will take in all is told by its rate of progress (LATE: Zaharia et al., "Improving MapReduce
performance in heterogeneous environments", OSDI 2008), and if that is not known, by how long it has taken so far. It is
compared with the median of the stage's finished attempts, or of what the running ones will take. Copies start in slots
that no ready task wants, those with the most time still to go first.

Progress is how much of the input has been read. An attempt that has read all of it may still have most of its work to
do (a reducer with its last keys, say), so then its rate tells nothing. The rate is not believed for ever, either: an
attempt that should have been over long ago is expected to take as long again as it is overdue.
"""

from __future__ import annotations

from statistics import median

from gristmill.scheduling.commands import Command, Launch
from gristmill.scheduling.events import SpeculationPolicy
from gristmill.scheduling.launching import look_later, new_attempt
from gristmill.scheduling.order import refresh_job
from gristmill.scheduling.state import Attempt, Job, Offer, SchedulerState, Slot, Stage
from gristmill.scheduling.transitions import TaskState

_SAMPLES = 3
"""So many durations, or half of the stage, must be known to tell what is usual."""


def copy_stragglers(state: SchedulerState, now: float, out: list[Command]) -> None:
    """Start copies for the jobs whose turn it is to be looked at."""
    for name in state.due:
        job = state.jobs.get(name)
        if job is None or job.speculation is None or not job.slots:
            continue  # the next launch sets the alarm again
        look_later(state, job, job.speculation)
        offer = state.offers[job.shape]
        if offer.ready or not offer.slots:
            continue  # ready tasks come first
        found = [entry for stage in job.stages.values() for entry in _stragglers(stage, job.speculation, now)]
        for _, stage, attempt in sorted(found, key=lambda entry: (-entry[0], entry[2].id)):
            if not offer.slots or state.copies >= max(1, int(job.speculation.load_cap * len(state.slots))):
                break
            _copy(state, job, stage, attempt, _other_place(offer, attempt), now, out)
    state.due.clear()


def _stragglers(stage: Stage, policy: SpeculationPolicy, now: float) -> list[tuple[float, Stage, Attempt]]:
    """The stage's stragglers without a copy, each with the time that it will still take."""
    if not stage.running or not stage.open or stage.counts[TaskState.WAITING]:
        return []
    usual = _usual_seconds(stage, now)
    if usual is None:
        return []
    found = []
    for index, attempt in stage.running.items():
        taken = now - attempt.began_at
        left = _seconds_left(attempt, taken, policy.slowdown * usual)
        rated = 0 < attempt.progress < 1
        late = taken + left > policy.slowdown * usual and left > usual / 2 if rated else left > 0
        first = attempt.slot.attempts[0] is attempt
        if late and first and taken >= policy.floor_seconds and not attempt.copied and index not in stage.copies:
            found.append((left, stage, attempt))
    return found


def _seconds_left(attempt: Attempt, taken: float, limit: float) -> float:
    """How long an attempt will still take: by its rate so far, but as long as it is overdue at least.

    One that is stuck near its end would by its rate be about to finish, for ever.
    """
    overdue = taken - limit
    return max(taken / attempt.progress - taken, overdue) if 0 < attempt.progress < 1 else overdue


def _usual_seconds(stage: Stage, now: float) -> float | None:
    """What the median attempt of a stage takes; None while too little is known."""
    if stage.finished >= min(_SAMPLES, max(1, stage.tasks // 2)):
        return median(stage.durations)
    estimates = [(now - a.began_at) / a.progress for a in stage.running.values() if 0 < a.progress < 1]
    return median([*estimates, *stage.durations]) if len(estimates) + stage.finished >= _SAMPLES else None


def _other_place(offer: Offer, attempt: Attempt) -> Slot:
    """A free slot on another worker, if there is one. The search passes over one worker's free slots at most."""
    worker = attempt.slot.worker
    return next((slot for slot in offer.slots.values() if slot.worker is not worker), next(iter(offer.slots.values())))


def _copy(
    state: SchedulerState, job: Job, stage: Stage, attempt: Attempt, slot: Slot, now: float, out: list[Command]
) -> None:
    index = attempt.id.index
    copy = new_attempt(state, job, stage, index, slot, now, now)
    copy.copied = attempt.copied = True
    stage.copies[index] = copy
    state.copies += 1
    refresh_job(state, job)
    out.append(Launch(copy.id, slot.id, speculative=True))
