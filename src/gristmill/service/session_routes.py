"""REST: ``/api/v1/sessions``, where clients keep what their datasets need."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException

from gristmill.api.messages import SubmitRequest, check_versions
from gristmill.config import MIB
from gristmill.service.requests import API, check_name, driver_of, json_of, receive
from gristmill.service.sessions import SessionService

_CHUNK_BYTES = MIB


def add_sessions(app: FastAPI, sessions: SessionService) -> None:
    """Answer calls about sessions."""

    @app.post(f"{API}/sessions", status_code=201)
    async def begin(request: Request) -> dict[str, Any]:
        """Begin a session. It ends when nothing is heard of its client for ``lease_seconds``."""
        session = await run_in_threadpool(sessions.open, driver_of(request))
        return {"id": session, "lease_seconds": sessions.lease_seconds}

    @app.post(f"{API}/sessions/{{session}}/renew")
    async def renew(session: str) -> dict[str, Any]:
        """Say that its client lives."""
        await run_in_threadpool(sessions.renew, session)
        return {"lease_seconds": sessions.lease_seconds}

    @app.delete(f"{API}/sessions/{{session}}", status_code=204)
    async def end(session: str) -> Response:
        """End a session: its jobs are cancelled, and nothing of it is kept."""
        await run_in_threadpool(sessions.end, session)
        return Response(status_code=204)

    @app.post(f"{API}/sessions/{{session}}/jobs", status_code=201)
    async def submit(session: str, request: Request) -> dict[str, str]:
        """Submit a job of a session; as ``POST /jobs``."""
        headers = request.headers
        check_versions(headers.get("gristmill-version", ""), headers.get("gristmill-python", ""), "this client")
        wanted = SubmitRequest.from_json(await json_of(request))
        key = headers.get("idempotency-key", "")
        return {"id": await run_in_threadpool(sessions.submit, session, wanted, key)}

    @app.put(f"{API}/sessions/{{session}}/blobs/{{name}}", status_code=201)
    async def upload(session: str, name: str, request: Request) -> dict[str, str]:
        """Upload a blob that goes with the session; as ``PUT /blobs``."""
        await receive(await run_in_threadpool(sessions.blobs, session), name, request)
        await run_in_threadpool(sessions.uploaded, session)
        return {"sha256": name}

    @app.delete(f"{API}/sessions/{{session}}/broadcasts/{{digest}}", status_code=204)
    async def destroy(session: str, digest: str) -> Response:
        """Delete the value of a broadcast, wherever it was sent to."""
        check_name(digest)
        await run_in_threadpool(sessions.forget_broadcast, session, digest)
        return Response(status_code=204)

    @app.get(f"{API}/sessions/{{session}}/kept/{{kept}}")
    async def result(session: str, kept: str) -> dict[str, Any]:
        """The blocks that are kept under a name, in order: their rows, length and CRC-32."""
        blocks = await run_in_threadpool(sessions.result, session, kept)
        segments = [block.segments[0] for block in blocks]
        return {"blocks": [{"rows": one.rows, "length": one.length, "crc32": one.crc32} for one in segments]}

    @app.get(f"{API}/sessions/{{session}}/kept/{{kept}}/{{place}}")
    async def block(session: str, kept: str, place: int) -> Response:
        """The bytes of one of these blocks."""
        try:
            path, offset, length, ours = await run_in_threadpool(sessions.read, session, kept, place)
        except IndexError:
            raise HTTPException(404, f"{kept} has no block {place}.") from None
        headers = {"Content-Length": str(length)}
        return StreamingResponse(
            _bytes_of(path, offset, length, ours), media_type="application/octet-stream", headers=headers
        )

    @app.delete(f"{API}/sessions/{{session}}/kept/{{kept}}", status_code=204)
    async def forget(session: str, kept: str) -> Response:
        """Keep this no more."""
        await run_in_threadpool(sessions.forget, session, kept)
        return Response(status_code=204)


def _bytes_of(path: Path, offset: int, length: int, ours: bool) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while length and (chunk := file.read(min(length, _CHUNK_BYTES))):
                length -= len(chunk)
                yield chunk
    finally:
        if ours:
            shutil.rmtree(path.parent, ignore_errors=True)
