"""A server's coordinator with a queue, over a fleet that does what it is told at once, unless it is to hold a job."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from coordinator_kit import USER_ERROR, HandPlayedFleet

from gristmill.errors import FailureReport
from gristmill.plan.build import StepShape, build_plan
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    JobSpec,
    Post,
    SlotUp,
    TaskResult,
    TaskSpec,
    WorkerUp,
)
from gristmill.runtime.coordinator.coordinator import Coordinator
from gristmill.runtime.coordinator.hooks import Hooks
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.coordinator.registry import EndedJob, KnownJob, RunningJob
from gristmill.runtime.files.jobfolder import JobFolder
from gristmill.runtime.journal.journal import Journal
from gristmill.runtime.outcome import Outcome
from gristmill.scheduling.events import AttemptId
from gristmill.scheduling.queueing import QueueLimits
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.storage import staging
from gristmill.storage.commit import OutputCommit
from gristmill.storage.contracts import PartFile, Split

PATIENCE = 60.0
KEY = b"k" * 32
MAPS = 2


class WillingFleet(HandPlayedFleet):
    """One worker with two slots. What it is given it does at once; but not tasks of stages that are held."""

    def __init__(self) -> None:
        super().__init__()
        self.specs: dict[str, JobSpec] = {}
        self.held: set[int] = set()  # stages
        self.fails: set[int] = set()
        self.ran: list[str] = []  # the names of attempts that were launched, with their epochs

    def start(self, post: Post) -> None:
        super().start(post)
        post(WorkerUp("w#1"))
        for slot in ("w#1-1", "w#1-2"):
            post(SlotUp(slot, "w#1"))

    def add_job(self, job: JobSpec) -> None:
        self.specs[job.job] = job
        super().add_job(job)

    def launch(self, slot: str, spec: TaskSpec) -> None:
        super().launch(slot, spec)
        self.ran.append(self.specs[spec.attempt.job].file_name(spec.attempt).removeprefix(f"{spec.attempt.job}-"))
        if spec.attempt.stage not in self.held:
            self.finish(spec.attempt)

    def finish(self, attempt: AttemptId) -> None:
        """Answer for an attempt."""
        job = self.specs[attempt.job]
        if attempt.stage in self.fails:
            self.post(AttemptFailed(attempt, USER_ERROR, slot_leaves=False))
        elif attempt.stage == 0:
            block = BlockInfo(f"/w#1/{job.file_name(attempt)}", (SegmentInfo(0, 10, 1, 5),), "w#1")
            self.post(AttemptDone(attempt, TaskResult(records_in=5, bytes_in=50, block=block, seconds=0.1)))
        else:
            part = PartFile(f"attempts/{job.file_name(attempt)}", f"part-r-{attempt.index:05d}", 1, 5)
            Path(job.staging, part.staged).write_text("done\n")
            self.post(AttemptDone(attempt, TaskResult(records_out=1, parts=(part,), seconds=0.1)))

    def release(self, job: str | None = None) -> None:
        """Hold nothing any more, and do what was held."""
        self.held.clear()
        for attempt in [one for one in self.launched if job in (None, one.job)]:
            self.finish(attempt)


class QueueServer:
    """A coordinator with a journal and a queue, its loop in a thread of its own."""

    def __init__(
        self, place: Path, jobs: int = 1, *, key: bytes = KEY, hooks: Hooks | None = None, **limits: Any
    ) -> None:
        self.place = place
        self.outputs = place  # where outputs appear
        self.fleet = WillingFleet()
        self.journal = Journal(place / "journal.db", patience_seconds=0.5)
        self.ended: list[tuple[str, str, str]] = []  # job, state, user
        self.late: list[str] = []
        self.hooks = hooks or Hooks()
        self.hooks.on_ended = self._note_end
        self.hooks.on_late = self.late.append
        self.coordinator = Coordinator(
            self.fleet,
            journal=self.journal,
            rejoin_seconds=0.2,
            signing_key=key,
            limits=QueueLimits(jobs, **limits),
            hooks=self.hooks,
        )

    def _note_end(self, job: str, outcome: Outcome, known: EndedJob) -> None:
        self.ended.append((job, outcome.view.state.value, known.user))

    def start(self, *held: int) -> QueueServer:
        """Take up what there is, and begin."""
        self.fleet.held = set(held)
        self.resumed = self.coordinator.resume_all()
        self.coordinator.start()
        return self

    def prepared(
        self, name: str = "out", *, mode: str = "error", job: str = "", **more: Any
    ) -> tuple[PreparedJob, JobFolder]:
        """A job, as the service prepares it."""
        folder = JobFolder.create(self.place, {"name": name}, time.time(), job)
        overwrite = mode == "overwrite"
        commit = OutputCommit.prepare(self.outputs / name, folder.job, overwrite, needed_by=folder.path)
        spec = {"session": more.pop("session", ""), "driver": more.pop("driver", False)}
        prepared = PreparedJob(
            spec=JobSpec(
                folder.job,
                more.pop("code", b"code"),
                (),
                commit.staged_at,
                str(folder.path),
                1,
                0,
                1,
                None,
                ticket="t",
                **spec,
            ),
            name=more.pop("called", name),
            plan=build_plan([StepShape(reduces=True)], reducers=1, output_format="text"),
            splits=(tuple((Split(f"in{index}", 0, 50, 50, "text"),) for index in range(MAPS)),),
            output=commit,
            output_path=str(commit.output),
            max_attempts=1,
            place=str(commit.output),
            mode=mode,
            origins=("map", "reduce"),
            **more,
        )
        return prepared, folder

    def submit(self, name: str = "out", *, mode: str = "error", key: str = "", user: str = "", **more: Any) -> KnownJob:
        """Submit a job as the service does."""
        call = {what: more.pop(what) for what in ("at_once", "deadline_seconds", "request") if what in more}
        prepared, folder = self.prepared(name, mode=mode, **more)
        try:
            known = self.coordinator.submit(prepared, folder=folder, key=key, user=user, **call)
        except Exception:
            prepared.output.abort()
            folder.remove()
            raise
        if known.job != folder.job:
            prepared.output.abort()
            folder.remove()
        return known

    def states(self, *jobs: KnownJob) -> list[str]:
        """How jobs stand, by their ids."""
        return [self.state(job) for job in jobs]

    def state(self, job: KnownJob) -> str:
        """How a job stands now, whatever it was."""
        found = self.coordinator.find(job.job)
        assert found is not None
        view = found.view()
        return "begins" if "about to begin" in view.note else view.state.value

    def wait_for(self, job: KnownJob, *states: str) -> None:
        """Wait until a job is in one of these states."""
        wait_until(lambda: self.state(job) in states)

    def crash(self, jobs: int = 1, **more: Any) -> QueueServer:
        """As kill -9: nothing is tidied up, the system takes the locks away, and another one may start there."""
        coordinator = self.coordinator
        jobs_of = [known.held for known in coordinator._intake.registry.known() if isinstance(known, RunningJob)]
        coordinator._intake.close()
        coordinator._stopping = True
        coordinator._thread.join(PATIENCE)
        for job in jobs_of:
            self.journal.durable(job.noted, timeout=PATIENCE)
            if job.folder is not None:
                job.folder.update(pid_started=0)
                job.folder.release()
            if isinstance(job.prepared.output, OutputCommit):
                staging._unlock(job.prepared.output._folder._lock)
        self.journal.close()
        return QueueServer(self.place, jobs, **more)

    def close(self) -> None:
        with suppress(Exception):
            self.coordinator.close()

    def locks(self) -> Counter[str]:
        """The staging folders that there are, by output."""
        return Counter(path.name[1:].partition(".gristmill")[0] for path in self.place.glob(".*.gristmill-*"))


def wait_until(what: Callable[[], object]) -> None:
    """Wait for something, with a limit."""
    until = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.005)


def outcome_of(job: KnownJob) -> Outcome:
    """How a job ends."""
    outcome = job.wait(PATIENCE)
    assert outcome is not None, "it did not end"
    return outcome


def failure() -> FailureReport:
    """Of a user's function."""
    return USER_ERROR
