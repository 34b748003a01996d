"""What is said of a job: by one interface, be it that it waits, that it runs, or that it is over."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from gristmill.runtime.coordinator.jobs import Job
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import JobView
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.queueing import WaitingJob

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
        begun_at: when its turn came, in seconds since the epoch; nothing while it waits.
        script: it is a program that submits jobs itself.
        tried: how many attempts of it are over, and how many of these have failed, if it is tried again.
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
    begun_at: float = 0.0
    script: bool = False
    tried: tuple[int, int] = (0, 0)

    @property
    def waiting(self) -> WaitingJob:
        """As it stands in the queue."""
        return WaitingJob(self.job, self.user, self.priority, self.submitted, self.script)

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
        if self.loading:
            return self._view(JobState.RUNNING, "Loading its code.")
        before = self.queue.before(self.job)
        if before is None:
            note = "Its turn has come: it is about to begin."
        elif before == 0:
            note = "Waiting for its turn: it is the next."
        else:
            note = f"Waiting for its turn: {before:,} job{'s are' if before > 1 else ' is'} before it."
        return self._view(JobState.QUEUED, note)

    def ended(self, state: JobState) -> JobView:
        """How it stands, if it is over without having run."""
        return self._view(state, "")

    def _view(self, state: JobState, note: str) -> JobView:
        return JobView(self.job, self.name, state, self.seconds, (), *self.tried, note=note)

    @property
    def seconds(self) -> float:
        """How long its code has been being loaded."""
        return max(0.0, time.time() - self.begun_at) if self.loading else 0.0


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
