"""The cluster fleet: agents on any number of machines, each with one stream to this coordinator.

The contract's calls are those of every fleet whose workers attend (:mod:`gristmill.fleets.attended`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from gristmill.config import PYTHON_VERSION, VERSION
from gristmill.fleets.attended import AttendedFleet
from gristmill.runtime.contracts import JobSpec, Post

if TYPE_CHECKING:
    from gristmill.runtime.files.joblogs import LogKeeper
    from gristmill.runtime.transport.cluster import AgentTls

BEAT_SECONDS = 1.0
LOST_SECONDS = 10.0


class ClusterFleet(AttendedFleet):
    """The workers that have joined. See :class:`~gristmill.runtime.contracts.Fleet`.

    Args:
        token: what agents must bring; or what says whether a token lets an agent in.
        host: where to serve agents.
        port: likewise; 0: a free one.
        beat_seconds: how often each agent says that it lives.
        lost_seconds: without that for so long, a worker is lost; for half as long, it gets no new work.
        logs: keeps what attempts print; None: nobody does.
        tls: how agents are served by TLS; None: nothing is encrypted.
        is_here: whether the host that an agent names is this one; None: any is.
    """

    def __init__(
        self,
        token: str | Callable[[str], bool],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        beat_seconds: float = BEAT_SECONDS,
        lost_seconds: float = LOST_SECONDS,
        logs: LogKeeper | None = None,
        tls: AgentTls | None = None,
        is_here: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__(logs)
        self._allows = token if callable(token) else partial(_is_token, token)
        self._tls = tls
        self._is_here = is_here
        self._host, self._port = host, port
        self._beat_seconds, self._lost_seconds = beat_seconds, lost_seconds
        self._codes: dict[str, bytes] = {}  # of running jobs, by SHA-256
        self._code_of: dict[str, str] = {}

    @property
    def address(self) -> str:
        """Where agents connect, ``HOST:PORT``; the port is known once the fleet has started."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    @property
    def join_facts(self) -> Mapping[str, str | float]:
        """What ``GET /api/v1/join`` answers: all that a worker must know before it connects."""
        return {
            "grpc": self.address,
            "version": VERSION,
            "python": PYTHON_VERSION,
            "heartbeat_seconds": self._beat_seconds,
            "lost_seconds": self._lost_seconds,
            "tls": self._tls is not None,
            "client_certificates": self._tls is not None and self._tls.client_ca is not None,
        }

    @property
    def peers_ca(self) -> str:
        """A file with the CAs of workers that serve blocks by TLS; empty: none are known."""
        return "" if self._tls is None or self._tls.peers_ca is None else str(self._tls.peers_ca)

    def blob(self, name: str) -> bytes | None:
        """The code of a running job, by its SHA-256. From any thread."""
        return self._codes.get(name)

    # The contract of a fleet.

    def start(self, post: Post) -> None:
        """Begin to serve agents.

        Raises:
            UsageError: the address cannot be bound.
        """
        from gristmill.fleets.roster import Roster
        from gristmill.runtime.transport.cluster import AgentServer

        roster = Roster(post, self._beat_seconds, self._lost_seconds, self._awaited, self._logs)
        server = AgentServer(roster, self._host, self._port, self._allows, self._beat_seconds, self._tls, self._is_here)
        self._attend(roster, server)
        self._port = server.start()

    def add_job(self, job: JobSpec) -> None:
        """Make a job known to all workers, now and later."""
        code = self._code_of[job.job] = sha256(job.code).hexdigest()
        self._codes[code] = job.code
        self._tell_job(job, code)

    def drop_job(self, job: str) -> None:
        """Forget a job; workers delete what they keep of it."""
        self._forget_code(job)
        super().drop_job(job)

    def keep_job(self, job: str) -> None:
        """Forget a job; workers keep its blocks, until it is dropped."""
        self._forget_code(job)
        super().keep_job(job)

    def _forget_code(self, job: str) -> None:
        code = self._code_of.pop(job, "")
        if code not in self._code_of.values():
            self._codes.pop(code, None)


def _is_token(token: str, given: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())
