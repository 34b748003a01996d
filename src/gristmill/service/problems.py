"""What goes wrong, as problem documents (RFC 9457); and which of them a route may answer, for its description."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gristmill.errors import (
    GristmillError,
    JournalFailed,
    KeyTaken,
    OutputExists,
    RetryRefused,
    ServerUnreachable,
    UsageError,
    VersionMismatch,
)
from gristmill.runtime.outcome import error_to_json
from gristmill.service.refusals import MissingBlobs, NotTheirs, WrongState
from gristmill.service.submission.wishes import WrongWish

_log = logging.getLogger(__name__)
PROBLEM = "application/problem+json"
_TITLES = {
    400: "Bad request",
    401: "Not authorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    406: "Not acceptable",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    422: "Not possible",
    429: "Too many requests",
    431: "Headers too large",
    500: "The server failed",
    503: "Not now",
}
_ANYWHERE = (400, 401, 403, 405, 408, 413, 422, 429, 503)
_SCHEMA = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}

Responses = dict[int | str, dict[str, Any]]


def problems(*more: int) -> Responses:
    """The refusals that a route may answer, for ``responses=``: those that any may, and these."""
    return {status: {"description": _TITLES[status], "content": _SCHEMA} for status in sorted({*_ANYWHERE, *more})}


def answer_errors(app: FastAPI) -> None:
    """Let every failure of a route become a problem document."""

    @app.exception_handler(MissingBlobs)
    async def missing(_request: Request, error: MissingBlobs) -> JSONResponse:
        return problem(409, str(error), missing=error.names)

    @app.exception_handler(KeyTaken)
    async def taken(_request: Request, error: KeyTaken) -> JSONResponse:
        return problem(422, str(error), KeyTaken, taken_by=error.job)

    @app.exception_handler(WrongWish)
    async def wrong(_request: Request, error: WrongWish) -> JSONResponse:
        return problem(422, str(error), UsageError, fields=error.fields)

    @app.exception_handler(GristmillError)
    async def refused(_request: Request, error: GristmillError) -> JSONResponse:
        return problem(status_of(error), str(error), type(error), error=error_to_json(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        found = [(".".join(map(str, one["loc"][1:])), str(one["loc"][0]), str(one["msg"])) for one in error.errors()]
        if any(where == "path" for _, where, _ in found):
            return problem(404, "There is nothing of this name.")
        fields = {name or where: why for name, where, why in found}
        return problem(422, "; ".join(f"{name}: {why}" for name, why in fields.items()), fields=fields)

    @app.exception_handler(HTTPException)
    async def failed(_request: Request, error: HTTPException) -> JSONResponse:
        answer = problem(error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: ClientDisconnect) -> JSONResponse:
        return problem(400, "The request broke off.")  # nobody reads it

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, f"The server failed ({type(error).__name__}: {error}): a mistake of Gristmill's.")


def status_of(error: GristmillError) -> int:
    """The status of the answer to a failure."""
    if isinstance(error, (OutputExists, VersionMismatch, WrongState, RetryRefused)):
        return 409
    if isinstance(error, NotTheirs):
        return 403
    if isinstance(error, (ServerUnreachable, JournalFailed)):
        return 503
    return 422 if isinstance(error, UsageError) else 500


def problem(status: int, detail: str, kind: type[GristmillError] | None = None, **more: Any) -> JSONResponse:
    """A problem document."""
    title = kind.__name__ if kind is not None else _TITLES.get(status, "Error")
    body = {"type": "about:blank", "title": title, "status": status, "detail": _sendable(detail), **more}
    return JSONResponse(body, status, media_type=PROBLEM)


def _sendable(text: str) -> str:
    """Text that UTF-8 has: what was asked for may hold other things, and is quoted."""
    return text.encode("utf-8", "backslashreplace").decode()
