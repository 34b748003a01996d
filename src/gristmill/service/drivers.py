"""Drivers: programs that run as tasks of this server, and submit jobs to it.

A driver needs a token, and the environment of an executor has none: user code of all jobs runs there. So each driver
has one of its own. It is made of its job's id and of the ticket that only the server and the executor of that job know,
it opens nothing but sessions and jobs that this driver has made, and it is worth nothing once the job is over.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from gristmill.runtime.coordinator.registry import RunningJob
from gristmill.runtime.journal.facts import JobRequested
from gristmill.runtime.journal.summaries import is_loader as is_loader
from gristmill.runtime.journal.summaries import loader_name as loader_name
from gristmill.service.doors.tokens import same


@dataclass
class _Driver:
    running: RunningJob
    user: str = ""
    sessions: set[str] = field(default_factory=set)
    jobs: set[str] = field(default_factory=set)
    loads: JobRequested | None = None


class Drivers:
    """Those that run. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drivers: dict[str, _Driver] = {}

    def note(self, running: RunningJob, driver: str = "", user: str = "", loads: JobRequested | None = None) -> None:
        """A job runs here: it may be a driver, or that of one, and belongs to a user.

        Args:
            running: the job.
            driver: the driver that has submitted it; empty: none has.
            user: whose it is.
            loads: the job whose code it loads, as a driver; None: it loads none.
        """
        with self._lock:
            self._tidy()
            if running.held.prepared.spec.driver:
                self._drivers.setdefault(running.job, _Driver(running, user, loads=loads))
            elif driver in self._drivers:
                self._drivers[driver].jobs.add(running.job)

    def load_of(self, driver: str) -> JobRequested | None:
        """The job whose code a driver loads; None if it loads none."""
        with self._lock:
            found = self._drivers.get(driver)
        return None if found is None else found.loads

    def note_session(self, session: str, driver: str) -> None:
        """A driver has begun a session."""
        with self._lock:
            if driver in self._drivers:
                self._drivers[driver].sessions.add(session)

    def is_over(self, driver: str) -> bool:
        """Whether a driver has ended, however it did."""
        with self._lock:
            found = self._drivers.get(driver)
        return found is None or found.running.outcome is not None

    def find(self, token: str) -> str:
        """The driver whose token this is; empty if there is none, or it is over."""
        job, _, ticket = token.partition(".")
        with self._lock:
            found = self._drivers.get(job)
        if (
            found is None
            or found.running.outcome is not None
            or not same(ticket, found.running.held.prepared.spec.ticket)
        ):
            return ""
        return job

    def user(self, driver: str) -> str:
        """Who has submitted a driver."""
        with self._lock:
            found = self._drivers.get(driver)
        return "" if found is None else found.user

    def may(self, driver: str, method: str, path: str) -> bool:
        """Whether a driver's token opens this.

        Args:
            driver: the driver.
            method: of HTTP.
            path: below ``/api/v1``.
        """
        with self._lock:
            found = self._drivers.get(driver)
        if found is not None and found.loads is not None:
            match (method, *path.strip("/").split("/")):
                case ("POST", "jobs", job, "code"):
                    return job == found.loads.job
                case ("HEAD" | "PUT", "blobs", _):
                    return True
            return False
        match (method, *path.strip("/").split("/")):
            case ("POST", "sessions" | "jobs"):
                return found is not None
            case (_, "sessions", session, *_):
                return found is not None and session in found.sessions
            case (_, "jobs", job, *_):
                return found is not None and job in found.jobs
            case ("HEAD" | "PUT", "blobs", _):
                return found is not None
        return False

    def _tidy(self) -> None:
        """Forget those that are over. Their sessions end by themselves."""
        for driver in [driver for driver, found in self._drivers.items() if found.running.outcome is not None]:
            del self._drivers[driver]


def token_of(job: str, ticket: str) -> str:
    """The token of a driver."""
    return f"{job}.{ticket}"
