"""``/metrics``, for Prometheus."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, Response

from gristmill.service.doors.roles import Needs, Role
from gristmill.service.metrics.metrics import Metrics
from gristmill.service.problems import problems

_TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The metrics, in the form that is asked for.",
        "content": {"text/plain": {"schema": {"type": "string"}}, "application/openmetrics-text": {}},
    }
}


def metrics_routes(metrics: Metrics) -> APIRouter:
    """The route that Prometheus scrapes; its token is a viewer's."""
    routes = APIRouter(tags=["system"])

    @routes.get(
        "/metrics",
        dependencies=[Depends(Needs(Role.VIEWER))],
        response_class=PlainTextResponse,
        responses=_TEXT | problems(),
    )
    async def scrape(request: Request) -> Response:
        """Metrics for Prometheus, as text or in OpenMetrics' form."""
        text, form = await run_in_threadpool(metrics.page, request.headers.get("accept", ""))
        return Response(text, media_type=form)

    return routes
