"""The pages: HTML for people, at ``/``. What they show comes from :mod:`source`, how it looks from :mod:`render`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from gristmill.errors import GristmillError
from gristmill.service.doors.roles import Needs, Role, caller_of
from gristmill.service.doors.seats import Seats
from gristmill.service.page import render
from gristmill.service.page.jobview import JobValues, asked_of, head_of
from gristmill.service.page.listing import OVER, STATES, JobFilter
from gristmill.service.page.live import Live, Look
from gristmill.service.page.source import Source
from gristmill.service.page.submitting import builtin_jobs, given_in, wish_fields
from gristmill.service.page.tasks import SORTS, TaskFilter
from gristmill.service.page.tasks import STATES as TASK_STATES
from gristmill.service.problems import later, status_of
from gristmill.service.routes.requests import JobId, TaskName, WorkerName, form_of
from gristmill.service.submission.asking import Asking
from gristmill.service.submission.jobs import JobService
from gristmill.service.submission.turns import Turns
from gristmill.service.submission.wishes import WrongWish, wish_of_form

SEES = [Depends(Needs(Role.VIEWER))]
SUBMITS = [Depends(Needs(Role.SUBMITTER))]
RULES = [Depends(Needs(Role.ADMIN))]
OPEN = [Depends(Needs(Role.ANYONE))]

_FOR_EVER = "public, max-age=31536000, immutable"
_SHORTLY = "public, max-age=300"
_TITLES = {403: "Not allowed", 404: "Not found", 422: "Not possible", 429: "Not now", 503: "Not now"}
_STREAM = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_Streams = Callable[[Request, str, Callable[[], Look]], Response]
"""Answers with how something looks, as it changes; its name is the same for all who see the same."""


class PageRoute(APIRoute):
    """A route whose failures are told to people, as a page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, and what becomes of what it raises."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except HTTPException as error:
                return _problem(request, error.status_code, str(error.detail), error.headers)
            except RequestValidationError:
                return _problem(request, 404, "There is no such page.")
            except GristmillError as error:
                return _problem(request, status_of(error), str(error))

        return handle


