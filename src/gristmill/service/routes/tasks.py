"""REST: what is below ``/api/v1/jobs/{id}``: tasks, attempts, what they print, and the result."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from gristmill.config import MIB
from gristmill.service.looking import models, shown
from gristmill.service.looking.readers import Readers
from gristmill.service.problems import Responses, problems
from gristmill.service.results import LIMIT_BYTES, MOST_BYTES, ResultService, begun
from gristmill.service.routes.jobs import SEES, no_such_job
from gristmill.service.routes.requests import API, JobId, TaskName
from gristmill.service.submission.jobs import JobService

_MAX_LOG_BYTES = 4 * MIB
_LOG_BYTES = MIB
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_RESULT: Responses = {
    200: {
        "description": "The parts of the output, one after another; of `Gristmill-Result-Bytes` in all.",
        "content": {"*/*": _BINARY},
        "headers": {
            "Gristmill-Result-Bytes": {"schema": {"type": "integer"}, "description": "How much there is."},
            "Gristmill-Truncated": {"schema": {"type": "boolean"}, "description": "Whether `limit` cuts it off."},
        },
    }
}
_Attempt = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9-]{1,200}$", description="The name of an attempt.")]
_State = Literal["waiting", "running", "done", "failed"]


def task_routes(jobs: JobService) -> APIRouter:
    """Routes about the tasks of a job."""
    routes = APIRouter(prefix=f"{API}/jobs/{{job}}", tags=["tasks"])

    @routes.get("/tasks", dependencies=SEES, response_model=models.TaskPage, responses=problems(404))
    async def tasks(
        job: JobId,
        stage: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
        state: _State | None = None,
        after: Annotated[int, Query(ge=0, le=2**31, description="`next` of the page before.")] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Any:
        """The tasks of a job, by stage and index."""
        found = await run_in_threadpool(jobs.tasks, job, stage, state, after, limit)
        if found is None:
            raise no_such_job(job)
        return JSONResponse(found.model_dump())

    @routes.get("/tasks/{task}/attempts", dependencies=SEES, response_model=models.Attempts, responses=problems(404))
    async def attempts(job: JobId, task: TaskName) -> Any:
        """The attempts at a task, in the order of their ends; those that run come last."""
        found = await run_in_threadpool(jobs.attempts, job, *shown.task_id(task))
        if found is None:
            raise HTTPException(404, f"This server knows no task {task} of a job {job}.")
        return JSONResponse(found.model_dump())

    @routes.get("/logs", dependencies=SEES, response_model=models.Logs | models.LogPart, responses=problems(404))
    async def logs(
        job: JobId,
        attempt: _Attempt = None,
        task: Annotated[str | None, Query(pattern=r"^\d{1,6}-\d{1,9}$", description="Only its attempts.")] = None,
        after: Annotated[int, Query(ge=0, le=2**60, description="Of one attempt: what comes behind it.")] = 0,
        limit: Annotated[int, Query(ge=0, le=_MAX_LOG_BYTES, description="About so many bytes.")] = _LOG_BYTES,
    ) -> Any:
        """What the attempts of a job printed, to stdout and to stderr; also those of workers that are gone.

        Without ``attempt``, the end of each log; with ``limit`` 0 only how long they are. With ``attempt``, the part
        behind ``after``, which ``next`` of the answer before says: so a log is followed.
        """
        if await run_in_threadpool(jobs.status, job) is None:
            raise no_such_job(job)
        if attempt is not None:
            return JSONResponse((await run_in_threadpool(jobs.log_part, job, attempt, after, limit)).model_dump())
        return JSONResponse((await run_in_threadpool(jobs.log_ends, job, task, limit)).model_dump())

    return routes


def result_routes(results: ResultService) -> APIRouter:
    """The route of results."""
    routes = APIRouter(prefix=f"{API}/jobs/{{job}}", tags=["jobs"])
    turns = Readers()

    @routes.get("/result", dependencies=SEES, responses={**_RESULT, **problems(404, 409, 500)})
    async def result(
        job: JobId,
        limit: Annotated[int, Query(ge=0, le=MOST_BYTES, description="At most so many bytes.")] = LIMIT_BYTES,
        part: Annotated[int | None, Query(ge=0, le=10_000_000, description="Only this file of the output.")] = None,
    ) -> StreamingResponse:
        """The output of a job: its parts, one after another. Text ends with a whole line."""
        found = await turns.call(results.open, job, limit, part)
        if found is None:
            raise no_such_job(job)
        headers = {
            "Gristmill-Result-Bytes": str(found.size_bytes),
            "Gristmill-Truncated": "true" if found.is_cut else "false",
            "Content-Disposition": f'attachment; filename="{found.file_name}"',
        }
        chunks = await turns.call(begun, found.chunks())
        return StreamingResponse(turns.each(chunks), media_type=found.media_type, headers=headers)

    return routes
