"""Jobs of a server that wait for their turn: on the disk, but for a line each.

A job that waits holds no folder, no staging folder and no code in memory. When its turn comes it is read back from the
journal, exactly as after a restart. A job whose code has to be loaded first waits in the same queue; so does one that
is tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from gristmill.errors import (
    GristmillError,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JournalFailed,
    PayloadAltered,
    RetryRefused,
    ServerUnreachable,
)
from gristmill.runtime.coordinator.hooks import Hooks
from gristmill.runtime.coordinator.job_records import JobRecord, fold
from gristmill.runtime.coordinator.registry import KnownJob, QueuedJob, Registry, ended
from gristmill.runtime.coordinator.resumption import boot_id
from gristmill.runtime.coordinator.turns import Turns
from gristmill.runtime.journal.facts import (
    Fact,
    JobAccepted,
    JobBegun,
    JobCancelling,
    JobEnded,
    JobLate,
    JobRequested,
    JobTakenUp,
)
from gristmill.runtime.journal.signing import CODE, REQUESTED, check_signature, signature_of
from gristmill.runtime.outcome import Outcome
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.queueing import QueueLimits, WaitingJob

if TYPE_CHECKING:
    from gristmill.runtime.journal.journal import Journal
    from gristmill.runtime.journal.summaries import JobSummary

_log = logging.getLogger(__name__)

_MOVE_SECONDS = 30.0  # for a job to begin whose turn has come
_HOOK_SECONDS = 30.0  # for whoever loads code to be there
_LOOK_SECONDS = 0.05
_NOTE_SECONDS = 0.002

GoOn = Callable[[JobRecord, Mapping[str, bytes]], object]
"""Begins a job of which this is known."""


class WaitingRoom:
    """The queue of a server. Any thread may call, but the coordinator's loop.

    Args:
        journal: where all jobs are.
        registry: the jobs that are known.
        key: signs what is accepted; empty: nothing is signed.
        limits: how many jobs may run, and wait.
        go_on: begins a job whose turn has come.
        hooks: who is told.
    """

    def __init__(
        self, journal: Journal, registry: Registry, key: bytes, limits: QueueLimits, go_on: GoOn, hooks: Hooks
    ) -> None:
        self._journal = journal
        self._registry = registry
        self._key = key
        self._go_on = go_on
        self._hooks = hooks
        self._moving = threading.RLock()  # held while a job becomes another thing than one that waits
        self.turns = Turns(limits, self._begin, self._late)

    # Jobs that come

    def waits(self, job: QueuedJob, number: int) -> None:
        """A job is in the journal, and waits from now on. Returns when it is durable.

        Raises:
            JournalFailed: it cannot be.
        """
        job.noted = number
        self._journal.durable(number)
        self.watch(job.job, job.submitted, job.deadline_seconds)
        self.turns.add(job.waiting)

    def restore(self, found: JobSummary) -> None:
        """A job waited when an earlier coordinator ended."""
        job = QueuedJob(
            self,
            found.job,
            found.name,
            found.output,
            found.format,
            found.submitted,
            found.user,
            found.priority,
            found.deadline_seconds,
            script=found.driver,
            tried=_tried(self._journal.facts(found.job)) if found.since > found.submitted else (0, 0),
        )
        self._registry.become(job, found.key, found.request)
        if not found.late:
            self.watch(job.job, found.since, job.deadline_seconds)
        self.turns.add(job.waiting)

    def request(self, wanted: JobRequested, blobs: Mapping[str, bytes]) -> KnownJob:
        """See ``Coordinator.request``."""
        named = {f"{REQUESTED}{name}": data for name, data in blobs.items()}
        job = QueuedJob(
            self,
            wanted.job,
            wanted.name,
            wanted.output,
            "",
            wanted.at,
            wanted.user,
            wanted.priority,
            wanted.deadline_seconds,
        )
        known = self._registry.add(job, wanted.key, wanted.digest)
        if known is not job:
            known.wait_accepted()
            return known
        try:
            self.turns.enter(job.waiting, at_once=False)
            signed = replace(wanted, signature=signature_of(self._key, wanted, named))
            self.waits(job, self._journal.add(signed, named))
        except GristmillError as error:
            self.turns.over(job.job)
            self._registry.forget(job.job)
            if isinstance(error, JournalFailed):  # if it was only late, it is written yet
                end = _end_of(job, JobState.CANCELLED, JobCancelled(f"Job {job.job} was not accepted."))
                self._journal.add(replace(end, refused=True))
            raise
        return job

    def retry(self, job: str, key: str = "") -> KnownJob:
        """See ``Coordinator.retry``."""
        with self._moving:
            known = self._registry.find(job)
            if known is None:
                raise JobNotFound(f"This server knows no job {job}.")
            if key and self._has_tried(job, key):
                return known
            if known.outcome is None:
                raise RetryRefused(f"Job {job} cannot be tried again: it is not over. Cancel it first.")
            if known.outcome.error is None:
                raise RetryRefused(f"Job {job} cannot be tried again: it has succeeded. Submit it again.")
            facts = self._journal.facts(job)
            fact, epoch = self._believed(job, facts)
            again = QueuedJob(
                self,
                job,
                known.name,
                known.output,
                known.format,
                known.submitted,
                known.user,
                known.priority,
                known.deadline_seconds,
                script=isinstance(fact, JobAccepted) and bool(fact.prepared["spec"].get("driver")),
                tried=_tried(facts),
            )
            self.turns.enter(again.waiting, at_once=False)
            now = time.time()
            try:
                again.noted = self._journal.add(JobTakenUp(job, epoch, now, boot_id(), queued=True, key=key))
                self._journal.durable(again.noted)
            except JournalFailed:
                self.turns.over(job)
                raise
            self._registry.become(again)
        self.watch(job, now, fact.deadline_seconds)
        self.turns.add(again.waiting)
        return again

    def _has_tried(self, job: str, key: str) -> bool:
        """Whether a job was tried again by this key before."""
        return any(fact.key == key for fact in self._journal.tries(job))

    def _believed(self, job: str, facts: list[Fact]) -> tuple[JobAccepted | JobRequested, int]:
        """What was accepted or requested of a job, and the epoch in which it would be tried again.

        Raises:
            RetryRefused: it is not kept, or must not be tried again.
            PayloadAltered: it is not what this server has accepted.
        """
        blobs = self._journal.blobs(job)
        record = fold(facts).get(job)
        fact = record.accepted if record is not None else _request_of(facts)
        if fact is None or (record is not None and CODE not in blobs):
            raise RetryRefused(f"Job {job} cannot be tried again: its code is not kept any more. Submit it again.")
        if isinstance(fact, JobAccepted) and fact.prepared["spec"].get("session"):
            raise RetryRefused(f"Job {job} cannot be tried again: it belongs to a session. Its program makes another.")
        check_signature(self._key, fact, blobs)
        return fact, 0 if record is None else record.epoch + 1

    # Jobs whose code is loaded

    def fulfilled(self, job: str, begin: Callable[[JobRequested, float], KnownJob]) -> KnownJob:
        """The code of a job is loaded: it begins, unless it is over meanwhile.

        Args:
            job: the job.
            begin: begins it, as it was requested, with the time at which its turn came.

        Raises:
            JobCancelled: it was cancelled, or refused.
        """
        with self._moving:
            queued = self._registry.find(job)
            wanted = _request_of(self._journal.facts(job))
            if not isinstance(queued, QueuedJob) or not queued.loading or wanted is None:
                raise JobCancelled(f"Job {job} does not wait for its code: it is over.")
            return begin(wanted, queued.begun_at)

    def refuse(self, job: str, error: GristmillError) -> None:
        """See ``Coordinator.refuse``."""
        with self._moving:
            queued = self._registry.find(job)
            if isinstance(queued, QueuedJob):
                self._end(queued, JobState.FAILED, error)

    # What becomes of those that wait

    def before(self, job: str) -> int | None:
        """See ``registry.Queue``."""
        return self.turns.before(job)

    def wait_moved(self, job: QueuedJob, timeout: float) -> KnownJob:
        """See ``registry.Queue``."""
        return self._registry.wait_moved(job, timeout)

    def wait_accepted(self, job: QueuedJob) -> None:
        """See ``registry.Queue``."""
        until = time.monotonic() + _MOVE_SECONDS
        while not job.noted and time.monotonic() < until and self._registry.find(job.job) is job:
            time.sleep(_NOTE_SECONDS)  # whoever submitted it is about to note it
        self._journal.durable(job.noted)

    def cancel(self, job: QueuedJob) -> None:
        """See ``registry.Queue``."""
        with self._moving:
            if self._registry.find(job.job) is job:
                if self.turns.leave(job.job) or job.loading:
                    cancelled = JobCancelled(f"Job {job.job} was cancelled before it began; no output was written.")
                    self._end(job, JobState.CANCELLED, cancelled)
                    return
                self._journal.durable(self._journal.add(JobCancelling(job.job, time.time())))
        now = self._registry.wait_moved(job, _MOVE_SECONDS)  # its turn has just come
        if now is not job:
            now.cancel()

    def watch(self, job: str, since: float, deadline_seconds: float | None) -> None:
        """Tell when a job has outlived its deadline."""
        if deadline_seconds is not None:
            self.turns.watch(job, since + deadline_seconds)

    def _late(self, job: str) -> None:
        self._journal.durable(self._journal.add(JobLate(job, time.time())))
        told(self._hooks.on_late, job)

    def _begin(self, waiting: WaitingJob) -> None:
        """The turn of a job has come. In a thread of its own."""
        job = self._registry.find(waiting.job)
        if not isinstance(job, QueuedJob):
            self.turns.over(waiting.job)
            return
        try:
            facts, blobs = self._journal.facts(job.job), self._journal.blobs(job.job)
            if (record := fold(facts).get(job.job)) is None:
                self._load(job, facts, blobs)
            else:
                check_signature(self._key, record.accepted, blobs)
                self._go_on(record, blobs)
        except (JournalFailed, PayloadAltered, JobFailed) as error:
            with self._moving:
                if self._registry.find(job.job) is job:
                    self._end(job, JobState.FAILED, error)

    def _load(self, job: QueuedJob, facts: list[Fact], blobs: Mapping[str, bytes]) -> None:
        wanted = _request_of(facts)
        if wanted is None:
            raise JournalFailed(f"The journal does not hold all of job {job.job}; it cannot begin.")
        check_signature(self._key, wanted, blobs)
        until = time.monotonic() + _HOOK_SECONDS
        while (on_turn := self._hooks.on_turn) is None:
            if time.monotonic() > until:
                raise JobFailed(f"Job {job.job} failed: there is nobody here to load its code.")
            time.sleep(_LOOK_SECONDS)
        with self._moving:
            if self._registry.find(job.job) is not job:
                return  # it was cancelled
            job.begun_at = time.time()
            self._journal.add(JobBegun(job.job, job.begun_at))
            job.loading = True
        try:
            own = {name.removeprefix(REQUESTED): data for name, data in blobs.items() if name.startswith(REQUESTED)}
            on_turn(wanted, own)
        except ServerUnreachable:  # what would load it ends: the next server does
            _log.info("the code of job %s is left to the next server", job.job)
        except GristmillError as error:
            self.refuse(job.job, error)
        except Exception as error:  # a defect of whoever loads it: the job must come to an end all the same
            _log.exception("the code of job %s could not be loaded", job.job)
            self.refuse(job.job, JobFailed(f"Job {job.job} failed: its code could not be loaded: {error!r}"))

    def _end(self, job: QueuedJob, state: JobState, error: GristmillError) -> None:
        """A job is over that did not run. ``_moving`` is held."""
        end = _end_of(job, state, error)
        self._journal.durable(self._journal.add(end))
        over = ended(job, end.outcome)
        self._registry.become(over)
        self.turns.over(job.job)
        told(self._hooks.on_ended, job.job, end.outcome, over)


def told(hook: Callable[..., None], *what: object) -> None:
    """Tell somebody. Whatever goes wrong there is theirs."""
    try:
        hook(*what)
    except Exception:  # of whoever wanted to know: the jobs must not suffer from it
        _log.exception("somebody who wanted to know of a job could not be told")


def _end_of(job: QueuedJob, state: JobState, error: GristmillError) -> JobEnded:
    now = time.time()
    return JobEnded(job.job, now, Outcome(job.ended(state), error))


def _tried(facts: list[Fact]) -> tuple[int, int]:
    """How many attempts of a job are over, and how many of them have failed."""
    return next(((record.attempts, record.failed_attempts) for record in fold(facts).values()), (0, 0))


def _request_of(facts: list[Fact]) -> JobRequested | None:
    return next((fact for fact in facts if isinstance(fact, JobRequested)), None)
