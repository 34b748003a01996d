"""A job on a server: hand it over, wait for it, and see it as if it ran here."""

from __future__ import annotations

import linecache
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gristmill.api.client import MissingBlobs, ServerClient, connect
from gristmill.api.messages import MAX_SEEN_FILES, SUBMISSION_TYPE, JobStatus, SeenFile, SubmitRequest
from gristmill.api.shared import tell_accumulators
from gristmill.errors import FailureReport, GristmillError, JobFailed, KeyTaken, UsageError
from gristmill.plan.stages import InputSpec
from gristmill.runtime.files.blobs import digest_of
from gristmill.runtime.outcome import error_from_json

if TYPE_CHECKING:
    from gristmill.api.job import Job
    from gristmill.api.prepare import Submission
    from gristmill.api.result import JobResult
    from gristmill.config import JobOptions
    from gristmill.runtime.views import JobView, Observer

_VIEW_SECONDS = 0.25  # between two looks at a job that somebody watches
_POLL_SECONDS = 10.0  # how long the server holds an answer back while there is no news
_MARGIN_SECONDS = 20.0
_CANCEL_SECONDS = 30.0
_PROBE = ".gristmill-probe-"


class RemoteHandle:
    """A job on a server: what :class:`~gristmill.api.job.JobHandle` is for one that runs here.

    The job does not need its handle: it goes on when this program ends. Leaving a ``with`` block cancels it, though.
    """

    def __init__(self, server: ServerClient, job: str, observer: Observer | None = None) -> None:
        self._server = server
        self._job = job
        self._observer = observer
        self._status: JobStatus | None = None
        self._has_ended = False
        if observer is not None:
            server.on_silence = self._tell_of_silence

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self._job

    def status(self, wait_seconds: float = 0.0) -> JobStatus:
        """What the server says of the job; after ``wait_seconds``, or as soon as the job is over."""
        if self._status is not None and self._status.is_over:
            return self._status
        query = f"?wait={wait_seconds:g}" if wait_seconds > 0 else ""
        answer = self._server.get(f"/jobs/{self._job}{query}", seconds=wait_seconds + _MARGIN_SECONDS)
        self._status = JobStatus.from_json(answer)
        return self._status

    def view(self) -> JobView:
        """How the job stands."""
        return self.status().view

    def cancel(self) -> None:
        """End the job. ``wait`` then raises JobCancelled."""
        self._server.post(f"/jobs/{self._job}/cancel")

    @property
    def last(self) -> JobStatus | None:
        """What the server said last."""
        return self._status

    def wait(self, timeout: float | None = None, *, cancel_on_interrupt: bool = True) -> JobResult:
        """Wait for the job and return its result; see :meth:`finish`."""
        status = self.finish(timeout, cancel_on_interrupt=cancel_on_interrupt)
        from gristmill.api.result import JobResult

        assert status.output is not None, "a job on a server has an output"
        return JobResult(status.view, Path(status.output), status.format, None)

    def finish(self, timeout: float | None = None, *, cancel_on_interrupt: bool = True) -> JobStatus:
        """Wait for the job. A server that is restarted meanwhile is waited for as well.

        Raises:
            TimeoutError: it still runs after ``timeout`` seconds.
            JobFailed: it failed.
            JobCancelled: it was cancelled, by ``cancel``, by Ctrl-C in here, or by somebody else.
            ServerUnreachable: the server has not answered for ten minutes.
        """
        try:
            status = self._wait(timeout)
        except KeyboardInterrupt:
            if not cancel_on_interrupt:
                raise
            self.cancel()
            status = self._wait(_CANCEL_SECONDS)
        if (error := failure_of(status, self._server)) is not None:
            raise error
        return status

    def _wait(self, timeout: float | None) -> JobStatus:
        deadline = None if timeout is None else time.monotonic() + timeout
        at_once = _POLL_SECONDS if self._observer is None else _VIEW_SECONDS
        while True:
            left = at_once if deadline is None else min(at_once, deadline - time.monotonic())
            status = self.status(max(left, 0.0))
            if self._observer is not None:
                self._observer(status.view)
            if status.is_over:
                if not self._has_ended:
                    self._has_ended = True
                    tell_accumulators(status.view.accumulated)
                return status
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"Job {self._job} still runs.")

    def _tell_of_silence(self) -> None:
        if self._observer is not None and self._status is not None:
            note = "The server does not answer; its jobs go on when it is back."
            self._observer(replace(self._status.view, note=note))

    def close(self) -> None:
        """Cancel the job if it still runs. May be called again."""
        if self._status is None or not self._status.is_over:
            with suppress(GristmillError):  # the server is away, say: then the job goes on, as jobs on servers do
                self.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.close()

    def __repr__(self) -> str:
        state = "running" if self._status is None else self._status.view.state.value
        return f"<RemoteHandle {self._job} {state} on {self._server.url}>"


