"""The scheduler: one event in, commands out. ``step`` is the only way to change a :class:`SchedulerState`.

It decides by the state, the event and the time it is given, and by nothing else: the same events at the same times make
the same commands. It costs a few heap and list operations, however many tasks, slots and workers there are; only what
happens once in the life of a job, a stage or a worker looks at all that belongs to it.

Late news is the normal case here. Whatever names an attempt that is not the one running for its task is refused: its
output is discarded, its failure ignored.
"""

from __future__ import annotations

import heapq
from typing import assert_never

from gristmill.errors import FailureKind
from gristmill.scheduling.commands import Cancel, Command, DiscardOutput, JobState, WakeAt
from gristmill.scheduling.events import (
    AttemptId,
    BlockLost,
    Event,
    Heartbeat,
    JobCancelled,
    JobReleased,
    JobSubmitted,
    SlotJoined,
    SlotLeft,
    StageAdded,
    TaskFailed,
    TaskFinished,
    TaskId,
    TaskRestored,
    TimePassed,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
)
from gristmill.scheduling.lineage import accept, add_stage, advance, end_job, lose_block
from gristmill.scheduling.retry import Trouble, attempts_allowed, backoff_seconds
from gristmill.scheduling.slots import expect_leave, free_slot, launch_ready, refresh_job, refresh_stage, remove_slot
from gristmill.scheduling.state import Job, SchedulerState, Slot, Stage, Worker
from gristmill.scheduling.transitions import Cause, TaskState

MISSED_HEARTBEATS = 2
"""An attempt that so many heartbeats in a row do not name, and should, is lost. One can cross with a launch."""


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
    match event:
        case TaskFinished():
            _task_finished(state, event, now, out)
        case TaskFailed():
            _task_failed(state, event, now, out)
        case Heartbeat():
            _heartbeat(state, event, now, out)
        case WorkerJoined() | WorkerDraining() | JobReleased() | TaskRestored():
            pass  # being built
        case SlotJoined():
            _slot_joined(state, event)
        case SlotLeft():
            _slot_left(state, event, now, out)
        case WorkerLost():
            _worker_lost(state, event, now, out)
        case BlockLost():
            _block_lost(state, event.task)
        case JobSubmitted():
            _job_submitted(state, event)
        case StageAdded():
            _stage_added(state, event, now, out)
        case JobCancelled():
            if job := state.jobs.get(event.job):
                end_job(state, job, JobState.CANCELLED, None, now, out)
        case TimePassed():
            state.wake_at = None  # it has come; if it came too early, it is asked for again
        case _:
            assert_never(event)
    _fire_timers(state, now)
    launch_ready(state, now, out)
    _ask_to_wake(state, out)
    return out


def _current(state: SchedulerState, attempt: AttemptId) -> tuple[Job, Stage, Slot] | None:
    """Where this attempt runs, if it is the one that runs for its task."""
    job = state.jobs.get(attempt.job)
    stage = job.stages.get(attempt.stage) if job else None
    slot = stage.running.get(attempt.index) if stage else None
    if job is None or stage is None or slot is None or slot.attempt != attempt:
        return None
    return job, stage, slot


def _stop_running(state: SchedulerState, job: Job, stage: Stage, index: int) -> None:
    """The task has no attempt any more. What becomes of task and slot is for the caller."""
    del stage.running[index]
    job.running -= 1
    refresh_job(state, job)


# Tasks


def _task_finished(state: SchedulerState, event: TaskFinished, now: float, out: list[Command]) -> None:
    current = _current(state, event.attempt)
    if current is None:
        out.append(DiscardOutput(event.attempt))
        return
    job, stage, slot = current
    _stop_running(state, job, stage, event.attempt.index)
    free_slot(state, slot)
    accept(state, job, stage, slot, event, out)
    if job.bad_records > job.max_bad_records:
        end_job(state, job, JobState.FAILED, None, now, out)
    else:
        advance(state, job, stage, now, out)


