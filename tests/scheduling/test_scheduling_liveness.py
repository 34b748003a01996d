"""Workers that are heard, fall silent, are suspected, are lost, drain; and a scheduler that slept itself."""

from __future__ import annotations

import pytest
from scheduler_run import Run, attempt, done, failed, job, launches, of, slots, task, worker, written

from gristmill.scheduling.commands import DiscardOutput, DropWorker, Launch, WakeAt
from gristmill.scheduling.events import (
    Event,
    Heartbeat,
    JobCancelled,
    SlotJoined,
    SlotLeft,
    TaskFinished,
    TimePassed,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
)
from gristmill.scheduling.transitions import TaskState

LIMITS = (5.0, 10.0)


def pass_time(run: Run, until: float) -> list[object]:
    """Let time pass as the coordinator does: wake when it was asked for, and at the end."""
    out: list[object] = []
    while run.state.wake_at is not None and run.state.wake_at <= until:
        out += run(TimePassed(), at=run.state.wake_at)
    out += run(TimePassed(), at=until)
    return out


def test_a_silent_worker_gets_no_more_work_then_is_lost() -> None:
    run = Run(*worker("a", 2, limits=LIMITS), *job(1))
    assert DropWorker("a") not in pass_time(run, 6.0)
    assert launches(run(*job(1, name="k"))) == []
    out = pass_time(run, 10.0)
    assert out.count(DropWorker("a")) == 1
    assert not run.state.workers
    assert launches(run(*slots(2, "b"))) == [(0, 0, 2, "b-0"), (0, 0, 1, "b-1")]
    assert of(pass_time(run, 60.0), DropWorker) == []


def test_a_suspect_that_is_heard_again_goes_on() -> None:
    run = Run(*worker("a", 2, limits=LIMITS), *job(1))
    pass_time(run, 6.0)
    run(*job(1, name="k"))
    assert launches(run(Heartbeat("a", (attempt(0, 0),)), at=7.0)) == [(0, 0, 1, "a-1")]
    assert of(pass_time(run, 16.9), DropWorker) == []
    assert of(pass_time(run, 17.0), DropWorker) == [DropWorker("a")]


@pytest.mark.parametrize(
    "sign", [Heartbeat("a", ()), written(0, 0), failed(0, 0), SlotJoined("a-9", "a")], ids=lambda e: type(e).__name__
)
def test_whatever_a_worker_says_is_a_sign_of_life(sign: Event) -> None:
    run = Run(*worker("a", 1, limits=LIMITS), *job(2))
    pass_time(run, 9.0)
    run(sign)
    assert of(pass_time(run, 18.9), DropWorker) == []
    assert of(pass_time(run, 19.0), DropWorker) == [DropWorker("a")]


def test_a_worker_without_limits_is_never_lost_by_silence() -> None:
    run = Run(*worker("a"), *slots(1, "b"), *job(2))
    assert run(TimePassed(), at=1e6) == []


def test_all_blocks_of_a_lost_worker_are_lost_at_once() -> None:
    run = Run(*worker("a", 1, limits=LIMITS), *job(3, 1))
    run(done(0, 0), done(0, 1), at=1.0)
    run(*slots(3, "b"), at=2.0)
    out = pass_time(run, 11.0)
    assert sorted(launch[:3] for launch in launches(out)) == [(0, 0, 2), (0, 1, 2), (0, 2, 2)]


def test_what_comes_from_a_dropped_worker_is_refused() -> None:
    run = Run(*worker("a", 1, limits=LIMITS), *job(1))
    pass_time(run, 10.0)
    assert run(written(0, 0)) == [DiscardOutput(attempt(0, 0))]
    assert run(failed(0, 0), Heartbeat("a", (attempt(0, 0),)), SlotLeft("a-0"), WorkerLost("a")) == []
    assert run(*worker("a", 1, limits=LIMITS), SlotJoined("a-7", "a")) == []
    assert not run.state.workers
    assert launches(run(*worker("a#2", 1, limits=LIMITS))) == [(0, 0, 2, "a#2-0")]