def submit(
    job: Job,
    inputs: Sequence[str],
    output: str | os.PathLike[str] | None,
    options: JobOptions,
    observer: Observer | None = None,
) -> RemoteHandle:
    """Hand a job over to the server that ``options.on`` names.

    Args:
        job: what to run.
        inputs: what the user named.
        output: the folder where the result is to appear.
        options: how to run it.
        observer: is told how the job stands while it is waited for.

    Raises:
        UsageError: something is wrong with the job; the server did not take it.
        ServerUnreachable: no server is there.
    """
    if output is None:
        raise UsageError("A job on a server needs an output (-o) on a path that the server and all workers see.")
    if options.resume:
        raise UsageError("--resume is for jobs on this machine: a server resumes its jobs by itself.")
    server = connect(options.on if options.is_remote else None, options.token_file, options.data_dir)
    return submit_to(server, job, inputs, output, options, observer)


def submit_to(
    server: ServerClient,
    job: Job,
    inputs: Sequence[str],
    output: str | os.PathLike[str],
    options: JobOptions,
    observer: Observer | None = None,
    *,
    key: str = "",
    base: str = "",
) -> RemoteHandle:
    """Hand a job over to a server; see :func:`submit`.

    Args:
        server: the server.
        job: what to run.
        inputs: what the user named.
        output: the folder where the result is to appear.
        options: how to run it.
        observer: is told how the job stands while it is waited for.
        key: a job that was submitted with the same key is this job, whoever did so, and whatever job that is; empty:
            there is none.
        base: the folder that relative inputs are relative to; empty: the current one.
    """
    path = absolute_output(output)
    request, blobs = _request(job, inputs, path, options, base)
    return hand_over(server, request, blobs, observer, key=key)


def hand_over(
    server: ServerClient,
    request: SubmitRequest,
    blobs: Mapping[str, bytes],
    observer: Observer | None = None,
    *,
    key: str = "",
    session: str = "",
) -> RemoteHandle:
    """Post a job, and upload what the server does not have of it.

    Args:
        server: the server.
        request: the job.
        blobs: what it names, by SHA-256.
        observer: is told how the job stands while it is waited for.
        key: see :func:`submit_to`.
        session: the session that it belongs to, and its blobs with it; empty: none.
    """
    own_key = key or uuid.uuid4().hex
    at = f"/sessions/{session}" if session else ""
    with _probe(request.submission.output or "") as probe:
        body = replace(request, probe=probe).to_json()
        for _ in range(3):
            try:
                headers = {"Idempotency-Key": own_key, "Content-Type": SUBMISSION_TYPE}
                answer = server.post(f"{at}/jobs", body, headers)
                return RemoteHandle(server, str(answer["id"]), observer)
            except KeyTaken as taken:
                if not key:
                    raise
                return RemoteHandle(server, taken.job, observer)
            except MissingBlobs as missing:
                for name in missing.names:
                    _upload(server, f"{at}/blobs/{name}", name, blobs)
    raise GristmillError(f"The server {server.url} loses what it is sent.")


def fulfil(server: ServerClient, asked: str, job: Job, inputs: Sequence[str], output: str, options: JobOptions) -> None:
    """Hand the code of a job over that a server has asked for: see ``api.uploaded``.

    Args:
        server: the server.
        asked: the id of the job.
        job: what was loaded.
        inputs: absolute.
        output: likewise.
        options: how to run it.
    """
    request, blobs = _request(job, inputs, output, options, os.sep)
    for _ in range(3):
        try:
            server.post(f"/jobs/{asked}/code", request.to_json(), {"Content-Type": SUBMISSION_TYPE})
            return
        except MissingBlobs as missing:
            for name in missing.names:
                _upload(server, f"/blobs/{name}", name, blobs)
    raise GristmillError(f"The server {server.url} loses what it is sent.")


