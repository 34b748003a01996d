"""The web application: all routes behind the guard. A route that names no role is a mistake, found at the start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.types import ASGIApp

from gristmill.config import VERSION
from gristmill.service.doors.guard import Guard, Keys
from gristmill.service.doors.login import login_routes
from gristmill.service.doors.roles import Needs, Role, doors_of
from gristmill.service.jobs import JobService
from gristmill.service.problems import answer_errors
from gristmill.service.routes.blobs import blob_routes
from gristmill.service.routes.jobs import job_routes
from gristmill.service.routes.requests import API
from gristmill.service.routes.sessions import session_routes
from gristmill.service.sessions import SessionService

JoinFacts = Callable[[str], Mapping[str, Any]]
"""What a worker must know, told to one that reached this server under a host name."""


def create_app(
    jobs: JobService,
    sessions: SessionService,
    keys: Keys,
    join_facts: JoinFacts,
    code_of: Callable[[str], bytes | None] = lambda _name: None,
) -> ASGIApp:
    """The web application.

    Args:
        jobs: what it speaks for.
        sessions: likewise.
        keys: what the guard goes by.
        join_facts: what workers are told.
        code_of: a blob that is not among the uploaded ones, by its SHA-256.
    """
    app = FastAPI(title="Gristmill", version=VERSION, docs_url=None, redoc_url=None, openapi_url=None)
    answer_errors(app)
    routers = (
        job_routes(jobs),
        session_routes(sessions),
        blob_routes(jobs.blobs, sessions.find_blob, code_of),
        _system_routes(join_facts),
        login_routes(keys.logins, keys.guesses, keys.login_page),
    )
    doors = [door for router in routers for door in doors_of(router)]
    for router in routers:
        app.include_router(router)
    return Guard(app, keys, jobs.drivers, doors)


def _system_routes(join_facts: JoinFacts) -> APIRouter:
    routes = APIRouter(tags=["system"])

    @routes.get("/livez", dependencies=[Depends(Needs(Role.ANYONE))])
    async def livez() -> dict[str, str]:
        """Whether the server lives."""
        return {"status": "ok"}

    @routes.get(f"{API}/join", dependencies=[Depends(Needs(Role.WORKER))])
    async def join(request: Request) -> dict[str, Any]:
        """What a worker must know before it joins."""
        return dict(join_facts(request.url.hostname or ""))

    return routes