def _problem(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    title = _TITLES.get(status, "Something went wrong")
    shown = render.page("problem.html", caller_of(request), "", title=title, detail=detail)
    return HTMLResponse(shown, status, {**later(status), **(headers or {})})


def page_routes(jobs: JobService, asking: Asking, turns: Turns, seats: Seats) -> APIRouter:
    """All pages, and what belongs to them. Submitting has ``turns``, as everywhere; who looks on takes a seat."""
    routes = APIRouter(route_class=PageRoute, include_in_schema=False)
    source, live = Source(jobs), Live(lambda: jobs.closing)

    def stream(request: Request, name: str, look: Callable[[], Look]) -> StreamingResponse:
        seated = seats.seated(caller_of(request).user, live.stream(name, look))
        return StreamingResponse(seated, media_type="text/event-stream", headers=_STREAM)

    _list_routes(routes, source, stream)
    _job_routes(routes, source, stream)
    _deed_routes(routes, jobs, source)
    _submit_routes(routes, asking, turns)
    _static_routes(routes)
    return routes


def _list_routes(routes: APIRouter, source: Source, stream: _Streams) -> None:
    @routes.get("/", dependencies=SEES)
    async def jobs(request: Request) -> Response:
        """All jobs."""
        wanted = JobFilter.of(request.query_params)
        look = await run_in_threadpool(source.look_at_jobs, wanted)
        return _page(request, "jobs.html", "jobs", wanted=wanted, states=STATES, parts=look.parts)

    @routes.get("/live", dependencies=SEES)
    async def jobs_live(request: Request) -> Response:
        """All jobs, as they change."""
        wanted = JobFilter.of(request.query_params)
        return stream(request, f"jobs?{wanted.query()}", lambda: source.look_at_jobs(wanted))

    @routes.get("/history", dependencies=SEES)
    async def history(request: Request) -> Response:
        """Jobs that are over."""
        wanted = JobFilter.of(request.query_params)
        rows = await run_in_threadpool(source.rows, wanted, True)
        return _page(request, "history.html", "history", wanted=wanted, states=OVER, rows=rows)

    @routes.get("/workers", dependencies=SEES)
    async def workers(request: Request) -> Response:
        """The workers."""
        look = await run_in_threadpool(source.look_at_workers)
        return _page(request, "workers.html", "workers", parts=look.parts)

    @routes.get("/workers/live", dependencies=SEES)
    async def workers_live(request: Request) -> Response:
        """The workers, as they change."""
        return stream(request, "workers", source.look_at_workers)


def _job_routes(routes: APIRouter, source: Source, stream: _Streams) -> None:
    async def found(id: str) -> JobValues:
        values = await run_in_threadpool(source.job, id)
        if values is None:
            raise HTTPException(404, f"This server knows no job {id}.")
        return values

    @routes.get("/jobs/{job}", dependencies=SEES)
    async def one(job: JobId, request: Request) -> Response:
        """One job."""
        values, wanted = await found(job), _task_filter(request.query_params)
        parts = await run_in_threadpool(render.job_parts, values)
        shown = {
            "id": job,
            "name": values.view.name,
            "live": not values.is_over or head_of(values).can_retry,
            "parts": parts,
            "states": TASK_STATES,
            "tasks": await run_in_threadpool(source.tasks, values, wanted),
            "can": _can(values),
            "asked": asked_of(values),
        }
        return _page(request, "job.html", "jobs", **shown)

    @routes.get("/jobs/{job}/live", dependencies=SEES)
    async def one_live(job: JobId, request: Request) -> Response:
        """One job, as it changes."""
        await found(job)
        return stream(request, f"job {job}", lambda: source.look_at_job(job))

    @routes.get("/jobs/{job}/actions", dependencies=SEES)
    async def actions(job: JobId, request: Request) -> Response:
        """What may be done with it."""
        return _page(request, "job/actions.html", "", id=job, can=_can(await found(job)))

    @routes.get("/jobs/{job}/tasks", dependencies=SEES)
    async def tasks(job: JobId, request: Request) -> Response:
        """Some of its tasks."""
        table = await run_in_threadpool(source.table, job, _task_filter(request.query_params))
        if table is None:
            raise HTTPException(404, f"This server knows no job {job}.")
        return HTMLResponse(table)

    @routes.get("/jobs/{job}/tasks/{task}", dependencies=SEES)
    async def task(job: JobId, task: TaskName, request: Request) -> Response:
        """One of its tasks, with all attempts and what they printed."""
        values = await found(job)
        stage, index = map(int, task.split("-"))
        shown = await run_in_threadpool(source.task, values, stage, index)
        if shown is None:
            raise HTTPException(404, f"Job {job} has no task {task}.")
        more = {"task": shown[0], "attempts": shown[1]}
        return _page(request, "task.html", "jobs", id=job, job_name=values.view.name, **more)

    @routes.get("/jobs/{job}/at", dependencies=SEES)
    async def at(job: JobId, lane: int = 0, at: float = 0.0) -> Response:
        """The task at a place of the timeline."""
        task = await run_in_threadpool(source.at, await found(job), lane, at)
        return RedirectResponse(f"/jobs/{job}/tasks/{task}" if task else f"/jobs/{job}#timeline", 303)

    @routes.get("/jobs/{job}/logs", dependencies=SEES)
    async def logs(job: JobId, request: Request) -> Response:
        """What its attempts printed."""
        values = await found(job)
        some, more = await run_in_threadpool(source.logs, job)
        template = "job/logs.html" if "hx-request" in request.headers else "logs.html"
        shown = {"id": job, "job_name": values.view.name, "logs": some, "more": more, "live": not values.is_over}
        return _page(request, template, "jobs", **shown)

    @routes.get("/jobs/{job}/log/{attempt}", dependencies=SEES)
    async def log(job: JobId, attempt: WorkerName, request: Request, after: int = 0) -> Response:
        """What an attempt has printed since."""
        text, behind, runs = await run_in_threadpool(source.follow, job, attempt, max(0, after))
        return _page(request, "job/follow.html", "", id=job, name=attempt, text=text, after=behind, live=runs)


def _deed_routes(routes: APIRouter, jobs: JobService, source: Source) -> None:
    @routes.post("/jobs/{job}/cancel", dependencies=SUBMITS)
    async def cancel(job: JobId, request: Request) -> Response:
        """Ask for a job to end."""
        if not await run_in_threadpool(jobs.cancel, job, caller_of(request)):
            raise HTTPException(404, f"This server knows no job {job}.")
        source.changed(job)
        return RedirectResponse(f"/jobs/{job}", 303)

    @routes.post("/jobs/{job}/retry", dependencies=SUBMITS)
    async def retry(job: JobId, request: Request) -> Response:
        """Let what is unfinished of a job run again."""
        if not await run_in_threadpool(jobs.retry, job, caller_of(request)):
            raise HTTPException(404, f"This server knows no job {job}.")
        source.changed(job)
        return RedirectResponse(f"/jobs/{job}", 303)

    @routes.post("/workers/{worker}/drain", dependencies=RULES)
    async def drain(worker: WorkerName) -> Response:
        """Let a worker finish what runs there, and leave."""
        if not await run_in_threadpool(jobs.drain, worker):
            raise HTTPException(404, f"There is no worker {worker}.")
        return RedirectResponse("/workers", 303)


def _submit_routes(routes: APIRouter, asking: Asking, turns: Turns) -> None:
    def form(request: Request, given: Mapping[str, str], status: int = 200, **wrong: Any) -> HTMLResponse:
        values = {"problem": "", "fields": {}, "sent": "", **wrong}
        shown = render.page("submit.html", caller_of(request), "submit", given=given, builtin=builtin_jobs(), **values)
        return HTMLResponse(shown, status)

    @routes.get("/submit", dependencies=SUBMITS)
    async def empty(request: Request) -> Response:
        """The form for a new job."""
        return form(request, given_in(request.query_params))

    @routes.post("/submit", dependencies=SUBMITS)
    async def submit(request: Request) -> Response:
        """Submit a job."""
        async with form_of(request, turns) as (fields, sent):
            given, code = given_in(dict(fields)), sent if sent is not None and sent[1] else None
            caller, file = caller_of(request), "" if code is None else code[0]
            try:
                job = await turns.take(
                    caller, lambda: asking.ask(wish_of_form(wish_fields(given)), code, given["key"], caller)
                )
            except WrongWish as error:
                words = "Please look at what is named here."
                return form(request, given, 422, problem=words, fields=error.fields, sent=file)
            except GristmillError as error:
                return form(request, given, status_of(error), problem=str(error), sent=file)
        return RedirectResponse(f"/jobs/{job}", 303)


def _static_routes(routes: APIRouter) -> None:
    def answer(name: str, request: Request) -> Response:
        file = render.static_files().get(name)
        if file is None:
            raise HTTPException(404, "There is no such file.")
        kept = _FOR_EVER if request.query_params.get("v") == file.digest else _SHORTLY
        return Response(file.data, media_type=file.media, headers={"Cache-Control": kept, "ETag": f'"{file.digest}"'})

    @routes.get("/static/login/{name}", dependencies=OPEN)
    async def login_asset(name: str, request: Request) -> Response:
        """What the login page is made of."""
        return answer(f"login/{name}", request)

    @routes.get("/static/{name:path}", dependencies=SEES)
    async def asset(name: str, request: Request) -> Response:
        """What pages are made of."""
        return answer(name, request)


def login_page(after: str, wrong: str) -> str:
    """The form for people who are not known yet: see ``doors.login``."""
    return render.render("login.html", next=after, problem=wrong)


def _page(request: Request, template: str, section: str, **values: Any) -> HTMLResponse:
    return HTMLResponse(render.page(template, caller_of(request), section, **values))


def _can(values: JobValues) -> dict[str, bool]:
    head = head_of(values)
    result = head.state == "succeeded" and bool(head.output)
    return {"cancel": head.can_cancel, "retry": head.can_retry, "result": result}


def _task_filter(query: Mapping[str, str]) -> TaskFilter:
    """From the query of an URL: a filter that was changed begins at its first page. What makes no sense is left out."""
    stage, state, sort = (query.get(name, "") for name in ("stage", "state", "sort"))
    wanted = TaskFilter(
        int(stage) if stage.isdecimal() and len(stage) < 9 else None,
        state if state in TASK_STATES else "",
        sort if sort in SORTS else "index",
    )
    shown = dict(pair.split("=", 1) for pair in query.get("shown", "").split("&") if "=" in pair)
    page = query.get("go") or query.get("page") or ""
    if not page and "&".join(f"{name}={value}" for name, value in shown.items() if name != "page") == wanted.query():
        page = shown.get("page", "")
    return TaskFilter(wanted.stage, wanted.state, wanted.sort, int(page) if page.isdecimal() and len(page) < 9 else 1)
