"""Stragglers and their copies: who is one, where the copy goes, who wins, and what is left of the loser."""

from __future__ import annotations

from scheduler_run import Run, accepted, attempt, ended, failed, launches, of, slots, task, worker

from gristmill.errors import FailureKind
from gristmill.scheduling.commands import AcceptOutput, Cancel, Command, DiscardOutput, EndJob, JobState, Launch
from gristmill.scheduling.events import (
    Event,
    Heartbeat,
    JobSubmitted,
    RetryPolicy,
    SlotLeft,
    SpeculationPolicy,
    StageAdded,
    TaskFinished,
    TimePassed,
    WorkerLost,
)
from gristmill.scheduling.transitions import TaskState

POLICY = SpeculationPolicy(slowdown=1.5, floor_seconds=2.0, load_cap=0.1)


def eager(
    *tasks: int, speculation: SpeculationPolicy | None = POLICY, name: str = "j", policy: RetryPolicy | None = None
) -> list[Event]:
    events: list[Event] = [JobSubmitted(name, 1, policy or RetryPolicy(), speculation=speculation)]
    for stage, count in enumerate(tasks):
        events.append(StageAdded(name, stage, (stage - 1,) if stage else (), count, stage == len(tasks) - 1))
    return events


def finish(run: Run, index: int, at: float, number: int = 1) -> list[Command]:
    return run(TaskFinished(attempt(0, index, number), False), at=at)


def pass_time(run: Run, until: float) -> list[Launch]:
    """Let time pass; return the copies that were started."""
    out: list[object] = []
    while run.state.wake_at is not None and run.state.wake_at <= until:
        out += run(TimePassed(), at=run.state.wake_at)
    out += run(TimePassed(), at=until)
    assert all(c.speculative for c in out if isinstance(c, Launch))
    return [c for c in out if isinstance(c, Launch)]


