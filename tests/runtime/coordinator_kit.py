"""A coordinator for tests, over a fleet that the test plays by hand; and one with a journal, that may crash."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gristmill.errors import FailureReport, Frame
from gristmill.plan.build import StepShape, build_plan
from gristmill.runtime.contracts import AttemptDone, JobAdmitted, JobSpec, Post, SlotUp, TaskResult, TaskSpec, WorkerUp
from gristmill.runtime.coordinator.coordinator import Coordinator
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.coordinator.registry import EndedJob, KnownJob, RunningJob
from gristmill.runtime.files.jobfolder import JobFolder
from gristmill.runtime.journal.journal import Journal
from gristmill.runtime.outcome import Outcome
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.storage import staging
from gristmill.storage.commit import OutputCommit
from gristmill.storage.contracts import PartFile, Split

USER_ERROR = FailureReport(
    error="UserCodeError",
    message="division by zero",
    exception="ZeroDivisionError",
    frames=(Frame("/home/me/job.py", 7, "mapper", "1 / 0"),),
    record="'x'",
    source="in.txt",
    offset=12,
)


class HandPlayedFleet:
    """A fleet that notes what is asked of it. The test answers."""

    def __init__(self) -> None:
        self.launched: dict[AttemptId, TaskSpec] = {}
        self.slots: dict[AttemptId, str] = {}
        self.cancelled: list[AttemptId] = []
        self.freed: list[str] = []
        self.jobs: list[str] = []
        self.dropped: list[str] = []
        self.kept: list[str] = []
        self.drained: list[str] = []
        self.closed = 0

    def start(self, post: Post) -> None:
        self.post = post

    def add_job(self, job: JobSpec) -> None:
        self.jobs.append(job.job)
        self.post(JobAdmitted(job.job))

    def launch(self, slot: str, spec: TaskSpec) -> None:
        self.launched[spec.attempt] = spec
        self.slots[spec.attempt] = slot

    def cancel(self, attempt: AttemptId, recalled: bool = False) -> None:
        self.cancelled.append(attempt)

    def free(self, block: BlockInfo) -> None:
        self.freed.append(block.path)

    def drop_job(self, job: str) -> None:
        self.jobs = [other for other in self.jobs if other != job]

    def keep_job(self, job: str) -> None:
        self.jobs = [other for other in self.jobs if other != job]
        self.kept.append(job)

    def drop_worker(self, worker: str) -> None:
        self.dropped.append(worker)

    def drain_worker(self, worker: str) -> None:
        self.drained.append(worker)

    def close(self) -> None:
        self.closed += 1


class NotedOutput:
    """An output that notes what becomes of it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.parts: list[str] | None = None
        self.summary: dict[str, Any] = {}
        self.aborted = False
        self.error = error

    def commit(self, parts: Sequence[PartFile], summary: Mapping[str, Any]) -> None:
        if self.error:
            raise self.error
        self.parts, self.summary = [part.final for part in parts], dict(summary)

    def abort(self, keep: Path | None = None) -> None:
        self.aborted = True


_opened: list[Journal] = []


def close_journals() -> None:
    """Close the journals of all servers that a test has made. One that is open writes when it likes."""
    while _opened:
        _opened.pop().close()


