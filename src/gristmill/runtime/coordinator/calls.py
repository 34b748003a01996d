"""What others ask of a coordinator, beside to run a job: each call is answered by the intake, or by the loop."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from gristmill.errors import GristmillError, ServerUnreachable
from gristmill.runtime.contracts import Fleet
from gristmill.runtime.coordinator.dispatch import Dispatcher
from gristmill.runtime.coordinator.inbox import Forget, ForgetBroadcast, ForgetJobs, Item, Question
from gristmill.runtime.coordinator.intake import Intake
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.coordinator.leftovers import Leftovers
from gristmill.runtime.coordinator.registry import KnownJob, QueuedJob, RunningJob
from gristmill.runtime.views import RunningView, WorkerView
from gristmill.shuffle.contracts import BlockInfo

if TYPE_CHECKING:
    from gristmill.runtime.files.jobfolder import JobFolder
    from gristmill.runtime.journal.facts import JobRequested

T = TypeVar("T")

_ANSWER_SECONDS = 10.0  # for the loop to come to a question


class Calls:
    """A part of ``Coordinator``. Any thread may call, but the loop's."""

    _crash: Exception | None
    _dispatcher: Dispatcher
    _fleet: Fleet
    _intake: Intake
    _leftovers: Leftovers
    _queue: queue.SimpleQueue[Item]
    _threaded: bool

    def request(self, wanted: JobRequested, blobs: Mapping[str, bytes] | None = None) -> KnownJob:
        """Take in a job whose code is to be loaded first. It waits for its turn; then ``hooks.on_turn`` is called.

        Args:
            wanted: the job, with an id of its own (see ``jobfolder.claim_job``). It is signed here.
            blobs: what came with it, by name.

        Returns:
            The job, which is durable; or the one that was requested with the same key before.

        Raises:
            JournalFailed: it cannot be noted.
            KeyTaken: the key came with another request before.
            ServerUnreachable: as many jobs wait as may.
        """
        return self._intake.room.request(wanted, blobs or {})

    def fulfil(self, job: str, prepared: PreparedJob, folder: JobFolder | None = None) -> KnownJob:
        """The code of a requested job is loaded: it begins at once, under the same id.

        Args:
            job: its id.
            prepared: what is to run.
            folder: as in :meth:`submit`.

        Raises:
            JobCancelled: it was cancelled meanwhile; what was prepared is the caller's to undo.
            JournalFailed: it cannot be noted.
        """
        return self._intake.fulfil(job, prepared, folder)

    def refuse(self, job: str, error: GristmillError) -> None:
        """The code of a requested job cannot be loaded: it has failed. Nothing, if it is over anyway.

        Raises:
            JournalFailed: that cannot be noted.
        """
        self._intake.room.refuse(job, error)

    def retry(self, job: str, key: str = "") -> KnownJob:
        """Try a job of the journal again that failed or was cancelled. Only what is not done, or is lost, runs.

        Args:
            job: its id.
            key: the same key is the same try, however often it comes; empty: always another one.

        Returns:
            The job, which waits for its turn. That it is tried again is durable.

        Raises:
            JobNotFound: there is no such job.
            RetryRefused: it is not over, or has succeeded, or what it needs is not kept.
            PayloadAltered: the journal does not hold what was accepted.
            ServerUnreachable: as many jobs wait as may.
            JournalFailed: it cannot be noted.
        """
        return self._intake.room.retry(job, key)

    def forget_jobs(self, jobs: Iterable[str]) -> None:
        """The journal does not remember these any more, which are over: nothing else does. Returns at once."""
        gone = tuple(jobs)
        self._intake.registry.forget(*gone)
        self._queue.put(ForgetJobs(gone))

    def running_jobs(self) -> list[RunningJob]:
        """The jobs that run."""
        known = self._intake.registry.known()
        return [job for job in known if isinstance(job, RunningJob) and job.outcome is None]

    @property
    def kept_jobs(self) -> tuple[str, ...]:
        """The jobs that are over, or wait, and whose blocks workers may have. To be asked before ``start``."""
        waiting = (known.job for known in self._intake.registry.known() if isinstance(known, QueuedJob))
        return *self._leftovers, *waiting

    def forget(self, session: str, kept: str = "") -> None:
        """Keep something of a session no more; nothing of it, if ``kept`` is empty. Returns at once."""
        self._queue.put(Forget(session, kept))

    def end_session(self, session: str) -> None:
        """Keep nothing of a session any more, at no worker. Its jobs are over. Returns at once."""
        self._queue.put(Forget(session))
        self._fleet.drop_job(session)

    def forget_broadcast(self, session: str, digest: str) -> None:
        """A broadcast is used no more by a session. Returns at once."""
        self._queue.put(ForgetBroadcast(session, digest))

    def kept(self, session: str, kept: str) -> list[BlockInfo]:
        """The blocks that a session keeps under a name, in the order of their tasks; those that made none left out."""
        return self._dispatcher.keeping.blocks(session, kept)

    def find(self, job: str) -> KnownJob | None:
        """A job by its id, be it one that waits or runs, or one of earlier."""
        return self._intake.registry.find(job)

    def find_by_key(self, key: str, request: str = "") -> KnownJob | None:
        """The job that was submitted with an idempotency key.

        Raises:
            KeyTaken: that was with another request.
        """
        return self._intake.registry.find_key(key, request)

    def jobs(self) -> list[KnownJob]:
        """All jobs, the youngest first."""
        return self._intake.registry.all()

    def look(self, job: str) -> list[RunningView]:
        """What runs of a job now, by slots; nothing, if it does not run.

        Raises:
            ServerUnreachable: the loop does not come to it.
        """
        return self._ask(lambda: self._dispatcher.running_of(job))

    def workers(self) -> list[WorkerView]:
        """How the workers are.

        Raises:
            ServerUnreachable: the loop does not come to it.
        """
        return self._ask(self._dispatcher.worker_views)

    def drain(self, worker: str) -> bool:
        """Let a worker take no new work, and leave when it has done what it runs. False: there is none of this name.

        Returns at once; how far it is, :meth:`workers` tells.

        Raises:
            ServerUnreachable: the loop does not answer.
        """
        if all(view.worker != worker or view.state == "gone" for view in self.workers()):
            return False
        self._fleet.drain_worker(worker)
        return True

    def _ask(self, ask: Callable[[], T]) -> T:
        """What the loop answers, which alone may look at what is its own."""
        if not self._threaded:
            return ask()
        if self._crash is not None:
            raise ServerUnreachable("The server's coordinator has ended.")
        box: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._queue.put(Question(ask, box))
        try:
            return box.get(timeout=_ANSWER_SECONDS)
        except queue.Empty:
            raise ServerUnreachable("The server's coordinator does not answer.") from None
