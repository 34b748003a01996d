"""Jobs that are tried again: only what is not done runs."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from queue_kit import QueueServer, outcome_of, wait_until

from gristmill.errors import JobCancelled, JobNotFound, RetryRefused
from gristmill.runtime.contracts import WorkerDown
from gristmill.runtime.coordinator.leftovers import Leftovers


def failed(place: Path) -> tuple[QueueServer, str]:
    """A server and a job whose map tasks are done, and whose reduce task has failed."""
    server = QueueServer(place)
    server.fleet.fails = {1}
    job = server.start().submit("out", user="ada").job
    assert outcome_of(server.coordinator.find(job)).error is not None  # type: ignore[arg-type]
    wait_until(lambda: server.ended)
    assert server.fleet.kept == [job], "workers keep its blocks"
    server.fleet.fails.clear()
    server.fleet.ran.clear()
    return server, job


def test_what_is_done_is_not_run_again(tmp_path: Path) -> None:
    server, job = failed(tmp_path)
    again = server.coordinator.retry(job)
    assert (again.job, again.user, again.name) == (job, "ada", "out")
    assert outcome_of(again).error is None
    assert server.fleet.ran == ["s1-t00000-a1-e1"]
    assert (tmp_path / "out" / "part-r-00000").read_text() == "done\n"
    wait_until(lambda: len(server.ended) == 2)
    assert server.ended[-1] == (job, "succeeded", "ada")
    with pytest.raises(RetryRefused, match="has succeeded"):
        server.coordinator.retry(job)
    server.close()


def test_blocks_that_are_lost_are_made_again(tmp_path: Path) -> None:
    server, job = failed(tmp_path)
    server.fleet.post(WorkerDown("w#1"))
    from gristmill.runtime.contracts import SlotUp, WorkerUp

    again = server.coordinator.retry(job)
    server.fleet.post(WorkerUp("w#2"))
    server.fleet.post(SlotUp("w#2-1", "w#2"))
    assert outcome_of(again).error is None
    assert sorted(server.fleet.ran) == ["s0-t00000-a2-e1", "s0-t00001-a2-e1", "s1-t00000-a1-e1"]
    server.close()


def test_another_try_may_fail_and_be_tried_again(tmp_path: Path) -> None:
    server, job = failed(tmp_path)
    server.fleet.fails = {1}
    assert outcome_of(server.coordinator.retry(job)).error is not None
    server.fleet.fails.clear()
    assert outcome_of(server.coordinator.retry(job)).error is None
    assert server.fleet.ran == ["s1-t00000-a1-e1", "s1-t00000-a1-e2"]
    server.close()


def test_a_cancelled_job_is_tried_again(tmp_path: Path) -> None:
    server = QueueServer(tmp_path).start(1)
    job = server.submit("out")
    wait_until(lambda: any(attempt.stage == 1 for attempt in server.fleet.launched))
    [reducing] = [attempt for attempt in server.fleet.launched if attempt.stage == 1]
    job.cancel()
    wait_until(lambda: reducing in server.fleet.cancelled)
    server.fleet.finish(reducing)  # too late
    assert isinstance(outcome_of(job).error, JobCancelled)
    server.fleet.ran.clear()
    again = server.coordinator.retry(job.job)
    wait_until(lambda: server.fleet.ran == ["s1-t00000-a1-e1"])
    server.fleet.finish(reducing)
    assert outcome_of(again).error is None
    server.close()


def test_it_waits_for_its_turn_and_survives_a_restart(tmp_path: Path) -> None:
    server, job = failed(tmp_path)
    server.fleet.held = {0, 1}
    other = server.submit("other")
    again = server.coordinator.retry(job)
    assert server.states(other, again) == ["running", "queued"]
    with pytest.raises(RetryRefused, match="is not over"):
        server.coordinator.retry(job)
    server = server.crash()
    server.start()
    assert [running.job for running in server.resumed] == [other.job]
    assert job in server.coordinator.kept_jobs
    assert outcome_of(server.coordinator.find(job)).error is None  # type: ignore[arg-type]
    mine = [name for name in server.fleet.ran if "-e1" in name and name.startswith("s1")]
    assert mine == ["s1-t00000-a1-e1"] * 2, "of the other job, and of this one"
    server.close()


def test_a_job_that_failed_before_a_restart_is_tried_again_after_it(tmp_path: Path) -> None:
    server, job = failed(tmp_path)
    server = server.crash().start()
    assert server.coordinator.kept_jobs == (job,)
    assert outcome_of(server.coordinator.retry(job)).error is None
    server.close()


def test_its_parts_are_kept_too(tmp_path: Path) -> None:
    """What was written of the output counts; it lies in the job's folder meanwhile."""
    server = QueueServer(tmp_path).start()
    taken = tmp_path / "out"
    server.fleet.held = {1}
    job = server.submit("out")
    wait_until(lambda: any(attempt.stage == 1 for attempt in server.fleet.launched))
    taken.mkdir()  # somebody makes the output meanwhile
    server.fleet.release()
    assert "exists" in str(outcome_of(job).error) or "somebody" in str(outcome_of(job).error)
    assert not list(tmp_path.glob(".out*"))
    taken.rmdir()
    server.fleet.ran.clear()
    assert outcome_of(server.coordinator.retry(job.job)).error is None
    assert server.fleet.ran == []
    assert (taken / "part-r-00000").read_text() == "done\n"
    server.close()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no other disk")
