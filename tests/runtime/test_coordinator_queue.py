"""Jobs that wait for their turn at a server."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from queue_kit import QueueServer, outcome_of, wait_until

from gristmill.errors import JobCancelled, KeyTaken, ServerUnreachable
from gristmill.runtime.coordinator.registry import KnownJob, QueuedJob, RunningJob
from gristmill.runtime.journal.facts import JobAccepted, JobBegun
from gristmill.scheduling.commands import JobState


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path


def begun(place: Path, jobs: int = 1, **limits: object) -> QueueServer:
    """A server whose fleet does nothing yet."""
    return QueueServer(place, jobs, **limits).start(0, 1)  # type: ignore[arg-type]


def test_a_job_waits_while_as_many_run_as_may_and_then_has_its_turn(place: Path) -> None:
    server = begun(place)
    first, second, third = (server.submit(name, user="ada") for name in "abc")
    assert isinstance(first, RunningJob)
    assert isinstance(second, QueuedJob)
    assert server.states(first, second, third) == ["running", "queued", "queued"]
    assert second.view().note == "Waiting for its turn: it is the next."
    assert third.view().note == "Waiting for its turn: 1 job is before it."
    assert (second.user, second.name, second.output) == ("ada", "b", str(place / "b"))
    assert set(server.locks()) == {"a"}, "a job that waits has nothing open"
    server.fleet.release()
    assert [outcome_of(job).error for job in (first, second, third)] == [None] * 3
    assert [(place / name / "part-r-00000").read_text() for name in "abc"] == ["done\n"] * 3
    kinds = [type(fact) for fact in server.journal.facts(third.job)]
    assert kinds[:2] == [JobAccepted, JobBegun]
    wait_until(lambda: len(server.ended) == 3)  # who waits for a job has its outcome before the hook is called
    assert [job for job, _, _ in server.ended] == [first.job, second.job, third.job]
    assert server.ended[0][1:] == ("succeeded", "ada")
    assert all("-e" not in name for name in server.fleet.ran), "each ran once, in its first epoch"
    server.close()


def test_higher_priorities_are_first_and_then_older_ones(place: Path) -> None:
    server = begun(place)
    jobs = [server.submit(str(priority) + name, priority=priority) for priority, name in ((0, "a"), (0, "b"), (5, "c"))]
    server.fleet.release()
    for job in jobs:
        outcome_of(job)
    wait_until(lambda: len(server.ended) == 3)
    assert [job for job, _, _ in server.ended] == [jobs[0].job, jobs[2].job, jobs[1].job]
    server.close()


def test_one_users_many_do_not_keep_others_from_their_turn(place: Path) -> None:
    server = begun(place, 3, jobs_per_user=2)
    many = [server.submit(f"m{index}", user="many") for index in range(5)]
    other = server.submit("other", user="other")
    assert server.states(*many, other) == ["running"] * 2 + ["queued"] * 3 + ["running"]
    server.fleet.release()
    for job in [*many, other]:
        assert outcome_of(job).error is None
    server.close()


def test_jobs_that_others_wait_for_begin_at_once(place: Path) -> None:
    server = begun(place)
    jobs = [server.submit("a"), server.submit("b", at_once=True), server.submit("c", session="s")]
    jobs.append(server.submit("d", driver=True))
    assert server.states(*jobs) == ["running"] * 4
    assert server.state(server.submit("e")) == "queued"
    server.close()


def test_scripts_have_a_queue_of_their_own(place: Path) -> None:
    server = begun(place, scripts=1)
    first = server.submit("a", driver=True)
    second = server.submit("b", driver=True)
    job, last = server.submit("c"), server.submit("d", driver=True)
    assert server.states(first, second, job, last) == ["running", "queued", "running", "queued"]
    assert last.view().note == "Waiting for its turn: 1 job is before it."
    last.cancel()
    server = server.crash(scripts=1)
    server.start()
    wait_until(lambda: len(server.ended) == 3)
    ended = {job: state for job, state, _ in server.ended}
    assert ended == {first.job: "failed", second.job: "succeeded", job.job: "succeeded"}, "one may have been running"
    assert server.state(last) == "cancelled"
    server.close()


def test_no_more_wait_than_may(place: Path) -> None:
    server = begun(place, waiting=2)
    for name in "abc":
        server.submit(name, key=name)
    with pytest.raises(ServerUnreachable, match="2 jobs wait for their turn"):
        server.submit("d", key="d")
    assert server.submit("x", key="c").name == "c", "one that is there already is found"
    assert server.coordinator.find_by_key("d") is None
    assert not list(place.glob(".d*"))
    server.close()


def test_a_job_that_waits_can_be_cancelled(place: Path) -> None:
    server = begun(place)
    first, second, third = (server.submit(name) for name in "abc")
    second.cancel()
    assert isinstance(outcome_of(second).error, JobCancelled)
    assert third.view().note == "Waiting for its turn: it is the next."
    wait_until(lambda: server.ended)
    assert server.ended == [(second.job, "cancelled", "")]
    server = server.crash().start()
    assert server.state(second) == "cancelled"
    assert [server.coordinator.find(job.job).wait(60).error for job in (first, third)] == [None, None]  # type: ignore[union-attr]
    assert not (place / "b").exists()
    server.close()


def test_a_key_finds_the_job_that_waits(place: Path) -> None:
    server = begun(place)
    server.submit("a")
    second = server.submit("b", key="k", request="one")
    assert server.submit("c", key="k", request="one").job == second.job
    with pytest.raises(KeyTaken):
        server.submit("d", key="k", request="two")
    server = server.crash().start()
    assert server.submit("e", key="k", request="one").job == second.job
    with pytest.raises(KeyTaken):
        server.submit("f", key="k", request="two")
    server.close()


def test_a_restart_keeps_the_order(place: Path) -> None:
    server = begun(place)
    jobs = [server.submit(str(index), priority=index % 2) for index in range(7)]
    server = server.crash()
    server.start(0, 1)
    assert [job.job for job in server.resumed] == [jobs[0].job]
    assert server.states(*jobs[:2]) == ["running", "queued"]
    assert server.coordinator.kept_jobs == tuple(job.job for job in jobs[1:])
    server.fleet.release()
    wait_until(lambda: len(server.ended) == len(jobs))
    assert [job for job, _, _ in server.ended] == [jobs[index].job for index in (0, 1, 3, 5, 2, 4, 6)]
    server.close()


def test_jobs_that_replace_the_same_output_have_their_turns(place: Path) -> None:
    server = begun(place)
    jobs = [server.submit("same", mode="overwrite") for _ in range(3)]
    server.fleet.release()
    assert [outcome_of(job).error for job in jobs] == [None] * 3
    assert not list(place.glob(".same*"))
    server.close()


def test_a_job_whose_output_is_made_meanwhile_fails_at_its_turn(place: Path) -> None:
    server = begun(place)
    first, second = server.submit("a"), server.submit("b")
    (place / "b").mkdir()
    server.fleet.release()
    assert outcome_of(first).error is None
    assert "exists" in str(outcome_of(second).error)
    server.close()


def test_what_runs_can_be_looked_at(place: Path) -> None:
    server = begun(place)
    job = server.submit("a")
    wait_until(lambda: len(server.fleet.launched) == 2)
    views = server.coordinator.look(job.job)
    assert sorted((view.stage, view.index, view.number, view.slot) for view in views) == [
        (0, 0, 1, "w#1-1"),
        (0, 1, 1, "w#1-2"),
    ]
    assert all(view.launched <= view.began for view in views)
    assert server.coordinator.look("nobody") == []
    server.close()


def test_a_server_that_ends_leaves_those_that_wait(place: Path) -> None:
    server = begun(place)
    first, second = server.submit("a"), server.submit("b")
    server.close()
    server = server.crash().start()
    assert [outcome_of(server.coordinator.find(job.job)).error for job in (first, second)] == [None, None]  # type: ignore[arg-type]
    server.close()


def test_hundreds_wait_in_little_memory(place: Path) -> None:
    """Each has a hundred kilobytes of code; what is held of one that waits is a line."""
    server = begun(place)
    server.submit("first")

    def submit(index: int) -> KnownJob:
        return server.submit(f"w{index}", code=bytes(100_000) + str(index).encode())

    with ThreadPoolExecutor(8) as pool:
        waiting = [job.job for job in pool.map(submit, range(50))]
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            waiting += [job.job for job in pool.map(submit, range(50, 300))]
            server.journal.durable(0)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert grown < 250 * 6000, f"{grown / 250:,.0f} bytes for each job that waits"
    assert len(server.journal.unfinished()) == 301, "all are durable"
    last = server.coordinator.find(waiting[-1])
    assert isinstance(last, QueuedJob)
    assert last.view().state is JobState.QUEUED
    server.crash()
