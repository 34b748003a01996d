"""Which ready task goes into which free slot."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort

from gristmill.scheduling.commands import Command, Launch
from gristmill.scheduling.events import AttemptId
from gristmill.scheduling.retry import Trouble
from gristmill.scheduling.state import Job, Rank, SchedulerState, Slot, Stage
from gristmill.scheduling.transitions import Cause, TaskState

LEAVE_SECONDS = 10.0
"""A slot that is to leave and has not left by then counts as free: no slot is waited for without end."""

_PRIORITY_LIMIT = 60


def rank_of(job: Job) -> Rank:
    """The job's place in the fair order: fewest running attempts first, earliest job on a tie.

    Each step of priority doubles the number of attempts that count as one.
    """
    priority = max(-_PRIORITY_LIMIT, min(_PRIORITY_LIMIT, job.priority))
    return (job.running / 2.0**priority, -priority, job.order, job.id)


def refresh_stage(state: SchedulerState, job: Job, stage: Stage) -> None:
    """List the stage among its job's ready ones, or take it off, as its tasks now stand."""
    ready = stage.blocked == 0 and stage.counts[TaskState.WAITING] > 0
    if ready != stage.listed:
        entry = (-stage.depth, stage.id)
        if ready:
            insort(job.ready_stages, entry)
        else:
            del job.ready_stages[bisect_left(job.ready_stages, entry)]
        stage.listed = ready
        refresh_job(state, job)


def refresh_job(state: SchedulerState, job: Job) -> None:
    """Put the job where it belongs in the fair order."""
    rank = rank_of(job) if job.ready_stages else None
    if rank != job.rank:
        if job.rank is not None:
            del state.ready_jobs[bisect_left(state.ready_jobs, job.rank)]
        if rank is not None:
            insort(state.ready_jobs, rank)
        job.rank = rank


def free_slot(state: SchedulerState, slot: Slot) -> None:
    """Offer the slot for work."""
    slot.attempt = None
    slot.leaves_by = None
    state.free[slot.id] = slot


def expect_leave(state: SchedulerState, slot: Slot, now: float) -> None:
    """Offer the slot no more, unless it is still there after a while."""
    slot.attempt = None
    slot.leaves_by = now + LEAVE_SECONDS
    heapq.heappush(state.timers, (slot.leaves_by, state.tick(), slot.id))


def remove_slot(state: SchedulerState, slot: Slot) -> None:
    """Forget the slot."""
    del state.slots[slot.id]
    del slot.worker.slots[slot.id]
    state.free.pop(slot.id, None)


def launch_ready(state: SchedulerState, now: float, out: list[Command]) -> None:
    """Launch until no slot is free or no task is ready.

    Within a job the deepest stage goes first: so later stages finish first and free what they read.
    """
    while state.free and state.ready_jobs:
        job = state.jobs[state.ready_jobs[0][-1]]
        stage = job.stages[job.ready_stages[0][-1]]
        index = stage.next_index()
        slot = _pick_slot(state, stage.troubles.get(index))
        stage.move(index, Cause.LAUNCHED)
        stage.attempts[index] += 1
        stage.running[index] = slot
        slot.attempt = AttemptId(job.id, stage.id, index, stage.attempts[index])
        slot.launched_at = now
        slot.sequence = state.tick()
        slot.listed = False
        slot.missed = 0
        job.running += 1
        refresh_stage(state, job, stage)
        refresh_job(state, job)
        out.append(Launch(slot.attempt, slot.id))


def _pick_slot(state: SchedulerState, trouble: Trouble | None) -> Slot:
    """The longest free slot; for a retry rather on another worker, or in another slot, than the one it failed on.

    The search passes over one worker's free slots at most.
    """
    first = next(iter(state.free.values()))
    chosen = first
    if trouble is not None and first.worker.name == trouble.worker:
        other_slot = None
        for slot in state.free.values():
            if slot.worker.name != trouble.worker:
                chosen = slot
                break
            if other_slot is None and slot.id != trouble.slot:
                other_slot = slot
        else:
            chosen = other_slot or first
    del state.free[chosen.id]
    return chosen
