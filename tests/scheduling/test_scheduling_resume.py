"""Jobs that an earlier coordinator began: what was done is not done again, what is needed and missing is."""

from __future__ import annotations

from scheduler_run import Run, attempt, ended, launches, of, slots, task, written

from gristmill.scheduling.commands import (
    AcceptOutput,
    Command,
    DiscardOutput,
    EndJob,
    FreeBlock,
    JobState,
    Launch,
    ReportStage,
    RevokeOutput,
)
from gristmill.scheduling.events import (
    BlockLost,
    Event,
    JobCancelled,
    JobReleased,
    JobSubmitted,
    StageAdded,
    TaskFinished,
    TaskRestored,
    WorkerLost,
)
from gristmill.scheduling.transitions import TaskState

GO = JobReleased("j")


def held(*tasks: int) -> list[Event]:
    """A chain of stages with so many tasks each, held."""
    events: list[Event] = [JobSubmitted("j", 1, held=True)]
    for stage, count in enumerate(tasks):
        events.append(StageAdded("j", stage, (stage - 1,) if stage else (), count, stage == len(tasks) - 1))
    return events


def kept(
    stage: int, index: int, worker: str | None = "w", number: int = 1, digest: int = 0, shared: bool = False
) -> TaskRestored:
    """A task whose block a worker keeps, or nobody."""
    return TaskRestored(attempt(stage, index, number), worker, True, (1, 2), digest=digest, shared=shared)


def output(stage: int, index: int, number: int = 1, bad: int = 0) -> TaskRestored:
    return TaskRestored(attempt(stage, index, number), "w", False, (), bad)


def states(run: Run, stage: int) -> list[TaskState]:
    found = run.state.jobs["j"].stages[stage]
    return [found.state_of(index) for index in range(found.tasks)]


def test_nothing_starts_while_a_job_is_held() -> None:
    run = Run(*slots(2), *held(2, 1))
    assert of(run.history, Launch) == []
    assert [launch[:3] for launch in launches(run(GO))] == [(0, 0, 1), (0, 1, 1)]
    assert run(GO) == []  # once is enough


def test_what_was_done_is_not_done_again() -> None:
    run = Run(*slots(3), *held(3, 1))
    run(kept(0, 0), kept(0, 2, number=4))
    assert [launch[:3] for launch in launches(run(GO))] == [(0, 1, 1)]
    out = run(TaskFinished(attempt(0, 1), True, (1, 2)))
    assert of(out, ReportStage) == [ReportStage("j", 0, (3, 6))]
    assert [launch[:3] for launch in launches(out)] == [(1, 0, 1)]


def test_a_finished_stage_is_reported_and_its_readers_start() -> None:
    run = Run(*slots(1), *held(2, 1), kept(0, 0), kept(0, 1))
    assert run(GO) == [ReportStage("j", 0, (2, 4)), Launch(attempt(1, 0), "w-0")]


def test_a_job_that_was_done_ends_at_once() -> None:
    run = Run(*slots(1), *held(2, 2), kept(0, 0), kept(0, 1), output(1, 0), output(1, 1))
    out = run(GO)
    assert out[-1] == EndJob("j", JobState.SUCCEEDED)
    assert of(out, FreeBlock) == [FreeBlock(task(0, 0)), FreeBlock(task(0, 1))]
    assert of(out, Launch) == []


def test_readers_that_are_done_need_no_parents() -> None:
    run = Run(*slots(1), *held(2, 2), kept(0, 0, None), kept(0, 1, None), output(1, 0), output(1, 1))
    assert run(GO)[-1] == EndJob("j", JobState.SUCCEEDED)


def test_a_block_that_is_gone_is_made_again_if_a_reader_is_left() -> None:
    run = Run(*slots(3), *held(2, 2), kept(0, 0), kept(0, 1, None, number=3), output(1, 0))
    assert [launch[:3] for launch in launches(run(GO))] == [(0, 1, 4)]
    assert [x[:3] for x in launches(run(TaskFinished(attempt(0, 1, 4), True, (1, 2))))] == [(1, 1, 1)]


def test_through_as_many_generations_as_needed() -> None:
    run = Run(*slots(1), *held(1, 1, 1, 2))
    run(kept(0, 0, None), kept(1, 0, None), kept(2, 0, None), output(3, 0))
    run(GO)
    out = run.finish_all()
    order = [launch[:2] for launch in launches(run.history)]
    assert order == [(0, 0), (1, 0), (2, 0), (3, 1)]
    assert ended(out)[0].state is JobState.SUCCEEDED


def test_generations_that_nobody_needs_are_left_alone() -> None:
    run = Run(*slots(1), *held(1, 1, 1, 2))
    run(kept(0, 0, None), kept(1, 0, None), kept(2, 0), output(3, 0))
    assert [launch[:2] for launch in launches(run(GO))] == [(3, 1)]
    assert states(run, 0) == [TaskState.GONE]


