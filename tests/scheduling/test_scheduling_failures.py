"""Failed attempts: budgets by kind, pauses, where the retry goes, slots that leave, and time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scheduler_run import Run, attempt, done, ended, failed, job, launches, slots, task, written

from gristmill.errors import FailureKind
from gristmill.scheduling.commands import Cancel, DiscardOutput, EndJob, JobState, Launch, WakeAt
from gristmill.scheduling.events import (
    Heartbeat,
    JobCancelled,
    RetryPolicy,
    SlotLeft,
    TaskFailed,
    TimePassed,
    WorkerLost,
)
from gristmill.scheduling.retry import attempts_allowed, backoff_seconds
from gristmill.scheduling.slots import LEAVE_SECONDS

AT_ONCE = RetryPolicy(backoff_seconds=0.0)


def wake(commands: list[object]) -> float:
    (when,) = [c.when for c in commands if isinstance(c, WakeAt)]
    return when


def test_a_failed_task_rests_then_runs_again() -> None:
    run = Run(*slots(1), *job(1))
    out = run(failed(0, 0), at=5.0)
    assert launches(out) == []
    assert 5.05 < wake(out) <= 5.1
    assert run(TimePassed(), at=wake(out)) == [Launch(attempt(0, 0, 2), "w-0")]


def test_other_tasks_run_while_one_rests() -> None:
    run = Run(*slots(1), *job(2))
    assert launches(run(failed(0, 0))) == [(0, 1, 1, "w-0")]


def test_any_event_after_the_pause_ends_it() -> None:
    run = Run(*slots(1), *job(1))
    run(failed(0, 0))
    assert launches(run(*slots(1, first=1), at=1.0)) == [(0, 0, 2, "w-1")]


def test_a_wake_that_came_too_early_is_asked_for_again() -> None:
    run = Run(*slots(1), *job(1))
    when = wake(run(failed(0, 0)))
    assert run(TimePassed(), at=when / 2) == [WakeAt(when)]


def test_a_wake_is_asked_for_only_when_the_earliest_changes() -> None:
    policy = RetryPolicy(backoff_seconds=1.0)
    run = Run(*slots(3), *job(3, policy=policy))
    first = wake(run(failed(0, 0), at=1.0))
    assert run(failed(0, 1), at=1.4) == []  # rests for at least half a second more
    out = run(TimePassed(), at=first)
    assert launches(out) == [(0, 0, 2, "w-1")]
    assert first < wake(out) <= 2.4
    assert run(written(0, 2), at=first)[1:] == []


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [
        (FailureKind.USER, 4),
        (FailureKind.DEATH, 20),
        (FailureKind.MEMORY, 3),
        (FailureKind.LOST, 100),
        (FailureKind.FETCH, 20),
        (FailureKind.FATAL, 1),
    ],
)
def test_each_kind_of_failure_has_its_budget(kind: FailureKind, allowed: int) -> None:
    assert attempts_allowed(RetryPolicy(), kind) == allowed
    run = Run(*slots(1), *job(1, policy=AT_ONCE))
    for number in range(1, allowed):
        event = TaskFailed(attempt(0, 0, number), kind, slot_leaves=False)
        assert launches(run(event)) == [(0, 0, number + 1, "w-0")]
    event = TaskFailed(attempt(0, 0, allowed), kind, slot_leaves=False)
    assert run(event) == [EndJob("j", JobState.FAILED, attempt(0, 0, allowed))]


def test_budgets_are_counted_apart() -> None:
    run = Run(*slots(1), *job(1, policy=AT_ONCE))
    kinds = [FailureKind.USER, FailureKind.LOST, FailureKind.FETCH] * 3
    for number, kind in enumerate(kinds, 1):
        assert launches(run(failed(0, 0, number, kind)))
    assert ended(run(failed(0, 0, 10, FailureKind.USER)))


def test_budgets_are_counted_by_task() -> None:
    run = Run(*slots(2), *job(2, policy=RetryPolicy(user_attempts=2)))
    assert ended(run(failed(0, 0), failed(0, 1))) == []
    assert ended(run(TimePassed(), at=1.0)) == []
    assert ended(run(failed(0, 0, 2))) == [EndJob("j", JobState.FAILED, attempt(0, 0, 2))]


def test_a_failed_job_cancels_its_other_attempts() -> None:
    run = Run(*slots(2), *job(3))
    out = run(failed(0, 0, kind=FailureKind.FATAL))
    assert out[:2] == [Cancel(attempt(0, 1), "w-1"), EndJob("j", JobState.FAILED, attempt(0, 0))]
    assert run.free == ["w-0"]


def test_what_was_not_the_tasks_fault_does_not_lengthen_its_pause() -> None:
    policy = RetryPolicy(backoff_seconds=1.0)
    run = Run(*slots(1), *job(1, policy=policy))
    for number in range(1, 6):
        run(failed(0, 0, number, FailureKind.LOST))
    assert wake(run(failed(0, 0, 6))) == backoff_seconds(policy, 1, task(0, 0), 1)


def test_a_late_failure_is_ignored() -> None:
    run = Run(*slots(1), *job(2))
    run(SlotLeft("w-0"))
    assert run(failed(0, 0, kind=FailureKind.FATAL)) == []
    assert run(TaskFailed(attempt(0, 0, job="other"), FailureKind.FATAL)) == []


def test_a_retry_goes_to_another_worker_if_one_has_a_free_slot() -> None:
    run = Run(*slots(3, "a"), *slots(1, "b"), *job(1, policy=AT_ONCE))
    assert launches(run(failed(0, 0))) == [(0, 0, 2, "b-0")]


def test_a_retry_goes_to_another_slot_of_the_same_worker_if_need_be() -> None:
    run = Run(*slots(1), *job(2, policy=AT_ONCE), *slots(1, first=1))
    run(written(0, 1))
    assert launches(run(failed(0, 0))) == [(0, 0, 2, "w-1")]


def test_a_retry_takes_the_slot_it_failed_in_rather_than_wait() -> None:
    run = Run(*slots(1), *job(1, policy=AT_ONCE))
    assert launches(run(failed(0, 0))) == [(0, 0, 2, "w-0")]


@pytest.mark.parametrize("kind", [FailureKind.DEATH, FailureKind.MEMORY])
def test_nothing_is_launched_where_a_process_died(kind: FailureKind) -> None:
    run = Run(*slots(1), *job(2))
    assert launches(run(failed(0, 0, kind=kind))) == []
    assert launches(run(SlotLeft("w-0"))) == []
    assert launches(run(*slots(1, first=1), at=1.0)) == [(0, 0, 2, "w-1")]


def test_a_time_out_ends_the_process_though_it_is_the_users_failure() -> None:
    run = Run(*slots(1), *job(2))
    assert launches(run(TaskFailed(attempt(0, 0), FailureKind.USER, slot_leaves=True))) == []
    assert launches(run(SlotLeft("w-0"), *slots(1, first=1))) == [(0, 1, 1, "w-1")]


def test_a_memory_failure_that_left_the_process_alive_frees_the_slot() -> None:
    run = Run(*slots(1), *job(2))
    assert launches(run(TaskFailed(attempt(0, 0), FailureKind.MEMORY, slot_leaves=False))) == [(0, 1, 1, "w-0")]


def test_a_slot_that_should_have_left_is_used_in_the_end() -> None:
    run = Run(*slots(1), *job(2))
    run(failed(0, 0, kind=FailureKind.DEATH))
    run(TimePassed(), at=1.0)
    assert launches(run(TimePassed(), at=LEAVE_SECONDS)) == [(0, 0, 2, "w-0")]


def test_an_attempt_whose_slot_left_is_lost_and_runs_again_without_pause() -> None:
    run = Run(*slots(2), *job(2))
    run(written(0, 1))
    assert launches(run(SlotLeft("w-0"))) == [(0, 0, 2, "w-1")]
    assert run(written(0, 0)) == [DiscardOutput(attempt(0, 0))]


def test_slots_that_leave_twice_or_were_never_there_are_ignored() -> None:
    run = Run(*slots(1), *slots(1))
    assert run(SlotLeft("w-0"), SlotLeft("w-0"), SlotLeft("x"), WorkerLost("x")) == []


def test_a_lost_worker_takes_its_attempts_along() -> None:
    run = Run(*slots(2, "a"), *slots(1, "b"), *job(3))
    run(written(0, 2))
    assert launches(run(WorkerLost("a"))) == [(0, 0, 2, "b-0")]
    assert launches(run(written(0, 0, 2))) == [(0, 1, 2, "b-0")]


def test_a_worker_lost_beyond_the_budget_fails_the_job_once() -> None:
    run = Run(*slots(2, "a"), *slots(1, "b"), *job(3, policy=RetryPolicy(lost_attempts=1)))
    out = run(WorkerLost("a"))
    assert ended(out) == [EndJob("j", JobState.FAILED, attempt(0, 0))]
    assert [c.slot for c in out if isinstance(c, Cancel)] == ["b-0"]


def test_a_worker_that_comes_back_is_a_new_one() -> None:
    run = Run(*slots(1, "a"), *job(1), WorkerLost("a"))
    assert launches(run(*slots(1, "a", first=1))) == [(0, 0, 2, "a-1")]
    assert run(SlotLeft("a-0"), written(0, 0)) == [DiscardOutput(attempt(0, 0))]


# Heartbeats


def beat(*alive: object, began: float | None = None) -> Heartbeat:
    return Heartbeat("w", tuple(alive), began)  # type: ignore[arg-type]


def test_a_heartbeat_is_remembered() -> None:
    run = Run(*slots(1))
    assert run(beat(), Heartbeat("unknown", ()), at=3.0) == []
    assert run.state.workers["w"].heard_at == 3.0


def test_an_attempt_that_vanished_from_two_heartbeats_is_lost() -> None:
    run = Run(*slots(2), *job(1))
    assert run(beat(attempt(0, 0)), beat()) == []
    out = run(beat())
    assert out[0] == Cancel(attempt(0, 0), "w-0")
    assert launches(out) == [(0, 0, 2, "w-1")]
    assert run.free == []


def test_missing_once_in_a_while_is_no_loss() -> None:
    run = Run(*slots(2), *job(1))
    alive = beat(attempt(0, 0))
    assert run(alive, beat(), alive, beat(), alive, beat()) == []


def test_heartbeats_older_than_the_launch_prove_nothing() -> None:
    run = Run(*slots(2))
    run(*job(1), at=10.0)
    assert run(beat(), beat(), beat(), beat(began=9.0), beat(began=10.0), beat(began=10.0)) == []


def test_an_attempt_that_never_began_is_lost_after_two_heartbeats_made_later() -> None:
    run = Run(*slots(2))
    run(*job(1), at=10.0)
    assert run(beat(began=10.5)) == []
    assert launches(run(beat(began=11.5))) == [(0, 0, 2, "w-1")]


def test_an_attempt_lost_by_heartbeat_cannot_come_back() -> None:
    run = Run(*slots(2), *job(1))
    run(beat(attempt(0, 0)), beat(), beat())
    assert run(written(0, 0)) == [DiscardOutput(attempt(0, 0))]


def test_several_attempts_lost_by_one_heartbeat_can_end_the_job() -> None:
    run = Run(*slots(2), *job(2, policy=RetryPolicy(lost_attempts=1)))
    out = run(beat(began=1.0), beat(began=2.0))
    assert sorted(c.slot for c in out if isinstance(c, Cancel)) == ["w-0", "w-1"]
    assert len(ended(out)) == 1


def test_a_slot_that_is_to_leave_owes_no_heartbeat() -> None:
    run = Run(*slots(1), *job(1))
    run(beat(attempt(0, 0)), JobCancelled("j"))
    assert run(beat(), beat(), beat()) == []


# Fetch failures


def test_a_reader_waits_for_the_blocks_it_missed() -> None:
    run = Run(*slots(3), *job(2, 2))
    run(done(0, 0), done(0, 1))
    out = run(failed(1, 0, kind=FailureKind.FETCH, lost=[task(0, 1)]))
    assert launches(out) == [(0, 1, 2, "w-1")]
    assert launches(run(done(0, 1, 2))) == [(1, 0, 2, "w-1")]


def test_a_fetch_failure_without_a_lost_block_rests() -> None:
    run = Run(*slots(1), *job(1, 1))
    run(done(0, 0))
    out = run(failed(1, 0, kind=FailureKind.FETCH))
    assert launches(out) == []
    assert launches(run(TimePassed(), at=wake(out))) == [(1, 0, 2, "w-0")]


def test_a_block_that_was_made_anew_meanwhile_is_not_lost_again() -> None:
    run = Run(*slots(3), *job(1, 2))
    run(done(0, 0))
    run(failed(1, 0, kind=FailureKind.FETCH, lost=[task(0, 0)]))
    run(done(0, 0, 2))
    out = run(failed(1, 1, kind=FailureKind.FETCH, lost=[task(0, 0)]))  # launched when the first block was there
    assert launches(out) == []
    assert launches(run(TimePassed(), at=1.0)) == [(1, 1, 2, "w-1")]


def test_two_readers_that_miss_the_same_block_make_it_run_once() -> None:
    run = Run(*slots(3), *job(1, 2))
    run(done(0, 0))
    lost = [task(0, 0)]
    out = run(failed(1, 0, kind=FailureKind.FETCH, lost=lost), failed(1, 1, kind=FailureKind.FETCH, lost=lost))
    assert [launch[:3] for launch in launches(out)] == [(0, 0, 2)]


def test_lost_blocks_that_make_no_sense_are_ignored() -> None:
    run = Run(*slots(1), *job(1, 1))
    run(done(0, 0))
    nonsense = [task(9, 0), task(0, 7), task(0, -1), task(1, 0), task(0, 0, job="other")]
    assert launches(run(failed(1, 0, kind=FailureKind.FETCH, lost=nonsense))) == []


# The pause


@given(st.integers(), st.integers(0, 10**6), st.integers(1, 10**6))
def test_the_pause_doubles_up_to_a_limit_less_up_to_half(seed: int, index: int, failures: int) -> None:
    policy = RetryPolicy(backoff_seconds=0.5, backoff_limit_seconds=8.0)
    whole = min(0.5 * 2.0 ** min(failures - 1, 60), 8.0)
    pause = backoff_seconds(policy, seed, task(0, index), failures)
    assert whole / 2 < pause <= whole
    assert pause == backoff_seconds(policy, seed, task(0, index), failures)


def test_tasks_that_failed_together_come_back_apart() -> None:
    pauses = {backoff_seconds(RetryPolicy(), 1, task(0, index), 1) for index in range(100)}
    assert len(pauses) == 100


def test_the_pause_is_the_same_on_every_machine() -> None:
    assert backoff_seconds(RetryPolicy(), 1, task(0, 0), 3) == pytest.approx(0.36445051543681406)
