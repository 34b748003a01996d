"""Jobs, stages, the order of tasks, acceptance, and the end of a job."""

from __future__ import annotations

from collections import Counter

import pytest
from scheduler_run import Run, attempt, done, ended, job, launches, slots, task, written

from gristmill.scheduling.commands import (
    AcceptOutput,
    Cancel,
    DiscardOutput,
    EndJob,
    FreeBlock,
    JobState,
    Launch,
    ReportStage,
    WakeAt,
)
from gristmill.scheduling.events import JobCancelled, JobSubmitted, SlotLeft, StageAdded, TaskFinished, TimePassed
from gristmill.scheduling.slots import LEAVE_SECONDS
from gristmill.scheduling.state import COMMON_SHAPE
from gristmill.scheduling.step import step


def test_a_map_reduce_job_from_start_to_end() -> None:
    run = Run(*slots(2))
    assert run(*job(2, 1)) == [Launch(attempt(0, 0), "w-0"), Launch(attempt(0, 1), "w-1")]
    assert run(done(0, 1, sizes=(5, 7))) == [AcceptOutput(attempt(0, 1))]
    assert run(done(0, 0, sizes=(1, 2))) == [
        AcceptOutput(attempt(0, 0)),
        ReportStage("j", 0, (6, 9)),
        Launch(attempt(1, 0), "w-1"),
    ]
    assert run(written(1, 0)) == [
        AcceptOutput(attempt(1, 0)),
        ReportStage("j", 1, ()),
        FreeBlock(task(0, 0)),
        FreeBlock(task(0, 1)),
        EndJob("j", JobState.SUCCEEDED),
    ]


def test_tasks_start_in_index_order_one_attempt_a_slot() -> None:
    run = Run(*job(5))
    assert launches(run(*slots(2))) == [(0, 0, 1, "w-0"), (0, 1, 1, "w-1")]
    assert launches(run(written(0, 1))) == [(0, 2, 1, "w-1")]
    assert launches(run(written(0, 0))) == [(0, 3, 1, "w-0")]


def test_a_stage_starts_when_every_parent_is_whole() -> None:
    run = Run(*slots(4), JobSubmitted("j", 1))
    run(StageAdded("j", 0, (), 1, False), StageAdded("j", 1, (), 2, False))
    assert run(StageAdded("j", 2, (0, 1), 1, True)) == []
    assert launches(run(done(0, 0))) == []
    assert launches(run(done(1, 0))) == []
    assert launches(run(done(1, 1))) == [(2, 0, 1, "w-3")]


def test_later_stages_go_first_within_a_job() -> None:
    run = Run(*slots(1), JobSubmitted("j", 1))
    run(StageAdded("j", 0, (), 1, False), StageAdded("j", 1, (), 2, False))
    run(StageAdded("j", 2, (0,), 2, False), StageAdded("j", 3, (1, 2), 1, True))
    order = [run.state.slots["w-0"].attempt] + [c.attempt for c in run.finish_all() if isinstance(c, Launch)]
    assert [a[1:3] for a in order if a] == [(0, 0), (2, 0), (2, 1), (1, 0), (1, 1), (3, 0)]


def test_jobs_share_slots_by_running_attempts_first_come_on_a_tie() -> None:
    run = Run(*job(4, name="a"), *job(4, name="b"))
    assert [c.attempt.job for c in run(*slots(5)) if isinstance(c, Launch)] == ["a", "b", "a", "b", "a"]


def test_the_slot_that_comes_free_goes_to_the_job_with_fewer_attempts() -> None:
    run = Run(*slots(5), *job(9, name="a"), *job(9, name="b"))
    served = [c.attempt.job for index in range(4) for c in run(written(0, index, job="a")) if isinstance(c, Launch)]
    assert served == ["b", "b", "a", "a"]  # a and b have 4 and 0 attempts, then 3 and 1, then 2 and 2 twice


def test_a_step_of_priority_doubles_a_share() -> None:
    run = Run(*job(9, name="a"), *job(9, name="b", priority=1))
    jobs = [c.attempt.job for c in run(*slots(6)) if isinstance(c, Launch)]
    assert (jobs[0], jobs.count("a"), jobs.count("b")) == ("b", 2, 4)


def test_an_extreme_priority_is_only_very_high() -> None:
    run = Run(*job(9, name="a"), *job(3, name="b", priority=10**9), *job(3, name="c", priority=-(10**9)))
    assert [c.attempt.job for c in run(*slots(14)) if isinstance(c, Launch)] == [*"bbb", *"aaaaaaaaa", *"cc"]


def test_priority_counts_with_few_slots_too() -> None:
    """A job without any slot does not come first whatever its priority."""
    run = Run(*job(9, name="a"), *job(9, name="b", priority=3))
    assert [c.attempt.job for c in run(*slots(2)) if isinstance(c, Launch)] == ["b", "b"]
    assert [c.attempt.job for c in run(done(0, 0, job="b")) if isinstance(c, Launch)] == ["b"]
    run = Run(*job(9, name="a"), *job(9, name="b", priority=1))
    assert Counter(c.attempt.job for c in run(*slots(6)) if isinstance(c, Launch)) == {"b": 4, "a": 2}


