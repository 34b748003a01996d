"""A job that an earlier coordinator ran: what it had done is noted while the job is held, and weighed when released.

Nothing is concluded from notes one by one. On release the stages are looked at from the last to the first: if all
readers of one are done, nothing needs the blocks that are missing of it. The rest of what is missing is made again.
"""

from __future__ import annotations

from dataclasses import replace
from heapq import heappush

from gristmill.scheduling.commands import Command, ReportStage, RevokeOutput
from gristmill.scheduling.events import TaskId, TaskRestored
from gristmill.scheduling.lineage import advance, gate_moved, note_output
from gristmill.scheduling.state import NEVER, Job, SchedulerState, Stage
from gristmill.scheduling.transitions import Cause


def note(state: SchedulerState, event: TaskRestored) -> None:
    """Keep what is known of a task until its job is released."""
    job = state.jobs.get(event.attempt.job)
    if job is not None and job.held is not None:
        job.held[event.attempt.task] = event


def release(state: SchedulerState, job: Job, out: list[Command]) -> None:
    """Draw the conclusions of all notes: the job goes on where it stood, or ends at once."""
    assert job.held is not None
    stages = sorted(job.stages.values(), key=lambda stage: (stage.depth, stage.id))
    _restore_all(state, job, stages, job.held, out)
    job.held = None
    unfinished: set[int] = set()
    for stage in reversed(stages):
        if stage.final or not stage.children or any(child.id in unfinished for child in stage.children):
            if not stage.tasks or not stage.done or stage.gone:
                unfinished.add(stage.id)
            for index in sorted(stage.gone):
                stage.requeue(index, Cause.BLOCK_WANTED, state.now)
            stage.gone.clear()
    for stage in stages:
        if stage.done and (stage.tasks or stage.id not in unfinished):
            stage.reported = True
            out.append(ReportStage(job.id, stage.id, tuple(stage.partition_bytes)))
    for stage in stages:
        stage.blocked -= 1
        gate_moved(state, job, stage)
    for stage in stages:
        if job.id in state.jobs:
            advance(state, job, stage, out)


def _restore_all(
    state: SchedulerState, job: Job, stages: list[Stage], notes: dict[TaskId, TaskRestored], out: list[Command]
) -> None:
    """Take the notes as what is done, parents first.

    A stage is complete when all its tasks were done, whether their blocks are there or not. What was done by readers of
    one that is not does not count: its tasks were done with data that has changed since, or else those of the stage
    would have been noted first.
    """
    by_stage: dict[int, list[TaskRestored]] = {}
    for task, event in notes.items():
        by_stage.setdefault(task.stage, []).append(event)
    incomplete: set[int] = set()
    for stage in stages:
        read_otherwise = any(parent.id in incomplete for parent in stage.parents)
        for event in by_stage.get(stage.id, ()):
            index = event.attempt.index
            if 0 <= index < stage.tasks:
                stage.numbers[index] = max(stage.numbers[index], event.attempt.number, 1)
                if read_otherwise:
                    heappush(stage.requeued, index)
                    out.append(RevokeOutput(event.attempt.task))
                else:
                    _restore(state, job, stage, event)
        if read_otherwise or NEVER in stage.makers:
            incomplete.add(stage.id)


def _restore(state: SchedulerState, job: Job, stage: Stage, event: TaskRestored) -> None:
    index = event.attempt.index
    worker = state.workers.get(event.worker) if event.worker is not None else None
    note_output(job, stage, worker, event, again=False)
    if event.has_block and (event.worker is None or (worker is None and not event.shared)):
        stage.move(index, Cause.RESTORED_GONE)  # as far as is known
        stage.gone.add(index)
    else:
        stage.move(index, Cause.RESTORED)


def forget_block(job: Job, task: TaskId) -> None:
    """A block was lost while its job is held."""
    assert job.held is not None
    event = job.held.get(task)
    if event is not None:
        job.held[task] = replace(event, worker=None)