class Server:
    """A coordinator with a journal, over a fleet that the test plays. Without threads, on a clock that stands."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.now = 100.0
        self.fleet = HandPlayedFleet()
        self.journal = Journal(place / "journal.db", patience_seconds=0.1)
        _opened.append(self.journal)
        self.coordinator = Coordinator(
            self.fleet, threaded=False, clock=lambda: self.now, journal=self.journal, rejoin_seconds=10.0
        )
        self.resumed = self.coordinator.resume_all()
        self.coordinator.start()
        self.jobs: list[RunningJob] = list(self.resumed)

    def submit(self, key: str = "", name: str = "out") -> RunningJob:
        folder = JobFolder.create(self.place, {}, time.time())
        commit = OutputCommit.prepare(self.place / name, folder.job, False, needed_by=folder.path)
        spec = JobSpec(folder.job, b"code", ("/p",), str(commit.staging), str(folder.path), 1, 0, 1, None, ticket="t")
        prepared = PreparedJob(
            spec=spec,
            name="Job",
            plan=build_plan([StepShape(reduces=True)], reducers=2, output_format="text"),
            splits=(tuple((Split(f"in{index}", 0, 50, 50, "text"),) for index in range(2)),),
            output=commit,
            output_path=str(commit.output),
            max_attempts=2,
            place=str(commit.output),
        )
        running = self.coordinator.submit(prepared, key=key, folder=folder)
        if running.job != folder.job:
            commit.abort()
            folder.remove()
        assert isinstance(running, (RunningJob, EndedJob))
        if isinstance(running, RunningJob) and running not in self.jobs:
            self.jobs.append(running)
        self.turn()
        return running  # type: ignore[return-value]

    def turn(self, *events: Any, seconds: float = 0.0) -> None:
        for event in events:
            self.fleet.post(event)
        self.now += seconds
        for _ in range(12):
            self.now += 0.001
            self.jobs[0].wait(0) if self.jobs else None

    def up(self, worker: str, kept: dict[str, tuple[str, ...]] | None = None) -> None:
        self.turn(WorkerUp(worker, kept=kept or {}), SlotUp(f"{worker}-1", worker), SlotUp(f"{worker}-2", worker))

    def map(self, job: RunningJob, index: int, worker: str = "w#1", number: int = 1, crc: int = 5) -> None:
        attempt = AttemptId(job.job, 0, index, number)
        segments = (SegmentInfo(0, 10, 1, crc), SegmentInfo(10, 20, 2, crc))
        name = self.fleet.launched[attempt].attempt
        block = BlockInfo(f"/{worker}/{name}", segments, worker)
        self.turn(AttemptDone(attempt, TaskResult(records_in=5, bytes_in=50, block=block, seconds=1.0)))

    def reduce(self, job: RunningJob, index: int, number: int = 1, epoch: int = 0) -> None:
        [staging] = self.place.glob(f".*gristmill-{job.job}")
        part = PartFile(f"attempts/{index}-{number}-{epoch}", f"part-r-{index:05d}", 1, 6)
        (staging / part.staged).write_text(f"done {index}\n"[:6])
        attempt = AttemptId(job.job, 1, index, number)
        self.turn(AttemptDone(attempt, TaskResult(records_out=1, parts=(part,), seconds=1.0)))

    def is_launched(self, job: RunningJob, stage: int, index: int, number: int = 1) -> bool:
        return AttemptId(job.job, stage, index, number) in self.fleet.launched

    def crash(self) -> Server:
        """As kill -9: nothing is tidied up, and the system takes the locks away. Then another one starts there."""
        for running in self.jobs:
            job = running._job
            self.journal.durable(job.noted, timeout=60)
            if job.folder is not None and job.outcome is None:
                job.folder.update(pid_started=0)
                job.folder.release()
            if isinstance(job.prepared.output, OutputCommit):
                staging._unlock(job.prepared.output._folder._lock)
        self.journal.close()
        return Server(self.place)

    def parts_of(self, name: str = "out") -> list[str]:
        return sorted(path.name for path in (self.place / name).glob("part-*"))

    def note(self, job: RunningJob) -> str:
        """What is said of a job, a moment later."""
        self.turn(seconds=0.2)
        return job.view().note


def begun(place: Path, maps: int = 0) -> tuple[Server, RunningJob]:
    """A server whose one worker has done so many of the two map tasks of its one job."""
    server = Server(place)
    job = server.submit()
    server.up("w#1")
    for index in range(maps):
        server.map(job, index)
    return server, job


def ended(job: KnownJob) -> Outcome:
    """How a job that is over has ended."""
    outcome = job.wait(0)
    assert outcome is not None
    return outcome
