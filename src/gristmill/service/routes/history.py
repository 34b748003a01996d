"""REST: what became of jobs, in forms for other programs: all facts as JSON lines, and a job as a trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from gristmill.errors import GristmillError
from gristmill.service.looking.history import event_lines
from gristmill.service.looking.trace import trace_of, trace_text
from gristmill.service.problems import problems
from gristmill.service.routes.jobs import SEES, no_such_job
from gristmill.service.routes.requests import API, JobId
from gristmill.service.submission.jobs import JobService

_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Facts, a line of JSON each, in order.",
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    }
}
_TRACE: dict[int | str, dict[str, Any]] = {
    200: {"description": "A trace in Chrome's trace-event format.", "content": {"application/json": {"schema": {}}}}
}
_MOST = 2**63 - 1
_JOB_ID = r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$"


def history_routes(jobs: JobService) -> APIRouter:
    """Routes about what became of jobs."""
    routes = APIRouter(prefix=API, tags=["history"])

    @routes.get("/events", dependencies=SEES, response_class=StreamingResponse, responses=_LINES | problems())
    async def events(
        after: Annotated[int, Query(ge=-1, le=_MOST, description="Only what comes after this number.")] = -1,
        limit: Annotated[int | None, Query(ge=1, le=1_000_000, description="So many lines at most.")] = None,
        job: Annotated[str | None, Query(pattern=_JOB_ID, description="Only those of this job.")] = None,
    ) -> StreamingResponse:
        """All facts of all jobs and workers that are remembered, up to now."""
        lines = event_lines(jobs.histories.journal, job, after, limit)
        return StreamingResponse(lines, media_type="application/x-ndjson")

    @routes.get(
        "/jobs/{job}/trace", dependencies=SEES, response_class=StreamingResponse, responses=_TRACE | problems(404)
    )
    async def trace(job: JobId) -> StreamingResponse:
        """The job as a trace, for Perfetto (ui.perfetto.dev) and chrome://tracing."""
        text = await run_in_threadpool(_trace, jobs, job)
        if text is None:
            raise no_such_job(job)
        name = {"Content-Disposition": f'attachment; filename="{job}.trace.json"'}
        return StreamingResponse(text, media_type="application/json", headers=name)

    return routes


def _trace(jobs: JobService, job: str) -> Iterator[str] | None:
    history = jobs.histories.of(job)
    if history is None:
        return None
    try:
        running = [] if history.is_over else jobs.running(job)
    except GristmillError:  # the coordinator does not answer now: what is over can be shown
        running = []
    cut_off = jobs.cut_off(history)
    return trace_text(trace_of(history, running, None if history.is_over else time.time(), cut_off))
