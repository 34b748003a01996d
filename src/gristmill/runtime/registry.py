"""The jobs that a coordinator knows: those that wait, run or ended lately; and those that only the journal knows."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gristmill.errors import KeyTaken
from gristmill.runtime.facts import Fact, JobAccepted, JobEnded, JobRequested
from gristmill.runtime.jobs import Job
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import JobView
from gristmill.scheduling.commands import JobState

if TYPE_CHECKING:
    from gristmill.runtime.journal import Journal

_REMEMBERED = 1000  # ended jobs that are answered for without looking into the journal
_LISTED = 200  # of those that only the journal remembers
_FOLLOW_SECONDS = 1.0  # no wait for a job's turn is longer at a time


class Runner(Protocol):
    """Who runs jobs (``runtime.coordinator.Coordinator``)."""

    def wait_for(self, job: Job, timeout: float | None) -> Outcome | None: ...

    def request_cancel(self, job: Job) -> None: ...


class Queue(Protocol):
    """Who gives jobs their turn (``runtime.waiting.WaitingRoom``)."""

    def before(self, job: str) -> int | None:
        """How many jobs are before one; None if it waits no more."""
        ...

    def wait_moved(self, job: QueuedJob, timeout: float) -> KnownJob:
        """What a job has become, as soon as that is something else, or so many seconds have passed."""
        ...

    def cancel(self, job: QueuedJob) -> None:
        """See :meth:`QueuedJob.cancel`."""
        ...

    def wait_accepted(self, job: QueuedJob) -> None:
        """See :meth:`RunningJob.wait_accepted`."""
        ...


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
    def user(self) -> str:
        """Whose it is; empty when that is not known."""
        return self._job.user

    @property
    def priority(self) -> int:
        """Over other jobs'."""
        return self._job.prepared.priority

    @property
    def deadline_seconds(self) -> float | None:
        """So long after its submission it is late."""
        return self._job.deadline_seconds

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


