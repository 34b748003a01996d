"""Whether the server lives and is ready, what a worker must know, and the description of all routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response

from gristmill.service.doors.roles import Needs, Role, caller_of
from gristmill.service.looking import models
from gristmill.service.openapi import reference_page
from gristmill.service.problems import problem, problems
from gristmill.service.routes.requests import API
from gristmill.service.submission.jobs import JobService

_FRESH_SECONDS = 0.5

JoinFacts = Callable[[str], Mapping[str, Any]]
"""What a worker must know, told to one that reached this server under a host name."""


def system_routes(jobs: JobService, join_facts: JoinFacts) -> APIRouter:
    """Routes about the server itself."""
    routes = APIRouter(tags=["system"])
    looks = _Looks(jobs)

    @routes.get("/livez", dependencies=[Depends(Needs(Role.ANYONE))], response_model=models.Alive, responses=problems())
    async def livez() -> dict[str, str]:
        """Whether the server lives."""
        return {"status": "ok"}

    @routes.get(
        "/readyz", dependencies=[Depends(Needs(Role.ANYONE))], response_model=models.Ready, responses=problems()
    )
    async def readyz(request: Request) -> Response:
        """Whether the server can take jobs: it can write its journal, its coordinator answers, its disk has room."""
        troubles = await looks.troubles()
        if not troubles:
            return JSONResponse({"status": "ready"})
        known = caller_of(request).role is not Role.ANYONE
        return problem(503, "The server cannot take jobs now.", reasons=troubles if known else [])

    @routes.get(
        f"{API}/join", dependencies=[Depends(Needs(Role.WORKER))], response_model=dict[str, Any], responses=problems()
    )
    async def join(request: Request) -> dict[str, Any]:
        """What a worker must know before it joins."""
        return dict(join_facts(request.url.hostname or ""))

    return routes


class _Looks:
    """Whether a server is ready, looked at once for all who ask: anybody may, and as often as they like."""

    def __init__(self, jobs: JobService) -> None:
        self._jobs = jobs
        self._look: asyncio.Task[list[str]] | None = None
        self._until = 0.0

    async def troubles(self) -> list[str]:
        """See :meth:`JobService.troubles`; at most half a second old."""
        now = time.monotonic()
        if self._look is None or (self._look.done() and now >= self._until):
            self._look = asyncio.ensure_future(run_in_threadpool(self._jobs.troubles))
            self._until = now + _FRESH_SECONDS
        return await asyncio.shield(self._look)


def description_routes(document: Callable[[], dict[str, Any]]) -> APIRouter:
    """The description of all routes, for programs and for people.

    Args:
        document: makes the OpenAPI document.
    """
    routes = APIRouter(tags=["system"], dependencies=[Depends(Needs(Role.VIEWER))])

    @routes.get(f"{API}/openapi.json", response_model=dict[str, Any], responses=problems())
    async def openapi() -> JSONResponse:
        """This document."""
        return JSONResponse(document())

    @routes.get(f"{API}/docs", response_class=HTMLResponse, responses=problems())
    async def docs(request: Request) -> HTMLResponse:
        """The same for people."""
        return HTMLResponse(await run_in_threadpool(reference_page, document(), caller_of(request)))

    return routes
