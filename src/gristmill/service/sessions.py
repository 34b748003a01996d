"""Sessions of datasets on a server: what a client keeps here for as long as it says that it lives.

A session has a lease, which its client renews. When the client closes the session or is silent for too long, its jobs
are cancelled, and all blocks that it keeps are deleted everywhere. A session ends with its server, too: its client then
opens another, and what was kept is made again.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gristmill.api.layouts import Layouts
from gristmill.api.messages import SubmitRequest
from gristmill.errors import GristmillError, SessionClosed
from gristmill.fleets.cluster import ClusterFleet
from gristmill.runtime.coordinator import Coordinator
from gristmill.runtime.jobfolder import JobFolder
from gristmill.runtime.reading import BlockInfo, bring
from gristmill.service.jobs import JobService

LEASE_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_END_SECONDS = 10.0  # for the jobs of a session that ends
_log = logging.getLogger(__name__)


@dataclass
class _Session:
    folder: JobFolder
    ticket: str
    until: float  # on the service's clock
    jobs: list[str] = field(default_factory=list)
    layouts: Layouts = field(default_factory=Layouts)

    @property
    def id(self) -> str:
        return self.folder.job


class SessionService:
    """All sessions of a server.

    Args:
        coordinator: runs their jobs.
        fleet: knows where blocks are.
        jobs: takes their jobs in.
        data_dir: the server's own.
        lease_seconds: how long a client may be silent.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        fleet: ClusterFleet,
        jobs: JobService,
        data_dir: Path,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._coordinator = coordinator
        self._fleet = fleet
        self._jobs = jobs
        self._data_dir = data_dir
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="gristmill-sessions", daemon=True)
        self._thread.start()

    @property
    def lease_seconds(self) -> float:
        """How long a client may be silent."""
        return self._lease_seconds

    def open(self) -> str:
        """Begin a session; its id.

        Raises:
            UsageError: the data directory cannot be written.
        """
        folder = JobFolder.create(self._data_dir, {"name": "session"}, time.time())
        session = _Session(folder, secrets.token_hex(16), self._clock() + self._lease_seconds)
        with self._lock:
            self._sessions[session.id] = session
        return session.id

    def renew(self, session: str) -> None:
        """Its client lives.

        Raises:
            SessionClosed: there is no such session, or not any more.
        """
        with self._lock:
            self._find(session).until = self._clock() + self._lease_seconds

    def submit(self, session: str, request: SubmitRequest, key: str) -> str:
        """Take a job of a session in; its id. See :meth:`JobService.submit`.

        Raises:
            SessionClosed: there is no such session, or not any more.
        """
        self.renew(session)
        with self._lock:
            found = self._find(session)
        job = self._jobs.submit(request, key, session=(found.id, found.ticket), layouts=found.layouts)
        found.jobs.append(job)
        return job

    def result(self, session: str, kept: str) -> list[BlockInfo]:
        """The blocks that are kept under a name, in order.

        Raises:
            SessionClosed: there is no such session, or not any more.
        """
        self.renew(session)
        return self._coordinator.kept(session, kept)

    def read(self, session: str, kept: str, place: int) -> tuple[Path, int, int, bool]:
        """Make one of these blocks readable here: its file, where it begins and how long it is.

        The last value says whether the file is the caller's to delete.

        Raises:
            SessionClosed: there is no such session, or not any more.
            TaskError: the block is gone, damaged, or cannot be reached.
            IndexError: there is no such block.
        """
        block = self.result(session, kept)[place]
        with self._lock:
            found = self._find(session)
        scratch = found.folder.path / f"fetched-{secrets.token_hex(8)}"
        brought = bring(block, self._fleet.block_sources, scratch, session, found.ticket)
        segment = brought.segments[0]
        return Path(brought.path), segment.offset, segment.length, brought is not block

    def forget(self, session: str, kept: str) -> None:
        """Delete what is kept under a name.

        Raises:
            SessionClosed: there is no such session, or not any more.
        """
        self.renew(session)
        self._coordinator.forget(session, kept)

    def end(self, session: str) -> None:
        """End a session, if there is one: its jobs are cancelled, and nothing of it is kept."""
        with self._lock:
            found = self._sessions.pop(session, None)
        if found is not None:
            self._end(found)

    def close(self) -> None:
        """End all sessions. Bounded."""
        self._closing.set()
        self._thread.join(_END_SECONDS)
        for session in list(self._sessions):
            self.end(session)

    def _find(self, session: str) -> _Session:
        found = self._sessions.get(session)
        if found is None:
            raise SessionClosed(f"This server knows no session {session}: it was closed, or its client was silent.")
        return found

    def _watch(self) -> None:
        while not self._closing.wait(min(_LOOK_SECONDS, self._lease_seconds / 4)):
            now = self._clock()
            with self._lock:
                late = [session for session in self._sessions.values() if session.until < now]
            for session in late:
                _log.warning("The client of session %s was silent for %g s: it ends.", session.id, self._lease_seconds)
                self.end(session.id)

    def _end(self, session: _Session) -> None:
        for running in self._cancelled(session.jobs):
            with suppress(GristmillError):
                running()
        self._coordinator.end_session(session.id)
        session.folder.remove()

    def _cancelled(self, jobs: Sequence[str]) -> Iterator[Callable[[], object]]:
        """Cancel jobs; what waits for each of them."""
        found = [running for job in jobs if (running := self._coordinator.find(job)) is not None]
        for running in found:
            with suppress(GristmillError):
                running.cancel()
        for running in found:
            yield lambda running=running: running.wait(_END_SECONDS)  # type: ignore[misc]
