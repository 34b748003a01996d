"""What goes wrong, as problem documents (RFC 9457)."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gristmill.errors import (
    GristmillError,
    JournalFailed,
    KeyTaken,
    OutputExists,
    ServerUnreachable,
    UsageError,
    VersionMismatch,
)
from gristmill.runtime.outcome import error_to_json
from gristmill.service.jobs import MissingBlobs

_log = logging.getLogger(__name__)
_PROBLEM = "application/problem+json"
_TITLES = {
    400: "Bad request",
    401: "Not authorized",
    403: "Forbidden",
    404: "Not found",
    409: "Conflict",
    413: "Too large",
}


def answer_errors(app: FastAPI) -> None:
    """Let every failure of a route become a problem document."""

    @app.exception_handler(MissingBlobs)
    async def missing(_request: Request, error: MissingBlobs) -> JSONResponse:
        return problem(409, str(error), missing=error.names)

    @app.exception_handler(KeyTaken)
    async def taken(_request: Request, error: KeyTaken) -> JSONResponse:
        return problem(422, str(error), KeyTaken, taken_by=error.job)

    @app.exception_handler(GristmillError)
    async def refused(_request: Request, error: GristmillError) -> JSONResponse:
        return problem(_status_of(error), str(error), type(error), error=error_to_json(error))

    @app.exception_handler(HTTPException)
    async def failed(_request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, f"The server failed ({type(error).__name__}: {error}): a mistake of Gristmill's.")


def _status_of(error: GristmillError) -> int:
    if isinstance(error, (OutputExists, VersionMismatch)):
        return 409
    if isinstance(error, (ServerUnreachable, JournalFailed)):
        return 503
    return 422 if isinstance(error, UsageError) else 500


def problem(status: int, detail: str, kind: type[GristmillError] | None = None, **more: Any) -> JSONResponse:
    """A problem document."""
    title = kind.__name__ if kind is not None else _TITLES.get(status, "Error")
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, media_type=_PROBLEM)