def _task_failed(state: SchedulerState, event: TaskFailed, now: float, out: list[Command]) -> None:
    current = _current(state, event.attempt)
    if current is None:
        return
    job, stage, slot = current
    launched = slot.sequence
    _stop_running(state, job, stage, event.attempt.index)
    if event.slot_leaves if event.slot_leaves is not None else event.kind in (FailureKind.DEATH, FailureKind.MEMORY):
        expect_leave(state, slot, now)
    else:
        free_slot(state, slot)
    # A block that was made anew since the reader began is not the one that it missed.
    for block in event.lost_blocks:
        if block.job == job.id and _redone_at(job, block) < launched:
            _block_lost(state, block)
    _attempt_failed(state, job, stage, slot, event.attempt, event.kind, now, out)


def _redone_at(job: Job, task: TaskId) -> int:
    stage = job.stages.get(task.stage)
    return stage.redone.get(task.index, 0) if stage else 0


def _attempt_failed(
    state: SchedulerState,
    job: Job,
    stage: Stage,
    slot: Slot,
    attempt: AttemptId,
    kind: FailureKind,
    now: float,
    out: list[Command],
) -> None:
    """Count a failure and let the task run again, after a pause or not; or end the job."""
    trouble = stage.troubles.setdefault(attempt.index, Trouble())
    trouble.slot, trouble.worker = slot.id, slot.worker.name
    failures = trouble.count(kind)
    if kind is FailureKind.FATAL or failures >= attempts_allowed(job.policy, kind):
        end_job(state, job, JobState.FAILED, attempt, now, out)
    elif kind is FailureKind.LOST or (kind is FailureKind.FETCH and not stage.open):
        # Not the task's fault; or it waits for a block to be made again, which is pause enough.
        stage.requeue(attempt.index, Cause.RETURNED)
        refresh_stage(state, job, stage)
    else:
        stage.move(attempt.index, Cause.FAILED)
        count = failures if kind is FailureKind.FETCH else trouble.pauses
        pause = backoff_seconds(job.policy, job.seed, attempt.task, count)
        heapq.heappush(state.timers, (now + pause, state.tick(), attempt))


# Slots and workers


def _slot_joined(state: SchedulerState, event: SlotJoined) -> None:
    if event.slot in state.slots:
        return
    worker = state.workers.get(event.worker)
    if worker is None:
        worker = state.workers[event.worker] = Worker(event.worker, state.worker_count)
        state.worker_count += 1
    slot = state.slots[event.slot] = worker.slots[event.slot] = Slot(event.slot, worker)
    free_slot(state, slot)


def _slot_left(state: SchedulerState, event: SlotLeft, now: float, out: list[Command]) -> None:
    slot = state.slots.get(event.slot)
    if slot is not None:
        remove_slot(state, slot)
        _lose_attempt(state, slot, now, out)


def _lose_attempt(state: SchedulerState, slot: Slot, now: float, out: list[Command]) -> None:
    """The attempt in this slot, if there is one, will not answer any more."""
    if slot.attempt is None or (current := _current(state, slot.attempt)) is None:
        return
    job, stage, _ = current
    attempt = slot.attempt
    _stop_running(state, job, stage, attempt.index)
    _attempt_failed(state, job, stage, slot, attempt, FailureKind.LOST, now, out)


def _worker_lost(state: SchedulerState, event: WorkerLost, now: float, out: list[Command]) -> None:
    worker = state.workers.pop(event.worker, None)
    if worker is None:
        return
    slots = list(worker.slots.values())
    for slot in slots:
        remove_slot(state, slot)
    for slot in slots:
        _lose_attempt(state, slot, now, out)
    for job in state.jobs.values():
        for stage in job.stages.values():
            for index in stage.blocks_on.pop(worker.number, ()):
                if stage.makers[index] == worker.number:
                    lose_block(state, job, stage, index)