@dataclass(eq=False, slots=True)
class QueuedJob:
    """A job that waits for its turn, or whose code is being loaded, with the interface of :class:`RunningJob`.

    There may be thousands of these, so that little is held of each: the rest lies in the journal.

    Attributes:
        loading: its turn has come, and its code is being loaded.
        noted: the number of the fact that says that it waits.
    """

    queue: Queue
    job: str
    name: str
    output: str | None
    format: str
    submitted: float
    user: str = ""
    priority: int = 0
    deadline_seconds: float | None = None
    loading: bool = False
    noted: int = 0

    @property
    def outcome(self) -> Outcome | None:
        """None: it is not over."""
        return None

    @property
    def before(self) -> int | None:
        """How many jobs are before it in the queue; None if its turn has come."""
        return None if self.loading else self.queue.before(self.job)

    def wait(self, timeout: float | None = None) -> Outcome | None:
        """Wait until the job is over; None if it is not after ``timeout`` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _FOLLOW_SECONDS if until is None else min(_FOLLOW_SECONDS, until - time.monotonic())
            now = self.queue.wait_moved(self, max(0.0, left))
            if now is not self:
                return now.wait(None if until is None else max(0.0, until - time.monotonic()))
            if until is not None and time.monotonic() >= until:
                return None

    def wait_accepted(self) -> None:
        """Wait until the job is durable.

        Raises:
            JournalFailed: it cannot be.
        """
        self.queue.wait_accepted(self)

    def cancel(self) -> None:
        """End the job. It is durable that it has ended when this returns, unless it has begun just now.

        Raises:
            JournalFailed: that cannot be noted.
        """
        self.queue.cancel(self)

    def view(self) -> JobView:
        """How the job stands."""
        seconds = max(0.0, time.time() - self.submitted)
        if self.loading:
            return JobView(self.job, self.name, JobState.RUNNING, seconds, (), note="Loading its code.")
        before = self.queue.before(self.job)
        if before is None:
            note = "Its turn has come: it is about to begin."
        elif before == 0:
            note = "Waiting for its turn: it is the next."
        else:
            note = f"Waiting for its turn: {before:,} job{'s are' if before > 1 else ' is'} before it."
        return JobView(self.job, self.name, JobState.QUEUED, seconds, (), note=note)


@dataclass(frozen=True)
class EndedJob:
    """A job of earlier, with the interface of :class:`RunningJob`."""

    job: str
    name: str
    output: str | None
    format: str
    submitted: float
    outcome: Outcome
    user: str = ""
    priority: int = 0
    deadline_seconds: float | None = None

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


KnownJob = RunningJob | QueuedJob | EndedJob


def ended(known: KnownJob, outcome: Outcome) -> EndedJob:
    """A job, now that it is over: little is held of it from here on."""
    return EndedJob(
        known.job,
        known.name,
        known.output,
        known.format,
        known.submitted,
        outcome,
        known.user,
        known.priority,
        known.deadline_seconds,
    )


class Registry:
    """Jobs by id and by idempotency key. Any thread may call."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._changed = threading.Condition()
        self._known: OrderedDict[str, KnownJob] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()  # those of them that are over, the oldest first
        self._by_key: dict[str, tuple[str, str]] = {}  # the job, and what tells its request from others
        self._key_of: dict[str, str] = {}  # the inverse

    def tidy(self) -> None:
        """Remove the folders of jobs that had succeeded: their coordinator was killed before it came to that."""
        from gristmill.runtime.jobfolder import JobFolder, is_settled

        if self._journal is None:
            return
        with suppress(OSError):  # housekeeping must not fail a server
            for path in Path(self._journal.path.parent, "jobs").iterdir():
                if not path.is_dir() or is_settled(path):
                    continue
                found = self._journal.summary(path.name)
                if found is not None and found.state is JobState.SUCCEEDED:
                    with suppress(OSError):
                        if folder := JobFolder.adopt(path, {"job": path.name}):  # its own facts may be gone already
                            folder.remove_but_logs()

    def add(self, job: KnownJob, key: str = "", request: str = "") -> KnownJob:
        """Make a job known; or find the one that was submitted with the same key before.

        Raises:
            KeyTaken: that was with another request.
        """
        if key and (known := self.find_key(key, request)) is not None:
            return known
        with self._changed:
            if key and (other := self._known.get(self._by_key.get(key, ("", ""))[0])) is not None:
                return other  # it came just now
            self._known[job.job] = job
            if key:
                self._by_key[key] = job.job, request
                self._key_of[job.job] = key
            if self._journal is None and len(self._known) > _REMEMBERED:  # nobody tells us when one of these is over
                self._ended.update({id: None for id, one in self._known.items() if one.outcome is not None})
            self._shrink()
            return job

    def become(self, job: KnownJob, key: str = "", request: str = "") -> None:
        """A job is now what it is here: it has its turn, is over, or waits again.

        Args:
            job: the job.
            key: of its submission, if that is not known yet.
            request: see :meth:`add`.
        """
        with self._changed:
            self._known[job.job] = job
            if key:
                self._by_key[key] = job.job, request
                self._key_of[job.job] = key
            self._ended.pop(job.job, None)
            if job.outcome is not None:
                self._ended[job.job] = None
            self._shrink()
            self._changed.notify_all()

    def _shrink(self) -> None:
        while len(self._ended) > _REMEMBERED:
            oldest, _ = self._ended.popitem(last=False)
            self._drop(oldest)

    def _drop(self, job: str) -> None:
        self._known.pop(job, None)
        self._ended.pop(job, None)
        if (key := self._key_of.pop(job, None)) is not None:
            self._by_key.pop(key, None)

    def forget(self, *jobs: str) -> None:
        """Jobs that did not begin after all, or that nobody is to remember."""
        with self._changed:
            for job in jobs:
                self._drop(job)
            self._changed.notify_all()

    def known(self) -> list[KnownJob]:
        """All that are known without reading."""
        with self._changed:
            return list(self._known.values())

    def wait_moved(self, job: KnownJob, timeout: float) -> KnownJob:
        """What a job has become, as soon as that is something else, or so many seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._known.get(job.job) is not job, timeout)
        return self.find(job.job) or job

    def find(self, job: str) -> KnownJob | None:
        """A job by its id."""
        with self._changed:
            known = self._known.get(job)
        if known is None and self._journal is not None and (known := _of_facts(self._journal.facts(job))) is not None:
            with self._changed:  # it ended so long ago that it was forgotten
                if job not in self._known:
                    self._known[job] = known
                    self._ended[job] = None
                    self._shrink()
        return known

    def find_key(self, key: str, request: str = "") -> KnownJob | None:
        """The job that was submitted with this key.

        Raises:
            KeyTaken: that was with another request, as far as both are known.
        """
        with self._changed:
            job, before = self._by_key.get(key, ("", ""))
        if not job and self._journal is not None and (found := self._journal.job_of_key(key)) is not None:
            job, before = found.job, found.request
        if request and before and request != before:
            raise KeyTaken(job)
        return self.find(job) if job else None

    def all(self) -> list[KnownJob]:
        """All that are known without reading, and some of earlier; the youngest first."""
        known = {one.job: one for one in self.known()}
        if self._journal is not None:
            for summary in self._journal.page_of_jobs(limit=_LISTED):
                if summary.job not in known and (found := self.find(summary.job)) is not None:
                    known[summary.job] = found
        return sorted(known.values(), key=lambda known: known.job, reverse=True)


def _of_facts(facts: Iterable[Fact]) -> EndedJob | None:
    """A job that is over, as its facts tell of it; None if it is not."""
    requested: JobRequested | None = None
    accepted: JobAccepted | None = None
    end: JobEnded | None = None
    for fact in facts:
        match fact:
            case JobRequested():
                requested = fact
            case JobAccepted():
                accepted = fact
            case JobEnded():
                end = fact
    if end is None:
        return None
    if accepted is not None:
        prepared = accepted.prepared
        format, priority = prepared["plan"][-1]["sink"][1].get("format", ""), prepared["priority"]
        output, deadline = prepared["output_path"], accepted.deadline_seconds
        name, user, at = accepted.name, accepted.user, accepted.at
    elif requested is not None:
        format, priority, output, deadline = "", requested.priority, requested.output, requested.deadline_seconds
        name, user, at = requested.name, requested.user, requested.at
    else:
        return None
    return EndedJob(end.job, name, output, format, at, end.outcome, user, priority, deadline)
