"""REST: ``/api/v1``. Every answer is JSON; what goes wrong is a problem document (RFC 9457).

All but ``/livez`` asks for the server's token, as ``Authorization: Bearer TOKEN``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from gristmill.api.messages import SubmitRequest, check_versions
from gristmill.config import VERSION
from gristmill.errors import (
    GristmillError,
    JournalFailed,
    KeyTaken,
    NotAuthorized,
    OutputExists,
    ServerUnreachable,
    UsageError,
    VersionMismatch,
)
from gristmill.runtime.blobs import BlobStore
from gristmill.runtime.outcome import error_to_json
from gristmill.service.auth import same
from gristmill.service.drivers import Drivers
from gristmill.service.jobs import JobService, MissingBlobs
from gristmill.service.requests import API, DRIVER, check_name, driver_of, json_of, receive
from gristmill.service.session_routes import add_sessions
from gristmill.service.sessions import SessionService

_MAX_WAIT_SECONDS = 30.0
_LOOK_SECONDS = 0.05
_PROBLEM = "application/problem+json"
_log = logging.getLogger(__name__)
_TITLES = {
    400: "Bad request",
    401: "Not authorized",
    403: "Forbidden",
    404: "Not found",
    409: "Conflict",
    413: "Too large",
}

JoinFacts = Callable[[str], Mapping[str, Any]]
"""What a worker must know, told to one that reached this server under a host name."""


def create_app(
    jobs: JobService,
    sessions: SessionService,
    token: str,
    join_facts: JoinFacts,
    code_of: Callable[[str], bytes | None] = lambda _name: None,
) -> ASGIApp:
    """The web application.

    Args:
        jobs: what it speaks for.
        sessions: likewise.
        token: what callers must bring.
        join_facts: what workers are told.
        code_of: a blob that is not among the uploaded ones, by its SHA-256.
    """
    app = FastAPI(title="Gristmill", version=VERSION, docs_url=None, redoc_url=None, openapi_url=f"{API}/openapi.json")
    _answer_errors(app)
    _add_jobs(app, jobs)
    add_sessions(app, sessions)
    _add_blobs(app, jobs.blobs, sessions.find_blob, code_of)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        """Whether the server lives."""
        return {"status": "ok"}

    @app.get(f"{API}/join")
    async def join(request: Request) -> dict[str, Any]:
        """What a worker must know before it joins."""
        return dict(join_facts(request.url.hostname or ""))

    return _Guard(app, token, jobs.drivers)


class _Guard:
    """Lets only those in who bring the token; and drivers with theirs, where these lead."""

    def __init__(self, app: ASGIApp, token: str, drivers: Drivers) -> None:
        self._app = app
        self._token = token
        self._drivers = drivers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/livez" and not same(token := _token_in(scope), self._token):
            driver = scope[DRIVER] = self._drivers.find(token)
            if not driver:
                answer = _problem(401, "The token is missing or is not this server's.", NotAuthorized)
                answer.headers["WWW-Authenticate"] = "Bearer"
                await answer(scope, receive, send)
                return
            if not self._drivers.may(driver, scope["method"], scope["path"].removeprefix(API)):
                answer = _problem(403, "A driver may use its own sessions and jobs, and nothing else.", NotAuthorized)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _token_in(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" else ""
    return ""


def _add_jobs(app: FastAPI, jobs: JobService) -> None:
    @app.post(f"{API}/jobs", status_code=201)
    async def submit(request: Request) -> dict[str, str]:
        """Submit a job. With an ``Idempotency-Key``, the same key is the same job however often it comes.

        The same key with another job is refused (422), and ``taken_by`` names the job that it belongs to.
        """
        headers = request.headers
        check_versions(headers.get("gristmill-version", ""), headers.get("gristmill-python", ""), "this client")
        wanted = SubmitRequest.from_json(await json_of(request))
        key = headers.get("idempotency-key", "")
        return {"id": await run_in_threadpool(jobs.submit, wanted, key, None, driver_of(request))}

    @app.get(f"{API}/jobs")
    async def listing() -> dict[str, Any]:
        """All jobs, the newest first."""
        found = await run_in_threadpool(jobs.all)
        return {"jobs": [{**status.summary(), "name": status.view.name, "id": status.view.job} for status in found]}

    @app.get(f"{API}/jobs/{{job}}")
    async def status(job: str, wait: float = 0.0) -> JSONResponse:
        """How a job stands; with ``wait``, as soon as it is over or so many seconds have passed."""
        until = time.monotonic() + min(max(wait, 0.0), _MAX_WAIT_SECONDS)
        while True:
            found = await run_in_threadpool(jobs.status, job)
            if found is None:
                raise _no_such_job(job)
            left = until - time.monotonic()
            if found.is_over or left <= 0 or jobs.closing:
                return JSONResponse(found.to_json())
            await asyncio.sleep(min(_LOOK_SECONDS, left))

    @app.post(f"{API}/jobs/{{job}}/cancel", status_code=202)
    async def cancel(job: str) -> dict[str, str]:
        """Ask for a job to end. It is over a moment later; if the server is killed before that, once it is back."""
        if not await run_in_threadpool(jobs.cancel, job):
            raise _no_such_job(job)
        return {"id": job}

    @app.get(f"{API}/jobs/{{job}}/logs")
    async def logs(job: str) -> dict[str, Any]:
        """What the job's attempts printed, as far as the server can tell."""
        if await run_in_threadpool(jobs.status, job) is None:
            raise _no_such_job(job)
        found = await run_in_threadpool(lambda: list(jobs.logs(job)))
        return {"logs": [{"attempt": attempt, "text": text} for attempt, text in found]}