def _request(
    job: Job, inputs: Sequence[str], output: str, options: JobOptions, base: str
) -> tuple[SubmitRequest, dict[str, bytes]]:
    """What to ask of the server, and the blobs that it names."""
    from gristmill.api.pickling import pickle_code
    from gristmill.api.prepare import Submission
    from gristmill.api.shipping import Shipment

    chosen = replace(job.resolve(options, Path(output)), shuffle_dir=_absolute_or_uri(options.shuffle_dir))
    plan = job.plan(chosen, private=False)
    code = pickle_code(job.code, stable=True)
    shipment = Shipment(code, options.py_files)
    bundle = shipment.bundle()
    blobs = {digest_of(data): data for data in (code, bundle) if data is not None}
    submission = Submission(
        name=job.name,
        code=b"",
        plan=plan,
        inputs=(InputSpec(tuple(inputs)),),
        base=base or os.getcwd(),  # noqa: PTH109 - as it is, not resolved
        output=output,
        options=chosen,
        bundles=() if bundle is None else (digest_of(bundle),),
        sources=shipment.sources(),
    )
    return request_for(submission, digest_of(code)), blobs


def request_for(submission: Submission, code: str) -> SubmitRequest:
    """What to ask of a server: a job, and how this machine sees its inputs.

    Args:
        submission: the job, without its code.
        code: the SHA-256 of that.
    """
    seen = tuple(_seen(submission.inputs, submission.options.input_format, submission.base))
    return SubmitRequest(submission, code, seen[:: len(seen) // MAX_SEEN_FILES + 1], len(seen))


def _upload(server: ServerClient, path: str, name: str, blobs: Mapping[str, bytes]) -> None:
    if name not in blobs:
        raise GristmillError(f"The server {server.url} asks for {name}, which is not part of the job.")
    server.call("PUT", path, blobs[name], {"Content-Type": "application/octet-stream"})


def absolute_output(output: str | os.PathLike[str]) -> str:
    from gristmill.storage.places import absolute_place, output_path

    return absolute_place(output_path(output))


def _absolute_or_uri(place: str | None) -> str | None:
    return os.path.abspath(place) if place and "://" not in place else place  # noqa: PTH100 - links are kept


def _seen(inputs: Sequence[InputSpec], format: str | None, base: str) -> Iterator[SeenFile]:
    """The inputs as they are here; none if this machine does not see them, which need not mean that workers don't."""
    from gristmill.storage.inputs import resolve_inputs
    from gristmill.storage.uris import is_uri

    try:
        for input in inputs:
            paths = [path for path in input.paths if not is_uri(path)]  # what is behind a URI is the same for all
            for file in resolve_inputs(paths, input.format or format, base, input.options):
                yield SeenFile(file.path, file.size_bytes, Path(file.path).stat().st_mtime)
    except (UsageError, OSError):
        return


@contextmanager
def _probe(output: str) -> Iterator[str]:
    """A file beside the output, for the server to look for: the same path may lead elsewhere on its machine."""
    if not output or "://" in output:
        yield ""
        return
    folder = Path(output).parent
    probe = folder / f"{_PROBE}{socket.gethostname()}-{uuid.uuid4().hex}"
    try:
        probe.touch(exist_ok=False)
    except OSError:  # there is no such folder here, or it is not ours to write: the workers will see for themselves
        yield ""
        return
    try:
        yield str(probe)
    finally:
        with suppress(OSError):
            probe.unlink()


def failure_of(status: JobStatus, server: ServerClient) -> GristmillError | None:
    """Why a job has no output, for people; None if it has one, or still runs."""
    if status.error is None:
        return None
    error = with_own_sources(error_from_json(status.error))
    if isinstance(error, JobFailed) and not server.is_here:  # its folder is on the server's machine
        error.job_folder = ""
        if error.report is not None:
            details = {name: value for name, value in error.report.details.items() if name != "replay"}
            error.report = replace(error.report, details=details)
    return error


def with_own_sources(error: GristmillError) -> GristmillError:
    """The same error, with lines of code that only this machine has."""
    if isinstance(error, JobFailed) and error.report is not None:
        error.report = _with_lines(error.report)
    return error


def _with_lines(report: FailureReport) -> FailureReport:
    frames = tuple(
        frame if frame.source else replace(frame, source=linecache.getline(frame.file, frame.line).strip())
        for frame in report.frames
    )
    return replace(report, frames=frames)


def job_list(server: ServerClient) -> list[dict[str, Any]]:
    """The jobs that a server knows, the newest first."""
    found: list[dict[str, Any]] = []
    before = ""
    while True:
        page = server.get(f"/jobs?limit=1000{before}")
        found += page["jobs"]
        if not page["next"]:
            return found
        before = f"&before={page['next']}"
