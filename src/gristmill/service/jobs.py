"""The jobs of a server: submissions become jobs of the coordinator, and questions about them are answered.

Nothing here unpickles what a client sent. All calls may block for a moment, on files or the journal: they are made from
threads of their own, never from the event loop.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from gristmill.api.job import replay_command
from gristmill.api.layouts import Layouts
from gristmill.api.messages import JobStatus, SubmitRequest, server_options
from gristmill.api.prepare import Preparation, Submission, prepare
from gristmill.errors import InputMissing, PathNotShared, ServerUnreachable, UsageError
from gristmill.runtime.blobs import BlobStore
from gristmill.runtime.coordinator import Coordinator
from gristmill.runtime.joblogs import LogKeeper, logs_below
from gristmill.runtime.outcome import error_to_json
from gristmill.runtime.registry import KnownJob, RunningJob
from gristmill.service.drivers import Drivers

_CLOCKS_SECONDS = 2.0  # file systems keep times of change more or less exactly
_SETTLE_SECONDS = 1.0


class MissingBlobs(UsageError):
    """The client must upload these first."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        super().__init__(f"Not uploaded yet: {', '.join(names)}.")


@dataclass
class SessionOfJob:
    """What a job needs of the session that it belongs to.

    Attributes:
        id: its id.
        ticket: opens the blocks that it keeps.
        blobs: what its client has uploaded.
        layouts: how what it keeps is cut.
    """

    id: str
    ticket: str
    blobs: BlobStore
    layouts: Layouts = field(default_factory=Layouts)


class JobService:
    """What the REST interface does, apart from HTTP.

    Args:
        coordinator: runs the jobs.
        blobs: what clients have uploaded.
        data_dir: the server's own.
        logs: keeps what attempts print.

    Attributes:
        closing: the server is about to end: nobody is to be kept waiting.
        drivers: the programs that run as jobs here.
    """

    def __init__(self, coordinator: Coordinator, blobs: BlobStore, data_dir: Path, logs: LogKeeper) -> None:
        self.drivers = Drivers()
        self._logs = logs
        self.blobs = blobs
        self.closing = False
        self._coordinator = coordinator
        self._data_dir = data_dir
        self._submitting = threading.Lock()  # one at a time: a key that comes twice at once is one job

    def submit(
        self,
        request: SubmitRequest,
        key: str,
        session: SessionOfJob | None = None,
        driver: str = "",
    ) -> str:
        """Take a job in; its id. It is durable when this returns.

        Args:
            request: the job.
            key: the same key with the same request is the same job, however often it comes; empty: always another one.
            session: that which the job belongs to.
            driver: the job whose program submits this one; empty: a client does.

        Raises:
            MissingBlobs: parts of its code are not here.
            KeyTaken: the key came with another request before.
            PathNotShared: the server does not see what the client sees.
            ServerUnreachable: as many drivers run as can.
            UsageError: something else is wrong with it.
        """
        if request.submission.driver:
            _check_driver(request.submission, session, driver)
        with self._submitting:
            asked = request.digest() if key else ""
            if key and (known := self._coordinator.find_by_key(key, asked)) is not None:
                return known.job
            job = request.submission
            stores = [self.blobs] if session is None else [session.blobs, self.blobs]
            names = (request.code, *job.bundles, *job.broadcasts)
            missing = [name for name in names if not any(store.has(name) for store in stores)]
            if missing:
                raise MissingBlobs(missing)
            _check_sight(request)
            _check_output(job, session)
            if job.driver:
                self.drivers.check_room()
            job = replace(job, options=server_options(job.options, self._data_dir))
            if session is not None:
                wanted = session.layouts.wanted(job.plan)
                job = replace(job, session=session.id, session_ticket=session.ticket, reducers=wanted)
            store = next(store for store in stores if store.has(request.code))
            preparation = _prepared(replace(request, submission=job), store)
            if session is not None:
                session.layouts.note(job.plan, preparation.prepared.plan)
            try:
                _check_count(request, preparation)
                replay = "" if job.driver else replay_command(preparation.folder)
                prepared = replace(preparation.prepared, replay=replay)
                running = self._coordinator.submit(prepared, folder=preparation.folder, key=key, request=asked)
            except BaseException:
                preparation.undo()
                raise
            if running.job != preparation.prepared.spec.job:
                preparation.undo()
            if isinstance(running, RunningJob):
                self.drivers.note(running, driver)
            return running.job

    def status(self, job: str) -> JobStatus | None:
        """How a job stands; None if there is no such job."""
        running = self._coordinator.find(job)
        with self._while_it_lives():
            return None if running is None else _status(running)

    def all(self) -> list[JobStatus]:
        """Every job that is known, the newest first."""
        with self._while_it_lives():
            return sorted(map(_status, self._coordinator.jobs()), key=lambda status: status.submitted, reverse=True)

    @contextmanager
    def _while_it_lives(self) -> Iterator[None]:
        """If the coordinator has ended, this server is about to: the next one will know.

        Raises:
            ServerUnreachable: instead of what has ended it.
        """
        try:
            yield
        except Exception as error:
            if self._coordinator.crash is None or error.__cause__ is not self._coordinator.crash:
                raise
            raise ServerUnreachable(f"The server is about to end: {error}") from error

    def cancel(self, job: str) -> bool:
        """Ask for a job to end; False if there is no such job."""
        running = self._coordinator.find(job)
        if running is not None:
            running.cancel()
        return running is not None

    def logs(self, job: str) -> Iterator[tuple[str, str]]:
        """What attempts of a job printed, by attempt: those that are over, and those that run on this machine."""
        found: dict[str, str] = {}
        self._logs.settle(_SETTLE_SECONDS)
        for folder in (self._data_dir, self._data_dir / "worker"):  # there are also those of attempts that run
            found.update(logs_below(folder / "jobs" / job))
        running = self._coordinator.find(job)
        if not found and running is not None:  # they could not be kept, or were pruned
            tails = {str(report.details.get("task", "a task")): report.log_tail for report in running.view().failures}
            found.update({task: tail for task, tail in tails.items() if tail})
        yield from sorted(found.items())


