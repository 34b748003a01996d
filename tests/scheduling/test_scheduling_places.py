"""Where tasks go: near their input if that can be had soon, else anywhere, and no slot idle for longer than agreed."""

from __future__ import annotations

import pytest
from scheduler_run import Run, attempt, done, job, launches, of, placed, slots, worker, written

from gristmill.scheduling import places
from gristmill.scheduling.commands import Launch, WakeAt
from gristmill.scheduling.events import (
    Event,
    JobSubmitted,
    StageAdded,
    TaskFinished,
    TimePassed,
    WorkerDraining,
    WorkerLost,
)
from gristmill.scheduling.state import COMMON_SHAPE
from gristmill.scheduling.step import step


def hosted(*hosts: str, name: str = "j", wait: float = 0.5) -> list[Event]:
    """A job of one stage whose tasks have their input on these hosts."""
    named = tuple((host,) if host else () for host in hosts)
    return [JobSubmitted(name, 1, locality_seconds=wait), StageAdded(name, 0, (), len(hosts), True, named)]


def cluster(*hosts: str, rack: str = "") -> list[Event]:
    return [event for host in hosts for event in worker(f"w{host}", 1, host=host, rack=rack)]


def test_tasks_go_to_their_hosts() -> None:
    run = Run(*cluster("a", "b", "c"))
    assert placed(run(*hosted("c", "a", "b"))) == {0: "wc-0", 1: "wa-0", 2: "wb-0"}


def test_tasks_find_their_hosts_whatever_comes_first() -> None:
    run = Run(*hosted("c", "a", "b"), *cluster("a", "b", "c"))
    assert placed(run.history) == {0: "wc-0", 1: "wa-0", 2: "wb-0"}


def test_a_slot_waits_a_little_for_a_task_of_its_own_then_takes_any() -> None:
    run = Run(*cluster("a", "b"))
    out = run(*hosted("a", "a", "a"))
    assert placed(out) == {0: "wa-0"}
    assert of(out, WakeAt) == [WakeAt(0.5)]
    assert placed(run(TimePassed(), at=0.49)) == {}
    assert placed(run(TimePassed(), at=0.5)) == {1: "wb-0"}


def test_a_local_slot_that_comes_free_meanwhile_is_used() -> None:
    run = Run(*cluster("a", "b"))
    run(*hosted("a", "a"))
    assert placed(run(written(0, 0), at=0.3)) == {1: "wa-0"}


def test_a_slot_that_was_free_before_the_tasks_were_ready_waits_from_then_on() -> None:
    run = Run(*cluster("a", "b"))
    run(*hosted("a", "a"), at=100.0)
    assert placed(run(TimePassed(), at=100.4)) == {}
    assert placed(run(TimePassed(), at=100.5)) == {1: "wb-0"}


def test_a_task_whose_host_has_no_worker_does_not_wait() -> None:
    run = Run(*cluster("a", "b"))
    assert placed(run(*hosted("z", "a"))) == {1: "wa-0", 0: "wb-0"}


def test_a_task_that_cares_for_no_host_does_not_wait() -> None:
    run = Run(*cluster("a", "b"))
    assert placed(run(*hosted("a", "", "a"))) == {0: "wa-0", 1: "wb-0"}


@pytest.mark.parametrize("gone", [WorkerLost("wa"), WorkerDraining("wa")])
def test_nobody_waits_for_a_worker_that_is_gone(gone: Event) -> None:
    run = Run(*cluster("a", "b"))
    run(*hosted("a", "a", "a"))
    assert placed(run(gone)) in ({1: "wb-0"}, {0: "wb-0"})


def test_a_retry_does_not_wait() -> None:
    run = Run(*cluster("a", "b"))
    run(*hosted("a", "a"))
    assert placed(run(*slots(0), WorkerLost("wa"))) == {0: "wb-0"}


def test_the_rack_comes_before_anywhere() -> None:
    run = Run(*worker("near", 1, host="n", rack="r1"), *worker("far", 1, host="f", rack="r2"))
    run(*worker("home", 1, host="h", rack="r1"))
    assert placed(run(*hosted("h", "h", "h"))) == {0: "home-0"}
    assert placed(run(TimePassed(), at=0.25)) == {1: "near-0"}
    assert placed(run(TimePassed(), at=0.49)) == {}
    assert placed(run(TimePassed(), at=0.5)) == {2: "far-0"}


