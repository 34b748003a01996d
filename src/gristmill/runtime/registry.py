"""The jobs that a coordinator knows: those that run, those that ended, and those that only the journal remembers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gristmill.errors import KeyTaken
from gristmill.runtime.facts import JobRecord, fold
from gristmill.runtime.jobs import Job
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import JobView

if TYPE_CHECKING:
    from gristmill.runtime.journal import Journal

_REMEMBERED = 1000  # ended jobs that are answered for without looking into the journal


class Runner(Protocol):
    """Who runs jobs (``runtime.coordinator.Coordinator``)."""

    def wait_for(self, job: Job, timeout: float | None) -> Outcome | None: ...

    def request_cancel(self, job: Job) -> None: ...


class RunningJob:
    """A submitted job."""

    def __init__(self, runner: Runner, job: Job) -> None:
        self._runner = runner
        self._job = job

    @property
    def held(self) -> Job:
        """The job as its coordinator holds it."""
        return self._job

    @property
    def job(self) -> str:
        """The job's id."""
        return self._job.id

    @property
    def name(self) -> str:
        """The job's name."""
        return self._job.prepared.name

    @property
    def output(self) -> str | None:
        """Where its output appears."""
        return self._job.prepared.output_path

    @property
    def format(self) -> str:
        """What its output holds."""
        return self._job.format

    @property
    def submitted(self) -> float:
        """When it was submitted, in seconds since the epoch."""
        return self._job.submitted

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None if it still runs. Does not wait."""
        return self._job.outcome

    def wait(self, timeout: float | None = None) -> Outcome | None:
        """Wait until the job is over; None if it still runs after ``timeout`` seconds."""
        return self._runner.wait_for(self._job, timeout)

    def wait_accepted(self) -> None:
        """Wait until the job is durable, if its journal must not be done without.

        Raises:
            JournalFailed: it cannot be.
        """
        journal = self._job.journal
        if journal is not None and journal.essential:
            journal.durable(self._job.accepted)

    def cancel(self) -> None:
        """Ask for the job to end; ``wait`` says how it ended. On a server it ends even if that is killed now.

        Raises:
            JournalFailed: the wish cannot be noted.
        """
        self._runner.request_cancel(self._job)

    def view(self) -> JobView:
        """How the job stands, or stood at most a moment ago."""
        return self._job.view


@dataclass(frozen=True)
class EndedJob:
    """A job of earlier, with the interface of :class:`RunningJob`."""

    job: str
    name: str
    output: str | None
    format: str
    submitted: float
    outcome: Outcome

    def wait(self, timeout: float | None = None) -> Outcome:  # noqa: ARG002 - as of a running job
        """How it ended."""
        return self.outcome

    def wait_accepted(self) -> None:
        """Nothing: it was."""

    def cancel(self) -> None:
        """Nothing: it is over."""

    def view(self) -> JobView:
        """How it stood at the end."""
        return self.outcome.view


KnownJob = RunningJob | EndedJob


class Registry:
    """Jobs by id and by idempotency key. Any thread may call."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._known: OrderedDict[str, RunningJob] = OrderedDict()
        self._records: dict[str, JobRecord] = {}  # ended before this coordinator began
        self._by_key: dict[str, tuple[str, str]] = {}  # the job, and what tells its request from others

    def load(self) -> list[JobRecord]:
        """Read what the journal remembers.

        Returns:
            The jobs that have not ended, with all that is known of them.

        Raises:
            JournalFailed: it cannot be read.
        """
        if self._journal is None:
            return []
        records = fold(self._journal.jobs())
        with self._lock:
            for job, record in records.items():
                if record.accepted.key:
                    self._by_key[record.accepted.key] = job, record.accepted.request
            self._records.update({job: record for job, record in records.items() if record.ended is not None})
        unfinished = [job for job, record in records.items() if record.ended is None]
        return [fold(self._journal.facts(job))[job] for job in unfinished]

    def tidy(self) -> None:
        """Remove the folders of jobs that had succeeded: their coordinator was killed before it came to that."""
        from gristmill.runtime.jobfolder import JobFolder, is_settled

        with self._lock:
            records = list(self._records.values())
        for record in records:
            if record.ended is not None and record.ended.outcome.error is None:
                with suppress(OSError):  # housekeeping must not fail a server
                    path = Path(record.accepted.prepared["spec"]["folder"])
                    if not path.is_dir() or is_settled(path):
                        continue
                    if folder := JobFolder.adopt(path, {"job": record.job}):  # its own facts may be removed already
                        folder.remove_but_logs()

    def add(self, running: RunningJob, key: str, request: str) -> KnownJob:
        """Make a job known; or find the one that was submitted with the same key before.

        Raises:
            KeyTaken: that was with another request.
        """
        if key and (known := self.find_key(key, request)) is not None:
            return known
        with self._lock:
            if key and (other := self._known.get(self._by_key.get(key, ("", ""))[0])) is not None:
                return other  # it came just now
            self._known[running.job] = running
            if key:
                self._by_key[key] = running.job, request
            ended = (job for job, known in self._known.items() if known.outcome is not None)
            while len(self._known) > _REMEMBERED and (oldest := next(ended, None)) is not None:
                del self._known[oldest]
                ended = (job for job, known in self._known.items() if known.outcome is not None)
            return running

    def forget(self, job: str, key: str) -> None:
        """A job that did not begin after all."""
        with self._lock:
            self._known.pop(job, None)
            if self._by_key.get(key, ("", ""))[0] == job:
                del self._by_key[key]

    def find(self, job: str) -> KnownJob | None:
        """A job by its id."""
        with self._lock:
            running, record = self._known.get(job), self._records.get(job)
        if running is not None:
            return running
        if record is None and self._journal is not None:
            record = fold(self._journal.facts(job)).get(job)  # ended so long ago that it was forgotten
        return None if record is None else _ended(record)

    def find_key(self, key: str, request: str = "") -> KnownJob | None:
        """The job that was submitted with this key.

        Raises:
            KeyTaken: that was with another request, as far as both are known.
        """
        with self._lock:
            job, before = self._by_key.get(key, ("", ""))
        if request and before and request != before:
            raise KeyTaken(job)
        return self.find(job) if job else None

    def all(self) -> list[KnownJob]:
        """All that are known without reading, the youngest first."""
        with self._lock:
            running, records = dict(self._known), dict(self._records)
        earlier = [known for record in records.values() if (known := _ended(record)) and record.job not in running]
        return sorted([*running.values(), *earlier], key=lambda known: known.job, reverse=True)


def _ended(record: JobRecord) -> EndedJob | None:
    if record.ended is None:
        return None
    accepted = record.accepted
    format = accepted.prepared["plan"][-1]["sink"][1].get("format", "")
    output = accepted.prepared["output_path"]
    return EndedJob(record.job, accepted.name, output, format, accepted.at, record.ended.outcome)
