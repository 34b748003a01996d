"""REST: ``/api/v1/workers``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from gristmill.service.doors.roles import Needs, Role
from gristmill.service.looking import models
from gristmill.service.problems import problems
from gristmill.service.routes.requests import API, WorkerName
from gristmill.service.submission.jobs import JobService


def worker_routes(jobs: JobService) -> APIRouter:
    """Routes about workers."""
    routes = APIRouter(prefix=f"{API}/workers", tags=["workers"])

    @routes.get("", dependencies=[Depends(Needs(Role.VIEWER))], response_model=models.Workers, responses=problems())
    async def workers() -> Any:
        """The workers, and what their machines have to spare."""
        found = await run_in_threadpool(jobs.workers)
        return JSONResponse(models.Workers(workers=found).model_dump())

    @routes.delete(
        "/{worker}", status_code=202, dependencies=[Depends(Needs(Role.ADMIN))], response_model=models.Draining,
        responses=problems(404),
    )  # fmt: skip
    async def drain(worker: WorkerName, response: Response) -> models.Draining:
        """Let a worker take no new work, and leave once it has done what it runs.

        The `#` of its name is written `%23` in a URL.
        """
        if not await run_in_threadpool(jobs.drain, worker):
            hint = "" if "#" in worker else " The # of a worker's name is written %23 in a URL, as in vm%231."
            raise HTTPException(404, f"There is no worker {worker}.{hint}")
        response.headers["Location"] = f"{API}/workers"
        return models.Draining(worker=worker)

    return routes