def _add_blobs(
    app: FastAPI,
    blobs: BlobStore,
    find_blob: Callable[[str], Path | None],
    code_of: Callable[[str], bytes | None],
) -> None:
    @app.head(f"{API}/blobs/{{name}}")
    async def has(name: str) -> Response:
        """Whether a blob is here."""
        check_name(name)
        found = await run_in_threadpool(blobs.has, name)
        return Response(status_code=200 if found or code_of(name) is not None else 404)

    @app.get(f"{API}/blobs/{{name}}")
    async def get(name: str) -> Response:
        """A blob's bytes."""
        check_name(name)
        found = blobs.path(name) if await run_in_threadpool(blobs.has, name) else None
        if found is not None or (found := await run_in_threadpool(find_blob, name)) is not None:
            return FileResponse(found, media_type="application/octet-stream")
        if (code := code_of(name)) is not None:
            return Response(code, media_type="application/octet-stream")
        raise HTTPException(404, f"There is no blob {name}.")

    @app.put(f"{API}/blobs/{{name}}", status_code=201)
    async def put(name: str, request: Request) -> dict[str, str]:
        """Upload a blob. It must be what its name says."""
        await receive(blobs, name, request)
        return {"sha256": name}


def _no_such_job(job: str) -> HTTPException:
    return HTTPException(404, f"This server knows no job {job}.")


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(MissingBlobs)
    async def missing(_request: Request, error: MissingBlobs) -> JSONResponse:
        return _problem(409, str(error), missing=error.names)

    @app.exception_handler(KeyTaken)
    async def taken(_request: Request, error: KeyTaken) -> JSONResponse:
        return _problem(422, str(error), KeyTaken, taken_by=error.job)

    @app.exception_handler(GristmillError)
    async def refused(_request: Request, error: GristmillError) -> JSONResponse:
        return _problem(_status_of(error), str(error), type(error), error=error_to_json(error))

    @app.exception_handler(HTTPException)
    async def failed(_request: Request, error: HTTPException) -> JSONResponse:
        return _problem(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _problem(500, f"The server failed ({type(error).__name__}: {error}): a mistake of Gristmill's.")


def _status_of(error: GristmillError) -> int:
    if isinstance(error, (OutputExists, VersionMismatch)):
        return 409
    if isinstance(error, (ServerUnreachable, JournalFailed)):
        return 503
    return 422 if isinstance(error, UsageError) else 500


def _problem(status: int, detail: str, kind: type[GristmillError] | None = None, **more: Any) -> JSONResponse:
    title = kind.__name__ if kind is not None else _TITLES.get(status, "Error")
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, media_type=_PROBLEM)
