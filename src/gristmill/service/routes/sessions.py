"""REST: ``/api/v1/sessions``, where clients keep what their datasets need."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException

from gristmill.config import MIB
from gristmill.service.doors.roles import Needs, Role, caller_of
from gristmill.service.looking import models
from gristmill.service.looking.readers import Readers
from gristmill.service.problems import problems
from gristmill.service.routes.blobs import BODY, BYTES
from gristmill.service.routes.jobs import OURS, check_client, submission_in
from gristmill.service.routes.requests import (
    API,
    KEYED,
    MAX_REQUEST_BYTES,
    Digest,
    KeptName,
    Key,
    Place,
    SessionId,
    body_of,
    check_name,
    located,
    receive,
)
from gristmill.service.sessions import SessionService
from gristmill.service.submission.turns import Turns

_CHUNK_BYTES = MIB


def session_routes(sessions: SessionService, turns: Turns) -> APIRouter:
    """Routes about sessions. Their jobs have ``turns``, as all that are submitted."""
    routes = APIRouter(prefix=f"{API}/sessions", tags=["sessions"], dependencies=[Depends(Needs(Role.SUBMITTER))])

    readers = Readers()

    async def owner(session: SessionId, request: Request) -> None:
        """See that it is the caller's."""
        await run_in_threadpool(sessions.check_owner, session, caller_of(request))

    own = [Depends(owner)]

    @routes.post("", status_code=201, response_model=models.SessionBegun, responses=problems(), openapi_extra=KEYED)
    async def begin(request: Request, response: Response, key: Key) -> dict[str, Any]:
        """Begin a session. It ends when nothing is heard of its client for ``lease_seconds``.

        The same Idempotency-Key is the same session, for as long as that goes on.
        """
        caller = caller_of(request)
        session = await run_in_threadpool(sessions.open, caller.driver, caller.user, key)
        located(response, "sessions", session)
        return {"id": session, "lease_seconds": sessions.lease_seconds}

    @routes.post("/{session}/renew", dependencies=own, response_model=models.SessionRenewed, responses=problems(404))
    async def renew(session: SessionId) -> dict[str, Any]:
        """Say that its client lives."""
        await run_in_threadpool(sessions.renew, session)
        return {"lease_seconds": sessions.lease_seconds}

    @routes.delete("/{session}", dependencies=own, status_code=204, response_class=Response, responses=problems(404))
    async def end(session: SessionId) -> Response:
        """End a session: its jobs are cancelled, and nothing of it is kept."""
        await run_in_threadpool(sessions.end, session)
        return Response(status_code=204)

    @routes.post(
        "/{session}/jobs", dependencies=own, status_code=201, response_model=models.Submitted,
        responses=problems(404, 409),
        openapi_extra={**KEYED, **OURS},
    )  # fmt: skip
    async def submit(session: SessionId, request: Request, response: Response, key: Key) -> dict[str, str]:
        """Submit a job of a session, as our own clients do."""
        check_client(request)
        async with body_of(request, MAX_REQUEST_BYTES, turns) as body:
            take = turns.take(caller_of(request), lambda: sessions.submit(session, submission_in(body), key))
            job = await take
        located(response, "jobs", job)
        return {"id": job}

    @routes.put(
        "/{session}/blobs/{name}", dependencies=own, status_code=201, response_model=models.Blob,
        responses=problems(404),
        openapi_extra=BODY,
    )  # fmt: skip
    async def upload(session: SessionId, name: Digest, request: Request, response: Response) -> dict[str, str]:
        """Upload a blob that goes with the session; as ``PUT /blobs``."""
        check_name(name)
        await receive(await run_in_threadpool(sessions.blobs, session), name, request)
        await run_in_threadpool(sessions.uploaded, session)
        located(response, "blobs", name)
        return {"sha256": name}

    @routes.delete(
        "/{session}/broadcasts/{digest}",
        dependencies=own,
        status_code=204,
        response_class=Response,
        responses=problems(404),
    )
    async def destroy(session: SessionId, digest: Digest) -> Response:
        """Delete the value of a broadcast, wherever it was sent to."""
        check_name(digest)
        await run_in_threadpool(sessions.forget_broadcast, session, digest)
        return Response(status_code=204)

    @routes.get("/{session}/kept/{kept}", dependencies=own, response_model=models.KeptBlocks, responses=problems(404))
    async def result(session: SessionId, kept: KeptName) -> dict[str, Any]:
        """The blocks that are kept under a name, in order: their rows, length and CRC-32."""
        blocks = await run_in_threadpool(sessions.result, session, kept)
        segments = [block.segments[0] for block in blocks]
        return {"blocks": [{"rows": one.rows, "length": one.length, "crc32": one.crc32} for one in segments]}

    @routes.get(
        "/{session}/kept/{kept}/{place}",
        dependencies=own,
        response_class=Response,
        responses={**BYTES, **problems(404, 500)},
    )
    async def block(session: SessionId, kept: KeptName, place: Place) -> Response:
        """The bytes of one of these blocks."""
        try:
            file, length, scratch = await readers.call(sessions.read, session, kept, place)
        except IndexError:
            raise HTTPException(404, f"{kept} has no block {place}.") from None
        headers = {"Content-Length": str(length)}
        return StreamingResponse(
            readers.each(_bytes_of(file, length, scratch)), media_type="application/octet-stream", headers=headers
        )

    @routes.delete(
        "/{session}/kept/{kept}", dependencies=own, status_code=204, response_class=Response, responses=problems(404)
    )
    async def forget(session: SessionId, kept: KeptName) -> Response:
        """Keep this no more."""
        await run_in_threadpool(sessions.forget, session, kept)
        return Response(status_code=204)

    return routes


def _bytes_of(file: BinaryIO, length: int, scratch: Path | None) -> Iterator[bytes]:
    try:
        with file:
            while length and (chunk := file.read(min(length, _CHUNK_BYTES))):
                length -= len(chunk)
                yield chunk
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
