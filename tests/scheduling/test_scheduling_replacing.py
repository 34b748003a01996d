"""A stage that awaits its plan: nothing of it starts before it is known how it is cut."""

from __future__ import annotations

import pytest
from scheduler_run import Run, attempt, done, ended, launches, placed, slots, task, worker, written

from gristmill.scheduling.commands import JobState, ReportStage
from gristmill.scheduling.events import (
    BlockLost,
    Event,
    JobCancelled,
    JobReleased,
    JobSubmitted,
    StageAdded,
    StageReplaced,
    TaskRestored,
)
from gristmill.scheduling.step import step


def awaiting(maps: int = 2, tasks: int = 3) -> list[Event]:
    """A map stage, and a stage that reads it and awaits its plan."""
    return [
        JobSubmitted("j", 1),
        StageAdded("j", 0, (), maps, False),
        StageAdded("j", 1, (0,), tasks, True, awaits_plan=True),
    ]


def test_no_task_starts_before_the_plan_is_there() -> None:
    run = Run(*slots(4), *awaiting())
    run(done(0, 0, sizes=(1, 2)))
    assert run(done(0, 1, sizes=(3, 4)))[1:] == [ReportStage("j", 0, (4, 6))]
    assert launches(run(StageReplaced("j", 1, (0,), 2))) == [(1, 0, 1, "w-2"), (1, 1, 1, "w-3")]
    run(written(1, 0))
    assert [end.state for end in ended(run(written(1, 1)))] == [JobState.SUCCEEDED]


def test_a_stage_is_put_in_between() -> None:
    run = Run(*slots(2), *awaiting(maps=1))
    run(done(0, 0))
    assert launches(run(StageAdded("j", 2, (0,), 2, False))) == [(2, 0, 1, "w-1"), (2, 1, 1, "w-0")]
    assert launches(run(StageReplaced("j", 1, (0, 2), 1))) == []
    run(done(2, 0))
    assert launches(run(done(2, 1))) == [(1, 0, 1, "w-1")]
    assert [stage.depth for stage in run.state.jobs["j"].stages.values()] == [0, 2, 1]
    assert [end.state for end in ended(run(written(1, 0)))] == [JobState.SUCCEEDED]


def test_what_comes_after_a_stage_gets_deeper_with_it() -> None:
    run = Run(*slots(1), JobSubmitted("j", 1), StageAdded("j", 0, (), 1, False))
    run(StageAdded("j", 1, (0,), 1, False, awaits_plan=True), StageAdded("j", 2, (1,), 1, False))
    run(StageAdded("j", 3, (2,), 1, True), done(0, 0), StageAdded("j", 4, (0,), 1, False))
    run(StageReplaced("j", 1, (0, 4), 1))
    assert [stage.depth for stage in run.state.jobs["j"].stages.values()] == [0, 2, 3, 4, 1]
    run.finish_all()
    assert not run.state.jobs


def test_a_block_that_is_lost_before_the_plan_is_there_is_made_again() -> None:
    run = Run(*slots(2), *awaiting())
    run(done(0, 0), done(0, 1))
    assert launches(run(BlockLost(task(0, 1)))) == [(0, 1, 2, "w-0")]
    assert launches(run(StageReplaced("j", 1, (0,), 2))) == []
    assert launches(run(done(0, 1, number=2))) == [(1, 0, 1, "w-1"), (1, 1, 1, "w-0")]


def test_the_plan_may_come_while_the_job_is_held() -> None:
    held = JobSubmitted("j", 1, held=True)
    run = Run(*slots(1), held, StageAdded("j", 0, (), 1, False), StageAdded("j", 1, (0,), 9, True, awaits_plan=True))
    run(TaskRestored(attempt(0, 0), "w", True, (5,)), StageReplaced("j", 1, (0,), 1))
    out = run(JobReleased("j"))
    assert ReportStage("j", 0, (5,)) in out and launches(out) == [(1, 0, 1, "w-0")]


def test_tasks_go_where_most_of_the_partitions_that_they_read_lie() -> None:
    run = Run(*worker("a"), *worker("b"), JobSubmitted("j", 1), StageAdded("j", 0, (), 2, False))
    run(StageAdded("j", 1, (0,), 4, True, awaits_plan=True))
    run(done(0, 0, sizes=(1, 1, 1, 90)), done(0, 1, sizes=(50, 50, 1, 1)))
    assert placed(run(StageReplaced("j", 1, (0,), 2, ((0, 3), (3, 4))))) == {0: "b-0", 1: "a-0"}


def test_a_plan_that_contradicts_what_was_said_is_refused() -> None:
    run = Run(*awaiting())
    for event in (
        StageReplaced("j", 0, (), 1),  # it awaits none
        StageReplaced("j", 7, (), 1),
        StageReplaced("j", 1, (0, 8), 1),
        StageReplaced("j", 1, (), 1),  # what it was to read
    ):
        with pytest.raises(ValueError, match="job j"):
            step(run.state, event, 0.0)
    run(StageReplaced("j", 1, (0,), 3))
    with pytest.raises(ValueError, match="awaits no plan"):
        step(run.state, StageReplaced("j", 1, (0,), 3), 0.0)


def test_a_plan_for_a_job_that_ended_meanwhile_is_ignored() -> None:
    run = Run(*slots(1), *awaiting())
    run(JobCancelled("j"))
    assert run(StageReplaced("j", 1, (0,), 2)) == []
