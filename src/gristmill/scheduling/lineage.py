"""Which blocks are there, which are needed, and which tasks have to run again because theirs are gone.

The rules:

* A stage is *whole* when all its tasks were done and none has to run again. It is *available* when all its blocks
  live as well. Tasks of a stage start only while every parent is available.
* A stage's blocks are *needed* while a child is not whole. A task whose block is lost while it is needed runs again.
  One whose block is lost when nothing needs it is gone, and runs again when a child is not whole any more.
  So work is redone for what is wanted, through as many generations as it takes, and never for more.
* A stage's blocks are *freed* when every child is settled: whole, and keeping no block itself. While a child keeps
  blocks that could be lost, it could have to run again and would read its parents anew.
"""

from __future__ import annotations

from array import array

from gristmill.scheduling.commands import (
    AcceptOutput,
    Command,
    EndJob,
    FreeBlock,
    JobState,
    ReportStage,
    RevokeOutput,
)
from gristmill.scheduling.events import AttemptId, StageReplaced, TaskFinished, TaskRestored
from gristmill.scheduling.order import refresh_job, refresh_stage
from gristmill.scheduling.places import count_bytes, find_places
from gristmill.scheduling.slots import cancel, drop_shape
from gristmill.scheduling.state import FREED, LOST, NEVER, NO_BLOCK, SHARED, Job, SchedulerState, Stage, Worker
from gristmill.scheduling.transitions import Cause, TaskState

_DIGEST_BITS = (1 << 64) - 1


def add_stage(state: SchedulerState, job: Job, stage: Stage, out: list[Command]) -> None:
    """Take up a stage: count its parents that are not available, and want their blocks."""
    job.stages[stage.id] = stage
    stage.blocked = sum(not parent.available for parent in stage.parents) + (job.held is not None) + stage.awaits_plan
    for parent in stage.parents:
        parent.children.append(stage)
    want_parents(state, job, stage)
    gate_moved(state, job, stage)
    advance(state, job, stage, out)


def replace_stage(
    state: SchedulerState,
    job: Job,
    stage: Stage,
    parents: tuple[Stage, ...],
    event: StageReplaced,
    out: list[Command],
) -> None:
    """It is decided how a stage is cut: from now on only its parents block it."""
    for parent in parents:
        if parent not in stage.parents:
            parent.children.append(stage)
    stage.parents = parents
    _deepen(stage)
    stage.cut_again(event.tasks, event.reads, event.hosts)
    stage.awaits_plan = False
    stage.blocked = sum(not parent.available for parent in parents) + (job.held is not None)
    want_parents(state, job, stage)
    gate_moved(state, job, stage)
    advance(state, job, stage, out)


def _deepen(stage: Stage) -> None:
    """A stage has new parents. What comes after it has no ready task, so no list has to be sorted again."""
    deeper = [stage]
    while deeper:
        stage = deeper.pop()
        depth = 1 + max((parent.depth for parent in stage.parents), default=-1)
        if depth > stage.depth:
            assert not stage.listed, "its tasks are not ready"
            stage.depth = depth
            deeper += stage.children


def accept(
    state: SchedulerState, job: Job, stage: Stage, worker: Worker, event: TaskFinished, out: list[Command]
) -> None:
    """Take an attempt's output as its task's."""
    index = event.attempt.index
    again = stage.makers[index] == LOST
    if again and digest_of(stage, index) != event.digest & _DIGEST_BITS:
        for child in stage.children:
            _make_stale(state, job, child, out)
    stage.move(index, Cause.FINISHED)
    stage.troubles.pop(index, None)
    stage.stale.discard(index)
    note_output(job, stage, worker, event, again)
    if again:
        stage.redone[index] = state.tick()
    out.append(AcceptOutput(event.attempt))


def note_output(job: Job, stage: Stage, worker: Worker | None, event: TaskFinished | TaskRestored, again: bool) -> None:
    """Note what a task made, and which worker keeps it. ``again``: its sizes have been counted."""
    index = event.attempt.index
    maker = NO_BLOCK
    if event.has_block:
        gone = isinstance(event, TaskRestored) and event.worker is None
        keeper = LOST if worker is None else worker.number
        maker = LOST if gone else SHARED if event.shared else keeper
        if maker != LOST:
            stage.blocks_on.setdefault(maker, array("I")).append(index)
            stage.kept += 1
            if worker is not None and not event.shared:
                count_bytes(stage, worker, event.partition_bytes)
    stage.makers[index] = maker
    if not again:
        _add_sizes(stage.partition_bytes, event.partition_bytes)
    _note_digest(stage, index, event.digest & _DIGEST_BITS)
    job.bad_records += event.bad_records - stage.bad_records.pop(index, 0)
    if event.bad_records:
        stage.bad_records[index] = event.bad_records


def digest_of(stage: Stage, index: int) -> int:
    """What tells a task's last output from others."""
    return stage.digests[index] if stage.digests is not None else 0


def _note_digest(stage: Stage, index: int, digest: int) -> None:
    if stage.digests is None:
        if not digest:
            return
        stage.digests = array("Q", [0]) * stage.tasks
    stage.digests[index] = digest


