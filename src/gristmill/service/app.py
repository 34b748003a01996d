"""The web application: all routes behind the guard. A route that names no role is a mistake, found at the start."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from gristmill.config import VERSION
from gristmill.service.doors.guard import Guard, Keys
from gristmill.service.doors.heads import Heads, heads_of
from gristmill.service.doors.login import login_routes
from gristmill.service.doors.roles import doors_of
from gristmill.service.doors.seats import Seats
from gristmill.service.metrics.metrics import Measured, Metrics
from gristmill.service.openapi import document_of
from gristmill.service.page.routes import login_page, page_routes
from gristmill.service.problems import answer_errors
from gristmill.service.results import ResultService
from gristmill.service.routes.blobs import blob_routes
from gristmill.service.routes.events import event_routes
from gristmill.service.routes.history import history_routes
from gristmill.service.routes.jobs import builtin_routes, job_routes
from gristmill.service.routes.metrics import metrics_routes
from gristmill.service.routes.requests import check_queries
from gristmill.service.routes.sessions import session_routes
from gristmill.service.routes.system import JoinFacts, description_routes, system_routes
from gristmill.service.routes.tasks import result_routes, task_routes
from gristmill.service.routes.workers import worker_routes
from gristmill.service.sessions import SessionService
from gristmill.service.submission.asking import Asking
from gristmill.service.submission.jobs import JobService
from gristmill.service.submission.turns import Turns


def create_app(
    jobs: JobService,
    sessions: SessionService,
    keys: Keys,
    join_facts: JoinFacts,
    code_of: Callable[[str], bytes | None] = lambda _name: None,
    *,
    metrics: Metrics,
) -> ASGIApp:
    """The web application.

    Args:
        jobs: what it speaks for.
        sessions: likewise.
        keys: what the guard goes by.
        join_facts: what workers are told.
        code_of: a blob that is not among the uploaded ones, by its SHA-256.
        metrics: of the server; all calls are counted there.
    """
    app = routed(jobs, sessions, keys, join_facts, code_of, metrics)
    doors = doors_of(app)
    return Measured(Guard(Heads(app), keys, jobs.drivers, [*doors, *heads_of(doors)]), metrics)


def routed(
    jobs: JobService,
    sessions: SessionService,
    keys: Keys,
    join_facts: JoinFacts,
    code_of: Callable[[str], bytes | None],
    metrics: Metrics,
) -> FastAPI:
    """All routes, without the guard: see :func:`create_app`."""
    app = FastAPI(title="Gristmill", version=VERSION, docs_url=None, redoc_url=None, openapi_url=None)
    answer_errors(app)
    asking, turns, seats = Asking(jobs), Turns(), Seats()
    keys.login_page = login_page
    routers = (
        job_routes(jobs, asking, turns, seats),
        builtin_routes(),
        task_routes(jobs),
        result_routes(ResultService(jobs)),
        event_routes(jobs, seats),
        history_routes(jobs),
        metrics_routes(metrics),
        worker_routes(jobs),
        session_routes(sessions, turns),
        blob_routes(jobs.blobs, sessions.find_blob, code_of),
        system_routes(jobs, join_facts),
        description_routes(lambda: document_of(app)),
        login_routes(keys.logins, keys.guesses, keys.login_page),
        page_routes(jobs, asking, turns, seats),
    )
    for router in routers:
        app.include_router(router, dependencies=[Depends(check_queries)])
    return app
