"""The cluster fleet: agents on any number of machines, each with one stream to this coordinator.

All calls of the contract are queued for the thread of the agents' server. There the roster decides and acts.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from gristmill.config import PYTHON_VERSION, VERSION
from gristmill.runtime.contracts import JobSpec, Post, TaskSpec
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, BlockSource

if TYPE_CHECKING:
    from gristmill.fleets.roster import Roster
    from gristmill.runtime.files.joblogs import LogKeeper
    from gristmill.runtime.transport.cluster import AgentServer, AgentTls

BEAT_SECONDS = 1.0
LOST_SECONDS = 10.0


class ClusterFleet:
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
        self._logs = logs
        self._allows = token if callable(token) else partial(_is_token, token)
        self._tls = tls
        self._is_here = is_here
        self._host, self._port = host, port
        self._beat_seconds, self._lost_seconds = beat_seconds, lost_seconds
        self._server: AgentServer | None = None
        self._roster: Roster | None = None
        self._awaited: set[str] = set()
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

    def blob(self, name: str) -> bytes | None:
        """The code of a running job, by its SHA-256. From any thread."""
        return self._codes.get(name)

    def await_jobs(self, jobs: Iterable[str]) -> None:
        """These jobs will be added: workers that come before keep what they have of them. Call it before ``start``."""
        self._awaited.update(jobs)

    @property
    def block_sources(self) -> tuple[BlockSource, ...]:
        """Where the blocks of each worker that is there can be asked for. From any thread."""
        return () if self._roster is None else self._roster.block_sources

    @property
    def peers_ca(self) -> str:
        """A file with the CAs of workers that serve blocks by TLS; empty: none are known."""
        return "" if self._tls is None or self._tls.peers_ca is None else str(self._tls.peers_ca)

    def dismiss(self) -> None:
        """Tell all workers to leave: there is no more to do. Those who come later are told so, too."""
        self._ask(lambda roster: roster.dismiss())

    # The contract of a fleet.

    def start(self, post: Post) -> None:
        """Begin to serve agents.

        Raises:
            UsageError: the address cannot be bound.
        """
        from gristmill.fleets.roster import Roster
        from gristmill.runtime.transport.cluster import AgentServer

        self._roster = Roster(post, self._beat_seconds, self._lost_seconds, self._awaited, self._logs)
        self._server = AgentServer(
            self._roster, self._host, self._port, self._allows, self._beat_seconds, self._tls, self._is_here
        )
        self._roster.serve_with(self._server)
        self._port = self._server.start()

    def add_job(self, job: JobSpec) -> None:
        """Make a job known to all workers, now and later."""
        code = self._code_of[job.job] = sha256(job.code).hexdigest()
        self._codes[code] = job.code
        told = replace(job, code=b"", ticket=job.ticket or secrets.token_hex(16))
        self._ask(lambda roster: roster.add_job(told, code))

    def launch(self, slot: str, spec: TaskSpec) -> None:
        """Run an attempt in a slot. If the slot's worker is gone, that is the answer."""
        self._ask(lambda roster: roster.launch(slot, spec))

    def cancel(self, attempt: AttemptId, recalled: bool = False) -> None:
        """End an attempt, and every process it started."""
        self._ask(lambda roster: roster.cancel(attempt, recalled))

    def free(self, block: BlockInfo) -> None:
        """Let whoever keeps a block delete it."""
        self._ask(lambda roster: roster.free(block))

    def drop_job(self, job: str) -> None:
        """Forget a job; workers delete what they keep of it."""
        self._forget_code(job)
        self._ask(lambda roster: roster.drop_job(job))

    def _forget_code(self, job: str) -> None:
        code = self._code_of.pop(job, "")
        if code not in self._code_of.values():
            self._codes.pop(code, None)

    def keep_job(self, job: str) -> None:
        """Forget a job; workers keep its blocks, until it is dropped."""
        self._forget_code(job)
        self._ask(lambda roster: roster.keep_job(job))

    def drop_worker(self, worker: str) -> None:
        """This worker counts as lost: nothing that it still says is heard. It may join anew."""
        self._ask(lambda roster: roster.drop_worker(worker))

    def drain_worker(self, worker: str) -> None:
        """Let a worker take no new work, and leave when it has done what it runs."""
        self._ask(lambda roster: roster.drain_worker(worker))

    def close(self) -> None:
        """Break all streams. Workers are not ended: they wait for a coordinator to come back."""
        if self._server is not None:
            self._server.close()

    def _ask(self, call: Callable[[Roster], None]) -> None:
        server, roster = self._server, self._roster
        if server is not None and roster is not None:
            server.ask(lambda: call(roster))


def _is_token(token: str, given: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())