def _make_stale(state: SchedulerState, job: Job, stage: Stage, out: list[Command]) -> None:
    """An input of all the stage's tasks has changed: what was done with the old one, or runs, runs again."""
    if not stage.tasks:
        return
    for index in range(stage.tasks):
        if stage.makers[index] != NEVER:
            stage.stale.add(index)
        match stage.states[index]:
            case TaskState.DONE | TaskState.GONE:
                out.append(RevokeOutput(job.task(stage, index)))
                stage.kept -= stage.makers[index] >= 0
                stage.makers[index] = LOST
                stage.gone.discard(index)
                stage.requeue(index, Cause.INPUT_CHANGED, state.now)
            case TaskState.RUNNING:
                for attempt in (stage.copies.get(index), stage.running[index]):
                    if attempt is not None:
                        cancel(state, job, stage, attempt, out)
                stage.requeue(index, Cause.RETURNED, state.now)
    stage.freed = False
    if stage.available:
        set_available(state, job, stage, False)
    refresh_stage(state, job, stage)
    if stage.stale:
        want_parents(state, job, stage)


def _add_sizes(total: list[int], sizes: tuple[int, ...]) -> None:
    if len(total) < len(sizes):
        total.extend([0] * (len(sizes) - len(total)))
    for partition, size in enumerate(sizes):
        total[partition] += size


def advance(state: SchedulerState, job: Job, stage: Stage, out: list[Command]) -> None:
    """Draw the conclusions of a stage's progress: report it, open its children's gates, free blocks, end the job."""
    any_whole = False
    unfinished = [stage]
    while unfinished:
        stage = unfinished.pop()
        if stage.done and not stage.reported and (stage.tasks or stage.open):
            stage.reported = True
            out.append(ReportStage(job.id, stage.id, tuple(stage.partition_bytes)))
        if stage.reported and not stage.available and stage.counts[TaskState.DONE] == stage.tasks:
            set_available(state, job, stage, True)
            unfinished.extend(child for child in reversed(stage.children) if child.tasks == 0)
        if stage.whole:
            _free_upward(job, stage, out)
            any_whole = True
    if any_whole and _is_over(job):
        end_job(state, job, JobState.SUCCEEDED, None, out)


def _is_over(job: Job) -> bool:
    finals = [stage for stage in job.stages.values() if stage.final]
    return bool(finals) and all(stage.whole for stage in finals) and not any(s.stale for s in job.stages.values())


def set_available(state: SchedulerState, job: Job, stage: Stage, available: bool) -> None:
    """Open or close the children's gates as far as they depend on this stage."""
    stage.available = available
    for child in stage.children:
        child.blocked += -1 if available else 1
        gate_moved(state, job, child)


def gate_moved(state: SchedulerState, job: Job, stage: Stage) -> None:
    """The gate may have opened or closed."""
    if stage.blocked == 0:
        stage.opened_at = state.now
    refresh_stage(state, job, stage)
    if stage.listed:
        find_places(state, stage)


def lose_block(state: SchedulerState, job: Job, stage: Stage, index: int) -> None:
    """A block, if it was there, is gone. Its task runs again: now if the block is needed, else when it is."""
    if stage.makers[index] < SHARED:
        return
    stage.makers[index] = LOST
    stage.kept -= 1
    if stage.needed:
        stage.requeue(index, Cause.BLOCK_WANTED, state.now)
        want_parents(state, job, stage)
    else:
        stage.move(index, Cause.BLOCK_LOST)
        stage.gone.add(index)
    if stage.available:
        set_available(state, job, stage, False)
    refresh_stage(state, job, stage)


def want_parents(state: SchedulerState, job: Job, stage: Stage) -> None:
    """A stage has tasks to run: what is gone of its ancestors runs again, as far up as blocks are gone."""
    wanting = [stage]
    while wanting:
        for parent in wanting.pop().parents:
            if parent.freed:
                _unfree(state, job, parent)
            if parent.gone:
                for index in sorted(parent.gone):
                    parent.requeue(index, Cause.BLOCK_WANTED, state.now)
                parent.gone.clear()
                refresh_stage(state, job, parent)
                wanting.append(parent)


def _unfree(state: SchedulerState, job: Job, stage: Stage) -> None:
    """A child was added when the stage's blocks had been freed: they are gone like lost ones."""
    stage.freed = False
    for index, maker in enumerate(stage.makers):
        if maker == FREED:
            stage.makers[index] = LOST
            stage.move(index, Cause.BLOCK_LOST)
            stage.gone.add(index)
    if stage.available:
        set_available(state, job, stage, False)


def _living(stage: Stage) -> list[int]:
    return [index for index, maker in enumerate(stage.makers) if maker >= SHARED] if stage.kept else []


def _free_upward(job: Job, stage: Stage, out: list[Command]) -> None:
    """Free the blocks that nothing can need again: of this stage, and of ancestors that only it could have needed."""
    candidates = [stage]
    while candidates:
        stage = candidates.pop()
        if not stage.settled and stage.whole and stage.children and all(child.settled for child in stage.children):
            for index in _living(stage):
                stage.makers[index] = FREED
                out.append(FreeBlock(job.task(stage, index)))
            stage.kept = 0
            stage.blocks_on.clear()
            stage.bytes_on = stage.only_maker = None
            stage.freed = True
        if stage.settled:
            candidates.extend(parent for parent in reversed(stage.parents) if not parent.freed)


def end_job(state: SchedulerState, job: Job, end: JobState, cause: AttemptId | None, out: list[Command]) -> None:
    """Stop what still runs of a job and forget it. Blocks of a job without output stay: another run may take it up."""
    frees: list[Command] = []
    for stage in job.stages.values():
        for attempt in [*stage.running.values(), *stage.copies.values()]:
            cancel(state, job, stage, attempt, out)
        if end is JobState.SUCCEEDED:
            frees += (FreeBlock(job.task(stage, index)) for index in _living(stage))
    out += frees
    job.ready_stages.clear()
    refresh_job(state, job)
    del state.jobs[job.id]
    drop_shape(state, job.shape)
    out.append(EndJob(job.id, end, cause))