def one_late(speculation: SpeculationPolicy | None = POLICY, workers: int = 2) -> Run:
    """Four tasks of which three took two seconds, on two workers (or one). The fourth, on the first, goes on."""
    names = ["a", "b"][:workers]
    run = Run(*(event for name in names for event in worker(name, 4 // workers)), *eager(4, speculation=speculation))
    for index in range(1, 4):
        finish(run, index, 2.0)
    return run


def test_a_straggler_runs_twice_on_another_worker() -> None:
    run = one_late()
    assert pass_time(run, 2.9) == []
    assert pass_time(run, 3.5) == [Launch(attempt(0, 0, 2), "b-0", speculative=True)]
    assert pass_time(run, 60.0) == []  # once


def test_the_same_worker_is_better_than_none() -> None:
    run = one_late(workers=1)
    assert pass_time(run, 3.5) == [Launch(attempt(0, 0, 2), "a-1", speculative=True)]


def test_the_copy_that_finishes_first_counts_and_the_other_is_cancelled() -> None:
    run = one_late()
    pass_time(run, 3.5)
    out = finish(run, 0, 4.0, number=2)
    assert out[:2] == [AcceptOutput(attempt(0, 0, 2)), Cancel(attempt(0, 0), "a-0")]
    assert ended(out) == [EndJob("j", JobState.SUCCEEDED)]
    assert finish(run, 0, 4.1) == [DiscardOutput(attempt(0, 0))]


def test_the_original_may_win_as_well() -> None:
    run = one_late()
    pass_time(run, 3.5)
    out = finish(run, 0, 4.0)
    assert out[:2] == [AcceptOutput(attempt(0, 0)), Cancel(attempt(0, 0, 2), "b-0")]
    assert finish(run, 0, 4.1, number=2) == [DiscardOutput(attempt(0, 0, 2))]


def test_without_a_policy_nothing_runs_twice() -> None:
    assert pass_time(one_late(None), 100.0) == []


def test_nothing_is_a_straggler_before_the_floor() -> None:
    run = Run(*slots(4), *eager(4))
    for index in range(1, 4):
        finish(run, index, 0.1)
    assert pass_time(run, 1.9) == []
    assert len(pass_time(run, 2.5)) == 1


def test_nothing_is_known_before_some_tasks_have_finished() -> None:
    run = Run(*slots(9), *eager(8))
    finish(run, 0, 1.0)
    finish(run, 1, 1.0)
    assert pass_time(run, 60.0) == []
    assert len(pass_time(run, 60.0)) == 0
    finish(run, 2, 60.0)
    assert len(pass_time(run, 61.0)) == 1


def test_progress_tells_a_straggler_before_others_have_finished() -> None:
    run = Run(*slots(5), *eager(4))
    alive = tuple(attempt(0, index) for index in range(4))
    out = run(Heartbeat("w", alive, progress=(0.02, 0.5, 0.5, 0.6)), at=2.0)
    assert of(out, Launch) == [Launch(attempt(0, 0, 2), "w-4", speculative=True)]


def test_progress_that_promises_an_early_end_is_believed() -> None:
    run = one_late()
    run(Heartbeat("a", (attempt(0, 0),), progress=(0.95,)), at=3.1)
    assert pass_time(run, 4.0) == []


def test_an_attempt_that_is_stuck_near_its_end_is_a_straggler_in_the_end() -> None:
    run = one_late()
    run(Heartbeat("a", (attempt(0, 0),), progress=(0.99,)), at=2.1)
    assert pass_time(run, 4.0) == []  # overdue for one second: half of what is usual
    assert pass_time(run, 5.0) == [Launch(attempt(0, 0, 2), "b-0", speculative=True)]


def test_an_attempt_that_creeps_towards_its_end_is_a_straggler_in_the_end() -> None:
    run = one_late()
    copies = []
    for second in range(3, 8):
        left = 0.1 / second  # it reads ever less in a second
        copies += of(run(Heartbeat("a", (attempt(0, 0),), progress=(1 - left,)), at=float(second)), Launch)
        copies += pass_time(run, second + 0.9)
    assert [copy.attempt for copy in copies] == [attempt(0, 0, 2)]


def test_an_attempt_that_has_read_all_of_its_input_may_still_be_a_straggler() -> None:
    run = one_late()
    run(Heartbeat("a", (attempt(0, 0),), progress=(1.0,)), at=2.1)
    assert pass_time(run, 2.9) == []
    assert len(pass_time(run, 3.5)) == 1


def test_attempts_that_have_read_all_of_their_input_do_not_tell_what_is_usual() -> None:
    run = Run(*slots(5), *eager(4))
    alive = tuple(attempt(0, index) for index in range(4))
    run(Heartbeat("w", alive, progress=(0.1, 1.0, 1.0, 1.0)), at=2.0)
    assert pass_time(run, 60.0) == []


def test_progress_that_stands_still_is_not() -> None:
    run = one_late()
    run(Heartbeat("a", (attempt(0, 0),), progress=(0.7,)), at=2.0)
    assert pass_time(run, 2.3) == []
    assert len(pass_time(run, 5.0)) == 1


def test_ready_tasks_come_first() -> None:
    run = Run(*slots(4), *eager(9))
    for index in range(1, 6):
        finish(run, index, 2.0 + index / 10)
    assert pass_time(run, 20.0) == []  # all slots have their own tasks


def test_copies_use_no_slot_that_a_ready_task_wants() -> None:
    run = one_late()
    run(*eager(3, name="k", speculation=None), at=2.5)
    assert pass_time(run, 20.0) == []


def test_copies_are_capped_and_the_one_with_most_to_go_comes_first() -> None:
    run = Run(*slots(8, "a"), *slots(8, "b"), *eager(8))
    for index in range(3, 8):
        finish(run, index, 1.0)
    out = run(Heartbeat("a", tuple(attempt(0, i) for i in range(3)), progress=(0.3, 0.1, 0.2)), at=2.0)
    assert [c.attempt.index for c in of(out, Launch)] == [1]  # a tenth of 16 slots is one
    assert pass_time(run, 10.0) == []
    assert [c.attempt.index for c in of(finish(run, 1, 11.0, number=2), Launch)] == [2]


def test_a_copy_that_fails_does_not_requeue_the_task() -> None:
    run = one_late()
    pass_time(run, 3.5)
    assert launches(run(failed(0, 0, 2))) == []
    assert run.state.jobs["j"].stages[0].state_of(0) is TaskState.RUNNING
    assert pass_time(run, 60.0) == []
    assert ended(finish(run, 0, 61.0))


def test_an_original_that_fails_leaves_the_copy_alone() -> None:
    run = one_late()
    pass_time(run, 3.5)
    assert launches(run(failed(0, 0, 1, FailureKind.DEATH), SlotLeft("a-0"))) == []
    assert accepted(finish(run, 0, 5.0, number=2)) == [(0, 0, 2)]


def test_when_both_fail_the_task_runs_again_after_a_pause() -> None:
    run = one_late()
    pass_time(run, 3.5)
    run(failed(0, 0, 2), failed(0, 0, 1))
    assert run.state.jobs["j"].stages[0].state_of(0) is TaskState.BACKING_OFF
    out = run(TimePassed(), at=10.0)
    assert [launch[:3] for launch in launches(out)] == [(0, 0, 3)]


def test_a_budget_that_a_copy_used_up_ends_the_job_with_the_last_attempt() -> None:
    run = Run(*slots(2, "a"), *slots(2, "b"), *eager(4, policy=RetryPolicy(user_attempts=1)))
    for index in range(1, 4):
        finish(run, index, 2.0)
    pass_time(run, 3.5)
    assert ended(run(failed(0, 0, 2))) == []
    assert ended(run(failed(0, 0, 1))) == [EndJob("j", JobState.FAILED, attempt(0, 0, 1))]


def test_the_worker_of_an_original_may_be_lost() -> None:
    run = one_late()
    pass_time(run, 3.5)
    assert launches(run(WorkerLost("a"))) == []
    assert run.state.copies == 0
    assert accepted(finish(run, 0, 5.0, number=2)) == [(0, 0, 2)]


def test_a_copy_that_is_lost_with_its_worker_may_have_another() -> None:
    run = one_late()
    pass_time(run, 3.5)
    assert of(run(WorkerLost("b"), at=4.0), Launch) == [Launch(attempt(0, 0, 3), "a-1", speculative=True)]


def test_both_may_be_lost() -> None:
    run = one_late()
    pass_time(run, 3.5)
    run(WorkerLost("b"))
    run(WorkerLost("a"))
    assert launches(run(*slots(1, "c"))) == [(0, 0, 3, "c-0")]


def test_a_job_that_ends_cancels_both() -> None:
    run = one_late()
    pass_time(run, 3.5)
    out = run(failed(0, 0, 2, FailureKind.FATAL))
    assert [c.slot for c in of(out, Cancel)] == ["a-0"]
    assert ended(out)[0].state is JobState.FAILED


def test_an_idle_job_is_not_looked_at() -> None:
    run = Run(*eager(1))
    assert run.state.timers == []
    run(*slots(1))
    assert run.state.timers
    run(TaskFinished(attempt(0, 0), False))
    assert run.state.timers == [] and task(0, 0).job not in run.state.jobs
