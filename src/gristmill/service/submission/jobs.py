"""The jobs of a server: submissions become jobs of the coordinator.

Nothing here unpickles what a client sent. All calls may block for a moment, on files or the journal: they are made from
threads of their own, never from the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gristmill.api.job import replay_command
from gristmill.api.layouts import Layouts
from gristmill.api.messages import SubmitRequest, server_options
from gristmill.api.prepare import Preparation, Submission, check_replaced, prepare
from gristmill.errors import InputMissing, PathNotShared, UsageError
from gristmill.plan.stages import InputSpec
from gristmill.runtime.coordinator.coordinator import Coordinator
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.coordinator.registry import QueuedJob, RunningJob
from gristmill.runtime.files.blobs import BlobStore
from gristmill.runtime.files.joblogs import LogKeeper
from gristmill.runtime.journal.facts import JobRequested
from gristmill.runtime.journal.journal import Journal
from gristmill.service.doors.roles import Caller
from gristmill.service.drivers import Drivers
from gristmill.service.looking.lookup import JobLookup
from gristmill.service.refusals import MissingBlobs, NotTheirs
from gristmill.service.submission.checks import (
    ONLY_THE_CLIENT,
    check_count,
    check_sight,
    checked,
    paths_found,
    paths_named,
    places_written,
)
from gristmill.service.submission.keys import OneByOne, key_of
from gristmill.service.submission.wishes import JobWish

__all__ = ["JobService", "MissingBlobs", "SessionOfJob"]

_log = logging.getLogger(__name__)


@dataclass
class SessionOfJob:
    """What a job needs of the session that it belongs to.

    Attributes:
        id: its id.
        ticket: opens the blocks that it keeps.
        blobs: what its client has uploaded.
        user: whose it is.
        layouts: how what it keeps is cut.
    """

    id: str
    ticket: str
    blobs: BlobStore
    user: str = ""
    layouts: Layouts = field(default_factory=Layouts)


class JobService(JobLookup):
    """What the REST interface and the page do, apart from HTTP.

    Args:
        coordinator: runs the jobs.
        blobs: what clients have uploaded.
        data_dir: the server's own.
        logs: keeps what attempts print.
        journal: where all jobs are noted.

    Attributes:
        closing: the server is about to end: nobody is to be kept waiting.
        drivers: the programs that run as jobs here.
        check_paths: sees that jobs may read and write these; raises UsageError if not.
        check_written: sees that jobs may write there, and replace it; raises UsageError if not.
    """

    def __init__(
        self, coordinator: Coordinator, blobs: BlobStore, data_dir: Path, logs: LogKeeper, journal: Journal
    ) -> None:
        super().__init__(coordinator, data_dir, logs, journal)
        self.drivers = Drivers()
        self.blobs = blobs
        self.closing = False
        self.check_paths: Callable[[Iterable[str]], None] = lambda _paths: None
        self.check_written: Callable[[Iterable[str]], None] = lambda _paths: None
        self._submitting = OneByOne()

    # Taking jobs in

    def submit(
        self,
        request: SubmitRequest,
        key: str,
        session: SessionOfJob | None = None,
        driver: str = "",
        user: str = "",
        asked: str = "",
    ) -> str:
        """Take a job in; its id. It is durable when this returns.

        Args:
            request: the job.
            key: the same key with the same request is the same job, however often it comes; empty: always another one.
            session: that which the job belongs to.
            driver: the job whose program submits this one; empty: a client does.
            user: who submits it.
            asked: tells the request from others with the same key; empty: the request itself does.

        Raises:
            MissingBlobs: parts of its code are not here.
            KeyTaken: the key came with another request before.
            PathNotShared: the server does not see what the client sees.
            ServerUnreachable: as many jobs wait as may.
            UsageError: something else is wrong with it.
        """
        job = checked(request.submission)
        request = replace(request, submission=job)
        if job.driver:
            _check_driver(job, session, driver)
        key, asked = key_of(key, user), (asked or request.digest()) if key else ""
        with self._submitting.turn(session.id if session is not None else key):
            if key and (known := self._coordinator.find_by_key(key, asked)) is not None:
                return known.job
            stores = [self.blobs] if session is None else [session.blobs, self.blobs]
            names = (request.code, *job.bundles, *job.broadcasts)
            missing = [name for name in names if not any(store.has(name) for store in stores)]
            if missing:
                raise MissingBlobs(missing)
            self.check_paths(paths_named(request))
            self.check_written(places_written(job))
            check_sight(request)
            _check_output(job, session)
            job = replace(job, options=server_options(job.options, self.data_dir))
            if session is not None:
                wanted = session.layouts.wanted(job.plan)
                job = replace(job, session=session.id, session_ticket=session.ticket, reducers=wanted)
            store = next(store for store in stores if store.has(request.code))
            preparation = _prepared(replace(request, submission=job), store, tidy=False)
            if session is not None:
                session.layouts.note(job.plan, preparation.prepared.plan)
            try:
                self.check_found(preparation.prepared)
                check_count(request, preparation)
                return self._begin(preparation, job, key, asked, driver, user)
            except BaseException:
                preparation.undo()
                raise

    def check_found(self, prepared: PreparedJob) -> None:
        """See that a job may read what its inputs stand for, and write where its output leads, now.

        Raises:
            UsageError: not so.
        """
        self.check_paths(paths_found(prepared))
        if prepared.output_path is not None:
            self.check_written([prepared.place])
        check_replaced(prepared)

    def _begin(self, preparation: Preparation, job: Submission, key: str, asked: str, driver: str, user: str) -> str:
        replay = "" if job.driver else replay_command(preparation.folder)
        prepared = replace(preparation.prepared, replay=replay)
        running = self._coordinator.submit(
            prepared,
            folder=preparation.folder,
            key=key,
            request=asked,
            user=user,
            deadline_seconds=job.options.deadline_seconds,
            at_once=bool(driver),  # which waits for it
        )
        if running.job != preparation.prepared.spec.job:
            preparation.undo()
        if isinstance(running, RunningJob):
            self.drivers.note(running, driver, user)
        return running.job

    # Jobs whose code is loaded by an executor

    def request(self, wanted: JobRequested, blobs: Mapping[str, bytes]) -> str:
        """Take a job in whose code is to be loaded first; its id. It is durable when this returns.

        Raises:
            KeyTaken: its key came with another request before.
            ServerUnreachable: as many jobs wait as may.
        """
        return self._coordinator.request(wanted, blobs).job

    def load(self, submission: Submission, wanted: JobRequested) -> RunningJob:
        """Run a driver that loads the code of a job. How many at a time is the caller's to see to.

        Raises:
            ServerUnreachable: the server is about to end.
        """
        job = replace(submission, options=server_options(submission.options, self.data_dir))
        preparation = prepare(job, tidy=False)
        try:
            running = self._coordinator.submit(
                preparation.prepared, folder=preparation.folder, user=wanted.user, at_once=True
            )
        except BaseException:
            preparation.undo()
            raise
        assert isinstance(running, RunningJob), "what loads code does not wait"
        self.drivers.note(running, "", wanted.user, loads=wanted)
        return running

    def fulfil(self, request: SubmitRequest, job: str, caller: Caller) -> None:
        """Begin a job whose code a driver has loaded, with the inputs and the output that were asked for.

        Raises:
            NotTheirs: this caller does not load its code.
            JobCancelled: it is over meanwhile.
            UsageError: something is wrong with it.
        """
        wanted = self.drivers.load_of(caller.driver)
        if wanted is None or wanted.job != job:
            raise NotTheirs(f"The code of job {job} is loaded by the server, and by nobody else.")
        wish = JobWish.model_validate(wanted.request["wish"])
        asked = replace(
            request.submission, inputs=(InputSpec(tuple(wish.inputs)),), output=wish.place,
            name=wish.name or request.submission.name,
        )  # fmt: skip
        submission = checked(asked)
        if submission.driver:
            raise UsageError("What is loaded is a job, and no driver.")
        names = (request.code, *submission.bundles, *submission.broadcasts)
        if missing := [name for name in names if not self.blobs.has(name)]:
            raise MissingBlobs(missing)
        self.check_paths(paths_named(replace(request, submission=submission)))
        self.check_written(places_written(submission))
        check_sight(request)
        options = replace(server_options(submission.options, self.data_dir), priority=wanted.priority)
        preparation = _prepared(
            replace(request, submission=replace(submission, options=options)), self.blobs, tidy=False, job=job
        )
        try:
            self.check_found(preparation.prepared)
            prepared = replace(preparation.prepared, replay=replay_command(preparation.folder))
            self._coordinator.fulfil(job, prepared, preparation.folder)
        except BaseException:
            preparation.undo()
            raise

    def find_key(self, key: str, asked: str) -> str:
        """The job that came with a key; empty if none has.

        Raises:
            KeyTaken: it came with another request before.
        """
        known = self._coordinator.find_by_key(key, asked)
        return "" if known is None else known.job

    def is_loading(self, job: str) -> bool:
        """Whether the code of a job is being loaded."""
        known = self._coordinator.find(job)
        return isinstance(known, QueuedJob) and known.loading

    # Doing something with jobs

    def cancel(self, job: str, caller: Caller | None = None) -> bool:
        """Ask for a job to end; False if there is no such job.

        Args:
            job: its id.
            caller: who asks; None: the server itself.

        Raises:
            NotTheirs: it is somebody else's.
        """
        known = self._coordinator.find(job)
        if known is not None:
            _check_owner(job, known.user, caller)
            known.cancel()
        return known is not None

    def retry(self, job: str, caller: Caller, key: str = "") -> bool:
        """Try a job again that failed or was cancelled; False if there is no such job.

        Args:
            job: its id.
            caller: who asks.
            key: the same key is the same try, however often it comes; empty: always another one.

        Raises:
            NotTheirs: it is somebody else's.
            RetryRefused: it has not failed, and was not cancelled; or what it needs is not kept.
        """
        known = self._coordinator.find(job)
        if known is not None:
            _check_owner(job, known.user, caller)
            self._coordinator.retry(job, key_of(key, caller.user))
        return known is not None

    def drain(self, worker: str) -> bool:
        """Let a worker take no new work, and leave when it has done what it runs; False if there is none."""
        return self._coordinator.drain(worker)


def _check_owner(job: str, owner: str, caller: Caller | None) -> None:
    if caller is not None and not caller.driver and not caller.may_change(owner):
        raise NotTheirs(f"Job {job} is {owner or 'nobody'}'s: its owner or an admin may do this, not {caller.user}.")


def _prepared(request: SubmitRequest, blobs: BlobStore, *, tidy: bool, job: str = "") -> Preparation:
    submission = request.submission
    try:
        return prepare(replace(submission, code=blobs.read(request.code)), job=job, tidy=tidy)
    except InputMissing as error:
        if request.seen_files:
            raise PathNotShared(f"{error} {ONLY_THE_CLIENT}") from error
        raise
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError, OverflowError) as error:
        _log.info("a job that cannot be planned", exc_info=error)
        raise UsageError(f"This job cannot be planned: {type(error).__name__}: {error}.") from error


def _check_output(job: Submission, session: SessionOfJob | None) -> None:
    if job.output is None and (job.format or not (session or job.driver)):
        raise UsageError("A job on a server needs an output on a path that the server and all workers see.")


def _check_driver(job: Submission, session: SessionOfJob | None, driver: str) -> None:
    if session is not None or driver:
        raise UsageError("A driver is submitted by a client, not by another driver or in a session.")
    if len(job.plan.stages) != 1 or [spec.made for spec in job.inputs] != [1] or job.output is not None:
        raise UsageError("A driver is one task, and has no output of its own.")
