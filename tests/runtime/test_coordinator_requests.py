"""Jobs whose code is loaded at their turn; jobs that are late; and jobs that somebody has altered in the journal."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from queue_kit import QueueServer, outcome_of, wait_until

from gristmill.errors import (
    GristmillError,
    JobCancelled,
    JournalFailed,
    PayloadAltered,
    RetryRefused,
    ServerUnreachable,
    UsageError,
)
from gristmill.runtime.coordinator.hooks import Hooks
from gristmill.runtime.coordinator.registry import KnownJob, RunningJob
from gristmill.runtime.files.jobfolder import claim_job
from gristmill.runtime.journal.facts import JobLate, JobRequested
from gristmill.runtime.outcome import Outcome


class Loader:
    """Loads code as soon as it is let."""

    def __init__(self, error: Exception | None = None) -> None:
        self.server: QueueServer | None = None
        self.error = error
        self.let = threading.Event()
        self.seen: list[tuple[JobRequested, Mapping[str, bytes]]] = []
        self.undone: list[str] = []

    def __call__(self, wanted: JobRequested, blobs: Mapping[str, bytes]) -> None:
        self.seen.append((wanted, blobs))
        assert self.let.wait(60)
        if self.error is not None:
            raise self.error
        assert self.server is not None
        prepared, folder = self.server.prepared(wanted.name, job=wanted.job)
        try:
            self.server.coordinator.fulfil(wanted.job, prepared, folder)
        except JobCancelled:
            prepared.output.abort()
            folder.remove()
            self.undone.append(wanted.job)


def loading(place: Path, error: Exception | None = None, jobs: int = 1) -> tuple[QueueServer, Loader]:
    loader = Loader(error)
    loader.server = server = QueueServer(place, jobs, hooks=Hooks(on_turn=loader))
    return server, loader


def request(server: QueueServer, name: str = "out", **more: Any) -> KnownJob:
    """Ask for a job with code that is a file."""
    job = claim_job(server.place, time.time())
    wanted = JobRequested(job, name, "ada", time.time(), {"class": "Count", "inputs": ["é"]}, **more)
    return server.coordinator.request(wanted, {"job.py": b"class Count: ..."})


def end_of(server: QueueServer, job: KnownJob) -> Outcome:
    """How a job ends at this server, whatever it was there before."""
    found = server.coordinator.find(job.job)
    assert found is not None
    return outcome_of(found)


def test_code_is_loaded_when_it_is_the_jobs_turn(tmp_path: Path) -> None:
    server, loader = loading(tmp_path)
    server.start()
    job = request(server, priority=3)
    wait_until(lambda: loader.seen)
    assert job.view().note == "Loading its code."
    assert job.view().state.value == "running"
    assert (job.user, job.name, job.priority) == ("ada", "out", 3)
    second = server.submit("second")
    assert server.state(second) == "queued", "a job whose code is loaded has its turn"
    loader.let.set()
    assert end_of(server, job).error is None
    assert end_of(server, second).error is None
    wanted, blobs = loader.seen[0]
    assert wanted.request == {"class": "Count", "inputs": ["é"]}
    assert blobs == {"job.py": b"class Count: ..."}
    known = server.coordinator.find(job.job)
    assert known is not None
    assert (known.user, known.submitted) == ("ada", job.submitted)
    server.close()


def test_the_key_of_a_request_that_was_refused_may_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_late(*_: object, **__: object) -> None:
        raise JournalFailed("The journal could not be written within 30 seconds.")

    server, loader = loading(tmp_path)
    with monkeypatch.context() as slow:
        slow.setattr(server.journal, "durable", too_late)
        with pytest.raises(JournalFailed):
            request(server, key="k")
    wait_until(lambda: any(job.ended for job in server.journal.page_of_jobs()))
    loader.let.set()
    server.start()
    job = request(server, key="k")
    assert end_of(server, job).error is None
    assert request(server, key="k").job == job.job
    server.close()


def test_a_server_that_ends_while_it_loads_code_leaves_the_job_to_the_next(tmp_path: Path) -> None:
    server, loader = loading(tmp_path, ServerUnreachable("The server ends."))
    loader.let.set()
    server.start()
    job = request(server)
    wait_until(lambda: loader.seen)
    server = server.crash(hooks=server.hooks)
    loader.server, loader.error = server, None
    server.start()
    assert end_of(server, job).error is None
    assert len(loader.seen) == 2
    server.close()


def test_code_that_cannot_be_loaded_fails_the_job_which_can_be_tried_again(tmp_path: Path) -> None:
    server, loader = loading(tmp_path, UsageError("job.py, line 1: no such thing"))
    loader.let.set()
    server.start()
    job = request(server)
    outcome = end_of(server, job)
    assert str(outcome.error) == "job.py, line 1: no such thing"
    wait_until(lambda: server.ended)  # who waits for a job has its outcome before the hook is called
    assert server.ended == [(job.job, "failed", "ada")]
    server = server.crash(hooks=server.hooks).start()
    loader.server = server
    assert str(end_of(server, job).error) == "job.py, line 1: no such thing"
    loader.error = None
    assert outcome_of(server.coordinator.retry(job.job)).error is None
    server.close()


def test_a_defect_of_the_loader_fails_the_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server, loader = loading(tmp_path, ValueError("oh"))
    loader.let.set()
    server.start()
    assert "could not be loaded: ValueError('oh')" in str(end_of(server, request(server)).error)
    assert "oh" in caplog.text
    server.close()


def test_a_request_can_be_cancelled_in_each_phase(tmp_path: Path) -> None:
    server, loader = loading(tmp_path)
    server.start(0, 1)
    first, second = request(server, "a"), request(server, "b")
    wait_until(lambda: loader.seen)
    second.cancel()
    first.cancel()
    for job in (first, second):
        assert isinstance(end_of(server, job).error, JobCancelled)
    loader.let.set()
    wait_until(lambda: loader.undone == [first.job])
    third = request(server, "c")
    server.wait_for(third, "running")
    wait_until(lambda: not third.view().note.startswith("Loading") or server.fleet.launched)
    found = server.coordinator.find(third.job)
    assert found is not None
    wait_until(lambda: server.fleet.launched)
    server.coordinator.find(third.job).cancel()  # type: ignore[union-attr]
    for attempt in list(server.fleet.launched):
        server.fleet.finish(attempt)
    assert isinstance(end_of(server, third).error, JobCancelled)
    server.close()


def test_after_a_restart_code_is_loaded_again(tmp_path: Path) -> None:
    server, loader = loading(tmp_path)
    server.start()
    jobs = [request(server, "a", key="k", digest="d"), request(server, "b")]
    wait_until(lambda: loader.seen)
    first = server
    server, again = loading(tmp_path)
    first.crash()
    again.let.set()
    server.start()
    assert request(server, "a", key="k", digest="d").job == jobs[0].job
    assert [end_of(server, job).error for job in jobs] == [None, None]
    assert [wanted.name for wanted, _ in again.seen] == ["a", "b"]
    loader.error = JobCancelled("the old server is gone")
    loader.let.set()
    server.close()


def test_a_job_that_outlives_its_deadline_is_told_of_once(tmp_path: Path) -> None:
    server = QueueServer(tmp_path).start(0, 1)
    jobs = [server.submit("a", deadline_seconds=0.05), server.submit("b", deadline_seconds=0.1)]
    jobs.append(server.submit("c", deadline_seconds=1000.0))
    wait_until(lambda: server.late == [jobs[0].job, jobs[1].job])
    server = server.crash().start(0, 1)
    wait_until(lambda: sum(isinstance(fact, JobLate) for fact in server.journal.facts()) == 2)
    server.fleet.release()
    for job in jobs:
        assert end_of(server, job).error is None, "it goes on"
    assert server.late == []
    server.close()


def test_a_deadline_counts_anew_when_a_job_is_tried_again(tmp_path: Path) -> None:
    server = QueueServer(tmp_path)
    server.fleet.fails = {1}
    job = server.start().submit("a", deadline_seconds=1.5)
    assert end_of(server, job).error is not None
    wait_until(lambda: time.time() > job.submitted + 1.6)  # it would be late by now
    assert server.late == []
    server.fleet.fails.clear()
    server.fleet.held = {1}
    server.coordinator.retry(job.job)
    found = server.journal.summary(job.job)
    assert found is not None and found.deadline is not None and not found.late
    assert found.deadline == found.since + 1.5 > time.time()
    wait_until(lambda: server.late == [job.job])
    server = server.crash().start(1)
    found = server.journal.summary(job.job)
    assert found is not None and found.late
    server.fleet.release()
    assert end_of(server, job).error is None
    assert server.late == [], "it was told of once"
    server.close()


def test_a_job_that_is_tried_again_is_late_by_that_time_after_a_restart(tmp_path: Path) -> None:
    """Also if it was late before."""
    server = QueueServer(tmp_path).start(1)
    job = server.submit("a", deadline_seconds=1.0)
    wait_until(lambda: server.late == [job.job])
    job.cancel()
    server.fleet.release()
    assert end_of(server, job).error is not None
    server.fleet.held = {0, 1}
    blocker = server.submit("b")
    server.coordinator.retry(job.job)
    server = server.crash().start(0, 1)
    wait_until(lambda: server.late == [job.job])
    wait_until(lambda: sum(isinstance(fact, JobLate) for fact in server.journal.facts()) == 2)
    server.fleet.release()
    assert [end_of(server, one).error for one in (blocker, job)] == [None, None]
    server.close()


def test_how_long_a_job_took_is_the_same_in_the_list_and_on_its_page(tmp_path: Path) -> None:
    """From when its turn came: with the loading of its code, and what it did before a restart."""
    server, loader = loading(tmp_path)
    server.start(1)
    job = request(server)
    wait_until(lambda: loader.seen)
    wait_until(lambda: job.view().seconds > 0.2)
    waiting = server.submit("second")
    assert waiting.view().seconds == 0.0
    loader.let.set()
    server.wait_for(job, "running")
    wait_until(lambda: isinstance(server.coordinator.find(job.job), RunningJob))
    found = server.coordinator.find(job.job)
    assert found is not None and found.view().seconds > 0.2
    wait_until(lambda: any(attempt.stage == 1 for attempt in server.fleet.launched))
    before = found.view().seconds
    server = server.crash().start(1)
    found = server.coordinator.find(job.job)
    assert found is not None and found.view().seconds >= before
    server.fleet.release()
    assert end_of(server, job).error is None and end_of(server, waiting).error is None
    for one in (job, waiting):
        row = server.journal.summary(one.job)
        assert row is not None and row.begun is not None and row.ended is not None
        assert row.seconds == end_of(server, one).view.seconds
        assert row.seconds == pytest.approx(row.ended - row.begun, abs=0.2)
    server.close()


# What somebody has altered


def change(server: QueueServer, job: str, sql: str, *values: object) -> None:
    with sqlite3.connect(server.journal.path) as connection:
        changed = connection.execute(sql, (*values, job))
        assert changed.rowcount == 1


ALTERED = {
    "its code": ("UPDATE blobs SET data = ? WHERE name = 'code' AND job = ?", b"evil"),
    "its splits": ("UPDATE blobs SET data = ? WHERE name = 'splits' AND job = ?", b"evil"),
    "its description": (
        "UPDATE facts SET data = replace(data, ?, 'evil') WHERE kind = 'job accepted' AND job = ?",
        "text",
    ),
    "its signature": (
        "UPDATE facts SET data = json_set(data, '$[0].signature', ?) WHERE kind = 'job accepted' AND job = ?",
        "",
    ),
}


@pytest.mark.parametrize("what", list(ALTERED))
def test_an_altered_job_is_not_run_after_a_restart(tmp_path: Path, what: str) -> None:
    server = QueueServer(tmp_path, 2).start(0, 1)
    running, other, waiting = (server.submit(name) for name in "abc")
    server.journal.durable(server.coordinator._jobs[running.job].noted)
    for job in (running, waiting):
        sql, value = ALTERED[what]
        change(server, job.job, sql, value)
    server = server.crash(2).start()
    for job in (running, waiting):
        assert isinstance(end_of(server, job).error, PayloadAltered)
        assert job.job in str(end_of(server, job).error)
    assert end_of(server, other).error is None, "the others go on"
    assert not any(job.job in server.fleet.specs for job in (running, waiting)), "no worker gets it"
    server.close()


def test_an_altered_job_is_not_run_at_its_turn_nor_tried_again(tmp_path: Path) -> None:
    server = QueueServer(tmp_path).start(0, 1)
    server.fleet.fails = {0}
    first, second = server.submit("a"), server.submit("b")
    change(server, second.job, "UPDATE blobs SET data = ? WHERE name = 'code' AND job = ?", b"evil")
    server.fleet.release()
    assert isinstance(end_of(server, second).error, PayloadAltered)
    assert not isinstance(end_of(server, first).error, PayloadAltered)
    change(server, first.job, "UPDATE blobs SET data = ? WHERE name = 'code' AND job = ?", b"evil")
    for job in (first, second):
        with pytest.raises(PayloadAltered):
            server.coordinator.retry(job.job)
    server.close()


def test_an_altered_request_is_not_loaded(tmp_path: Path) -> None:
    server, loader = loading(tmp_path)
    server.start(0, 1)
    server.submit("first")
    jobs = [request(server, "a"), request(server, "b"), request(server, "c")]
    change(server, jobs[0].job, "UPDATE blobs SET data = ? WHERE job = ?", b"evil")
    change(server, jobs[1].job, "UPDATE facts SET data = replace(data, 'Count', ?) WHERE job = ?", "Evil")
    loader.let.set()
    server.fleet.release()
    errors: list[GristmillError | None] = [end_of(server, job).error for job in jobs]
    assert [type(error) for error in errors] == [PayloadAltered, PayloadAltered, type(None)]
    assert [wanted.name for wanted, _ in loader.seen] == ["c"]
    server.close()


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    server = QueueServer(tmp_path).start(0, 1)
    job = server.submit("a")
    server = server.crash(key=b"x" * 32).start()
    assert isinstance(end_of(server, job).error, PayloadAltered)
    server.close()


def test_a_request_that_is_over_is_not_fulfilled(tmp_path: Path) -> None:
    server, loader = loading(tmp_path)
    server.start(0, 1)
    other = server.submit("other")
    prepared, folder = server.prepared("out")
    with pytest.raises(JobCancelled):
        server.coordinator.fulfil(folder.job, prepared, folder)
    with pytest.raises(RetryRefused):
        server.coordinator.retry(other.job)
    assert replace(prepared).spec.job == folder.job
    prepared.output.abort()
    folder.remove()
    assert loader.seen == []
    server.close()
