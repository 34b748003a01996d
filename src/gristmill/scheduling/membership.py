"""Workers and slots that come and go, and attempts that fail or vanish with them."""

from __future__ import annotations

from gristmill.errors import FailureKind
from gristmill.scheduling.breaker import note_failure
from gristmill.scheduling.commands import Cancel, Command, JobState
from gristmill.scheduling.events import AttemptId, Heartbeat, SlotJoined, WorkerJoined
from gristmill.scheduling.lineage import end_job, lose_block
from gristmill.scheduling.liveness import heard, watch_over
from gristmill.scheduling.order import refresh_stage
from gristmill.scheduling.places import leave_place
from gristmill.scheduling.retry import Trouble, attempts_allowed, backoff_seconds
from gristmill.scheduling.slots import (
    add_slot,
    add_worker,
    cancel,
    expect_leave,
    forget_hopeless,
    give_back,
    refresh_worker,
    remove_slot,
    stop,
)
from gristmill.scheduling.state import Alarm, Attempt, Job, SchedulerState, Stage, Worker
from gristmill.scheduling.transitions import Cause

MISSED_HEARTBEATS = 2
"""An attempt that so many heartbeats in a row do not name, and should, is lost. One can cross with a launch."""


def running_attempt(state: SchedulerState, attempt: AttemptId) -> tuple[Job, Stage, Attempt] | None:
    """The attempt, if it is one that runs for its task."""
    job = state.jobs.get(attempt.job)
    stage = job.stages.get(attempt.stage) if job else None
    if job is None or stage is None:
        return None
    for found in (stage.running.get(attempt.index), stage.copies.get(attempt.index)):
        if found is not None and found.id == attempt:
            return job, stage, found
    return None


# Workers


def join_worker(state: SchedulerState, event: WorkerJoined) -> None:
    """A worker is there. What is not known of it until now is known from here on."""
    if event.worker in state.dropped:
        return
    worker = state.workers.get(event.worker)
    if worker is None:
        worker = add_worker(state, event.worker)
    elif worker.joined:
        return
    worker.joined = True
    worker.host, worker.rack = event.host, event.rack
    worker.cpus, worker.memory_bytes = event.cpus, event.memory_bytes
    worker.suspect_seconds, worker.lost_seconds = event.suspect_seconds, event.lost_seconds
    if worker.host:
        state.hosts[worker.host] = state.hosts.get(worker.host, 0) + 1
        if worker.rack:
            state.rack_of[worker.host] = worker.rack
    heard(state, worker)
    watch_over(state, worker)
    forget_hopeless(state)
    refresh_worker(state, worker)


def join_slot(state: SchedulerState, event: SlotJoined) -> None:
    """A slot is ready for work."""
    if event.slot in state.slots or event.worker in state.dropped:
        return
    worker = state.workers.get(event.worker) or add_worker(state, event.worker)
    heard(state, worker)
    add_slot(state, worker, event.slot, event.depth)


def drain_worker(state: SchedulerState, name: str) -> None:
    """A worker wants to leave."""
    worker = state.workers.get(name)
    if worker is not None and not worker.draining:
        worker.draining = True
        _leave_host(state, worker)
        refresh_worker(state, worker)


def lose_worker(state: SchedulerState, name: str, now: float, out: list[Command]) -> None:
    """A worker is gone, with its slots, what ran there, and all the blocks that only it kept."""
    worker = state.workers.pop(name, None)
    if worker is None:
        return
    state.resting.pop(name, None)
    slots = list(worker.slots.values())
    for slot in slots:
        remove_slot(state, slot)
    worker.draining = worker.draining or _leave_host(state, worker)
    refresh_worker(state, worker)
    for slot in slots:
        _lose_attempts(state, list(slot.attempts), now, out)
    for job in state.jobs.values():
        for stage in job.stages.values():
            if stage.bytes_on is not None:
                stage.bytes_on.pop(worker.number, None)
            lost = [index for index in stage.blocks_on.pop(worker.number, ()) if stage.makers[index] == worker.number]
            for index in lost:
                lose_block(state, job, stage, index)
            for child in stage.children if lost else ():
                _call_back(state, job, child, out)


def _call_back(state: SchedulerState, job: Job, stage: Stage, out: list[Command]) -> None:
    """Input of the stage is gone. Whoever has read nothing yet would go on asking for it: its task waits instead."""
    for index in list(stage.running):
        for attempt in (stage.copies.get(index), stage.running[index]):
            if attempt is not None and not attempt.progress:
                cancel(state, job, stage, attempt, out)
        if index not in stage.running:
            stage.requeue(index, Cause.RETURNED, state.now)
    refresh_stage(state, job, stage)


