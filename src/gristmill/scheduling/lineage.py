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

from gristmill.scheduling.commands import AcceptOutput, Cancel, Command, EndJob, FreeBlock, JobState, ReportStage
from gristmill.scheduling.events import AttemptId, TaskFinished
from gristmill.scheduling.slots import expect_leave, refresh_job, refresh_stage
from gristmill.scheduling.state import FREED, LOST, NO_BLOCK, Job, SchedulerState, Slot, Stage
from gristmill.scheduling.transitions import Cause, TaskState


def add_stage(state: SchedulerState, job: Job, stage: Stage, now: float, out: list[Command]) -> None:
    """Take up a stage: count its parents that are not available, and want their blocks."""
    job.stages[stage.id] = stage
    stage.blocked = sum(not parent.available for parent in stage.parents)
    for parent in stage.parents:
        parent.children.append(stage)
    _want_parents(state, job, stage)
    refresh_stage(state, job, stage)
    advance(state, job, stage, now, out)


def accept(state: SchedulerState, job: Job, stage: Stage, slot: Slot, event: TaskFinished, out: list[Command]) -> None:
    """Take an attempt's output as its task's."""
    index = event.attempt.index
    first = stage.makers[index] != LOST
    stage.move(index, Cause.FINISHED)
    stage.troubles.pop(index, None)
    if event.has_block:
        worker = slot.worker.number
        stage.makers[index] = worker
        stage.blocks_on.setdefault(worker, array("I")).append(index)
        stage.kept += 1
    else:
        stage.makers[index] = NO_BLOCK
    if first:
        _add_sizes(stage.partition_bytes, event.partition_bytes)
    else:
        stage.redone[index] = state.tick()
    job.bad_records += event.bad_records - stage.bad_records.pop(index, 0)
    if event.bad_records:
        stage.bad_records[index] = event.bad_records
    out.append(AcceptOutput(event.attempt))


def _add_sizes(total: list[int], sizes: tuple[int, ...]) -> None:
    if len(total) < len(sizes):
        total.extend([0] * (len(sizes) - len(total)))
    for partition, size in enumerate(sizes):
        total[partition] += size


def advance(state: SchedulerState, job: Job, stage: Stage, now: float, out: list[Command]) -> None:
    """Draw the conclusions of a stage's progress: report it, open its children's gates, free blocks, end the job."""
    final_done = False
    unfinished = [stage]
    while unfinished:
        stage = unfinished.pop()
        done = stage.counts[TaskState.DONE] == stage.tasks
        if done and not stage.reported and (stage.tasks or stage.open):
            stage.reported = True
            out.append(ReportStage(job.id, stage.id, tuple(stage.partition_bytes)))
        if stage.reported and done and not stage.available:
            _set_available(state, job, stage, True)
            unfinished.extend(child for child in reversed(stage.children) if child.tasks == 0)
        if stage.whole:
            _free_upward(job, stage, out)
            final_done = final_done or stage.final
    if final_done and all(final.whole for final in job.stages.values() if final.final):
        end_job(state, job, JobState.SUCCEEDED, None, now, out)


def _set_available(state: SchedulerState, job: Job, stage: Stage, available: bool) -> None:
    stage.available = available
    for child in stage.children:
        child.blocked += -1 if available else 1
        refresh_stage(state, job, child)


def lose_block(state: SchedulerState, job: Job, stage: Stage, index: int) -> None:
    """A block, if it was there, is gone. Its task runs again: now if the block is needed, else when it is."""
    if stage.makers[index] < 0:
        return
    stage.makers[index] = LOST
    stage.kept -= 1
    if stage.needed:
        stage.requeue(index, Cause.BLOCK_WANTED)
        _want_parents(state, job, stage)
    else:
        stage.move(index, Cause.BLOCK_LOST)
        stage.gone.add(index)
    if stage.available:
        _set_available(state, job, stage, False)
    refresh_stage(state, job, stage)


def _want_parents(state: SchedulerState, job: Job, stage: Stage) -> None:
    """A stage has tasks to run: what is gone of its ancestors runs again, as far up as blocks are gone."""
    wanting = [stage]
    while wanting:
        for parent in wanting.pop().parents:
            if parent.freed:
                _unfree(state, job, parent)
            if parent.gone:
                for index in sorted(parent.gone):
                    parent.requeue(index, Cause.BLOCK_WANTED)
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
        _set_available(state, job, stage, False)


def _living(stage: Stage) -> list[int]:
    return [index for index, maker in enumerate(stage.makers) if maker >= 0] if stage.kept else []


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
            stage.freed = True
        if stage.settled:
            candidates.extend(parent for parent in reversed(stage.parents) if not parent.freed)


def end_job(
    state: SchedulerState, job: Job, end: JobState, cause: AttemptId | None, now: float, out: list[Command]
) -> None:
    """Stop what still runs of a job and forget it. Blocks of a job without output stay: another run may take it up."""
    frees: list[Command] = []
    for stage in job.stages.values():
        for slot in stage.running.values():
            assert slot.attempt is not None
            if slot.id in state.slots:  # not if its worker was just lost
                out.append(Cancel(slot.attempt, slot.id))
                expect_leave(state, slot, now)
        if end is JobState.SUCCEEDED:
            frees += (FreeBlock(job.task(stage, index)) for index in _living(stage))
    out += frees
    job.ready_stages.clear()
    refresh_job(state, job)
    del state.jobs[job.id]
    out.append(EndJob(job.id, end, cause))
