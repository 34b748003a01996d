"""The scheduler: one event in, commands out. ``step`` is the only way to change a :class:`SchedulerState`.

It decides by the state, the event and the time it is given, and by nothing else: the same events at the same times make
the same commands. It costs a few heap and list operations, however many tasks, slots and workers there are; only what
happens once in the life of a job, a stage or a worker looks at all that belongs to it.

Late news is the normal case here. Whatever names an attempt that is not one running for its task is refused: its
output is discarded, its failure ignored. Whatever comes from a worker that was dropped is refused.
"""

from __future__ import annotations

from typing import assert_never

from gristmill.errors import FailureKind
from gristmill.scheduling.breaker import note_success
from gristmill.scheduling.commands import Command, DiscardOutput, DropWorker, JobState
from gristmill.scheduling.events import (
    BlockLost,
    Event,
    Heartbeat,
    JobCancelled,
    JobReleased,
    JobSubmitted,
    SlotJoined,
    SlotLeft,
    StageAdded,
    StageReplaced,
    TaskFailed,
    TaskFinished,
    TaskId,
    TaskRestored,
    TimePassed,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
)
from gristmill.scheduling.launching import launch_ready, send_ahead
from gristmill.scheduling.lineage import accept, add_stage, advance, end_job, lose_block, replace_stage
from gristmill.scheduling.liveness import credit_sleep, find_silent, heard
from gristmill.scheduling.membership import (
    drain_worker,
    fail_attempt,
    find_missing,
    join_slot,
    join_worker,
    lose_slot,
    lose_worker,
    running_attempt,
)
from gristmill.scheduling.order import refresh_stage
from gristmill.scheduling.resume import forget_block, note, release
from gristmill.scheduling.slots import add_shape, cancel, expect_leave, free_slot, give_back, stop
from gristmill.scheduling.speculation import copy_stragglers
from gristmill.scheduling.state import Job, SchedulerState, Shape, Slot, Stage
from gristmill.scheduling.timers import ask_to_wake, fire_timers
from gristmill.scheduling.transitions import Cause


def step(state: SchedulerState, event: Event, now: float) -> list[Command]:
    """Take in one event and say what is to be done, in order.

    Args:
        state: changed in place.
        event: what happened.
        now: seconds on a clock that never goes back.

    Raises:
        ValueError: a submission that contradicts an earlier one (a job or stage twice, an unknown parent). Nothing
            was changed. Events of the fleet never raise, whatever their order.
    """
    out: list[Command] = []
    credit_sleep(state, now)
    state.now = now
    slot: Slot | None = None  # one that has less to do than before
    match event:
        case TaskFinished():
            slot = _task_finished(state, event, now, out)
        case TaskFailed():
            slot = _task_failed(state, event, now, out)
        case Heartbeat():
            find_missing(state, event, now, out)
        case WorkerJoined():
            join_worker(state, event)
        case WorkerDraining(worker):
            drain_worker(state, worker)
        case SlotJoined():
            join_slot(state, event)
        case SlotLeft():
            lose_slot(state, event.slot, now, out)
        case WorkerLost():
            lose_worker(state, event.worker, now, out)
        case BlockLost():
            _block_lost(state, event.task)
        case JobSubmitted():
            _job_submitted(state, event)
        case StageAdded():
            _stage_added(state, event, out)
        case StageReplaced():
            _stage_replaced(state, event, out)
        case TaskRestored():
            note(state, event)
        case JobReleased():
            if (job := state.jobs.get(event.job)) and job.held is not None:
                release(state, job, out)
        case JobCancelled():
            if job := state.jobs.get(event.job):
                end_job(state, job, JobState.CANCELLED, None, out)
        case TimePassed():
            state.wake_at = None  # it has come; if it came too early, it is asked for again
            for lost in find_silent(state, now):
                out.append(DropWorker(lost.name))
                lose_worker(state, lost.name, now, out)
        case _:
            assert_never(event)
    fire_timers(state, now, out)
    launch_ready(state, now, out)
    if slot is not None and slot.depth > 1 and slot.attempts:
        send_ahead(state, slot, now, out)
    if state.due:
        copy_stragglers(state, now, out)
    ask_to_wake(state, out)
    return out


# Tasks


