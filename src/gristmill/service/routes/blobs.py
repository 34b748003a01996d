"""REST: ``/api/v1/blobs``, the code of jobs and what goes with it, by content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from starlette.exceptions import HTTPException

from gristmill.runtime.files.blobs import BlobStore
from gristmill.service.doors.roles import Needs, Role
from gristmill.service.looking import models
from gristmill.service.problems import Responses, problems
from gristmill.service.routes.requests import API, Digest, check_name, located, receive

_SUBMITS = [Depends(Needs(Role.SUBMITTER))]
_WORKS = [Depends(Needs(Role.WORKER))]
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
BODY = {"requestBody": {"required": True, **_BYTES}}
"""A route that takes bytes as they are."""
BYTES: Responses = {200: {"description": "The bytes.", **_BYTES}}
"""A route that answers bytes as they are."""
NOT_HERE: Responses = {404: {"description": "It is not here."}}


def blob_routes(
    blobs: BlobStore, find_blob: Callable[[str], Path | None], code_of: Callable[[str], bytes | None]
) -> APIRouter:
    """Routes about blobs."""
    routes = APIRouter(prefix=f"{API}/blobs", tags=["code"])

    @routes.head("/{name}", dependencies=_SUBMITS, response_class=Response, responses={**problems(), **NOT_HERE})
    async def has(name: Digest) -> Response:
        """Whether a blob is here."""
        check_name(name)
        found = await run_in_threadpool(blobs.has, name)
        return Response(status_code=200 if found or code_of(name) is not None else 404)

    @routes.get("/{name}", dependencies=_WORKS, response_class=Response, responses={**BYTES, **problems(404)})
    async def get(name: Digest) -> Response:
        """A blob's bytes."""
        check_name(name)
        found = blobs.path(name) if await run_in_threadpool(blobs.has, name) else None
        if found is not None or (found := await run_in_threadpool(find_blob, name)) is not None:
            return FileResponse(found, media_type="application/octet-stream")
        if (code := code_of(name)) is not None:
            return Response(code, media_type="application/octet-stream")
        raise HTTPException(404, f"There is no blob {name}.")

    @routes.put(
        "/{name}", status_code=201, dependencies=_SUBMITS, response_model=models.Blob, responses=problems(404),
        openapi_extra=BODY,
    )  # fmt: skip
    async def put(name: Digest, request: Request, response: Response) -> dict[str, str]:
        """Upload a blob. It must be what its name says."""
        await receive(blobs, name, request)
        located(response, "blobs", name)
        return {"sha256": name}

    return routes
