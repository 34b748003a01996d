"""REST: ``/api/v1/jobs``."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gristmill.api.messages import SubmitRequest, check_versions
from gristmill.service.doors.roles import Needs, Role, caller_of
from gristmill.service.jobs import JobService
from gristmill.service.routes.requests import API, json_of

_MAX_WAIT_SECONDS = 30.0
_LOOK_SECONDS = 0.05

SEES = [Depends(Needs(Role.VIEWER))]
SUBMITS = [Depends(Needs(Role.SUBMITTER))]


def job_routes(jobs: JobService) -> APIRouter:
    """Routes about jobs."""
    routes = APIRouter(prefix=f"{API}/jobs", tags=["jobs"])

    @routes.post("", status_code=201, dependencies=SUBMITS)
    async def submit(request: Request) -> dict[str, str]:
        """Submit a job. With an ``Idempotency-Key``, the same key is the same job however often it comes.

        The same key with another job is refused (422), and ``taken_by`` names the job that it belongs to.
        """
        headers = request.headers
        check_versions(headers.get("gristmill-version", ""), headers.get("gristmill-python", ""), "this client")
        wanted = SubmitRequest.from_json(await json_of(request))
        key = headers.get("idempotency-key", "")
        return {"id": await run_in_threadpool(jobs.submit, wanted, key, None, caller_of(request).driver)}

    @routes.get("", dependencies=SEES)
    async def listing() -> dict[str, Any]:
        """All jobs, the newest first."""
        found = await run_in_threadpool(jobs.all)
        return {"jobs": [{**status.summary(), "name": status.view.name, "id": status.view.job} for status in found]}

    @routes.get("/{job}", dependencies=SEES)
    async def status(job: str, wait: float = 0.0) -> JSONResponse:
        """How a job stands; with ``wait``, as soon as it is over or so many seconds have passed."""
        until = time.monotonic() + min(max(wait, 0.0), _MAX_WAIT_SECONDS)
        while True:
            found = await run_in_threadpool(jobs.status, job)
            if found is None:
                raise no_such_job(job)
            left = until - time.monotonic()
            if found.is_over or left <= 0 or jobs.closing:
                return JSONResponse(found.to_json())
            await asyncio.sleep(min(_LOOK_SECONDS, left))

    @routes.post("/{job}/cancel", status_code=202, dependencies=SUBMITS)
    async def cancel(job: str) -> dict[str, str]:
        """Ask for a job to end. It is over a moment later; if the server is killed before that, once it is back."""
        if not await run_in_threadpool(jobs.cancel, job):
            raise no_such_job(job)
        return {"id": job}

    @routes.get("/{job}/logs", dependencies=SEES)
    async def logs(job: str) -> dict[str, Any]:
        """What the job's attempts printed, as far as the server can tell."""
        if await run_in_threadpool(jobs.status, job) is None:
            raise no_such_job(job)
        found = await run_in_threadpool(lambda: list(jobs.logs(job)))
        return {"logs": [{"attempt": attempt, "text": text} for attempt, text in found]}

    return routes


def no_such_job(job: str) -> HTTPException:
    """The answer about a job that is not known."""
    return HTTPException(404, f"This server knows no job {job}.")