def _block_lost(state: SchedulerState, task: TaskId) -> None:
    job = state.jobs.get(task.job)
    stage = job.stages.get(task.stage) if job else None
    if job is not None and stage is not None and 0 <= task.index < stage.tasks:
        lose_block(state, job, stage, task.index)


def _heartbeat(state: SchedulerState, event: Heartbeat, now: float, out: list[Command]) -> None:
    """Note that the worker lives, and find the attempts that it should run and does not.

    A heartbeat that does not name an attempt proves nothing if the worker made it before it knew of the launch. It
    counts if the worker named the attempt before, or if it is known to have been made after the launch.
    """
    worker = state.workers.get(event.worker)
    if worker is None:
        return
    worker.heard_at = now
    alive = set(event.attempts)
    missing = []
    for slot in worker.slots.values():
        if slot.attempt is None:
            continue
        if slot.attempt in alive:
            slot.listed = True
            slot.missed = 0
        elif slot.listed or (event.began is not None and event.began > slot.launched_at):
            slot.missed += 1
            if slot.missed >= MISSED_HEARTBEATS:
                missing.append(slot)
    for slot in missing:
        if slot.attempt is not None:  # the job may have ended by one of the others
            out.append(Cancel(slot.attempt, slot.id))
            _lose_attempt(state, slot, now, out)
            expect_leave(state, slot, now)


# Jobs


def _job_submitted(state: SchedulerState, event: JobSubmitted) -> None:
    if event.job in state.jobs:
        raise ValueError(f"job {event.job} was submitted before")
    state.jobs[event.job] = Job(
        event.job, state.job_count, event.seed, event.policy, event.max_bad_records, event.priority
    )
    state.job_count += 1


def _stage_added(state: SchedulerState, event: StageAdded, now: float, out: list[Command]) -> None:
    job = state.jobs.get(event.job)
    if job is None:
        return  # it has ended meanwhile
    if event.stage in job.stages:
        raise ValueError(f"stage {event.stage} of job {event.job} was added before")
    if unknown := [parent for parent in event.parents if parent not in job.stages]:
        raise ValueError(f"stage {event.stage} of job {event.job} names parents that were not added: {unknown}")
    parents = tuple(job.stages[parent] for parent in dict.fromkeys(event.parents))
    depth = 1 + max((parent.depth for parent in parents), default=-1)
    add_stage(state, job, Stage(event.stage, parents, event.tasks, event.final, depth), now, out)


# Time


def _timer_counts(state: SchedulerState, when: float, target: AttemptId | str) -> bool:
    """Whether a timer still means anything: its task still backs off after that attempt, its slot is still there."""
    if isinstance(target, str):
        slot = state.slots.get(target)
        return slot is not None and slot.leaves_by == when
    job = state.jobs.get(target.job)
    if job is None:
        return False
    stage = job.stages[target.stage]  # job ids are never used again, so this is the stage that the timer was set for
    return stage.states[target.index] == TaskState.BACKING_OFF and stage.attempts[target.index] == target.number


def _fire_timers(state: SchedulerState, now: float) -> None:
    while state.timers and state.timers[0][0] <= now:
        when, _, target = heapq.heappop(state.timers)
        if not _timer_counts(state, when, target):
            continue
        if isinstance(target, str):
            free_slot(state, state.slots[target])
        else:
            job = state.jobs[target.job]
            stage = job.stages[target.stage]
            stage.requeue(target.index, Cause.RESTED)
            refresh_stage(state, job, stage)


def _ask_to_wake(state: SchedulerState, out: list[Command]) -> None:
    while state.timers and not _timer_counts(state, state.timers[0][0], state.timers[0][2]):
        heapq.heappop(state.timers)
    earliest = state.timers[0][0] if state.timers else None
    if earliest is not None and earliest != state.wake_at:
        out.append(WakeAt(earliest))
    state.wake_at = earliest
