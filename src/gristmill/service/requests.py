"""What a request brings along."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from starlette.exceptions import HTTPException

from gristmill.config import MIB, format_size

API = "/api/v1"
_MAX_REQUEST_BYTES = 64 * MIB


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
