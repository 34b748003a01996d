"""The coordinator: one loop between a fleet, which acts, and the scheduler, which decides.

Fleet events and requests come in through one queue. The loop hands them to the dispatcher, which turns them into the
scheduler's events and carries out what it says. Nothing is unpickled here and no user code is run; only an inline fleet
does that, within ``launch``, and then the loop runs in the thread of whoever waits, so that a debugger works there.

What must outlive this process is noted in a journal. Nothing is answered that is not durable: that a job is accepted,
and how it ended.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from gristmill.errors import FailureReport, GristmillError, JournalFailed, ServerUnreachable
from gristmill.runtime import outcome as outcomes
from gristmill.runtime.contracts import AttemptDone, Fleet, FleetBroken
from gristmill.runtime.coordinator.calls import Calls
from gristmill.runtime.coordinator.dispatch import Dispatcher
from gristmill.runtime.coordinator.ending import Ending, let_go, verdict_on
from gristmill.runtime.coordinator.hooks import Hooks
from gristmill.runtime.coordinator.inbox import (
    CancelJob,
    Enders,
    Forget,
    ForgetBroadcast,
    ForgetJobs,
    Item,
    JobOver,
    JournalBroken,
    Question,
    Stop,
    StorageBack,
    Submit,
    wound_up,
)
from gristmill.runtime.coordinator.intake import Intake
from gristmill.runtime.coordinator.jobs import Job, PreparedJob
from gristmill.runtime.coordinator.leftovers import KEPT_JOBS, Leftovers
from gristmill.runtime.coordinator.registry import KnownJob, RunningJob
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import Observer
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.queueing import QueueLimits

if TYPE_CHECKING:
    from gristmill.runtime.coordinator.resumption import Resumption
    from gristmill.runtime.files.jobfolder import JobFolder
    from gristmill.runtime.journal.journal import Journal

__all__ = ["Coordinator", "QueueLimits", "RunningJob"]

_VIEW_SECONDS = 0.1
_WAIT_SECONDS = 1.0  # no wait is longer, whatever the scheduler wants
_JOIN_SECONDS = 10.0
_REJOIN_SECONDS = 10.0
_STORAGE_SECONDS = 600.0  # as long as clients and workers wait for a server


class Coordinator(Calls):
    """Runs jobs on a fleet.

    Args:
        fleet: where slots live; the coordinator starts and closes it.
        threaded: False to run the loop within :meth:`RunningJob.wait` instead of a thread of its own.
        clock: seconds, monotonic.
        journal: where all jobs are noted. A job of this machine may bring its own instead.
        rejoin_seconds: how long a job that is taken up waits for the workers that had blocks of it.
        storage_seconds: how long it waits for its input, and for what it staged, if these cannot be seen.
        signing_key: signs what is accepted, and what the journal gives back must bear it; empty: nothing is signed.
        limits: how many jobs of the journal run at a time, and wait.
        hooks: who is told of what becomes of the journal's jobs.
        leftovers: of which jobs that ended without an output blocks are kept.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        threaded: bool = True,
        clock: Callable[[], float] = time.monotonic,
        journal: Journal | None = None,
        rejoin_seconds: float = _REJOIN_SECONDS,
        storage_seconds: float = _STORAGE_SECONDS,
        signing_key: bytes = b"",
        limits: QueueLimits | None = None,
        hooks: Hooks | None = None,
        leftovers: Leftovers | None = None,
    ) -> None:
        self.hooks = hooks or Hooks()
        self._leftovers = leftovers or Leftovers()
        self._fleet = fleet
        self._clock = clock
        self._storage_seconds = storage_seconds
        self._journal = journal
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._jobs: dict[str, Job] = {}
        self._dispatcher = Dispatcher(
            fleet,
            self._jobs,
            clock,
            threaded=threaded,
            rejoin_seconds=rejoin_seconds,
            note=(lambda _fact: None) if journal is None else journal.add,
        )
        self._viewed_at = clock()
        self._crash = None  # what ended the loop
        self._stopping = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="gristmill-coordinator", daemon=True)
        self._threaded = threaded
        self._enders = Enders(self._queue.put, self._tell)
        self._intake = Intake(
            self,
            self._queue.put,
            clock,
            journal,
            storage_seconds,
            signing_key,
            limits or QueueLimits(),
            self.hooks,
        )

    def start(self) -> None:
        """Let the fleet come up. Returns at once."""
        self._fleet.start(self._queue.put)
        if self._journal is not None:
            self._journal.when_failed(lambda failure: self._queue.put(JournalBroken(failure)))
        self._dispatcher.workers_since = self._clock()
        if self._threaded:
            self._thread.start()
        self._intake.start()

    def submit(
        self,
        prepared: PreparedJob,
        observer: Observer | None = None,
        *,
        key: str = "",
        request: str = "",
        journal: Journal | None = None,
        folder: JobFolder | None = None,
        user: str = "",
        deadline_seconds: float | None = None,
        at_once: bool = False,
    ) -> KnownJob:
        """Begin a job. If the journal is essential, the job is durable when this returns.

        A job of the coordinator's own journal waits for its turn if as many run as may. Then its folder and its output
        are not the caller's any more, and are opened again when its turn comes.

        Args:
            prepared: the job.
            observer: is told how it stands; not of a job that waits.
            key: an idempotency key. If a job came with it before, that one is returned, and this one is not begun.
            request: tells what was asked for with the key from all else that could be.
            journal: the job's own.
            folder: the job's folder, if it is to end with the job: removed if it succeeds, else released.
            user: whose it is.
            deadline_seconds: so long after now it is late, and the hook for that is called.
            at_once: another job waits for it, so that it does not wait for a turn. That is so with jobs of sessions
                anyway.

        Raises:
            JournalFailed: it cannot be noted; it does not begin.
            KeyTaken: the key came with another request before.
            ServerUnreachable: as many jobs wait as may.
        """
        return self._intake.submit(prepared, observer, key, request, journal, folder, user, deadline_seconds, at_once)

    def resume(
        self,
        prepared: PreparedJob,
        resumption: Resumption,
        observer: Observer | None = None,
        *,
        journal: Journal | None = None,
        folder: JobFolder | None = None,
    ) -> RunningJob:
        """Go on with a job of a coordinator that is gone. The arguments are those of :meth:`submit`.

        Raises:
            JournalFailed: it cannot be noted.
        """
        return self._intake.resume(prepared, resumption, observer, journal, folder)

    def resume_all(self) -> list[RunningJob]:
        """Go on with every job that the journal says was accepted and has not ended. To be called before ``start``.

        Raises:
            JournalFailed: the journal cannot be read or written.
        """
        assert self._journal is not None, "there is nothing to resume from"
        self._dispatcher.crew.recall(self._journal.facts(""))
        resumed = self._intake.resume_all()
        states = (JobState.FAILED, JobState.CANCELLED)
        for found in reversed(self._journal.page_of_jobs(states=states, limit=KEPT_JOBS)):
            if found.ended is not None and not found.session and not found.driver:
                self._leftovers.add(found.job, found.ended, found.bytes_in)
        self._leftovers.too_many(time.time())
        return resumed

    @property
    def crash(self) -> Exception | None:
        """What ended the loop; None if it runs. A server must end then: its jobs go on when it is started again."""
        return self._crash

    def close(self) -> None:
        """End every process of the fleet. May be called again.

        Jobs that still run are cancelled; but those of an essential journal are left as they are, for the next
        coordinator to go on with.
        """
        if self._closed:
            return
        self._closed = True
        self._intake.close()
        self._queue.put(Stop())
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)
        self._enders.wait(_JOIN_SECONDS)  # an output that is being put in its place must not be disturbed
        self._fleet.close()
        if self._thread.is_alive():
            return
        with suppress(queue.Empty):
            while True:  # jobs that were submitted too late to begin, or ended just now
                item = self._queue.get_nowait()
                if isinstance(item, Submit):
                    self._jobs[item.job.id] = item.job
                elif isinstance(item, (JobOver, CancelJob)):
                    self._handle(item)
        self._end_all(JobState.CANCELLED, None)
        if self._journal is not None:
            self._journal.close()

    def request_cancel(self, job: Job) -> None:
        """See :meth:`RunningJob.cancel`."""
        self._intake.cancel(job)

    def wait_for(self, job: Job, timeout: float | None) -> Outcome | None:
        """See :meth:`RunningJob.wait`."""
        deadline = None if timeout is None else self._clock() + timeout
        while not job.over.is_set() and self._crash is None:
            left = _WAIT_SECONDS if deadline is None else min(_WAIT_SECONDS, deadline - self._clock())
            if self._threaded or self._closed:
                job.over.wait(max(0.0, left))
            else:
                self._turn(max(0.0, left))
            if left <= 0:
                break
        if self._crash is not None and job.outcome is None:
            raise _again(self._crash)
        return job.outcome

    # The loop.

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn(_WAIT_SECONDS)
        except Exception as error:  # a defect of ours: whoever waits must learn of it, since this thread ends here
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Nothing can be decided any more. What is in the journal is for the next coordinator."""
        if not isinstance(error, JournalFailed):
            self._keep_events(error)
        self._crash, self._stopping = error, True  # from here on, others see it
        for job in self._jobs.values():
            job.over.set()

    def _keep_events(self, error: Exception) -> None:
        """After a defect: leave what the scheduler was told beside the journals, so that it can be played again."""
        journals = (self._journal, *(job.journal for job in self._jobs.values()))
        folders = dict.fromkeys(journal.path.parent for journal in journals if journal is not None)
        self._dispatcher.events.leave_in(folders, error)

    def _turn(self, limit: float) -> None:
        """Wait for something to happen, for a bounded time, and handle all that is queued."""
        with suppress(queue.Empty):
            self._handle(self._queue.get(timeout=self._patience(limit)))
            while not self._stopping:
                self._handle(self._queue.get_nowait())
                if self._clock() - self._viewed_at >= _VIEW_SECONDS:
                    break
        now = self._clock()
        self._dispatcher.time_passed(now)
        for job in list(self._jobs.values()):
            self._dispatcher.look_after(job, now)
            if job.awaited and now >= job.await_until and job.state is JobState.RUNNING:
                job.refuse(outcomes.storage_away(job.id, job.awaited, self._storage_seconds))
            if _is_due(job, now):
                self._end(job, verdict_on(job))
        if now - self._viewed_at >= _VIEW_SECONDS:
            self._viewed_at = now
            for job in self._jobs.values():
                note = f"Waiting for {job.awaited}." if job.awaited else self._dispatcher.note_on(job)
                job.view = job.tally.view(JobState.RUNNING, now - job.began, note)
                if job.observer is not None:
                    job.observer(job.view)

    def _patience(self, limit: float) -> float:
        times = [self._viewed_at + _VIEW_SECONDS] if self._jobs else []
        if self._dispatcher.wake_at is not None:
            times.append(self._dispatcher.wake_at)
        for job in self._jobs.values():
            if job.state is not JobState.RUNNING and not job.ending:
                times.append(job.drain_until if job.draining else 0.0)
        return max(0.0, min(limit, min(times, default=limit + self._clock()) - self._clock()))

    def _handle(self, item: Item) -> None:
        match item:
            case AttemptDone():  # first, for there are many of these
                self._dispatcher.take(item)
            case Submit(job):
                self._begin(job)
            case CancelJob(name):
                if (found := self._jobs.get(name)) is not None:
                    self._dispatcher.cancel(found)
            case Forget(session, kept):
                self._dispatcher.forget(session, kept)
            case ForgetBroadcast(session, digest):
                self._fleet.drop_job(f"{session}/{digest}")
            case ForgetJobs(jobs):
                for forgotten in filter(self._leftovers.remove, jobs):
                    self._fleet.drop_job(forgotten)
            case JobOver():
                self._ended(item)
            case StorageBack():
                self._reopened(item)
            case JournalBroken(failure):
                self._give_up(failure)
            case Question(ask, box):
                box.put(ask())
            case Stop():
                self._stopping = True
            case FleetBroken(report):
                self._dispatcher.take(item)
                self._end_all(JobState.FAILED, report)
            case _:
                self._dispatcher.take(item)

    def _begin(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._leftovers.remove(job.id)  # it is tried again
        if self._dispatcher.broken is not None:
            self._end_all(JobState.FAILED, self._dispatcher.broken)
        elif job.resumption is not None and job.resumption.is_over:
            self._dispatcher.conclude(job, job.resumption)
        elif job.refused is None and not job.awaited:
            self._fleet.add_job(job.prepared.spec)

    def _reopened(self, item: StorageBack) -> None:
        """What a job waited for is there: it goes on, or is found to be refused."""
        job, found = item.job, item.reopened
        if job.state is not JobState.RUNNING or self._dispatcher.broken is not None:
            with suppress(OSError):  # it was cancelled meanwhile; what cannot be removed is removed by a later run
                found.prepared.output.abort()
            return
        job.awaited, job.prepared, job.resumption = "", found.prepared, found.resumption
        if found.refused is not None:
            job.refuse(found.refused)
        self._begin(job)

    # The end of a job.

    def _end(self, job: Job, error: GristmillError | None) -> None:
        """Begin the end of a job, which waits for disks: in a thread of its own, if there are threads."""
        job.ending = True
        view = job.tally.view(job.state, self._clock() - job.began)
        ending = Ending(job, view, job.tally.parts() if error is None else (), error)
        if not self._threaded or self._closed:
            over = wound_up(ending)
            self._ended(over)
            self._tell(over)
        else:
            self._enders.begin(ending)

    def _ended(self, item: JobOver) -> None:
        """A job is over: whoever waits for it is told."""
        job = item.job
        if item.outcome is None:
            assert item.crash is not None
            self._give_up(item.crash)
            return
        self._jobs.pop(job.id, None)
        if item.outcome.error is None:
            while job.frees:
                self._fleet.free(job.frees.popleft()[1])
        if not self._closed:  # also if it was not added: workers keep what they have of jobs that go on
            self._drop(job, item.outcome)
        job.view = item.outcome.view
        job.outcome = item.outcome
        self._intake.over(job, item.outcome)
        try:
            if job.observer is not None and self._crash is None:
                job.observer(job.view)
        finally:
            job.over.set()

    def _drop(self, job: Job, outcome: Outcome) -> None:
        """Workers forget a job; but not what they have of one that may be tried again."""
        spec, now = job.prepared.spec, time.time()
        server = job.journal is not None and job.journal is self._journal
        if outcome.error is None or not server or spec.session or spec.driver:
            self._fleet.drop_job(job.id)
            return
        self._dispatcher.strays(job)
        self._fleet.keep_job(job.id)
        self._leftovers.add(job.id, now, outcome.view.shuffle_bytes)
        for gone in self._leftovers.too_many(now):
            self._fleet.drop_job(gone)

    def _tell(self, over: JobOver) -> None:
        """Tell who wants to know that a job is over."""
        if over.outcome is not None and self._crash is None:
            self._intake.tell_ended(over.job, over.outcome)

    def _end_all(self, state: JobState, report: FailureReport | None) -> None:
        """End every job without the scheduler: the fleet is gone or is about to go."""
        for job in list(self._jobs.values()):
            if job.ending:
                continue
            if self._closed and job.journal is not None and job.journal.essential:
                if job.state in (JobState.CANCELLED, JobState.FAILED):  # decided, and its client may know
                    self._end(job, verdict_on(job))
                else:
                    self._leave(job)
                continue
            spec = job.prepared.spec
            job.state = state
            cancelled = outcomes.job_cancelled(spec.job, spec.folder)
            self._end(job, outcomes.job_rejected(spec.job, report, spec.folder) if report else cancelled)

    def _leave(self, job: Job) -> None:
        """Leave a job to the next coordinator."""
        self._crash = self._crash or ServerUnreachable("The server ends; its jobs go on when it is started again.")
        let_go(job)
        job.over.set()


def _again(error: Exception) -> Exception:
    """The same exception, to be raised once more: one object would grow its traceback with each who is told."""
    fresh = type(error).__new__(type(error), *error.args)
    fresh.__dict__.update(error.__dict__)
    fresh.__cause__ = error
    return fresh


def _is_due(job: Job, now: float) -> bool:
    """Whether it is decided how a job ends, and none of its attempts can write any more."""
    return job.state is not JobState.RUNNING and not job.ending and (not job.draining or now >= job.drain_until)