def _status(running: KnownJob) -> JobStatus:
    outcome = running.wait(0.0)
    view = running.view() if outcome is None else outcome.view
    error = None if outcome is None or outcome.error is None else error_to_json(outcome.error)
    return JobStatus(view, running.output, running.format, running.submitted, error)


def _prepared(request: SubmitRequest, blobs: BlobStore) -> Preparation:
    job = request.submission
    try:
        return prepare(replace(job, code=blobs.read(request.code)))
    except InputMissing as error:
        if request.seen_files:
            raise PathNotShared(f"{error} {_only_the_client}") from error
        raise


_only_the_client = "The machine that submits the job sees it, but the server does not: put it where all workers see it."


def _check_output(job: Submission, session: SessionOfJob | None) -> None:
    if job.output is None and (job.format or not (session or job.driver)):
        raise UsageError("A job on a server needs an output on a path that the server and all workers see.")


def _check_driver(job: Submission, session: SessionOfJob | None, driver: str) -> None:
    if session is not None or driver:
        raise UsageError("A driver is submitted by a client, not by another driver or in a session.")
    if len(job.plan.stages) != 1 or [spec.made for spec in job.inputs] != [1] or job.output is not None:
        raise UsageError("A driver is one task, and has no output of its own.")


def _check_sight(request: SubmitRequest) -> None:
    """See that the client's paths lead to the same files here."""
    if request.probe and not Path(request.probe).exists():
        raise PathNotShared(
            f"The output {request.submission.output} is not to be written: its folder is another one on the server "
            "than on the machine that submits the job. Name one that all workers see."
        )
    for file in request.seen:
        try:
            status = os.stat(file.path)  # noqa: PTH116 - a path as the client wrote it
        except OSError as error:
            raise PathNotShared(f"The input {file.path}: {error.strerror}. {_only_the_client}") from error
        if status.st_size != file.size_bytes:
            raise PathNotShared(
                f"The input {file.path} is another file on the server ({status.st_size:,} bytes) than on the machine "
                f"that submits the job ({file.size_bytes:,} bytes). Put it where all workers see it."
            )
        if abs(status.st_mtime - file.changed) > _CLOCKS_SECONDS:
            raise PathNotShared(
                f"The input {file.path} is another file on the server than on the machine that submits the job: it "
                "was changed at another time. Put it where all workers see it."
            )


def _check_count(request: SubmitRequest, preparation: Preparation) -> None:
    here = int(preparation.folder.facts.get("input_files", 0))
    if request.seen_files and here != request.seen_files:
        raise PathNotShared(
            f"The inputs are {here:,} files on the server and {request.seen_files:,} on the machine that submits the "
            "job. Put them where all workers see them."
        )