def test_late_and_unknown_results_are_discarded() -> None:
    run = Run(*slots(1), *job(2))
    run(written(0, 0))
    for late in (attempt(0, 0), attempt(0, 1, 2), attempt(0, 9), attempt(7, 0), attempt(0, 0, job="other")):
        assert run(TaskFinished(late, False)) == [DiscardOutput(late)]
    assert [e.state for e in ended(run(written(0, 1)))] == [JobState.SUCCEEDED]
    assert run(written(0, 1)) == [DiscardOutput(attempt(0, 1))]


def test_a_job_without_input_still_runs_its_later_stages() -> None:
    run = Run(*slots(1), JobSubmitted("j", 1))
    assert run(StageAdded("j", 0, (), 0, False)) == [ReportStage("j", 0, ())]
    assert launches(run(StageAdded("j", 1, (0,), 1, True))) == [(1, 0, 1, "w-0")]


def test_a_job_without_tasks_succeeds_at_once() -> None:
    run = Run(JobSubmitted("j", 1))
    assert ended(run(StageAdded("j", 0, (), 0, True))) == [EndJob("j", JobState.SUCCEEDED)]


def test_a_stage_without_tasks_waits_for_its_parents() -> None:
    run = Run(*slots(1), *job(1, 0, 0))
    assert run(done(0, 0)) == [
        AcceptOutput(attempt(0, 0)),
        ReportStage("j", 0, ()),
        ReportStage("j", 1, ()),
        FreeBlock(task(0, 0)),
        ReportStage("j", 2, ()),
        EndJob("j", JobState.SUCCEEDED),
    ]


def test_a_job_with_two_final_stages_ends_with_the_later() -> None:
    run = Run(*slots(2), JobSubmitted("j", 1))
    run(StageAdded("j", 0, (), 1, True), StageAdded("j", 1, (), 1, True))
    assert ended(run(written(1, 0))) == []
    assert ended(run(written(0, 0))) == [EndJob("j", JobState.SUCCEEDED)]


def test_the_job_succeeds_while_a_side_branch_still_runs() -> None:
    run = Run(*slots(2), JobSubmitted("j", 1))
    run(StageAdded("j", 0, (), 1, False), StageAdded("j", 1, (), 1, True))
    out = run(written(1, 0))
    assert out[-3:-1] == [Cancel(attempt(0, 0), "w-0"), EndJob("j", JobState.SUCCEEDED)]


def test_cancelling_stops_attempts_and_keeps_blocks_for_another_run() -> None:
    run = Run(*slots(2), *job(3, 1))
    run(done(0, 0))
    assert run(JobCancelled("j")) == [
        Cancel(attempt(0, 1), "w-1"),
        Cancel(attempt(0, 2), "w-0"),
        EndJob("j", JobState.CANCELLED),
        WakeAt(LEAVE_SECONDS),
    ]


def test_cancelling_an_unknown_or_ended_job_does_nothing() -> None:
    run = Run(*slots(1), *job(1))
    assert run(JobCancelled("other")) == []
    run(written(0, 0))
    assert run(JobCancelled("j")) == []


def test_a_stage_for_a_job_that_ended_meanwhile_is_ignored() -> None:
    run = Run(*job(1))
    run(JobCancelled("j"))
    assert run(StageAdded("j", 1, (0,), 1, True)) == []


def test_the_slot_of_a_cancelled_attempt_is_not_used_until_it_left() -> None:
    run = Run(*slots(1), *job(1))
    run(JobCancelled("j"))
    assert launches(run(*job(1, name="k"))) == []
    assert run(written(0, 0)) == [DiscardOutput(attempt(0, 0))]
    assert run(SlotLeft("w-0")) == []
    assert run(*slots(1, first=1)) == [Launch(attempt(0, 0, job="k"), "w-1")]


def test_a_slot_that_never_leaves_is_used_again_in_the_end() -> None:
    run = Run(*slots(1), *job(1))
    run(JobCancelled("j"), *job(1, name="k"))
    assert run(TimePassed(), at=LEAVE_SECONDS) == [Launch(attempt(0, 0, job="k"), "w-0", waited_seconds=LEAVE_SECONDS)]


def test_bad_records_beyond_the_limit_fail_the_job_without_a_cause() -> None:
    run = Run(*slots(3), *job(3, max_bad_records=3))
    assert ended(run(written(0, 0, bad=1), written(0, 1, bad=2))) == []
    out = run(written(0, 2, bad=1))
    assert out == [AcceptOutput(attempt(0, 2)), EndJob("j", JobState.FAILED, None)]


def test_an_ended_job_leaves_nothing_behind() -> None:
    run = Run(*slots(2), *job(3, 2))
    run.finish_all()
    state = run.state
    assert (state.jobs, state.offers[COMMON_SHAPE].ready, state.timers) == ({}, [], [])
    assert len(run.free) == 2


def test_contradictory_submissions_are_refused() -> None:
    run = Run(*job(1))
    for event in (JobSubmitted("j", 2), StageAdded("j", 0, (), 1, True), StageAdded("j", 1, (8,), 1, True)):
        with pytest.raises(ValueError, match="job j"):
            step(run.state, event, 0.0)
