"""REST: ``/api/v1/jobs``: submit, list, look at, cancel and retry jobs."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from gristmill.api.builtin import BUILTIN, builtin_job, parameters_of
from gristmill.api.messages import SUBMISSION_TYPE, JobStatus, SubmitRequest, check_versions
from gristmill.service.doors.roles import Needs, Role, caller_of
from gristmill.service.doors.seats import Seats
from gristmill.service.looking import models, shown
from gristmill.service.problems import problems
from gristmill.service.routes.requests import (
    API,
    KEYED,
    MAX_REQUEST_BYTES,
    MAX_WISH_BYTES,
    JobId,
    Key,
    body_of,
    form_of,
    json_in,
    key_in,
    located,
)
from gristmill.service.submission.asking import Asking
from gristmill.service.submission.jobs import JobService
from gristmill.service.submission.turns import Turns
from gristmill.service.submission.wishes import wish_of, wish_of_form

_MAX_WAIT_SECONDS = 30.0
_MAX_STANDING_SECONDS = 1.0  # of those who find no seat
_LOOK_SECONDS = 0.05
_JOB_ID = r"^\d{8}-\d{6}-[0-9a-z]{1,40}$"

SEES = [Depends(Needs(Role.VIEWER))]
SUBMITS = [Depends(Needs(Role.SUBMITTER))]

_Text = Annotated[str | None, Query(max_length=200)]
_FORM = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "format": "binary", "description": "A .py or .zip file with the job, or a script."},
        "request": {"type": "string", "description": "All else as one JSON object, instead of single fields."},
        "job": {"type": "string"},
        "inputs": {"type": "array", "items": {"type": "string"}},
        "output": {"type": "string"},
        "arguments": {"type": "array", "items": {"type": "string"}, "description": "Of a script."},
        "driver_attempts": {"type": "integer"},
        "set": {"type": "array", "items": {"type": "string"}, "description": "Parameters, each KEY=VALUE."},
        "mapper": {"type": "string"},
        "combiner": {"type": "string"},
        "reducer": {"type": "string"},
        "name": {"type": "string"},
        "priority": {"type": "integer"},
        "deadline": {"type": "string"},
    },
    "additionalProperties": {"type": "string", "description": "The options of `Options`, each a field."},
}
SUBMISSION = {"type": "object", "description": "What our own clients send: a plan, and code by its SHA-256."}
_OURS = {SUBMISSION_TYPE: {"schema": SUBMISSION}}
OURS = {"requestBody": {"required": True, "content": _OURS}}
_BODIES = {
    **KEYED,
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/JobWish"}},
            "multipart/form-data": {"schema": _FORM},
            **_OURS,
        },
    },
}


def job_routes(jobs: JobService, asking: Asking, turns: Turns, seats: Seats) -> APIRouter:
    """Routes about jobs. Submitting takes ``turns``, as wherever jobs are taken in; waiting takes ``seats``."""
    routes = APIRouter(prefix=f"{API}/jobs", tags=["jobs"])

    @routes.post(
        "", status_code=201, dependencies=SUBMITS, response_model=models.Submitted,
        responses=problems(409, 415), openapi_extra=_BODIES,
    )  # fmt: skip
    async def submit(request: Request, response: Response, key: Key) -> models.Submitted:
        """Submit a job: a built-in one, one of a module that the workers have, or one in an uploaded file.

        An uploaded file without inputs and output is a script of datasets: it is run in an executor, as by
        ``gristmill submit``, and submits jobs itself.

        It is answered when it is durable; it may wait for its turn. The same Idempotency-Key with another request is
        refused (422), and ``taken_by`` names the job that it belongs to. Blobs that are missing (409) are uploaded, and
        the request is made again.
        """
        caller = caller_of(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == SUBMISSION_TYPE:
            check_client(request)
            async with body_of(request, MAX_REQUEST_BYTES, turns) as body:
                job = await turns.take(
                    caller, lambda: jobs.submit(submission_in(body), key, None, caller.driver, caller.user)
                )
        elif kind in ("application/json", ""):
            async with body_of(request, MAX_WISH_BYTES, turns) as body:
                job = await turns.take(caller, lambda: asking.ask(wish_of(json_in(body)), None, key, caller))
        elif kind == "multipart/form-data":
            async with form_of(request, turns) as (fields, code):
                job = await turns.take(caller, lambda: asking.ask(wish_of_form(fields), code, key, caller))
        else:
            detail = "Send JSON (curl --json '…') or a form (curl -F code=@job.py -F inputs=… -F output=…)."
            raise HTTPException(415, detail)
        located(response, "jobs", job)
        return models.Submitted(id=job)

    @routes.get("", dependencies=SEES, response_model=models.JobPage, responses=problems())
    async def listing(
        state: models.State | None = None,
        user: _Text = None,
        name: _Text = None,
        before: Annotated[str | None, Query(pattern=_JOB_ID, description="`next` of the page before.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        since: Annotated[float | None, Query(allow_inf_nan=False, description="Seconds since the epoch.")] = None,
    ) -> Any:
        """Jobs, the newest first; ``name`` is a part of their names."""
        found = await run_in_threadpool(jobs.page, state, user, name, before, limit, since)
        return JSONResponse(found.model_dump())

    @routes.get("/{job}", dependencies=SEES, response_model=models.JobDetail, responses=problems(404))
    async def status(
        request: Request,
        job: JobId,
        wait: Annotated[float, Query(ge=0, allow_inf_nan=False, description="Seconds, at most 30.")] = 0.0,
    ) -> Any:
        """How a job stands; with ``wait``, as soon as it is over or so many seconds have passed.

        Where very many look on already, the answer may come sooner.
        """
        with seats.seat_if_free(caller_of(request).user) as seated:
            until = time.monotonic() + min(wait, _MAX_WAIT_SECONDS if seated else _MAX_STANDING_SECONDS)
            while True:
                found: JobStatus | None = await run_in_threadpool(jobs.status, job)
                if found is None:
                    raise no_such_job(job)
                left = until - time.monotonic()
                if found.is_over or left <= 0 or jobs.closing:
                    whole: JobStatus | None = await run_in_threadpool(jobs.detail, job)
                    return JSONResponse(shown.detail_of(whole or found))
                await asyncio.sleep(min(_LOOK_SECONDS, left))

    @routes.post(
        "/{job}/cancel", status_code=202, dependencies=[*SUBMITS, Depends(key_in)], response_model=models.Submitted,
        responses=problems(404),
    )  # fmt: skip
    async def cancel(job: JobId, request: Request, response: Response) -> models.Submitted:
        """Ask for a job to end. It is over a moment later; if the server is killed before that, once it is back.

        That can be asked for again, with the same Idempotency-Key or without one: a job ends once.
        """
        if not await run_in_threadpool(jobs.cancel, job, caller_of(request)):
            raise no_such_job(job)
        located(response, "jobs", job)
        return models.Submitted(id=job)

    @routes.post(
        "/{job}/retry", status_code=202, dependencies=SUBMITS, response_model=models.Submitted,
        responses=problems(404, 409), openapi_extra=KEYED,
    )  # fmt: skip
    async def retry(job: JobId, request: Request, response: Response, key: Key) -> models.Submitted:
        """Try a job again that failed or was cancelled: under its id, and only what is unfinished of it.

        The same Idempotency-Key is the same try of the job, however often it comes.
        """
        if not await run_in_threadpool(jobs.retry, job, caller_of(request), key):
            raise no_such_job(job)
        located(response, "jobs", job)
        return models.Submitted(id=job)

    @routes.post(
        "/{job}/code", status_code=202, dependencies=SUBMITS, response_model=models.Submitted,
        responses=problems(404, 409), openapi_extra=OURS,
    )  # fmt: skip
    async def fulfil(job: JobId, request: Request, response: Response) -> models.Submitted:
        """Hand over what was made of a job's code: for the program that the server runs to load it."""
        check_client(request)
        caller = caller_of(request)
        async with body_of(request, MAX_REQUEST_BYTES, turns) as body:
            await turns.take(caller, lambda: jobs.fulfil(submission_in(body), job, caller))
        located(response, "jobs", job)
        return models.Submitted(id=job)

    return routes


