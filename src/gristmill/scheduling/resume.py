"""A job that an earlier coordinator ran: what it had done is noted while the job is held, and weighed when released.

Nothing is concluded from notes one by one. On release the stages are looked at from the last to the first: one whose
readers are all done is not wanted, and whatever is missing of it is as good as gone. The rest of what is missing runs.
"""

from __future__ import annotations

from gristmill.scheduling.commands import Command, ReportStage
from gristmill.scheduling.events import TaskId, TaskRestored
from gristmill.scheduling.lineage import advance, note_output
from gristmill.scheduling.order import refresh_stage
from gristmill.scheduling.places import find_places
from gristmill.scheduling.state import LOST, Job, SchedulerState, Stage
from gristmill.scheduling.transitions import Cause, TaskState


def note(state: SchedulerState, event: TaskRestored) -> None:
    """Keep what is known of a task until its job is released."""
    job = state.jobs.get(event.attempt.job)
    if job is not None and job.held is not None:
        job.held[event.attempt.task] = event


def release(state: SchedulerState, job: Job, out: list[Command]) -> None:
    """Draw the conclusions of all notes: the job goes on where it stood, or ends at once."""
    assert job.held is not None
    for task, event in job.held.items():
        stage = job.stages.get(task.stage)
        if stage is not None and 0 <= task.index < stage.tasks:
            _restore(state, job, stage, event)
    job.held = None
    stages = sorted(job.stages.values(), key=lambda stage: (stage.depth, stage.id))
    unfinished: set[int] = set()
    for stage in reversed(stages):
        wanted = stage.final or not stage.children or any(child.id in unfinished for child in stage.children)
        if not wanted:
            _give_up(stage)
        elif not stage.tasks or not stage.done or stage.gone:
            unfinished.add(stage.id)
            for index in sorted(stage.gone):
                stage.requeue(index, Cause.BLOCK_WANTED)
            stage.gone.clear()
    for stage in stages:
        if stage.done and stage.tasks and not stage.reported:
            stage.reported = True
            out.append(ReportStage(job.id, stage.id, tuple(stage.partition_bytes)))
    for stage in stages:
        stage.blocked -= 1
        refresh_stage(state, job, stage)
        if stage.listed:
            find_places(state, stage)
    for stage in stages:
        if job.id in state.jobs:
            advance(state, job, stage, out)


def _restore(state: SchedulerState, job: Job, stage: Stage, event: TaskRestored) -> None:
    index = event.attempt.index
    stage.numbers[index] = max(stage.numbers[index], event.attempt.number, 1)
    worker = state.workers.get(event.worker) if event.worker is not None else None
    note_output(job, stage, worker, event, again=False)
    if stage.makers[index] == LOST:
        stage.move(index, Cause.NOT_WANTED)  # for now
        stage.gone.add(index)
    else:
        stage.move(index, Cause.RESTORED)


def _give_up(stage: Stage) -> None:
    """Nothing needs what is missing of the stage: it counts as gone."""
    for index in range(stage.tasks):
        if stage.states[index] == TaskState.WAITING:
            stage.numbers[index] = max(stage.numbers[index], 1)  # so that it waits among those that have run before
            stage.makers[index] = LOST
            stage.move(index, Cause.NOT_WANTED)
            stage.gone.add(index)


def forget_block(job: Job, task: TaskId) -> None:
    """A block was lost while its job is held."""
    assert job.held is not None
    event = job.held.get(task)
    if event is not None and event.has_block:
        job.held[task] = TaskRestored(event.attempt, None, True, event.partition_bytes, event.bad_records, event.digest)
