"""How jobs come to a coordinator: known, and durable, before its loop hears of them.

All this happens in the threads of those who submit, ask and cancel, and may wait for the journal. The loop does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gristmill.errors import GristmillError, JournalFailed
from gristmill.runtime.inbox import CancelJob, StorageBack, Submit
from gristmill.runtime.jobs import Job, PreparedJob
from gristmill.runtime.registry import KnownJob, Registry, Runner, RunningJob
from gristmill.runtime.tally import JobTally
from gristmill.runtime.views import Observer
from gristmill.scheduling.commands import JobState

if TYPE_CHECKING:
    from gristmill.runtime.jobfolder import JobFolder
    from gristmill.runtime.journal import Journal
    from gristmill.runtime.reopening import StorageWatch
    from gristmill.runtime.resumption import Resumption


class Intake:
    """The jobs of a coordinator, as others see them. Any thread may call.

    Args:
        runner: who runs them.
        post: takes what the loop is to hear.
        clock: seconds, monotonic.
        journal: where all jobs are noted; None: each brings its own, or none.
        storage_seconds: how long a job that is taken up waits for files that cannot be seen.
    """

    def __init__(
        self,
        runner: Runner,
        post: Callable[[Submit | CancelJob | StorageBack], None],
        clock: Callable[[], float],
        journal: Journal | None,
        storage_seconds: float,
    ) -> None:
        self._runner = runner
        self._post = post
        self._clock = clock
        self._journal = journal
        self._storage_seconds = storage_seconds
        self._watch: StorageWatch | None = None
        self.registry = Registry(journal)

    def submit(
        self,
        prepared: PreparedJob,
        observer: Observer | None,
        key: str,
        request: str,
        journal: Journal | None,
        folder: JobFolder | None,
    ) -> KnownJob:
        """Begin a job: see :meth:`~gristmill.runtime.coordinator.Coordinator.submit`."""
        job = self._new_job(prepared, observer, journal, folder)
        running = RunningJob(self._runner, job)
        known = self.registry.add(running, key, request)
        if known is not running:
            known.wait_accepted()
            return known
        if job.journal is not None:
            from gristmill.runtime.recovery import accepted, never_begun

            job.note(*accepted(prepared, key, job.submitted, request))
            try:
                running.wait_accepted()
            except JournalFailed:
                self.registry.forget(job.id, key)
                job.note(never_begun(prepared, job.view, time.time()))  # if it was only late, it is written yet
                raise
        self._post(Submit(job))
        return running

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
        from gristmill.runtime.recovery import taken_up

        job = self._new_job(prepared, observer, journal, folder)
        record = resumption.record
        job.resumption, job.submitted = resumption, record.accepted.at
        earlier = max(0.0, time.time() - job.submitted)
        if journal is None:  # a server's job began when it was accepted; a local one, when it is called for again
            job.began -= earlier
        else:
            job.tally.resumed_after_seconds = earlier
        if refused is not None:
            job.refuse(refused)
        job.awaited, job.await_until = away, self._clock() + self._storage_seconds
        running = RunningJob(self._runner, job)
        self.registry.add(running, "", "")
        job.note(taken_up(record, time.time()))
        running.wait_accepted()
        self._post(Submit(job))
        return running

    def resume_all(self) -> list[RunningJob]:
        """Go on with all jobs: see :meth:`~gristmill.runtime.coordinator.Coordinator.resume_all`."""
        from gristmill.runtime.recovery import unreadable
        from gristmill.runtime.reopening import StorageWatch, open_folder, reopen

        assert self._journal is not None, "there is nothing to resume from"
        self._watch = StorageWatch(self._post)
        resumed = []
        for record in self.registry.load():
            try:
                blobs = self._journal.blobs(record.job)
                found = reopen(record, blobs)
            except JournalFailed as error:
                self._journal.durable(self._journal.add(unreadable(record, error, time.time())))
                continue
            folder = open_folder(record, found.prepared)
            running = self.resume(
                found.prepared, found.resumption, None, None, folder, refused=found.refused, away=found.away
            )
            if found.away:
                self._watch.begin(running.held, record, blobs)
            resumed.append(running)
        self.registry.tidy()
        return resumed

    def cancel(self, job: Job) -> None:
        """Have a job end. If its journal is essential, whoever takes the job up after us will know when this returns.

        Raises:
            JournalFailed: that cannot be noted.
        """
        if job.journal is not None and job.journal.essential and not job.over.is_set():
            from gristmill.runtime.facts import JobCancelling

            # Not by way of the job's own notes, which are the loop's.
            job.journal.durable(job.journal.add(JobCancelling(job.id, time.time())))
        self._post(CancelJob(job.id))

    def close(self) -> None:
        """Look for nobody's files any more."""
        if self._watch is not None:
            self._watch.close()

    def _new_job(
        self, prepared: PreparedJob, observer: Observer | None, journal: Journal | None, folder: JobFolder | None
    ) -> Job:
        tally = JobTally(prepared.spec.job, prepared.name, prepared.plan, prepared.splits)
        view = tally.view(JobState.RUNNING, 0.0)
        return Job(prepared, tally, observer, self._clock(), view, journal or self._journal, folder, time.time())