def test_parts_that_cannot_be_moved_stay_beside_the_output(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        server = QueueServer(tmp_path)
        server.outputs = Path(other)
        if server.outputs.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("it is the same disk")
        server.start(1)
        job = server.submit("out", deadline_seconds=100.0)
        wait_until(lambda: any(attempt.stage == 1 for attempt in server.fleet.launched))
        taken = Path(other, "out")
        taken.mkdir()
        server.fleet.release()
        assert outcome_of(job).error is not None
        assert len(list(Path(other).glob(".out*"))) == 1
        server = server.crash().start()
        taken.rmdir()
        assert outcome_of(server.coordinator.retry(job.job)).error is None
        assert server.fleet.ran == []
        assert [path.name for path in Path(other).iterdir()] == ["out"]
        server.close()


def test_what_cannot_be_tried_again_is_said(tmp_path: Path) -> None:
    server, job = failed(tmp_path)
    with pytest.raises(JobNotFound):
        server.coordinator.retry("20260101-000000-0000")
    server.fleet.held = {0}
    running = server.submit("other")
    with pytest.raises(RetryRefused, match="is not over"):
        server.coordinator.retry(running.job)
    with sqlite3.connect(server.journal.path) as connection:
        connection.execute("DELETE FROM blobs WHERE job = ?", (job,))
    with pytest.raises(RetryRefused, match="not kept any more"):
        server.coordinator.retry(job)
    server.close()


def test_jobs_of_sessions_are_not_kept(tmp_path: Path) -> None:
    server = QueueServer(tmp_path)
    server.fleet.fails = {0}
    job = server.start().submit("out", session="s")
    assert outcome_of(job).error is not None
    assert server.fleet.kept == []
    with pytest.raises(RetryRefused, match="session"):
        server.coordinator.retry(job.job)
    server.close()


def test_a_script_that_failed_is_run_again_when_somebody_says_so(tmp_path: Path) -> None:
    """It is not kept from another try by what keeps it from running twice after a crash."""
    server = QueueServer(tmp_path)
    server.fleet.fails = {1}
    job = server.start().submit("out", driver=True)
    assert outcome_of(job).error is not None
    assert server.fleet.kept == []
    begun: list[str] = []
    server.hooks.on_begun = lambda running: begun.append(running.job)
    server.fleet.fails.clear()
    assert outcome_of(server.coordinator.retry(job.job)).error is None
    assert begun == [job.job]
    server.close()


def test_its_folder_may_be_pruned(tmp_path: Path) -> None:
    server, job = failed(tmp_path)
    shutil.rmtree(tmp_path / "jobs" / job)
    assert outcome_of(server.coordinator.retry(job)).error is None
    server.close()


def test_what_is_forgotten_is_dropped_by_workers(tmp_path: Path) -> None:
    server, job = failed(tmp_path)
    dropped: list[str] = []
    server.fleet.drop_job = dropped.append  # type: ignore[method-assign]
    server.coordinator.forget_jobs([job, "other"])
    wait_until(lambda: dropped == [job])
    server.close()


def test_leftovers_are_kept_within_limits() -> None:
    left = Leftovers(jobs=2, seconds=100, total_bytes=50)
    for number, job in enumerate("abc"):
        left.add(job, float(number), 10)
    assert left.too_many(3.0) == ["a"]
    left.add("b", 4.0, 45)
    assert left.too_many(4.0) == ["c"]
    assert left.too_many(104.0) == []
    assert left.too_many(105.0) == ["b"]
    assert list(left) == []
    assert not left.remove("b")
