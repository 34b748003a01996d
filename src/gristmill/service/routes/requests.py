"""What a request brings along."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from gristmill.config import MIB, format_size
from gristmill.runtime.blobs import BlobStore, is_blob_name

API = "/api/v1"

MAX_BLOB_BYTES = 1024 * MIB
_MAX_REQUEST_BYTES = 64 * MIB


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
    with await run_in_threadpool(blobs.receive, name) as partial:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_BLOB_BYTES:
                raise HTTPException(413, f"A blob has at most {format_size(MAX_BLOB_BYTES)}.")
            partial.write(chunk)
        await run_in_threadpool(partial.finish)


async def json_of(request: Request) -> Any:
    """The JSON value in its body.

    Raises:
        HTTPException: there is none, or it is too large.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_REQUEST_BYTES:
            raise HTTPException(413, f"A request has at most {format_size(_MAX_REQUEST_BYTES)}.")
    try:
        return json.loads(bytes(body))
    except ValueError as error:
        raise HTTPException(400, f"The request is not JSON: {error}.") from error
