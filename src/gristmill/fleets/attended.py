"""What fleets have in common whose workers are other processes that attend: a roster, and a server that carries it.

All calls of the contract are queued for the server's thread. There the roster decides and acts.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gristmill.runtime.contracts import JobSpec, TaskSpec
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, BlockSource

if TYPE_CHECKING:
    from gristmill.fleets.roster import Roster
    from gristmill.runtime.files.joblogs import LogKeeper
    from gristmill.runtime.transport.link import Server
    from gristmill.runtime.transport.loop_thread import LoopThread


class AttendedFleet:
    """See :class:`~gristmill.runtime.contracts.Fleet`. Who derives from this starts the server.

    Args:
        logs: keeps what attempts print; None: nobody does.
    """

    def __init__(self, logs: LogKeeper | None = None) -> None:
        self._logs = logs
        self._server: LoopThread | None = None
        self._roster: Roster | None = None
        self._awaited: set[str] = set()

    def _attend(self, roster: Roster, server: Server) -> None:
        """This is who decides, and what carries it."""
        from gristmill.runtime.transport.loop_thread import LoopThread

        assert isinstance(server, LoopThread), "there is a thread to be asked in"
        self._roster, self._server = roster, server
        roster.serve_with(server)

    def await_jobs(self, jobs: Iterable[str]) -> None:
        """These jobs will be added: workers that come before keep what they have of them. Call it before ``start``."""
        self._awaited.update(jobs)

    @property
    def block_sources(self) -> tuple[BlockSource, ...]:
        """Where the blocks of each worker that is there can be asked for. From any thread."""
        return () if self._roster is None else self._roster.block_sources

    def dismiss(self) -> None:
        """Tell all workers to leave: there is no more to do. Those who come later are told so, too."""
        self._ask(lambda roster: roster.dismiss())

    def _tell_job(self, job: JobSpec, code: str) -> None:
        """Have all workers told of a job, now and later. They know its code by its SHA-256."""
        told = replace(job, code=b"", ticket=job.ticket or secrets.token_hex(16))
        self._ask(lambda roster: roster.add_job(told, code))

    # The contract of a fleet, but for ``start`` and ``add_job``.

    def launch(self, slot: str, spec: TaskSpec) -> None:
        """Run an attempt in a slot. If the slot's worker is gone, that is the answer."""
        server, roster = self._server, self._roster
        if server is not None and roster is not None:
            server.ask(partial(roster.launch, slot, spec))

    def cancel(self, attempt: AttemptId, recalled: bool = False) -> None:
        """End an attempt, and every process it started."""
        self._ask(lambda roster: roster.cancel(attempt, recalled))

    def free(self, block: BlockInfo) -> None:
        """Let whoever keeps a block delete it."""
        self._ask(lambda roster: roster.free(block))

    def drop_job(self, job: str) -> None:
        """Forget a job; workers delete what they keep of it."""
        self._ask(lambda roster: roster.drop_job(job))

    def keep_job(self, job: str) -> None:
        """Forget a job; workers keep its blocks, until it is dropped."""
        self._ask(lambda roster: roster.keep_job(job))

    def drop_worker(self, worker: str) -> None:
        """This worker counts as lost: nothing that it still says is heard. It may join anew."""
        self._ask(lambda roster: roster.drop_worker(worker))

    def drain_worker(self, worker: str) -> None:
        """Let a worker take no new work, and leave when it has done what it runs."""
        self._ask(lambda roster: roster.drain_worker(worker))

    def close(self) -> None:
        """Break all sessions. May be called again."""
        if self._server is not None:
            self._server.close()

    def _ask(self, call: Callable[[Roster], None]) -> None:
        server, roster = self._server, self._roster
        if server is not None and roster is not None:
            server.ask(lambda: call(roster))