def test_no_wait_is_also_a_choice() -> None:
    run = Run(*cluster("a", "b"))
    assert placed(run(*hosted("b", "b", wait=0.0))) == {0: "wb-0", 1: "wa-0"}


def test_another_job_takes_the_slot_that_waits() -> None:
    run = Run(*cluster("a", "b"))
    run(*hosted("a", "a"))
    assert launches(run(*job(1, name="k"))) == [(0, 0, 1, "wb-0")]


def test_on_one_worker_places_cost_nothing() -> None:
    run = Run(*worker("a", 2, host="h"), *hosted("h", "x", "h"))
    assert placed(run.history) == {0: "a-0", 2: "a-1"}
    assert placed(run(written(0, 0))) == {1: "a-0"}


def skewed(run: Run) -> None:
    """Two map tasks, on a and on b: partitions 0 and 2 lie on b, partition 1 on a."""
    run(*slots(1, "a"), *slots(1, "b"), *job(2, 3))
    run(TaskFinished(attempt(0, 0), True, (1, 90, 1)))


def test_reduce_tasks_go_where_their_bytes_lie() -> None:
    run = Run()
    skewed(run)
    assert placed(run(TaskFinished(attempt(0, 1), True, (90, 1, 90)))) == {0: "b-0", 1: "a-0"}
    assert placed(run(written(1, 0))) == {2: "b-0"}


def test_a_slot_without_bytes_waits_a_little_for_reduce_tasks() -> None:
    run = Run()
    skewed(run)
    run(TaskFinished(attempt(0, 1), True, (90, 1, 90)), at=1.0)
    assert placed(run(written(1, 1))) == {}  # partition 2 lies on b
    assert placed(run(TimePassed(), at=1.5)) == {2: "a-0"}


def test_nobody_waits_when_bytes_lie_evenly() -> None:
    run = Run(*slots(1, "a"), *slots(1, "b"), *job(2, 3))
    run(TaskFinished(attempt(0, 0), True, (10, 11, 10)))
    assert placed(run(TaskFinished(attempt(0, 1), True, (11, 10, 11)))) == {0: "b-0", 1: "a-0"}
    assert placed(run(written(1, 1))) == {2: "a-0"}


def test_bytes_of_a_worker_that_is_gone_do_not_count() -> None:
    run = Run(*slots(1, "a"), *slots(1, "b"), *slots(1, "c"), *job(3, 3))
    run(TaskFinished(attempt(0, 0), True, (100, 100, 100)))
    run(TaskFinished(attempt(0, 1), True, (1, 5, 1)))
    out = run(WorkerLost("a"))
    assert launches(out) == [(0, 0, 2, "b-0")]
    out = run(TaskFinished(attempt(0, 2), True, (5, 1, 5)), TaskFinished(attempt(0, 0, 2), True, (100, 100, 100)))
    assert placed(of(out, Launch))[0] == "b-0"


def test_bytes_are_not_counted_for_too_many_workers_and_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST_ENTRIES", 5)
    run = Run()
    skewed(run)
    assert placed(run(TaskFinished(attempt(0, 1), True, (90, 1, 90)))) == {0: "a-0", 1: "b-0"}
    assert run.state.jobs["j"].stages[0].bytes_on is None


def test_with_one_worker_no_bytes_are_counted() -> None:
    run = Run(*slots(2), *job(2, 3))
    run(TaskFinished(attempt(0, 0), True, (1, 90, 1)), TaskFinished(attempt(0, 1), True, (1, 90, 1)))
    assert run.state.jobs["j"].stages[0].bytes_on is None
    assert run.state.jobs["j"].stages[1].places is None


def test_many_slots_are_looked_at_once_each() -> None:
    """A thousand slots without a task of their own do not make each launch slow."""
    names = [f"h{n}" for n in range(300)]
    run = Run()
    for event in cluster(*names):
        step(run.state, event, 0.0)
    run(*hosted(*(["h7"] * 5)))
    stage = run.state.jobs["j"].stages[0]
    assert stage.places is not None
    assert stage.places.scanned == run.state.offers[COMMON_SHAPE].log[-1][0]


def test_done_is_not_placed_again() -> None:
    run = Run(*cluster("a", "b"), *hosted("a", "b", "a"))
    run(written(0, 0), written(0, 1), at=2.0)
    assert launches(run.history) == [(0, 0, 1, "wa-0"), (0, 1, 1, "wb-0"), (0, 2, 1, "wa-0")]
    assert done(0, 2).attempt == attempt(0, 2)
