"""What goes wrong, as problem documents (RFC 9457); and which of them a route may answer, for its description."""

from __future__ import annotations

import logging
import re
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
    NotAuthorized,
    OutputExists,
    RetryRefused,
    ServerUnreachable,
    UsageError,
    VersionMismatch,
)
from gristmill.runtime.outcome import error_to_json
from gristmill.service.refusals import MissingBlobs, NothingThere, NotTheirs, WrongState
from gristmill.service.submission.wishes import WrongWish

_log = logging.getLogger(__name__)
PROBLEM = "application/problem+json"
KIND = "urn:gristmill:error:"
"""What the kind of each problem begins with, in ``type``."""

STATUSES = {
    400: ("BadRequest", "Bad request"),
    401: ("NotAuthorized", "Not authorized"),
    403: ("Forbidden", "Forbidden"),
    404: ("NotFound", "Not found"),
    405: ("MethodNotAllowed", "Method not allowed"),
    406: ("NotAcceptable", "Not acceptable"),
    408: ("TooSlow", "Too slow"),
    409: ("Conflict", "Conflict"),
    413: ("TooLarge", "Too large"),
    415: ("UnsupportedMediaType", "Unsupported media type"),
    422: ("NotPossible", "Not possible"),
    429: ("TooManyRequests", "Too many requests"),
    431: ("HeadersTooLarge", "Headers too large"),
    500: ("ServerFailed", "The server failed"),
    503: ("NotNow", "Not now"),
}
"""What goes wrong apart from errors of Gristmill's own: kind and title, by status."""

ERRORS: tuple[tuple[type[GristmillError], int], ...] = (
    (NothingThere, 404),
    (NotAuthorized, 401),
    (NotTheirs, 403),
    (OutputExists, 409),
    (VersionMismatch, 409),
    (WrongState, 409),
    (RetryRefused, 409),
    (MissingBlobs, 409),
    (ServerUnreachable, 503),
    (JournalFailed, 503),
    (UsageError, 422),
    (GristmillError, 500),
)
"""The status of each error: of the first class in this table that it is of. Its kind is its class's name."""

_RETRY_SECONDS = 2
_ANYWHERE = (400, 401, 403, 405, 408, 413, 422, 429, 503)
_RETRY_AFTER = {"schema": {"type": "integer"}, "description": "Seconds after which to try again."}
_SCHEMA = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}

Responses = dict[int | str, dict[str, Any]]


def problems(*more: int) -> Responses:
    """The refusals that a route may answer, for ``responses=``: those that any may, and these."""
    found: Responses = {}
    for status in sorted({*_ANYWHERE, *more}):
        found[status] = {"description": STATUSES[status][1], "content": _SCHEMA}
        if later(status):
            found[status]["headers"] = {"Retry-After": _RETRY_AFTER}
    return found


def later(status: int) -> dict[str, str]:
    """When to come again, as a header of an answer that says: not now."""
    return {"Retry-After": str(_RETRY_SECONDS)} if status in (429, 503) else {}


def answer_errors(app: FastAPI) -> None:
    """Let every failure of a route become a problem document."""

    @app.exception_handler(MissingBlobs)
    async def missing(_request: Request, error: MissingBlobs) -> JSONResponse:
        return problem(409, str(error), MissingBlobs, missing=error.names)

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
    return next(status for cls, status in ERRORS if isinstance(error, cls))


def problem(status: int, detail: str, kind: type[GristmillError] | None = None, **more: Any) -> JSONResponse:
    """A problem document."""
    name, title = STATUSES.get(status, ("Error", "Error")) if kind is None else (kind.__name__, title_of(kind))
    body = {"type": KIND + name, "title": title, "status": status, "detail": _sendable(detail), **more}
    return JSONResponse(body, status, later(status), media_type=PROBLEM)


def title_of(kind: type[GristmillError]) -> str:
    """The name of an error in words: ``OutputExists`` is "Output exists"."""
    first, *others = re.findall(r"[A-Z][a-z]+", kind.__name__)
    return " ".join([first, *map(str.lower, others)])


def _sendable(text: str) -> str:
    """Text that UTF-8 has: what was asked for may hold other things, and is quoted."""
    return text.encode("utf-8", "backslashreplace").decode()
