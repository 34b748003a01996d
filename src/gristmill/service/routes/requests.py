"""What a request brings along, and which forms names in a path have: nobody looks others up."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote

from fastapi import Depends, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message

from gristmill.config import MIB, format_size
from gristmill.runtime.files.blobs import BlobStore, is_blob_name
from gristmill.service.doors.roles import caller_of
from gristmill.service.submission.turns import Turns

API = "/api/v1"

MAX_BLOB_BYTES = 1024 * MIB
MAX_CODE_BYTES = 64 * MIB
"""Of a file of code that comes in a form."""
MAX_REQUEST_BYTES = 16 * MIB
"""Of what our own clients send: a plan and the names of inputs; code goes as blobs."""
MAX_WISH_BYTES = 2 * MIB
_MAX_FIELDS = 20_000
_MAX_FIELD_BYTES = MIB

JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$", examples=["20261120-132501-a3f9"])]
TaskName = Annotated[str, Path(pattern=r"^\d{1,6}-\d{1,9}$", examples=["0-17"])]
SessionId = JobId
WorkerName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.:#@-]{1,200}$")]
KeptName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]

_KEY_TEXT = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')


def key_in(request: Request) -> str:
    """The idempotency key of a request: as it stands, or the string within its quotes, as headers have it by RFC 8941.

    Raises:
        HTTPException: 400: it is empty, there are several, or what is in quotes is no string.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return ""
    key = given[0].strip()
    if key.startswith('"'):
        found = _KEY_TEXT.fullmatch(key)
        key = re.sub(r"\\(.)", r"\1", found[1]) if found else ""
    if len(given) > 1 or not key:
        raise HTTPException(400, 'An Idempotency-Key is one key, such as k1 or "k1"; without one leave it out.')
    return key


def check_queries(request: Request) -> None:
    """See that a call of the API asks for nothing that its route does not know: a name with a mistake in it, say.

    Raises:
        RequestValidationError: it does.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or not request.url.path.startswith(f"{API}/"):
        return
    known = sorted(_queries_of(route.dependant))
    why = f"there is no such parameter here; there is {', '.join(known)}" if known else "no parameter is known here"
    odd = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if odd:
        raise RequestValidationError([{"loc": ("query", name[:100]), "msg": why} for name in odd[:10]])


def _queries_of(dependant: Any) -> set[str]:
    """The names of the parameters that a route, or what it depends on, takes from the query."""
    own = {field.alias for field in dependant.query_params}
    return own.union(*map(_queries_of, dependant.dependencies))


def located(response: Response, kind: str, name: str) -> None:
    """Say where what was made, or is being done, can be looked at."""
    response.headers["Location"] = f"{API}/{kind}/{quote(name, safe='')}"


Key = Annotated[str, Depends(key_in)]
"""The idempotency key of a call; empty if it has none."""

KEYED = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            "description": "The same key with the same request does the same once, however often it comes.",
        }
    ]
}
"""What the description of a route says of it."""

Place = Annotated[int, Path(ge=0, le=100_000_000)]
Digest = Annotated[str, Path(max_length=200, description="A SHA-256 in hexadecimal digits.")]


def check_name(name: str) -> None:
    """See that this can be the name of a blob.

    Raises:
        HTTPException: it cannot.
    """
    if not is_blob_name(name):
        raise HTTPException(400, f"{name!r} is not a SHA-256 in hexadecimal digits.")


async def receive(blobs: BlobStore, name: str, request: Request) -> None:
    """Keep the body of a request as a blob.

    Raises:
        HTTPException: it is too large, or not what its name says.
    """
    check_name(name)
    check_length(request, MAX_BLOB_BYTES, "A blob")
    with await run_in_threadpool(blobs.receive, name) as partial:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_BLOB_BYTES:
                raise HTTPException(413, f"A blob has at most {format_size(MAX_BLOB_BYTES)}.")
            await run_in_threadpool(partial.write, chunk)
        await run_in_threadpool(partial.finish)


def check_length(request: Request, most: int, what: str = "A request") -> None:
    """See that the body is not said to be larger than it may be, before any of it is read.

    Raises:
        HTTPException: it is.
    """
    said = request.headers.get("content-length", "")
    if said.isdigit() and (len(said) > 18 or int(said) > most):
        raise HTTPException(413, f"{what} has at most {format_size(most)}.")


@asynccontextmanager
async def body_of(request: Request, most: int, turns: Turns) -> AsyncIterator[bytearray]:
    """Its body, which has room until the block ends: parse it there, within a turn.

    Raises:
        HTTPException: it is too large.
        ServerUnreachable: there is no room now.
    """
    check_length(request, most)
    with turns.room.hold(caller_of(request)) as take:
        body = bytearray()
        async for chunk in request.stream():
            take(len(chunk))
            body += chunk
            if len(body) > most:
                raise HTTPException(413, f"A request has at most {format_size(most)}.")
        yield body


def json_in(body: bytearray) -> Any:
    """The JSON value that a body is.

    Raises:
        HTTPException: it is none.
    """
    try:
        return json.loads(body)
    except ValueError as error:
        raise HTTPException(400, f"The request is not JSON: {error}.") from error
    except RecursionError:
        raise HTTPException(400, "The request is JSON within JSON, too deep to be read.") from None


Form = tuple[list[tuple[str, str]], tuple[str, bytes] | None]
"""The fields of a form, and the name and the bytes of the file of code in it, if there is one."""


@asynccontextmanager
async def form_of(request: Request, turns: Turns) -> AsyncIterator[Form]:
    """What is in a form; it has room until the block ends.

    Raises:
        HTTPException: it is no form, or too large.
        ServerUnreachable: there is no room now.
    """
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        async with body_of(request, _MAX_FIELD_BYTES, turns) as body:
            yield _fields_in(body), None
        return
    most = MAX_CODE_BYTES + MAX_WISH_BYTES
    check_length(request, most)
    with turns.room.hold(caller_of(request)) as take:
        yield await _parts_of(Request(request.scope, _counting(request, most, take)))


def _fields_in(body: bytearray) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise HTTPException(400, f"The request is not a form: {error}.") from error


async def _parts_of(request: Request) -> Form:
    code: tuple[str, bytes] | None = None
    fields: list[tuple[str, str]] = []
    try:
        async with request.form(max_files=1, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES) as form:
            for name, value in form.multi_items():
                if not isinstance(value, UploadFile):
                    fields.append((name, value))
                elif name != "code":
                    raise HTTPException(422, f"A file is sent in the field code, not in {name[:100]!r}.")
                else:
                    code = value.filename or "job.py", await value.read()
    except (ValueError, AssertionError, LookupError) as error:  # of the parser: boundaries, encodings
        raise HTTPException(400, f"The request is not a form: {error}.") from error
    if code is not None and len(code[1]) > MAX_CODE_BYTES:
        raise HTTPException(413, f"A file of code has at most {format_size(MAX_CODE_BYTES)}.")
    if sum(len(name) + len(value) for name, value in fields) > MAX_WISH_BYTES:
        raise HTTPException(413, f"The fields of a form have at most {format_size(MAX_WISH_BYTES)}.")
    return fields, code


def _counting(request: Request, most: int, take: Callable[[int], None]) -> Any:
    """What gives a request's body, until it is too large or there is no more room."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await request.receive()
        came = len(message.get("body", b""))
        take(came)
        size += came
        if size > most:
            raise HTTPException(413, f"A request has at most {format_size(most)}.")
        return message

    return counted