def test_a_scheduler_that_slept_credits_the_workers() -> None:
    run = Run(*worker("a", 1, limits=LIMITS), *job(1))
    assert run(TimePassed(), at=100.0) == [WakeAt(105.0)]  # it wanted to be woken at 5
    assert of(pass_time(run, 109.9), DropWorker) == []
    assert of(pass_time(run, 110.0), DropWorker) == [DropWorker("a")]


def test_waking_a_little_late_is_no_sleep() -> None:
    run = Run(*worker("a", 1, limits=LIMITS), *job(1))
    run(TimePassed(), at=5.9)
    assert of(run(TimePassed(), at=10.9), DropWorker) == [DropWorker("a")]


def test_queued_heartbeats_are_taken_in_before_silence_is_judged() -> None:
    run = Run(*worker("a", 1, limits=LIMITS), *worker("b", 1, limits=LIMITS), *job(2))
    run(TimePassed(), at=5.0)
    out = run(Heartbeat("a", (attempt(0, 0),)), at=10.4)
    out += run(Heartbeat("b", (attempt(0, 1),)), at=10.5)
    assert of(out, DropWorker) == []
    assert of(run(TimePassed()), DropWorker) == []


def test_a_busy_scheduler_still_finds_the_silent_one() -> None:
    run = Run(*worker("a", 1, limits=LIMITS), *worker("b", 1, limits=LIMITS), *job(2))
    dropped: list[DropWorker] = []
    for second in range(1, 16):
        run(Heartbeat("b", (attempt(0, 1),)), at=float(second))
        if run.state.wake_at is not None and run.state.wake_at <= second:
            dropped += of(run(TimePassed()), DropWorker)
    assert dropped == [DropWorker("a")]


def test_a_draining_worker_finishes_what_it_runs_and_gets_no_more() -> None:
    run = Run(*worker("a", 1), *job(2, 1))
    run(WorkerDraining("a"), WorkerDraining("a"), WorkerDraining("unknown"))
    assert launches(run(done(0, 0))) == []
    assert launches(run(*slots(1, "b"))) == [(0, 1, 1, "b-0")]
    assert launches(run(done(0, 1))) == [(1, 0, 1, "b-0")]  # its block can still be read
    assert launches(run(WorkerLost("a"))) == []


def test_a_worker_that_drains_and_leaves_takes_needed_blocks_along() -> None:
    run = Run(*worker("a", 1), *job(2, 1), WorkerDraining("a"))
    run(done(0, 0), *slots(1, "b"))
    assert launches(run(WorkerLost("a"))) == []
    assert launches(run(done(0, 1))) == [(0, 0, 2, "b-0")]


def test_shared_blocks_survive_their_worker() -> None:
    run = Run(*worker("a", 1), *job(1, 1))
    run(TaskFinished(attempt(0, 0), True, (1,), shared=True), WorkerLost("a"))
    assert run.state.jobs["j"].stages[0].state_of(0) is TaskState.DONE
    assert run(*slots(1, "b")) == [Launch(attempt(1, 0, 2), "b-0")]


def test_a_worker_may_be_known_by_its_slots_first() -> None:
    run = Run(*slots(1, "a"), WorkerJoined("a", cpus=4.0), *worker("a", 1, cpus=9.0))
    assert run.state.workers["a"].cpus == 4.0
    assert len(run.state.workers) == 1


def test_liveness_goes_on_when_jobs_are_over() -> None:
    run = Run(*worker("a", 1, limits=LIMITS), *job(1), JobCancelled("j"))
    assert DropWorker("a") in pass_time(run, 10.0)
    assert run.state.timers == [] and run.state.wake_at is None
    assert task(0, 0) not in run.state.jobs
