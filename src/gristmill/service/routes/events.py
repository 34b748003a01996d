"""REST: ``/api/v1/jobs/{id}/events``, the facts of a job as server-sent events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from gristmill.service.doors.roles import caller_of
from gristmill.service.doors.seats import Seats
from gristmill.service.events import Events
from gristmill.service.problems import Responses, problems
from gristmill.service.routes.jobs import SEES, no_such_job
from gristmill.service.routes.requests import API, JobId
from gristmill.service.submission.jobs import JobService

_STREAM: Responses = {
    200: {
        "description": "Server-sent events: `id` is the number of a fact, `data` the fact as JSON. The last is `end`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
_HEADERS = {"X-Accel-Buffering": "no"}
_MOST = 2**63 - 1


def event_routes(jobs: JobService, seats: Seats) -> APIRouter:
    """The route of events. Whoever listens takes one of the ``seats``."""
    routes = APIRouter(prefix=f"{API}/jobs/{{job}}", tags=["history"])
    events = Events(jobs)

    @routes.get("/events", dependencies=SEES, responses={**_STREAM, **problems(404)})
    async def stream(
        job: JobId,
        request: Request,
        after: Annotated[int, Query(ge=-1, le=_MOST, description="Only what comes after this number.")] = -1,
        last_event_id: Annotated[str | None, Header(description="Likewise: what a browser sends by itself.")] = None,
    ) -> StreamingResponse:
        """The facts of a job as they come, until it is over."""
        if await run_in_threadpool(jobs.status, job) is None:
            raise no_such_job(job)
        if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
            after = max(after, min(int(last_event_id[:20]), _MOST))
        stream = seats.seated(caller_of(request).user, events.stream(job, after))
        return StreamingResponse(stream, media_type="text/event-stream", headers=_HEADERS)

    return routes
