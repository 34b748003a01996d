"""How jobs come to a coordinator: known, and durable, before its loop hears of them.

All this happens in the threads of those who submit, ask and cancel, and may wait for the journal. The loop does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from gristmill.errors import GristmillError, JournalFailed
from gristmill.runtime.coordinator.hooks import Hooks
from gristmill.runtime.coordinator.inbox import CancelJob, StorageBack, Submit
from gristmill.runtime.coordinator.jobs import Job, PreparedJob
from gristmill.runtime.coordinator.registry import KnownJob, QueuedJob, Registry, Runner, RunningJob, ended
from gristmill.runtime.coordinator.tally import JobTally
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import Observer
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.queueing import QueueLimits, WaitingJob

if TYPE_CHECKING:
    from gristmill.runtime.coordinator.job_records import JobRecord
    from gristmill.runtime.coordinator.reopening import Reopened, StorageWatch
    from gristmill.runtime.coordinator.resumption import Resumption
    from gristmill.runtime.coordinator.waiting import WaitingRoom
    from gristmill.runtime.files.jobfolder import JobFolder
    from gristmill.runtime.journal.facts import JobRequested
    from gristmill.runtime.journal.journal import Journal

_WAITING = "waiting"
"""The state of the folder of a job that waits: nobody has it open."""


class Intake:
    """The jobs of a coordinator, as others see them. Any thread may call.

    Args:
        runner: who runs them.
        post: takes what the loop is to hear.
        clock: seconds, monotonic.
        journal: where all jobs are noted; None: each brings its own, or none.
        storage_seconds: how long a job that is taken up waits for files that cannot be seen.
        signing_key: signs what is accepted; empty: nothing is signed.
        limits: how many jobs run at a time, and wait.
        hooks: who is told.
    """

    def __init__(
        self,
        runner: Runner,
        post: Callable[[Submit | CancelJob | StorageBack], None],
        clock: Callable[[], float],
        journal: Journal | None,
        storage_seconds: float,
        signing_key: bytes,
        limits: QueueLimits,
        hooks: Hooks,
    ) -> None:
        self._runner = runner
        self._post = post
        self._clock = clock
        self._journal = journal
        self._storage_seconds = storage_seconds
        self._signing_key = signing_key
        self._hooks = hooks
        self._watch: StorageWatch | None = None
        self.registry = Registry(journal)
        self._room: WaitingRoom | None = None
        if journal is not None:
            from gristmill.runtime.coordinator.waiting import WaitingRoom

            self._room = WaitingRoom(journal, self.registry, signing_key, limits, self._go_on, hooks)

    @property
    def room(self) -> WaitingRoom:
        """Where a server's jobs wait."""
        assert self._room is not None, "jobs wait at a server"
        return self._room

    def start(self) -> None:
        """Let jobs that wait have their turn."""
        if self._room is not None:
            self._room.turns.start()

    def submit(
        self,
        prepared: PreparedJob,
        observer: Observer | None,
        key: str,
        request: str,
        journal: Journal | None,
        folder: JobFolder | None,
        user: str,
        deadline_seconds: float | None,
        at_once: bool,
    ) -> KnownJob:
        """Begin a job: see ``Coordinator.submit``."""
        if key and (known := self.registry.find_key(key, request)) is not None:
            known.wait_accepted()
            return known
        job = self._new_job(prepared, observer, journal, folder)
        job.user, job.deadline_seconds = user, deadline_seconds
        running = RunningJob(self._runner, job)
        spec, room = prepared.spec, self._room if journal is None else None
        waiting = None
        if room is not None and not (at_once or spec.session):
            waiting = WaitingJob(job.id, user, prepared.priority, job.submitted, spec.driver)
        if room is None or waiting is None or room.turns.enter(waiting):
            known = self.registry.add(running, key, request)
        else:
            known = self.registry.add(_queued(room, job), key, request)
        if known.job != job.id:
            self._leave(job.id)
            known.wait_accepted()
            return known
        if isinstance(known, QueuedJob):
            _let_go(job)
        if job.journal is not None:
            self._note(job, known, key, request)
        if not isinstance(known, QueuedJob):
            if room is not None:
                room.watch(job.id, job.submitted, deadline_seconds)
            self._post(Submit(job))
        return known

    def _note(self, job: Job, known: KnownJob, key: str, request: str) -> None:
        """Make a job durable; if that fails, it was never there."""
        from gristmill.runtime.coordinator.recovery import accepted, never_begun

        job.note(
            *accepted(
                job.prepared,
                key,
                job.submitted,
                request,
                user=job.user,
                deadline_seconds=job.deadline_seconds,
                queued=isinstance(known, QueuedJob),
                signing_key=self._signing_key,
            )
        )
        try:
            if isinstance(known, QueuedJob):
                self.room.waits(known, job.accepted)
            else:
                known.wait_accepted()
        except JournalFailed:
            self._leave(job.id)
            self.registry.forget(job.id)
            job.note(never_begun(job.prepared, job.view, time.time()))  # if it was only late, it is written yet
            raise

    def _leave(self, job: str) -> None:
        if self._room is not None:
            self._room.turns.over(job)

    def fulfil(self, job: str, prepared: PreparedJob, folder: JobFolder | None) -> KnownJob:
        """Begin a job whose code was loaded: see ``Coordinator.fulfil``."""
        from gristmill.runtime.coordinator.recovery import accepted

        assert prepared.spec.job == job, "it keeps its id"

        def begin(wanted: JobRequested, begun_at: float) -> KnownJob:
            new = self._new_job(prepared, None, None, folder)
            _has_run_since(new, begun_at)
            new.user, new.deadline_seconds, new.submitted = wanted.user, wanted.deadline_seconds, wanted.at
            running = RunningJob(self._runner, new)
            new.note(
                *accepted(
                    prepared,
                    wanted.key,
                    wanted.at,
                    wanted.digest,
                    user=wanted.user,
                    deadline_seconds=wanted.deadline_seconds,
                    signing_key=self._signing_key,
                )
            )
            running.wait_accepted()
            self._begins(running)
            return running

        return self.room.fulfilled(job, begin)

    def resume(
        self,
        prepared: PreparedJob,
        resumption: Resumption,
        observer: Observer | None,
        journal: Journal | None,
        folder: JobFolder | None,
        refused: GristmillError | None = None,
        away: str = "",
    ) -> RunningJob:
        """Go on with a job of a coordinator that is gone, unless it is refused; if its files are away, later."""
        from gristmill.runtime.coordinator.recovery import taken_up

        job = self._new_job(prepared, observer, journal, folder)
        record = resumption.record
        job.tally.taken_up(record.attempts, record.failed_attempts, record.failures)
        job.view = job.tally.view(JobState.RUNNING, 0.0)
        job.resumption, job.submitted = resumption, record.accepted.at
        job.user, job.deadline_seconds = record.accepted.user, record.accepted.deadline_seconds
        if journal is None:  # a server's job began when its turn came; a local one, when it is called for again
            _has_run_since(job, record.begun_at or time.time())
        else:
            job.tally.resumed_after_seconds = max(0.0, time.time() - job.submitted)
        if refused is not None:
            job.refuse(refused)
        job.awaited, job.await_until = away, self._clock() + self._storage_seconds
        running = RunningJob(self._runner, job)
        job.note(taken_up(record, time.time()))
        running.wait_accepted()
        self._begins(running)
        return running

    def _begins(self, running: RunningJob) -> None:
        """A job is known to run, and then the loop hears of it."""
        from gristmill.runtime.coordinator.waiting import told

        self.registry.become(running)
        told(self._hooks.on_begun, running)
        self._post(Submit(running.held))

    def resume_all(self) -> list[RunningJob]:
        """Go on with all jobs: see ``Coordinator.resume_all``."""
        assert self._journal is not None, "there is nothing to resume from"
        from gristmill.runtime.coordinator.job_records import fold
        from gristmill.runtime.journal.summaries import is_loader

        resumed = []
        for found in self._journal.unfinished():
            record = fold(self._journal.facts(found.job)).get(found.job) if found.begun is not None else None
            if record is None or not record.begun:  # it waits, or its code was being loaded
                self.room.restore(found)
                continue
            if not found.late:
                self.room.watch(found.job, found.since, found.deadline_seconds)
            if not found.session and not is_loader(found.name, found.driver):
                self.room.turns.run(found.job, found.user, script=found.driver)
            running = self._take_up(record)
            if running is not None:
                self.registry.become(running, found.key, found.request)
                resumed.append(running)
        self.registry.tidy()
        return resumed

    def _take_up(self, record: JobRecord) -> RunningJob | None:
        """Go on with a job of an earlier coordinator; None if what is noted of it cannot be used."""
        from gristmill.runtime.coordinator.recovery import unreadable
        from gristmill.runtime.journal.signing import check_signature

        assert self._journal is not None, "there is nothing to resume from"
        try:
            blobs = self._journal.blobs(record.job)
            check_signature(self._signing_key, record.accepted, blobs)
            return self._go_on(record, blobs)
        except GristmillError as error:
            self._journal.durable(self._journal.add(unreadable(record, error, time.time())))
            self._leave(record.job)
            return None

    def _go_on(self, record: JobRecord, blobs: Mapping[str, bytes]) -> RunningJob:
        """Begin a job that was read back, or go on with it.

        Raises:
            JournalFailed: what was noted is not enough, or nothing can be noted.
        """
        from gristmill.runtime.coordinator.reopening import StorageWatch, open_folder, reopen

        found: Reopened = reopen(record, blobs, self._hooks.check)
        folder = open_folder(record, found.prepared)
        running = self.resume(
            found.prepared, found.resumption, None, None, folder, refused=found.refused, away=found.away
        )
        if found.away:
            self._watch = self._watch or StorageWatch(self._post, lambda prepared: self._hooks.check(prepared))
            self._watch.begin(running.held, record, blobs)
        return running

    def over(self, job: Job, outcome: Outcome) -> None:
        """A job of a server is over: little is held of it from now on, and another may have its turn."""
        if self._room is not None:
            known = self.registry.find(job.id)
            if isinstance(known, RunningJob) and known.held is job:
                self.registry.become(ended(known, outcome))
            self._room.turns.over(job.id)

    def tell_ended(self, job: Job, outcome: Outcome) -> None:
        """Tell whoever wants to know that a job of a server is over."""
        if self._room is not None:
            from gristmill.runtime.coordinator.waiting import told

            told(self._hooks.on_ended, job.id, outcome, ended(RunningJob(self._runner, job), outcome))

    def cancel(self, job: Job) -> None:
        """Have a job end. If its journal is essential, whoever takes the job up after us will know when this returns.

        Raises:
            JournalFailed: that cannot be noted.
        """
        if job.journal is not None and job.journal.essential and not job.over.is_set():
            from gristmill.runtime.journal.facts import JobCancelling

            # Not by way of the job's own notes, which are the loop's.
            job.journal.durable(job.journal.add(JobCancelling(job.id, time.time())))
        self._post(CancelJob(job.id))

    def close(self) -> None:
        """Look for nobody's files any more, and let no job begin."""
        if self._watch is not None:
            self._watch.close()
        if self._room is not None:
            self._room.turns.close()

    def _new_job(
        self, prepared: PreparedJob, observer: Observer | None, journal: Journal | None, folder: JobFolder | None
    ) -> Job:
        tally = JobTally(prepared.spec.job, prepared.name, prepared.plan, prepared.splits)
        view = tally.view(JobState.RUNNING, 0.0)
        return Job(prepared, tally, observer, self._clock(), view, journal or self._journal, folder, time.time())


def _has_run_since(job: Job, begun_at: float) -> None:
    """Its turn came at this time, in seconds since the epoch: what it takes counts from there."""
    seconds = max(0.0, time.time() - begun_at)
    job.began -= seconds
    job.view = replace(job.view, seconds=seconds)


def _queued(room: WaitingRoom, job: Job) -> QueuedJob:
    prepared = job.prepared
    return QueuedJob(
        room,
        job.id,
        prepared.name,
        prepared.output_path,
        job.format,
        job.submitted,
        job.user,
        prepared.priority,
        job.deadline_seconds,
        script=prepared.spec.driver,
    )


def _let_go(job: Job) -> None:
    """A job waits: what it has open is closed, and what is staged of it goes. Its turn makes that again."""
    with suppress(OSError):  # what is left there does not hinder it
        job.prepared.output.abort()
        if job.folder is not None:
            job.folder.update(state=_WAITING)
    if job.folder is not None:
        job.folder.release()
