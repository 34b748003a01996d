"""Sessions of datasets on a server: what a client keeps here for as long as it says that it lives.

A session has a lease, which its client renews. When the client closes the session or is silent for too long, its jobs
are cancelled, and all blocks that it keeps are deleted everywhere. A session ends with its server, too: its client then
opens another, and what was kept is made again.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gristmill.api.messages import SubmitRequest
from gristmill.errors import GristmillError, SessionClosed
from gristmill.fleets.cluster import ClusterFleet
from gristmill.runtime.coordinator.coordinator import Coordinator, RunningJob
from gristmill.runtime.files.blobs import BlobStore
from gristmill.runtime.files.jobfolder import JobFolder
from gristmill.runtime.files.opening import open_block, open_file
from gristmill.service.doors.roles import Caller
from gristmill.service.refusals import NotTheirs
from gristmill.service.submission.jobs import JobService, SessionOfJob
from gristmill.service.submission.keys import key_of

if TYPE_CHECKING:
    from gristmill.runtime.executor.reading import BlockInfo

LEASE_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_END_SECONDS = 10.0  # for the jobs of a session that ends
_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Session(SessionOfJob):
    folder: JobFolder
    until: float  # on the service's clock
    driver: str = ""  # whose session it is, if it is one's
    key: str = ""  # with which it was begun
    jobs: list[str] = field(default_factory=list)


@dataclass
class _Left:
    """What a server that was killed has left of a session: jobs that were taken up, and what they keep."""

    until: float
    jobs: list[str] = field(default_factory=list)


class SessionService:
    """All sessions of a server.

    Args:
        coordinator: runs their jobs.
        fleet: knows where blocks are.
        jobs: takes their jobs in.
        data_dir: the server's own.
        lease_seconds: how long a client may be silent.
        clock: seconds, monotonic.
        resumed: the jobs of an earlier server that go on. Those of sessions are cancelled, unless their clients ask for
            them within the time of a lease.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        fleet: ClusterFleet,
        jobs: JobService,
        data_dir: Path,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        resumed: Sequence[RunningJob] = (),
    ) -> None:
        self._coordinator = coordinator
        self._fleet = fleet
        self._jobs = jobs
        self._data_dir = data_dir
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._sessions: dict[str, _Session] = {}
        self._left: dict[str, _Left] = {}
        for running in resumed:
            if session := running.held.prepared.spec.session:
                self._left.setdefault(session, _Left(clock() + lease_seconds)).jobs.append(running.job)
        self._lock = threading.Lock()
        self._beginning = threading.Lock()  # one with a key
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="gristmill-sessions", daemon=True)
        self._thread.start()

    @property
    def lease_seconds(self) -> float:
        """How long a client may be silent."""
        return self._lease_seconds

    def open(self, driver: str = "", user: str = "", key: str = "") -> str:
        """Begin a session; its id.

        Args:
            driver: the job whose program does so; empty: a client does.
            user: whose it is.
            key: the same key is the same session, for as long as that goes on; empty: always another one.

        Raises:
            UsageError: the data directory cannot be written, or the key is none.
        """
        if not key:
            return self._begin(driver, user, "")
        key = key_of(key, user)
        with self._beginning:
            with self._lock:
                known = next((one for one in self._sessions.values() if (one.key, one.driver) == (key, driver)), None)
            if known is not None:
                return known.id
            return self._begin(driver, user, key)

    def _begin(self, driver: str, user: str, key: str) -> str:
        folder = JobFolder.create(self._data_dir, {"name": "session", "passes": True}, time.time())
        session = _Session(
            id=folder.job,
            ticket=secrets.token_hex(16),
            blobs=BlobStore(folder.path / "blobs"),
            folder=folder,
            until=self._clock() + self._lease_seconds,
            driver=driver,
            user=user,
            key=key,
        )
        with self._lock:
            self._sessions[session.id] = session
        self._jobs.drivers.note_session(session.id, driver)
        return session.id

    def check_owner(self, session: str, caller: Caller) -> None:
        """See that a caller may use a session. One that is not there is nobody's.

        Raises:
            NotTheirs: it is somebody else's.
        """
        with self._lock:
            found = self._sessions.get(session)
        if found is not None and not caller.may_change(found.user):
            raise NotTheirs(f"Session {session} is {found.user or 'nobody'}'s, and not {caller.user}'s.")

    def blobs(self, session: str) -> BlobStore:
        """What its client has uploaded.

        Raises:
            SessionClosed: there is no such session, or not any more.
        """
        self.renew(session)
        with self._lock:
            return self._find(session).blobs

    def uploaded(self, session: str) -> None:
        """Something was uploaded. If the session has ended meanwhile, it is removed.

        Raises:
            SessionClosed: it has.
        """
        try:
            self.renew(session)
        except SessionClosed:
            shutil.rmtree(self._data_dir / "jobs" / session, ignore_errors=True)
            raise

    def find_blob(self, name: str) -> Path | None:
        """A blob that the client of any session has uploaded."""
        with self._lock:
            stores = [session.blobs for session in self._sessions.values()]
        return next((store.path(name) for store in stores if store.has(name)), None)

    def forget_broadcast(self, session: str, digest: str) -> None:
        """Delete the value of a broadcast.

        Raises:
            SessionClosed: there is no such session, or not any more.
        """
        self.blobs(session).remove(digest)
        self._coordinator.forget_broadcast(session, digest)

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
        job = self._jobs.submit(request, key, found, found.driver, found.user)
        with self._lock:
            found.jobs.append(job)
            for left in self._left.values():
                left.jobs = [other for other in left.jobs if other != job]
            if session in self._sessions:
                return job
        self._cancel([job])  # the session has ended meanwhile
        raise SessionClosed(f"Session {session} has ended.")

    def result(self, session: str, kept: str) -> list[BlockInfo]:
        """The blocks that are kept under a name, in order.

        Raises:
            SessionClosed: there is no such session, or not any more.
        """
        self.renew(session)
        return self._coordinator.kept(session, kept)

    def read(self, session: str, kept: str, place: int) -> tuple[BinaryIO, int, Path | None]:
        """Make one of these blocks readable here: its file, where it begins in that, and how long it is.

        The last value is a folder that is the caller's to delete.

        Raises:
            SessionClosed: there is no such session, or not any more.
            TaskError: the block is gone, damaged, or cannot be reached.
            IndexError: there is no such block.
        """
        block = self.result(session, kept)[place]
        with self._lock:
            found = self._find(session)
        scratch = found.folder.path / f"fetched-{secrets.token_hex(8)}"
        fleet = self._fleet
        from gristmill.runtime.executor.reading import bring  # Arrow, which takes a server longer to load than all else

        brought = bring(block, fleet.block_sources, scratch, session, found.ticket, fleet.peers_ca)
        segment = brought.segments[0]
        if brought is block:
            return open_block(block.path, session, segment), segment.length, None
        file = open_file(brought.path)
        file.seek(segment.offset)
        return file, segment.length, scratch

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
            try:
                self._end_late(now)
            except Exception:  # the thread's last line: the other sessions must end, too
                _log.exception("a session could not be ended")

    def _end_late(self, now: float) -> None:
        with self._lock:
            late = [session for session in self._sessions.values() if session.until < now]
            alone = [session for session in self._sessions.values() if session.driver]
            left = [session for session, found in self._left.items() if found.until < now]
            gone = [(session, self._left.pop(session).jobs) for session in left]
        for session in late:
            _log.warning("The client of session %s was silent for %g s: it ends.", session.id, self._lease_seconds)
            self.end(session.id)
        for session in alone:
            if self._jobs.drivers.is_over(session.driver):
                self.end(session.id)
        for name, jobs in gone:
            self._cancel(jobs)
            self._coordinator.end_session(name)

    def _end(self, session: _Session) -> None:
        self._cancel(session.jobs)
        self._coordinator.end_session(session.id)
        session.folder.remove()

    def _cancel(self, jobs: Sequence[str]) -> None:
        """Cancel those that are not over, and remove what is left of them: nobody will ask for it."""
        found = [running for job in jobs if isinstance(running := self._coordinator.find(job), RunningJob)]
        found = [running for running in found if running.outcome is None]
        for running in found:
            with suppress(GristmillError):
                running.cancel()
        for running in found:
            with suppress(GristmillError):
                if running.wait(_END_SECONDS) is not None:
                    shutil.rmtree(self._data_dir / "jobs" / running.job, ignore_errors=True)
