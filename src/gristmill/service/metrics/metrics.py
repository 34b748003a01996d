"""What ``/metrics`` is made of: figures from facts, calls that were answered, and what is asked when somebody looks.

How that is shown is ``service.exposition``: its library is loaded when the first scrape comes.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gristmill.errors import GristmillError
from gristmill.runtime.journal.facts import Fact
from gristmill.runtime.journal.journal import Journal
from gristmill.runtime.views import WorkerView
from gristmill.service.metrics.figures import Figures, Histogram

if TYPE_CHECKING:
    from gristmill.runtime.coordinator.coordinator import Coordinator
    from gristmill.service.metrics.exposition import Exposition

HTTP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS")
_FIRST_FACTS = 20  # of a job: how it began is among them


class Metrics:
    """What ``/metrics`` shows.

    Args:
        journal: its facts are followed from now on.
        coordinator: is asked for its workers.

    Attributes:
        journal: likewise.
        workers: asks for them.
        lock: to be held while what follows is read.
        figures: from facts.
        calls: how long answers to a method and a route took to begin.
        answers: how often a method and a route were answered with a status.
    """

    def __init__(self, journal: Journal, coordinator: Coordinator) -> None:
        self.journal = journal
        self.workers: Callable[[], Sequence[WorkerView]] = coordinator.workers
        self.lock = threading.Lock()  # held for a group of facts, and to read them all
        self.figures = Figures(self._first_facts)
        self.calls: dict[tuple[str, str], Histogram] = {}
        self.answers: Counter[tuple[str, str, str]] = Counter()
        self._exposition: Exposition | None = None
        for job in journal.unfinished():
            self.figures.known(self._first_facts(job.job))
        journal.follow(self._take)

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics in a form that the caller accepts, and the name of that form."""
        if self._exposition is None:
            from gristmill.service.metrics.exposition import Exposition

            self._exposition = Exposition(self)
        return self._exposition.page(accept)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A call was answered.

        Args:
            method: the HTTP method.
            route: the template of its path; empty: there is no such route.
            status: of the answer.
            seconds: until the answer began.
        """
        method, route = method if method in _METHODS else "other", route or "none"
        with self.lock:
            self.answers[method, route, str(status)] += 1
            if (histogram := self.calls.get((method, route))) is None:
                histogram = self.calls[method, route] = Histogram(HTTP_SECONDS)
            histogram.observe(seconds)

    def _first_facts(self, job: str) -> Sequence[Fact]:
        """How a job began, as far as that can be read."""
        with suppress(GristmillError):
            return [fact for _, fact in self.journal.numbered(job, most=_FIRST_FACTS)]
        return ()

    def _take(self, facts: Sequence[Fact]) -> None:
        with self.lock:
            self.figures.take(facts)


class Measured:
    """A web application whose calls are counted, refused ones too."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, seconds = time.perf_counter(), 500, 0.0

        async def sending(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - began
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "")
            self._metrics.answered(scope["method"], route, status, seconds or time.perf_counter() - began)