def builtin_routes() -> APIRouter:
    """What jobs come with Gristmill."""
    routes = APIRouter(prefix=f"{API}/builtin", tags=["jobs"])
    jobs = []
    for name in BUILTIN:
        cls = builtin_job(name)
        assert cls is not None
        text = " ".join((cls.__doc__ or "").split())
        jobs.append(models.Builtin(name=name, description=text, params=dict(parameters_of(cls))))

    @routes.get("", dependencies=SEES, response_model=models.Builtins, responses=problems())
    async def builtin() -> models.Builtins:
        """The jobs that come with Gristmill, and their parameters."""
        return models.Builtins(jobs=jobs)

    return routes


def check_client(request: Request) -> None:
    """See that it comes from a client of our own version.

    Raises:
        VersionMismatch: not so.
    """
    headers = request.headers
    check_versions(headers.get("gristmill-version", ""), headers.get("gristmill-python", ""), "this client")


def submission_in(body: bytearray) -> SubmitRequest:
    """What one of our own clients submits.

    Raises:
        HTTPException: it is not JSON.
        UsageError: it is no job.
    """
    return SubmitRequest.from_json(json_in(body))


def no_such_job(job: str) -> HTTPException:
    """The answer about a job that is not known."""
    return HTTPException(404, f"This server knows no job {job}.")
