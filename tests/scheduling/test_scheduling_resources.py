"""CPUs and memory: never more than a worker offers, fair by CPUs, and nobody blocks or starves another."""

from __future__ import annotations

from scheduler_run import Run, attempt, done, failed, launches, of, slots, worker, written

from gristmill.errors import FailureKind
from gristmill.scheduling.commands import Launch
from gristmill.scheduling.events import Event, JobCancelled, JobSubmitted, SlotLeft, StageAdded, TimePassed, WorkerLost
from gristmill.scheduling.slots import LEAVE_SECONDS


def big(tasks: int, cpus: float = 1.0, memory: int = 0, name: str = "j", priority: int = 0) -> list[Event]:
    return [
        JobSubmitted(name, 1, priority=priority, task_cpus=cpus, task_memory_bytes=memory),
        StageAdded(name, 0, (), tasks, True),
    ]


def test_cpus_are_never_exceeded() -> None:
    run = Run(*worker("a", 4, cpus=4.0))
    assert len(launches(run(*big(5, 2.0)))) == 2
    assert len(launches(run(written(0, 0)))) == 1


def test_memory_is_never_exceeded() -> None:
    run = Run(*worker("a", 4, memory=10))
    assert len(launches(run(*big(5, memory=4)))) == 2


def test_without_an_offer_a_worker_has_as_many_cpus_as_slots() -> None:
    run = Run(*slots(4))
    assert len(launches(run(*big(5, 2.0)))) == 2
    assert len(launches(run(*big(5, 0.5, name="k")))) == 0  # all four are in use
    assert len(launches(run(written(0, 0)))) == 3  # the other job has less


def test_a_slot_that_is_replaced_does_not_shrink_the_worker() -> None:
    run = Run(*slots(2), *big(1, 2.0))
    run(failed(0, 0, kind=FailureKind.DEATH), SlotLeft("w-0"))
    assert launches(run(TimePassed(), at=1.0)) == [(0, 0, 2, "w-1")]


def test_a_cancelled_attempt_holds_its_share_until_its_process_is_gone() -> None:
    run = Run(*slots(2), *big(1, 2.0), JobCancelled("j"), *big(1, 1.0, name="k"))
    assert len(of(run.history, Launch)) == 1
    assert launches(run(SlotLeft("w-0"))) == [(0, 0, 1, "w-1")]


def test_a_share_that_is_held_for_too_long_is_given_back() -> None:
    run = Run(*slots(2), *big(1, 2.0), JobCancelled("j"), *big(1, 1.0, name="k"))
    assert len(launches(run(TimePassed(), at=LEAVE_SECONDS))) == 1


def test_a_task_that_fits_no_worker_blocks_nobody() -> None:
    run = Run(*slots(2), *big(3, 64.0, name="huge", priority=9), *big(2, name="k"))
    assert [c.attempt.job for c in of(run.history, Launch)] == ["k", "k"]
    assert len(launches(run(*worker("giant", 1, cpus=64.0)))) == 1


def test_a_worker_that_offers_more_is_used_as_soon_as_it_joins() -> None:
    run = Run(*slots(1), *big(1, memory=100), *worker("small", 1, memory=99))
    assert of(run.history, Launch) == [Launch(attempt(0, 0), "w-0")]  # nothing is known of its memory
    run = Run(*worker("small", 1, memory=99), *big(1, memory=100))
    assert of(run.history, Launch) == []
    assert launches(run(*worker("large", 1, memory=100))) == [(0, 0, 1, "large-0")]


def test_jobs_share_by_cpus_and_not_by_attempts() -> None:
    run = Run(*big(20, 2.0, name="a"), *big(20, 1.0, name="b"))
    run(*worker("w", 12, cpus=12.0))
    counts = [sum(c.attempt.job == name for c in of(run.history, Launch)) for name in "ab"]
    assert counts == [3, 6]


def test_small_tasks_do_not_starve_a_large_one() -> None:
    """When it is the large one's turn, a worker is kept until it fits."""
    run = Run(*slots(2, "a"), *slots(2, "b"), *big(50, 1.0, name="small"))
    assert launches(run(*big(1, 2.0, name="large"))) == []
    running = [slot.attempt for slot in run.state.slots.values()]
    first, launched = 0, []
    while first < 10 and not launched:
        oldest = running.pop(0)
        assert oldest is not None
        out = run(written(0, oldest.index, job="small"))
        running += [c.attempt for c in of(out, Launch)]
        launched = [c for c in of(out, Launch) if c.attempt.job == "large"]
        first += 1
    assert launched and first <= 4


def test_a_reservation_ends_with_its_job() -> None:
    run = Run(*slots(2, "a"), *big(50, 1.0, name="small"), *big(1, 2.0, name="large"))
    assert launches(run(written(0, 0, job="small"))) == []  # kept for the large one
    assert launches(run(JobCancelled("large"))) == [(0, 2, 1, "a-0")]


def test_a_reservation_ends_with_its_worker() -> None:
    run = Run(*slots(2, "a"), *slots(1, "b"), *big(50, 1.0, name="small"), *big(1, 2.0, name="large"))
    run(written(0, 0, job="small"))
    run(WorkerLost("a"))
    assert launches(run(written(0, 2, job="small")))
    assert launches(run(*slots(2, "c")))


def test_shapes_are_forgotten_with_their_jobs() -> None:
    run = Run(*slots(2, "a"), *big(1, 0.5), *big(1, 0.25, 7, name="k"))
    run(written(0, 0), JobCancelled("k"))
    assert len(run.state.offers) == 1
    assert run.state.workers["a"].offered == {(1.0, 0)}


def test_a_fraction_of_a_cpu_many_times_is_a_whole_one() -> None:
    run = Run(*worker("a", 20, cpus=1.0), *big(30, 0.1))
    assert len(of(run.history, Launch)) == 10
    for index in range(20):
        run(written(0, index))
    assert len(of(run.history, Launch)) == 30


def test_a_chain_of_large_tasks_runs_on_one_worker() -> None:
    run = Run(*slots(2), JobSubmitted("j", 1, task_cpus=2.0))
    run(StageAdded("j", 0, (), 2, False), StageAdded("j", 1, (0,), 1, True))
    run(done(0, 0), done(0, 1))
    assert launches(run.history) == [(0, 0, 1, "w-0"), (0, 1, 1, "w-1"), (1, 0, 1, "w-0")]
