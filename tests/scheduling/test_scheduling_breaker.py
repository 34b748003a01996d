"""Workers that keep failing different tasks are rested: open, half open, closed."""

from __future__ import annotations

import pytest
from scheduler_run import Run, attempt, failed, job, launches, slots, written

from gristmill.errors import FailureKind
from gristmill.scheduling.breaker import REST_LIMIT_SECONDS, REST_SECONDS
from gristmill.scheduling.events import RetryPolicy, TaskFailed, TimePassed, WorkerDraining, WorkerLost

SLOW = RetryPolicy(backoff_seconds=1e-9)  # a retry comes at the next step


def fail_here(run: Run, name: str, kind: FailureKind = FailureKind.USER, at: float | None = None) -> None:
    """What runs on a worker fails."""
    for slot in list(run.state.workers[name].slots.values()):
        if slot.attempt is not None:
            run(TaskFailed(slot.attempt, kind, slot_leaves=False), at=at)


def rested(run: Run) -> list[str]:
    return list(run.state.resting)


def bad(kind: FailureKind = FailureKind.USER, failures: int = 3) -> Run:
    """Worker bad failed different tasks; worker good has a long one."""
    policy = RetryPolicy(user_attempts=100, backoff_limit_seconds=0.5)
    run = Run(*slots(1, "bad"), *slots(1, "good"), *job(100, policy=policy))
    for _ in range(failures):
        fail_here(run, "bad", kind)
    return run


@pytest.mark.parametrize("kind", [FailureKind.USER, FailureKind.DEATH, FailureKind.MEMORY])
def test_a_worker_that_fails_three_tasks_in_a_row_is_rested(kind: FailureKind) -> None:
    assert rested(bad(kind, 2)) == []
    run = bad(kind)
    assert rested(run) == ["bad"]
    assert launches(run(*slots(1, "bad", first=1))) == []
    assert len(launches(run(*slots(1, "good", first=1)))) == 1


@pytest.mark.parametrize("kind", [FailureKind.LOST, FailureKind.FETCH])
def test_what_is_not_the_workers_doing_does_not_count(kind: FailureKind) -> None:
    assert rested(bad(kind, 5)) == []


def test_a_success_in_between_starts_the_count_anew() -> None:
    run = bad(failures=2)
    current = run.state.slots["bad-0"].attempt
    assert current is not None
    run(written(0, current.index))
    fail_here(run, "bad")
    fail_here(run, "bad")
    assert rested(run) == []


def test_one_task_that_fails_again_and_again_is_not_the_workers_fault() -> None:
    run = Run(*slots(1, "a"), *job(1, policy=RetryPolicy(user_attempts=9, backoff_seconds=0.0)), *slots(0, "b"))
    for number in range(1, 8):
        run(failed(0, 0, number))
    assert rested(run) == []


def test_after_its_rest_a_worker_gets_one_attempt() -> None:
    run = bad()
    run(*slots(2, "bad", first=1))
    assert launches(run(TimePassed(), at=REST_SECONDS - 0.1)) == []
    out = launches(run(TimePassed(), at=REST_SECONDS))
    assert len(out) == 1 and out[0][3].startswith("bad")
    run(written(0, out[0][1], out[0][2]))
    assert sum(slot.attempt is not None for slot in run.state.workers["bad"].slots.values()) == 3


def test_another_failure_doubles_the_rest_up_to_a_limit() -> None:
    run = bad()
    rests = []
    for _ in range(8):
        until = run.state.workers["bad"].rest_until
        assert until is not None
        rests.append(until - run.now)
        run(TimePassed(), at=until)
        assert rested(run) == []
        fail_here(run, "bad")
    assert rests[:4] == [REST_SECONDS * 2**n for n in range(4)]
    assert rests[-1] == REST_LIMIT_SECONDS


def test_a_success_forgets_earlier_rests() -> None:
    run = bad()
    (launch,) = launches(run(TimePassed(), at=REST_SECONDS))
    run(written(0, launch[1], launch[2]))
    for _ in range(3):
        fail_here(run, "bad")
    assert run.state.workers["bad"].rest_until == run.now + REST_SECONDS


def test_tasks_that_fail_elsewhere_too_are_pardoned() -> None:
    run = Run(*slots(1, "a"), *slots(1, "b"), *job(3, policy=SLOW))
    fail_here(run, "a")  # tasks 0 and 2 fail on a, then on b
    assert {0} == {t.index for t in run.state.workers["a"].failed_tasks}
    run(TimePassed(), at=1.0)
    fail_here(run, "a")
    run(TimePassed(), at=2.0)
    run(written(0, 1))
    run(TimePassed(), at=3.0)
    fail_here(run, "b")
    assert len(run.state.workers["a"].failed_tasks) < 2


def test_a_worker_that_was_rested_for_the_tasks_fault_goes_on() -> None:
    run = bad()
    assert rested(run) == ["bad"]
    run(written(0, 1))
    run(TimePassed(), at=5.0)
    while rested(run) and run.now < 20:
        fail_here(run, "good")
        run(TimePassed(), at=run.now + 2.5)
    assert rested(run) == []


def test_the_last_worker_is_never_rested() -> None:
    run = Run(*slots(1, "a"), *job(20))
    for _ in range(6):
        fail_here(run, "a")
    assert rested(run) == []
    assert run.state.slots["a-0"].attempt is not None


@pytest.mark.parametrize("leaves", [WorkerLost("good"), WorkerDraining("good")])
def test_when_the_others_leave_the_longest_resting_is_tried(leaves: WorkerLost | WorkerDraining) -> None:
    run = bad()
    out = launches(run(leaves))
    assert len(out) == 1 and out[0][3] == "bad-0"
    assert rested(run) == []


def test_a_rested_worker_that_is_lost_is_forgotten() -> None:
    run = bad()
    run(WorkerLost("bad"))
    assert rested(run) == []
    assert run(TimePassed(), at=REST_SECONDS) is not None


def test_a_worker_that_cannot_read_what_another_can_is_blamed_when_that_is_known() -> None:
    run = Run(*slots(1, "a"), *slots(1, "b"), *job(3, policy=SLOW))
    run(failed(0, 0, kind=FailureKind.FETCH))
    assert run.state.workers["a"].failed_tasks == set()
    assert launches(run(written(0, 1), at=1.0)) == [(0, 0, 2, "b-0")]
    run(written(0, 0, 2))
    assert {t.index for t in run.state.workers["a"].failed_tasks} == {0}


def test_half_open_means_one_attempt_however_many_slots() -> None:
    run = bad()
    run(*slots(4, "bad", first=1))
    run(TimePassed(), at=REST_SECONDS)
    busy = [slot for slot in run.state.workers["bad"].slots.values() if slot.attempt is not None]
    assert len(busy) == 1
    assert attempt(0, 1) == run.state.slots["good-0"].attempt
