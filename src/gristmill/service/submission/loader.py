"""Code that was uploaded, or that only the workers have, becomes a job: an executor loads it, never this process.

At the turn of such a job a driver is run that loads its code (``api.uploaded``), with a token that opens the upload of
blobs and the one job that it is for. What it hands back is a submission like any other, of which nothing is unpickled.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace

from gristmill.api.driver import driver_of
from gristmill.api.prepare import Submission
from gristmill.api.uploaded import LoadTask
from gristmill.errors import FailureReport, GristmillError, JobCancelled, JobFailed, ServerUnreachable
from gristmill.runtime.coordinator.registry import RunningJob
from gristmill.runtime.journal.facts import JobRequested
from gristmill.runtime.outcome import Outcome
from gristmill.service.drivers import is_loader, loader_name
from gristmill.service.submission.jobs import JobService
from gristmill.service.submission.wishes import JobWish

CODE = "code"
"""The blob of a requested job that is the file that came with it."""
_AT_ONCE = 4  # each takes an executor beside those that run tasks, and beside those of scripts
_WAIT_SECONDS = 0.5
_LOAD_SECONDS = 600.0


class Loader:
    """Loads the code of jobs. Any thread may call.

    Args:
        jobs: the server's jobs.
        resumed: what an earlier server has left running. Code that it was loading is loaded again.
    """

    def __init__(self, jobs: JobService, resumed: Iterable[RunningJob] = ()) -> None:
        self._jobs = jobs
        self._closing = threading.Event()
        self._places = threading.Semaphore(_AT_ONCE)
        for running in resumed:
            if is_loader(running.name, running.held.prepared.spec.driver):
                running.cancel()

    def close(self) -> None:
        """Begin no more. What is being loaded is loaded again by the next server."""
        self._closing.set()

    def on_turn(self, wanted: JobRequested, blobs: Mapping[str, bytes]) -> None:
        """The turn of a job has come: load its code, and return when that is done, or will not be.

        Raises:
            JobFailed: it cannot be loaded; the user's own line is in it.
            ServerUnreachable: the server is about to end; the next one loads it.
        """
        wish = JobWish.model_validate(wanted.request["wish"])
        file = str(wanted.request.get("file", ""))
        task = task_of(wanted.job, wish, file, blobs.get(CODE, b""))
        outcome = None
        if self._has_place(wanted.job):
            try:
                driver = self._begin(wanted, task, blobs)
                outcome = None if driver is None else self._wait(wanted.job, driver)
            finally:
                self._places.release()
        if outcome is not None and self._jobs.is_loading(wanted.job):
            raise _failed(wanted.job, outcome)

    def _has_place(self, job: str) -> bool:
        """Wait for a place: each takes an executor beside those that run tasks. False: nobody wants it any more."""
        while not self._closing.is_set() and self._jobs.is_loading(job):
            if self._places.acquire(timeout=_WAIT_SECONDS):
                return True
        return False

    def _begin(self, wanted: JobRequested, task: LoadTask, blobs: Mapping[str, bytes]) -> RunningJob | None:
        """Run a driver that loads it, as soon as the server takes one; None if nobody wants it any more.

        It was accepted, so it waits for as long as that takes.
        """
        bundles: tuple[str, ...] = ()
        if not task.source and blobs.get(CODE):
            bundles = (self._jobs.blobs.add(blobs[CODE]),)
        while not self._closing.is_set() and self._jobs.is_loading(wanted.job):
            try:
                return self._jobs.load(_submission(wanted.job, task, bundles), wanted)
            except ServerUnreachable:
                self._closing.wait(_WAIT_SECONDS)
        return None

    def _wait(self, job: str, driver: RunningJob) -> Outcome | None:
        """How the driver ended; None if nobody waits for that.

        Raises:
            ServerUnreachable: the coordinator has ended, by a defect or in order.
        """
        while not self._closing.is_set():
            with self._jobs.while_it_lives():
                outcome = driver.wait(_WAIT_SECONDS)
            if outcome is not None:
                return outcome
            if not self._jobs.is_loading(job):
                status = self._jobs.status(job)
                if status is not None and status.is_over:  # whoever wanted it has cancelled it
                    driver.cancel()
                return None
        return None


def task_of(job: str, wish: JobWish, file: str, code: bytes) -> LoadTask:
    """What an executor is to load.

    Args:
        job: the id of the job that is asked for.
        wish: what is asked for.
        file: the name of the file that came along; empty: none did.
        code: what is in it.
    """
    options = wish.job_options()
    return LoadTask(
        job=job,
        file=file,
        source=code if file.endswith(".py") else b"",
        spec=wish.job or "",
        functions=wish.functions,
        params=dict(wish.params),
        inputs=tuple(wish.inputs),
        output=wish.place,
        options=replace(options, params={}),
        name=wish.name or "",
    )


def _submission(job: str, task: LoadTask, bundles: tuple[str, ...]) -> Submission:
    """A driver that runs a task. Its code is pickled here: it is ours, and user code is bytes in it."""
    made = driver_of(task, loader_name(job), task.options)
    options = replace(made.options, task_timeout_seconds=_LOAD_SECONDS, split_bytes=None, shuffle_dir=None,
                      overwrite=False, deadline_seconds=None)  # fmt: skip
    return replace(made, options=options, bundles=bundles)


def _failed(job: str, outcome: Outcome) -> GristmillError:
    """Why the code of a job could not be loaded, with the user's own line first."""
    error = outcome.error
    if isinstance(error, JobCancelled):
        return JobFailed(f"Job {job} failed: the loading of its code was cancelled.")
    report: FailureReport | None = getattr(error, "report", None)
    if report is None:
        why = "its code was loaded, and nothing came of it." if error is None else str(error)
        return JobFailed(f"Job {job} failed: {why}")
    if not report.frames:
        return JobFailed(f"Job {job} failed: {report.message}", report)
    lines = [f"Job {job} failed: its code could not be loaded."]
    frame = report.frames[-1]
    lines += [f"{frame.file}:{frame.line}, in {frame.function}", *([f"    {frame.source}"] if frame.source else [])]
    return JobFailed("\n".join([*lines, report.what]), report)
