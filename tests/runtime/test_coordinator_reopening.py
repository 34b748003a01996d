"""What has changed while no coordinator was there: files that cannot be seen, wishes, and other results."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from coordinator_kit import Server, ended

from gristmill.errors import JobCancelled, JobFailed, KeyTaken, UsageError
from gristmill.runtime.coordinator.job_records import fold
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.coordinator.registry import EndedJob, RunningJob
from gristmill.runtime.coordinator.reopening import reopen
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.events import AttemptId

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.runtime.coordinator.reopening._LOOK_SECONDS", 0.02)


def submit(server: Server, file: Path | None = None, *, overwrite: bool = False) -> RunningJob:
    """A job whose map tasks are done, and one of its reduce tasks."""
    begin = server.coordinator.submit

    def changed(prepared: PreparedJob, **more: Any) -> Any:
        inputs = () if file is None else ((str(file), file.stat().st_size),)
        prepared.output._overwrite = overwrite  # type: ignore[attr-defined]
        mode = "overwrite" if overwrite else "error"
        return begin(replace(prepared, mode=mode, spec=replace(prepared.spec, inputs=inputs)), **more)

    server.coordinator.submit = changed  # type: ignore[method-assign]
    job = server.submit()
    server.up("w#1")
    server.map(job, 0)
    server.map(job, 1)
    server.reduce(job, 0)
    return job


def with_an_input(folder: Path) -> tuple[Server, RunningJob, Path]:
    """A server, such a job, and the file that the job reads."""
    file = folder / "in.txt"
    file.write_text("abc")
    server = Server(folder)
    return server, submit(server, file), file


def turn_until(server: Server, true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        server.turn()
        time.sleep(0.01)  # what is waited for comes from a thread that looks at files


def end_of(server: Server, job: RunningJob) -> Exception | None:
    server.turn()
    server.turn()
    outcome = ended(job)
    return outcome.error


def blocks_of(job: RunningJob) -> tuple[str, ...]:
    return tuple(f"/w#1/{AttemptId(job.job, 0, index, 1)}" for index in range(2))


def test_a_job_goes_on_when_its_input_can_be_seen_again(tmp_path: Path) -> None:
    server, job, file = with_an_input(tmp_path)
    file.rename(tmp_path / "unmounted")
    server = server.crash()
    [resumed] = server.resumed
    assert server.note(resumed) == f"Waiting for its input {file} (No such file or directory)."
    assert server.fleet.jobs == []
    server.up("w#2", {job.job: blocks_of(job)})
    (tmp_path / "unmounted").rename(file)
    turn_until(server, lambda: server.fleet.jobs == [job.job])
    server.turn()
    assert sorted(server.fleet.launched) == [AttemptId(job.job, 1, 1, 1)], "what was done before still is"
    server.reduce(resumed, 1, epoch=1)
    assert end_of(server, resumed) is None
    assert server.parts_of() == ["part-r-00000", "part-r-00001"]


def test_what_was_staged_is_waited_for(tmp_path: Path) -> None:
    server = Server(tmp_path)
    job = submit(server)
    [staging] = tmp_path.glob(".out*")
    staging.rename(tmp_path / "unmounted")
    server = server.crash()
    [resumed] = server.resumed
    assert str(staging) in server.note(resumed)
    assert list(tmp_path.glob(".out*")) == [], "nothing is made where storage may be mounted later"
    (tmp_path / "unmounted").rename(staging)
    turn_until(server, lambda: server.fleet.jobs == [job.job])


def test_storage_that_comes_back_is_looked_at_as_before(tmp_path: Path) -> None:
    """What may be read and written is said anew with each start; a job waits for files that it may not have."""
    server, job, file = with_an_input(tmp_path)
    file.rename(tmp_path / "unmounted")
    server = server.crash()
    [resumed] = server.resumed
    asked: list[str] = []

    def check(prepared: PreparedJob) -> None:
        asked.append(prepared.spec.job)
        raise UsageError("it is outside of --allow-path")

    server.coordinator.hooks.check = check
    (tmp_path / "unmounted").rename(file)
    turn_until(server, lambda: resumed.held.state is not JobState.RUNNING)
    assert "--allow-path" in str(end_of(server, resumed)) and asked[-1] == job.job


def test_nothing_is_put_right_where_a_job_may_not_be(tmp_path: Path) -> None:
    server = Server(tmp_path)
    job = submit(server)
    record = fold(server.journal.facts())[job.job]
    dead = tmp_path / ".out.gristmill-20200101-000000-0000"
    dead.mkdir()

    def refuse(_prepared: PreparedJob) -> None:
        raise UsageError("it is outside of --allow-path")

    blobs = server.journal.blobs(job.job)
    assert isinstance(reopen(record, blobs, refuse).refused, UsageError) and dead.is_dir()
    reopen(record, blobs)
    assert not dead.exists(), "what dead runs have left goes where a job may be"


def test_the_wait_for_files_has_an_end(tmp_path: Path) -> None:
    server, _, file = with_an_input(tmp_path)
    file.unlink()
    server = server.crash()
    server.turn(seconds=590)
    assert server.resumed[0].view().state is JobState.RUNNING
    server.turn(seconds=11)
    error = end_of(server, server.resumed[0])
    assert isinstance(error, JobFailed)
    assert f"waited 600 s for its input {file} (No such file" in str(error)
    assert list(tmp_path.glob(".out*")) == []
    assert server.crash().resumed == []


def test_an_input_that_has_changed_is_not_waited_for(tmp_path: Path) -> None:
    server, _, file = with_an_input(tmp_path)
    file.unlink()
    server = server.crash()
    file.write_text("abcd")
    turn_until(server, lambda: server.resumed[0].outcome is not None)
    assert "has changed since it began" in str(end_of(server, server.resumed[0]))
    assert list(tmp_path.glob(".out*")) == []


def test_a_job_that_waits_for_files_can_be_cancelled(tmp_path: Path) -> None:
    server, _, file = with_an_input(tmp_path)
    file.rename(tmp_path / "unmounted")
    server = server.crash()
    server.turn()
    server.resumed[0].cancel()
    assert isinstance(end_of(server, server.resumed[0]), JobCancelled)
    assert list(tmp_path.glob(".out*")) == []
    (tmp_path / "unmounted").rename(file)
    assert server.crash().resumed == []


@pytest.mark.parametrize("deaths", [1, 3])
def test_a_wish_to_cancel_outlives_the_coordinator(tmp_path: Path, deaths: int) -> None:
    server = Server(tmp_path)
    job = submit(server)
    job.cancel()  # answered, and nothing came of it yet
    for _ in range(deaths):
        server = server.crash()
    [resumed] = server.resumed
    assert isinstance(end_of(server, resumed), JobCancelled)
    assert server.fleet.jobs == []
    assert list(tmp_path.glob(".out*")) == []
    server = server.crash()
    known = server.coordinator.find(job.job)
    assert isinstance(known, EndedJob)
    assert known.view().state is JobState.CANCELLED


def publish_and_die(server: Server, job: RunningJob) -> None:
    """The output is put in place, and the coordinator dies before it could note that."""
    output = job._job.prepared.output
    commit = output.commit

    def die(*arguments: Any) -> None:
        commit(*arguments)
        raise KeyboardInterrupt

    output.commit = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        server.reduce(job, 1)


@pytest.mark.parametrize("deaths", [1, 2])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_later_result_is_left_alone(tmp_path: Path, overwrite: bool, deaths: int) -> None:
    server = Server(tmp_path)
    job = submit(server, overwrite=overwrite)
    publish_and_die(server, job)
    (tmp_path / "out").rename(tmp_path / "published")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "later").touch()
    for _ in range(deaths):
        server = server.crash()
    error = end_of(server, server.resumed[0])
    assert isinstance(error, JobFailed)
    assert "something else was put there" in str(error)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["later"]
    assert server.fleet.launched == {}


def test_a_cancelled_job_whose_output_is_in_place_has_succeeded(tmp_path: Path) -> None:
    server = Server(tmp_path)
    job = submit(server)
    publish_and_die(server, job)
    server.coordinator._intake.cancel(job._job)
    server = server.crash()
    assert end_of(server, server.resumed[0]) is None
    assert server.parts_of() == ["part-r-00000", "part-r-00001"]


def test_a_job_whose_place_was_taken_while_it_ran(tmp_path: Path) -> None:
    """Whoever puts a result there clears away what others have staged for that place."""
    server = Server(tmp_path)
    submit(server, overwrite=True)
    [staging] = tmp_path.glob(".out*")
    staging.rename(tmp_path / "cleared")
    (tmp_path / "out").mkdir()
    server = server.crash()
    assert "another job's result is put there" in str(end_of(server, server.resumed[0]))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_key_is_one_request_also_after_a_restart(tmp_path: Path) -> None:
    server = Server(tmp_path)
    begin = server.coordinator.submit
    server.coordinator.submit = lambda prepared, **more: begin(prepared, **more, request="this")  # type: ignore[method-assign]
    job = server.submit(key="k")
    for _ in range(2):
        known = server.coordinator.find_by_key("k", "this")
        assert known is not None
        assert known.job == job.job
        with pytest.raises(KeyTaken, match=job.job):
            server.coordinator.find_by_key("k", "that")
        server = server.crash()
