"""A coordinator that is gone, and the next one: what is taken up, what runs again, and what clients are told."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from coordinator_kit import USER_ERROR, HandPlayedFleet, NotedOutput, Server, begun, ended

from gristmill.errors import FailureReport, JobFailed, JournalFailed, PathNotShared, ServerUnreachable
from gristmill.plan.build import StepShape, build_plan
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    JobRejected,
    JobSpec,
    SlotUp,
    TaskResult,
    WorkerDown,
    WorkerUp,
)
from gristmill.runtime.coordinator.coordinator import Coordinator
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.coordinator.registry import EndedJob, RunningJob
from gristmill.runtime.journal.journal import Journal
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.events import AttemptId
from gristmill.storage.contracts import Split


def test_a_finished_job_goes_through_the_journal(tmp_path: Path) -> None:
    server, job = begun(tmp_path)
    for act in (server.map, server.reduce):
        act(job, 0)
        act(job, 1)
    outcome = ended(job)
    assert outcome.error is None
    assert server.parts_of() == ["part-r-00000", "part-r-00001"]
    assert sorted(server.fleet.freed) == [f"/w#1/{AttemptId(job.job, 0, index, 1)}" for index in range(2)]
    assert not (tmp_path / "jobs" / job.job).exists()

    again = server.crash()
    assert again.resumed == []
    known = again.coordinator.find(job.job)
    assert isinstance(known, EndedJob)
    assert known.wait() == known.outcome == outcome
    assert known.view() == outcome.view
    assert (known.name, known.output, known.format) == ("Job", str(tmp_path / "out"), "text")
    assert known.submitted > 1e9
    assert [job.job for job in again.coordinator.jobs()] == [job.job]
    assert again.coordinator.find("other") is None


def test_a_job_goes_on_where_it_stood(tmp_path: Path) -> None:
    server, job = begun(tmp_path)
    server.up("w#2")
    server.map(job, 0, "w#1")
    server.map(job, 1, "w#2")
    server.reduce(job, 1)

    server = server.crash()
    [resumed] = server.resumed
    assert resumed.job == job.job
    assert resumed.submitted == job.submitted
    assert server.fleet.jobs == []
    server.turn()
    assert server.fleet.jobs == [job.job]
    server.up("w#3", {job.job: (f"/w#1/{AttemptId(job.job, 0, 0, 1)}", "/w#1/of-nobody")})
    assert server.fleet.launched == {}, "the other worker is waited for"
    assert "Waiting for the workers" in server.note(resumed)
    server.up("w#4", {job.job: (f"/w#2/{AttemptId(job.job, 0, 1, 1)}",)})
    [spec] = server.fleet.launched.values()
    assert spec.attempt == AttemptId(job.job, 1, 0, 1)
    assert [(block.path, block.worker) for block in spec.blocks] == [
        (f"/w#1/{AttemptId(job.job, 0, 0, 1)}", "w#3"),
        (f"/w#2/{AttemptId(job.job, 0, 1, 1)}", "w#4"),
    ]
    assert server.note(resumed) == ""
    assert resumed.view().records_in == 10
    server.reduce(resumed, 0, epoch=1)
    outcome = ended(resumed)
    assert outcome.error is None
    assert server.parts_of() == ["part-r-00000", "part-r-00001"]
    assert (outcome.view.records_in, outcome.view.records_out, outcome.view.attempts) == (10, 2, 4)


def test_the_epoch_counts_up_and_names_the_files(tmp_path: Path) -> None:
    server = Server(tmp_path)
    job = server.submit()
    for epoch in (1, 2):
        server = server.crash()
        spec = server.resumed[0]._job.prepared.spec
        assert spec.epoch == epoch
        assert spec.file_name(AttemptId(job.job, 0, 0, 1)).endswith(f"-a1-e{epoch}")
        assert (spec.code, spec.import_paths, spec.ticket) == (b"code", ("/p",), "t")


def test_blocks_that_nobody_keeps_are_made_again_after_a_while(tmp_path: Path) -> None:
    server, _ = begun(tmp_path, maps=2)
    server = server.crash()
    server.up("w#2")
    server.turn(seconds=9)
    assert server.fleet.launched == {}
    server.turn(seconds=2)
    assert server.is_launched(server.resumed[0], 0, 0, 2)
    assert server.is_launched(server.resumed[0], 0, 1, 2)


def test_a_worker_that_is_lost_again_while_it_is_waited_for(tmp_path: Path) -> None:
    server, job = begun(tmp_path, maps=2)
    server = server.crash()
    server.up("w#2", {job.job: (f"/w#1/{AttemptId(job.job, 0, 0, 1)}",)})
    server.turn(WorkerDown("w#2"))
    server.up("w#3", {job.job: (f"/w#1/{AttemptId(job.job, 0, 1, 1)}",)})
    server.turn(seconds=11)
    assert server.is_launched(server.resumed[0], 0, 0, 2)
    assert not server.is_launched(server.resumed[0], 0, 1, 2)


def test_blocks_are_not_waited_for_if_nothing_reads_them(tmp_path: Path) -> None:
    server, job = begun(tmp_path, maps=2)
    server.reduce(job, 0)
    # The last task finishes, and the coordinator dies before it could note how the job ended.
    [commit] = [job._job.prepared.output]
    commit.commit = lambda parts, summary: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        server.reduce(job, 1)
    server = server.crash()
    server.turn()
    outcome = ended(server.resumed[0])
    assert outcome.error is None
    assert server.fleet.launched == {}
    assert server.parts_of() == ["part-r-00000", "part-r-00001"]


def test_other_data_at_the_second_time_makes_its_readers_run_again(tmp_path: Path) -> None:
    server, job = begun(tmp_path, maps=2)
    server.reduce(job, 1)
    lost = FailureReport("BlockMissing", "gone", details={"block": f"/w#1/{AttemptId(job.job, 0, 0, 1)}"})
    server.turn(AttemptFailed(AttemptId(job.job, 1, 0, 1), lost))
    server.map(job, 0, number=2, crc=6)
    kept = tuple(f"/w#1/{AttemptId(job.job, 0, index, 2 - index)}" for index in range(2))
    server = server.crash()
    server.up("w#2", {job.job: kept})
    launched = sorted((attempt.stage, attempt.index) for attempt in server.fleet.launched)
    assert launched == [(1, 0), (1, 1)], "no reducer may keep what it made of the old data"


def test_a_key_is_one_job(tmp_path: Path) -> None:
    server = Server(tmp_path)
    job = server.submit(key="k")
    assert server.submit(key="k", name="other").job == job.job
    assert server.submit(name="third").job != job.job
    known = server.coordinator.find_by_key("k")
    assert known is not None
    assert known.job == job.job
    server = server.crash()
    known = server.coordinator.find_by_key("k")
    assert known is not None
    assert known.job == job.job
    assert server.coordinator.find_by_key("l") is None


def test_a_key_of_a_job_that_has_ended(tmp_path: Path) -> None:
    server = Server(tmp_path)
    job = server.submit(key="k")
    job.cancel()
    server.turn()
    server = server.crash()
    assert server.resumed == []
    known = server.coordinator.find_by_key("k")
    assert isinstance(known, EndedJob)
    assert known.view().state is JobState.CANCELLED
    assert server.submit(key="k").job == job.job


def test_a_failure_is_remembered(tmp_path: Path) -> None:
    server, job = begun(tmp_path)
    for number in (1, 2):
        server.turn(AttemptFailed(AttemptId(job.job, 0, 0, number), USER_ERROR))
        server.turn(seconds=5)
    folder = tmp_path / "jobs" / job.job
    assert json.loads((folder / "job.json").read_text())["state"] == "failed"
    server = server.crash()
    assert server.resumed == []
    known = server.coordinator.find(job.job)
    assert known is not None
    outcome = ended(known)
    error = outcome.error
    assert isinstance(error, JobFailed)
    assert error.report is not None
    assert error.report.frames == USER_ERROR.frames
    assert [path.name for path in tmp_path.glob(".out*")] == []


def test_jobs_that_run_are_left_for_the_next_when_a_server_ends(tmp_path: Path) -> None:
    server, job = begun(tmp_path, maps=1)
    server.coordinator.close()
    with pytest.raises(ServerUnreachable, match="go on when it is started again"):
        job.wait(0)
    assert len(list(tmp_path.glob(".out*"))) == 1
    server = server.crash()
    assert [job.job for job in server.resumed] == [job.job]
    server.up("w#2", {job.job: (f"/w#1/{AttemptId(job.job, 0, 0, 1)}",)})
    assert sorted(server.fleet.launched) == [AttemptId(job.job, 0, 1, 1)]


def test_a_server_that_is_opened_again_in_its_own_process_goes_on(tmp_path: Path) -> None:
    """Nobody takes the locks away meanwhile, as the system does when a process ends."""
    server, job = begun(tmp_path, maps=1)
    server.coordinator.close()
    again = Server(tmp_path)
    [resumed] = again.resumed
    assert (resumed.job, resumed.held.awaited) == (job.job, "")
    again.up("w#2", {job.job: (f"/w#1/{AttemptId(job.job, 0, 0, 1)}",)})
    assert sorted(again.fleet.launched) == [AttemptId(job.job, 0, 1, 1)]


def test_a_journal_that_breaks_ends_the_coordinator_and_its_jobs_go_on_later(tmp_path: Path) -> None:
    server, job = begun(tmp_path, maps=1)
    server.journal.durable(job._job.noted, timeout=60)
    path = tmp_path / "journal.db"
    path.rename(tmp_path / "saved.db")  # with all that belongs to it, as when a disk goes away
    for rest in tmp_path.glob("journal.db-*"):
        rest.rename(tmp_path / rest.name.replace("journal", "saved"))
    path.mkdir()
    server.journal._fail(JournalFailed("The journal cannot be written."))
    lengths = []
    for _ in range(3):
        with pytest.raises(JournalFailed, match="cannot be written") as told:
            job.wait(1)
        assert told.value.__cause__ is server.coordinator.crash
        lengths.append(len(told.traceback))
    assert len(set(lengths)) == 1, "each is told by an exception of its own"
    assert isinstance(server.coordinator.crash, JournalFailed)
    with pytest.raises(JournalFailed):
        server.submit(name="another")
    path.rmdir()
    for rest in tmp_path.glob("saved.db*"):
        rest.rename(tmp_path / rest.name.replace("saved", "journal"))
    server = server.crash()
    assert [job.job for job in server.resumed] == [job.job]


def test_a_job_that_is_refused(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.fleet.add_job = lambda job: server.fleet.post(  # type: ignore[method-assign]
        JobRejected(job.job, FailureReport("PathNotShared", "Worker w does not see /in."))
    )
    server.fleet.drop_job = lambda job: None  # type: ignore[method-assign]
    job = server.submit()
    outcome = ended(job)
    assert isinstance(outcome.error, PathNotShared)
    assert "does not see /in" in str(outcome.error)
    assert outcome.view.state is JobState.FAILED
    assert list(tmp_path.glob(".out*")) == []


def test_a_job_that_waits_says_for_what(tmp_path: Path) -> None:
    server = Server(tmp_path)
    job = server.submit()
    assert server.note(job) == "Waiting: no worker is connected yet."
    server.up("w#1")
    assert server.note(job) == ""


def change(place: Path, old: bytes, new: bytes) -> None:
    """Change what the journal says of how a job was accepted."""
    with sqlite3.connect(place / "journal.db") as connection:
        [data] = connection.execute("SELECT data FROM facts WHERE kind = 'job accepted'").fetchone()
        assert old.decode() in data
        connection.execute(
            "UPDATE facts SET data = ? WHERE kind = 'job accepted'", (data.replace(old.decode(), new.decode()),)
        )
    connection.close()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"ingredients":{}', b'"ingredients":{"version Gristmill":"9.9"}', "begun with Gristmill 9.9"),
        (b'"ShuffleSink"', b'"TeleportSink"', "does not hold all of job"),
    ],
    ids=["other version", "nonsense"],
)
def test_a_job_that_cannot_go_on_here_fails_alone(tmp_path: Path, old: bytes, new: bytes, words: str) -> None:
    server = Server(tmp_path)
    job = server.submit()
    server.journal.durable(job._job.noted, timeout=60)
    change(tmp_path, old, new)
    other = server.submit(name="other")
    server = server.crash()
    server.turn()
    server.turn()
    known = server.coordinator.find(job.job)
    assert known is not None
    outcome = ended(known)
    assert words in str(outcome.error)
    going = server.coordinator.find(other.job)
    assert isinstance(going, RunningJob)
    assert going.outcome is None


def test_a_job_of_this_machine_goes_on_without_its_journal(tmp_path: Path) -> None:
    fleet = HandPlayedFleet()
    coordinator = Coordinator(fleet, threaded=False)
    coordinator.start()
    (tmp_path / "journal.db").mkdir()
    (tmp_path / "attempts").mkdir()
    spec = JobSpec("j1", b"", (), str(tmp_path), str(tmp_path), 1, 0, 1, None)
    plan = build_plan([StepShape(reduces=False)], reducers=1, output_format="text")
    output = NotedOutput()
    prepared = PreparedJob(spec, "Job", plan, (((Split("in", 0, 50, 50, "text"),),),), output, "out")
    journal = Journal(tmp_path / "journal.db", essential=False, patience_seconds=0.0)
    running = coordinator.submit(prepared, journal=journal)
    for event in (WorkerUp("w"), SlotUp("s", "w")):
        fleet.post(event)
    running.wait(0.2)
    assert "The job goes on, but could not be taken up with --resume" in running.view().note
    fleet.post(AttemptDone(AttemptId("j1", 0, 0, 1), TaskResult()))
    outcome = running.wait(60)
    assert outcome is not None
    assert outcome.error is None
    assert output.parts == []


def test_an_output_that_somebody_else_made_meanwhile_fails_the_resumed_job(tmp_path: Path) -> None:
    server = Server(tmp_path)
    job = server.submit()
    (tmp_path / "out").mkdir()  # and a folder beside it, of the job, is still there
    server = server.crash()
    [resumed] = server.resumed
    server.turn()
    assert resumed.job == job.job
    assert (tmp_path / "out").is_dir()
    outcome = ended(resumed)
    assert "exists already" in str(outcome.error)