def test_what_is_left_alone_runs_again_when_it_is_needed_after_all() -> None:
    run = Run(*slots(1), *held(1, 1, 2), kept(0, 0, None), kept(1, 0), output(2, 0))
    run(GO)
    run(BlockLost(task(1, 0)))
    run.finish_all()
    assert ended(run.history)[0].state is JobState.SUCCEEDED


def test_a_worker_lost_before_the_release_has_nothing() -> None:
    run = Run(*slots(1), *slots(1, "b"), *held(2, 1), kept(0, 0), kept(0, 1, "b"), WorkerLost("b"))
    assert [launch[:3] for launch in launches(run(GO))] == [(0, 1, 2)]


def test_a_block_lost_before_the_release_is_gone() -> None:
    run = Run(*slots(1), *held(2, 1), kept(0, 0), kept(0, 1), BlockLost(task(0, 1)), BlockLost(task(1, 0)))
    assert [launch[:3] for launch in launches(run(GO))] == [(0, 1, 2)]


def test_shared_blocks_need_no_worker() -> None:
    run = Run(*slots(1), *held(1, 1), kept(0, 0, "an earlier one", shared=True))
    assert [launch[:3] for launch in launches(run(GO))] == [(1, 0, 1)]
    run = Run(*slots(1), *held(1, 1), kept(0, 0, None, shared=True))  # it is gone from there
    assert [launch[:3] for launch in launches(run(GO))] == [(0, 0, 2)]


def test_numbers_go_on_and_late_results_are_refused() -> None:
    run = Run(*slots(1), *held(1), output(0, 0, number=5), TaskRestored(attempt(0, 0, 7), None, True))
    assert run(TaskFinished(attempt(0, 0, 8), False)) == [DiscardOutput(attempt(0, 0, 8))]
    assert [launch[:3] for launch in launches(run(GO))] == [(0, 0, 8)]


def test_the_last_note_of_a_task_counts() -> None:
    run = Run(*slots(1), *held(1, 1), kept(0, 0, None), kept(0, 0, "w", number=2))
    assert [launch[:3] for launch in launches(run(GO))] == [(1, 0, 1)]


def test_bad_records_are_counted_on() -> None:
    run = Run(*slots(1), JobSubmitted("j", 1, max_bad_records=2, held=True), StageAdded("j", 0, (), 3, True))
    run(output(0, 0, bad=2), GO)
    assert ended(run(TaskFinished(attempt(0, 1), False, (), 1)))[0].state is JobState.FAILED


def test_digests_are_compared_across_coordinators() -> None:
    run = Run(*slots(1), *held(1, 2), kept(0, 0, None, digest=7), output(1, 0), GO)
    out = run(TaskFinished(attempt(0, 0, 2), True, (1,), digest=8))
    assert out[:2] == [RevokeOutput(task(1, 0)), AcceptOutput(attempt(0, 0, 2))]
    run = Run(*slots(1), *held(1, 2), kept(0, 0, None, digest=7), output(1, 0), GO)
    assert of(run(TaskFinished(attempt(0, 0, 2), True, (1,), digest=7)), RevokeOutput) == []


def test_what_was_read_from_a_task_that_is_not_known_to_be_done_does_not_count() -> None:
    run = Run(*slots(1), *held(2, 2, 1), kept(0, 0), kept(1, 0), kept(1, 1), output(2, 0))
    out: list[Command] = run(GO)
    assert of(out, RevokeOutput) == [RevokeOutput(task(1, 0)), RevokeOutput(task(1, 1)), RevokeOutput(task(2, 0))]
    run.finish_all()
    ran = [launch[:3] for launch in launches(run.history)]
    assert ran == [(0, 1, 1), (1, 0, 2), (1, 1, 2), (2, 0, 2)]


def test_an_empty_stage_in_between_is_no_obstacle() -> None:
    run = Run(*slots(1), *held(1, 0, 1), kept(0, 0, None))
    run(GO)
    run.finish_all()
    assert ended(run.history)[0].state is JobState.SUCCEEDED
    run = Run(*slots(1), *held(1, 0, 2, 1), kept(0, 0, None), kept(2, 0), kept(2, 1))
    assert [launch[:2] for launch in launches(run(GO))] == [(3, 0)]


def test_a_held_job_can_be_cancelled() -> None:
    run = Run(*slots(1), *held(2, 1), kept(0, 0))
    assert run(JobCancelled("j")) == [EndJob("j", JobState.CANCELLED)]
    assert run(GO, kept(0, 1)) == []


def test_notes_that_make_no_sense_are_ignored() -> None:
    run = Run(*slots(1), *held(1, 1), kept(0, 9), kept(7, 0), TaskRestored(attempt(0, 0, job="other"), "w", True))
    assert [launch[:3] for launch in launches(run(GO))] == [(0, 0, 1)]
    assert run(kept(0, 0)) == []  # it is not held any more
    assert ended(run(TaskFinished(attempt(0, 0), True), written(1, 0)))
