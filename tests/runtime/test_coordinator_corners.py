"""Rare orders of events around a coordinator's end and its successor's begin."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from coordinator_kit import Server, begun, ended

from gristmill.errors import FailureReport, JobCancelled, JournalFailed
from gristmill.runtime.contracts import AttemptFailed, BlocksGone, JobRejected
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.coordinator.recovery import input_state
from gristmill.runtime.coordinator.registry import RunningJob
from gristmill.runtime.files.jobfolder import prune
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.events import AttemptId
from gristmill.storage.staging import Staging, _unlock


class _Killed(BaseException):
    """Stands for the end of the process."""


def published_and_killed(server: Server, job: RunningJob | None = None) -> RunningJob:
    """A job whose output is in its place when the coordinator dies, before it could note that."""
    if job is None:
        job = server.submit()
        server.up("w#1")
    server.map(job, 0)
    server.map(job, 1)
    server.reduce(job, 0)
    commit = job._job.prepared.output.commit

    def die(parts: object, summary: object) -> None:
        commit(parts, summary)  # type: ignore[arg-type]
        raise _Killed

    job._job.prepared.output.commit = die  # type: ignore[method-assign]
    with pytest.raises(_Killed):
        server.reduce(job, 1)
    assert len(server.parts_of()) == 2
    return job


@pytest.mark.parametrize("what", ["no answer", "refusal", "cancel"])
def test_an_output_that_is_in_its_place_is_a_success_whatever_comes(tmp_path: Path, what: str) -> None:
    server = Server(tmp_path)
    job = published_and_killed(server)
    server = server.crash()
    asked: list[str] = []
    server.fleet.add_job = lambda spec: asked.append(spec.job)  # type: ignore[method-assign]
    [resumed] = server.resumed
    if what == "cancel":
        resumed.cancel()
    elif what == "refusal":
        server.fleet.post(JobRejected(job.job, FailureReport("PathNotShared", "The input is gone.")))
    server.turn()
    outcome = ended(resumed)
    assert outcome.error is None
    assert outcome.view.state is JobState.SUCCEEDED
    assert (outcome.view.records_in, outcome.view.records_out) == (10, 2)
    assert asked == [], "neither workers nor inputs are needed"
    assert server.parts_of() == ["part-r-00000", "part-r-00001"]
    assert [path.name for path in tmp_path.glob(".out*")] == []


def test_a_cancellation_that_comes_while_the_output_is_put_in_its_place(tmp_path: Path) -> None:
    server, job = begun(tmp_path, maps=2)
    server.reduce(job, 0)
    commit = job._job.prepared.output.commit

    def cancelled_meanwhile(parts: object, summary: object) -> None:
        job.cancel()
        commit(parts, summary)  # type: ignore[arg-type]

    job._job.prepared.output.commit = cancelled_meanwhile  # type: ignore[method-assign]
    server.reduce(job, 1)
    outcome = ended(job)
    assert outcome.error is None
    assert len(server.parts_of()) == 2


def test_of_a_job_that_is_refused_by_the_next_coordinator_workers_keep_blocks_for_another_try(tmp_path: Path) -> None:
    server = Server(tmp_path)
    job = server.submit()
    (tmp_path / "out").mkdir()
    server = server.crash()
    server.turn()
    assert server.fleet.kept == [job.job]


def test_a_block_that_is_lost_while_others_are_waited_for(tmp_path: Path) -> None:
    server, job = begun(tmp_path, maps=2)
    server = server.crash()
    paths = [f"/w#1/{AttemptId(job.job, 0, index, 1)}" for index in range(2)]
    server.up("w#2", {job.job: (paths[0],)})
    server.turn(BlocksGone("w#2", (paths[0],)))
    server.up("w#3", {job.job: (paths[1],)})
    assert sorted(server.fleet.launched) == [AttemptId(job.job, 0, 0, 2)], "nobody is sent to read what is gone"


@pytest.mark.parametrize("written", [False, True])
def test_a_job_that_is_not_noted_in_time_does_not_run_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """Its client was told that it was not accepted, and its files are gone: another one came with the same key."""
    server = Server(tmp_path)
    with monkeypatch.context() as slow:
        slow.setattr(server.journal, "durable", _too_late)
        with pytest.raises(JournalFailed):
            server.submit(key="k")
    until = time.monotonic() + 60
    while written and not any(job.ended for job in server.journal.page_of_jobs()):
        assert time.monotonic() < until
    second = server.submit(key="k", name="second")
    assert second.job not in {job.job for job in server.journal.page_of_jobs() if job.ended}
    refused = [job for job in server.coordinator.jobs() if job.job != second.job]  # it may be over already
    until = time.monotonic() + 60
    while any(job.view().state is JobState.RUNNING for job in refused):  # until the journal has what its end follows
        assert time.monotonic() < until
        server.turn()
    server = server.crash()
    assert [job.job for job in server.resumed] == [second.job]
    known = server.coordinator.find_by_key("k")
    assert known is not None
    assert known.job == second.job
    [first] = [job for job in server.coordinator.jobs() if job.job != second.job]
    outcome = ended(first)
    assert isinstance(outcome.error, JobCancelled)


def _too_late(*_: object, **__: object) -> None:
    raise JournalFailed("The journal could not be written within 30 seconds.")


def test_data_that_changed_is_remembered_over_two_coordinators(tmp_path: Path) -> None:
    """A map task makes other data after a loss; the coordinator dies each time before its readers have run again."""
    server, job = begun(tmp_path, maps=2)
    server.reduce(job, 1)
    server = server.crash()
    [job] = server.resumed
    server.up("w#2", {job.job: (f"/w#1/{AttemptId(job.job, 0, 1, 1)}",)})
    server.turn(seconds=11)
    server.map(job, 0, "w#2", number=2, crc=6)  # what reducer 1 has read was another
    server = server.crash()
    [job] = server.resumed
    kept = (f"/w#2/{AttemptId(job.job, 0, 0, 2)}", f"/w#1/{AttemptId(job.job, 0, 1, 1)}")
    server.up("w#3", {job.job: kept})
    assert sorted((attempt.stage, attempt.index) for attempt in server.fleet.launched) == [(1, 0), (1, 1)]


def test_a_failed_attempt_of_an_earlier_session_changes_nothing(tmp_path: Path) -> None:
    server, job = begun(tmp_path, maps=1)
    server = server.crash()
    server.up("w#1", {job.job: (f"/w#1/{AttemptId(job.job, 0, 0, 1)}",)})
    [resumed] = server.resumed
    missing = FailureReport("BlockMissing", "gone", details={"block": f"/w#1/{AttemptId(job.job, 0, 0, 1)}"})
    server.turn(AttemptFailed(AttemptId(job.job, 1, 0, 7), missing))
    assert sorted(server.fleet.launched) == [AttemptId(job.job, 0, 1, 1)]
    assert resumed.view().failed_attempts == 0


def with_input(server: Server, file: Path) -> RunningJob:
    """A job that reads a file, of which a part was read."""
    submit = server.coordinator.submit

    def submit_with_input(prepared: PreparedJob, **more: Any) -> Any:
        status = file.stat()
        ingredients = {f"input {file}": input_state(status.st_size, status.st_mtime_ns)}
        spec = replace(prepared.spec, inputs=((str(file), status.st_size),))
        return submit(replace(prepared, spec=spec, ingredients=ingredients), **more)

    server.coordinator.submit = submit_with_input  # type: ignore[method-assign]
    job = server.submit()
    server.up("w#1")
    return job


def rewrite(file: Path, text: str) -> None:
    changed_ns = file.stat().st_mtime_ns + 10**9
    file.write_text(text)
    os.utime(file, ns=(changed_ns, changed_ns))


@pytest.mark.parametrize(("text", "words"), [("grown: abcdef", "has changed"), ("fedcba", "has changed")])
def test_a_job_whose_input_is_another_now_says_so(tmp_path: Path, text: str, words: str) -> None:
    """Its output would be made of two inputs; and no worker could join: they look for the file as it was."""
    file = tmp_path / "in.txt"
    file.write_text("abcdef")
    server = Server(tmp_path)
    job = with_input(server, file)
    server.map(job, 0)
    rewrite(file, text)
    server = server.crash()
    server.turn()
    outcome = ended(server.resumed[0])
    assert words in str(outcome.error)
    assert str(file) in str(outcome.error)


def test_a_job_that_has_read_nothing_yet_takes_its_input_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "in.txt"
    file.write_text("abcdef")
    server = Server(tmp_path)
    job = with_input(server, file)
    rewrite(file, "fedcba")
    server = server.crash()
    server.up("w#2")
    assert sorted(server.fleet.launched) == [AttemptId(job.job, 0, index, 1) for index in range(2)]


def test_an_input_that_is_gone_once_the_output_is_there_is_no_matter(tmp_path: Path) -> None:
    file = tmp_path / "in.txt"
    file.write_text("abcdef")
    server = Server(tmp_path)
    published_and_killed(server, with_input(server, file))
    file.unlink()
    server = server.crash()
    server.turn()
    assert ended(server.resumed[0]).error is None


def test_a_full_disk_below_one_output_keeps_no_other_job_from_going_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path)
    full, other = server.submit(), server.submit(name="other")
    take_over = Staging.take_over

    def is_full(path: Path) -> Staging:
        if full.job in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return take_over(path)

    monkeypatch.setattr(Staging, "take_over", is_full)
    server = server.crash()
    server.turn()
    outcomes = {job.job: job.wait(0) for job in server.resumed}
    assert outcomes[other.job] is None
    assert outcomes[full.job] is not None
    assert "No space is left" in str(outcomes[full.job].error)  # type: ignore[union-attr]


@pytest.mark.parametrize("when", ["just now", "a moment ago"])
def test_a_job_that_was_cancelled_before_its_server_ends_does_not_go_on(tmp_path: Path, when: str) -> None:
    server = Server(tmp_path)
    job, other = server.submit(), server.submit(name="other")
    server.up("w#1")
    job._job.draining[AttemptId(job.job, 0, 0, 1)] = "w#1-1"  # its attempts have not answered yet
    job.cancel()
    if when == "a moment ago":
        server.turn()
    server.coordinator.close()
    assert job.outcome is not None
    assert isinstance(job.outcome.error, JobCancelled)
    server = server.crash()
    assert [job.job for job in server.resumed] == [other.job]


def test_a_folder_that_another_run_has_removed_is_made_again(tmp_path: Path) -> None:
    """While no server runs, a run of this machine may prune the data directory that they share."""
    server, job = begun(tmp_path, maps=2)
    server.reduce(job, 1)
    for running in server.jobs:
        server.journal.durable(running._job.noted, timeout=60)
    folder = job._job.folder
    assert folder is not None
    folder.update(pid_started=0, staging=job._job.prepared.spec.staging)
    folder.release()
    _unlock(job._job.prepared.output._folder._lock)  # type: ignore[attr-defined]
    assert prune(tmp_path, time.time(), max_total_bytes=0) == (job.job,)
    assert list(tmp_path.glob(".out*")) == []
    server = Server(tmp_path)
    [resumed] = server.resumed
    kept = tuple(f"/w#1/{AttemptId(job.job, 0, index, 1)}" for index in range(2))
    server.up("w#2", {job.job: kept})
    assert sorted(server.fleet.launched) == [AttemptId(job.job, 1, index, 1) for index in range(2)]
    assert prune(tmp_path, time.time(), max_total_bytes=0) == ()
    server.reduce(resumed, 0)
    server.reduce(resumed, 1, epoch=1)
    outcome = ended(resumed)
    assert outcome.error is None
    assert len(server.parts_of()) == 2
    assert not (tmp_path / "jobs" / job.job).exists()


def test_a_commit_that_crashes_fails_its_job_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(tmp_path)
    other, job = server.submit(name="other"), server.submit()  # the first one turns the loop
    server.up("w#1")
    for each in (job, other):
        server.map(each, 0)
        server.map(each, 1)
    server.reduce(job, 0)

    def crash(parts: object, summary: object) -> None:
        raise ValueError("a defect")

    job._job.prepared.output.commit = crash  # type: ignore[method-assign]
    server.reduce(job, 1)
    outcome = ended(job)
    assert "could not be put in place: ValueError: a defect" in str(outcome.error)
    assert "a defect" in caplog.text
    assert server.coordinator.crash is None
    server.reduce(other, 0)
    server.reduce(other, 1)
    assert len(server.parts_of("other")) == 2