def _leave_host(state: SchedulerState, worker: Worker) -> bool:
    """The worker takes no more work: nothing waits for a place there."""
    leave_place(state, worker.name, by_host=False)
    if worker.host:
        state.hosts[worker.host] -= 1
        if not state.hosts[worker.host]:
            del state.hosts[worker.host]
            leave_place(state, worker.host, by_host=True)
    return True


# Slots


def lose_slot(state: SchedulerState, name: str, now: float, out: list[Command]) -> None:
    """A slot is gone, with what ran there."""
    slot = state.slots.get(name)
    if slot is not None:
        remove_slot(state, slot)
        _lose_attempts(state, list(slot.attempts), now, out)


def _lose_attempts(state: SchedulerState, attempts: list[Attempt], now: float, out: list[Command]) -> None:
    """The attempts of a slot will not answer any more. Only the first of them has run."""
    for position, attempt in enumerate(attempts):
        found = running_attempt(state, attempt.id)
        if found is None:
            continue  # its job has ended by another one
        job, stage, _ = found
        if position > 0:
            give_back(state, job, stage, attempt)
            continue
        other = stop(state, job, stage, attempt)
        if other is not None:
            other.copied = False  # it is alone again, through no fault of the task's
        fail_attempt(state, job, stage, attempt, FailureKind.LOST, other is None, now, out)


def fail_attempt(
    state: SchedulerState,
    job: Job,
    stage: Stage,
    attempt: Attempt,
    kind: FailureKind,
    alone: bool,
    now: float,
    out: list[Command],
) -> None:
    """Count a failure and let the task run again, after a pause or not; or end the job.

    If the attempt was not ``alone``, the other one goes on and nothing needs to start; a budget that is used up ends
    the job only when the last attempt fails as well.
    """
    index, slot = attempt.id.index, attempt.slot
    trouble = stage.troubles.setdefault(index, Trouble())
    trouble.slot = slot.id
    trouble.avoid.add(slot.worker.name)
    if not (job.policy.deaths_expected and kind is FailureKind.DEATH):
        note_failure(state, slot.worker, attempt.id.task, trouble, kind, now)
    failures = trouble.count(kind)
    if kind is FailureKind.FATAL or (alone and failures >= attempts_allowed(job.policy, kind)):
        end_job(state, job, JobState.FAILED, attempt.id, out)
    elif not alone:
        return
    elif kind is FailureKind.LOST or (kind is FailureKind.FETCH and not stage.open):
        # Not the task's fault; or it waits for a block to be made again, which is pause enough.
        stage.requeue(index, Cause.RETURNED, state.now)
        refresh_stage(state, job, stage)
    else:
        stage.move(index, Cause.FAILED)
        count = failures if kind is FailureKind.FETCH else trouble.pauses
        pause = backoff_seconds(job.policy, job.seed, attempt.id.task, count)
        last = AttemptId(job.id, stage.id, index, stage.numbers[index])
        state.set_timer(now + pause, Alarm.RESTED, last)


# Heartbeats


def find_missing(state: SchedulerState, event: Heartbeat, now: float, out: list[Command]) -> None:
    """Note that the worker lives and how far its attempts are, and find those that it should run and does not.

    A heartbeat that does not name an attempt proves nothing if the worker made it before it knew of the launch. It
    counts if the worker named the attempt before, or if it is known to have been made after the launch. Of what waits
    in a slot nothing is expected.
    """
    worker = state.workers.get(event.worker)
    if worker is None:
        return
    heard(state, worker)
    alive = dict(zip(event.attempts, event.progress or [0.0] * len(event.attempts), strict=False))
    missing = []
    for slot in worker.slots.values():
        if not slot.attempts:
            continue
        attempt = slot.attempts[0]
        progress = alive.get(attempt.id)
        if progress is not None:
            attempt.listed = True
            attempt.missed = 0
            attempt.progress = max(attempt.progress, progress)
        elif attempt.listed or (event.began is not None and event.began > attempt.began_at):
            attempt.missed += 1
            if attempt.missed >= MISSED_HEARTBEATS:
                missing.append(attempt)
    for attempt in missing:
        if (found := running_attempt(state, attempt.id)) is not None:  # the job may have ended by one of the others
            _give_up(state, *found, now, out)


def _give_up(state: SchedulerState, job: Job, stage: Stage, attempt: Attempt, now: float, out: list[Command]) -> None:
    """An attempt has vanished: whatever became of it, its slot is not to be trusted."""
    slot = attempt.slot
    out.append(Cancel(attempt.id, slot.id))
    other = stop(state, job, stage, attempt)
    for waiting in list(slot.attempts):
        out.append(Cancel(waiting.id, slot.id, recalled=True))
        give_back(state, job, job.stages[waiting.id.stage], waiting)
    expect_leave(state, slot)
    fail_attempt(state, job, stage, attempt, FailureKind.LOST, other is None, now, out)