def _task_finished(state: SchedulerState, event: TaskFinished, now: float, out: list[Command]) -> Slot | None:
    found = running_attempt(state, event.attempt)
    if found is None:
        out.append(DiscardOutput(event.attempt))
        return None
    job, stage, attempt = found
    slot, worker = attempt.slot, attempt.slot.worker
    heard(state, worker)
    stage.note_seconds(now - attempt.began_at if event.seconds is None else event.seconds)
    other = stop(state, job, stage, attempt)
    if not slot.attempts:
        free_slot(state, slot)
    note_success(state, worker, event.attempt, stage.troubles.get(event.attempt.index), now)
    accept(state, job, stage, worker, event, out)
    if other is not None:
        cancel(state, job, stage, other, out)
    if job.bad_records > job.max_bad_records:
        end_job(state, job, JobState.FAILED, None, out)
    else:
        advance(state, job, stage, out)
    return slot


def _task_failed(state: SchedulerState, event: TaskFailed, now: float, out: list[Command]) -> Slot | None:
    found = running_attempt(state, event.attempt)
    if found is None:
        return None
    job, stage, attempt = found
    slot = attempt.slot
    heard(state, slot.worker)
    leaves = event.kind in (FailureKind.DEATH, FailureKind.MEMORY) if event.slot_leaves is None else event.slot_leaves
    other = stop(state, job, stage, attempt)
    if leaves:
        for waiting in list(slot.attempts):
            give_back(state, job, job.stages[waiting.id.stage], waiting)
    if leaves and slot.leaves_by is None:
        expect_leave(state, slot)
    elif not slot.attempts:
        free_slot(state, slot)
    # A block that was made anew since the reader began is not the one that it missed.
    for block in event.lost_blocks:
        if block.job == job.id and _redone_at(job, block) < attempt.sequence:
            _block_lost(state, block)
    if event.begun:
        fail_attempt(state, job, stage, attempt, event.kind, other is None, now, out)
    elif other is None:
        stage.requeue(attempt.id.index, Cause.RETURNED, attempt.ready_at)
        refresh_stage(state, job, stage)
    else:
        other.copied = False  # it is alone again, through no fault of the task's
    return slot


def _redone_at(job: Job, task: TaskId) -> int:
    stage = job.stages.get(task.stage)
    return stage.redone.get(task.index, 0) if stage else 0


def _block_lost(state: SchedulerState, task: TaskId) -> None:
    job = state.jobs.get(task.job)
    if job is None:
        return
    if job.held is not None:
        forget_block(job, task)
        return
    stage = job.stages.get(task.stage)
    if stage is not None and 0 <= task.index < stage.tasks:
        lose_block(state, job, stage, task.index)


# Jobs


def _job_submitted(state: SchedulerState, event: JobSubmitted) -> None:
    if event.job in state.jobs:
        raise ValueError(f"job {event.job} was submitted before")
    shape = Shape(event.task_cpus, event.task_memory_bytes)
    add_shape(state, shape)
    state.jobs[event.job] = Job(
        event.job,
        state.job_count,
        event.seed,
        event.policy,
        event.max_bad_records,
        event.priority,
        shape,
        event.speculation,
        event.locality_seconds,
        held={} if event.held else None,
    )
    state.job_count += 1


def _stage_added(state: SchedulerState, event: StageAdded, out: list[Command]) -> None:
    job = state.jobs.get(event.job)
    if job is None:
        return  # it has ended meanwhile
    if event.stage in job.stages:
        raise ValueError(f"stage {event.stage} of job {event.job} was added before")
    parents = _parents_of(job, event)
    depth = 1 + max((parent.depth for parent in parents), default=-1)
    stage = Stage(event.stage, parents, event.tasks, event.final, depth, event.hosts, event.awaits_plan, event.reads)
    add_stage(state, job, stage, out)


def _stage_replaced(state: SchedulerState, event: StageReplaced, out: list[Command]) -> None:
    job = state.jobs.get(event.job)
    if job is None:
        return  # it has ended meanwhile
    stage = job.stages.get(event.stage)
    if stage is None or not stage.awaits_plan:
        raise ValueError(f"stage {event.stage} of job {event.job} awaits no plan")
    parents = _parents_of(job, event)
    if not set(stage.parents) <= set(parents):
        raise ValueError(f"stage {event.stage} of job {event.job} was to read what it does not read any more")
    replace_stage(state, job, stage, parents, event, out)


def _parents_of(job: Job, event: StageAdded | StageReplaced) -> tuple[Stage, ...]:
    if unknown := [parent for parent in event.parents if parent not in job.stages]:
        raise ValueError(f"stage {event.stage} of job {event.job} names parents that were not added: {unknown}")
    return tuple(job.stages[parent] for parent in dict.fromkeys(event.parents))
