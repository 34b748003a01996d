"""What a worker has to work with, whatever session it is in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gristmill.runtime.contracts import Usage
from gristmill.runtime.process.limits import Limits, limits_of
from gristmill.runtime.process.watch import AgentSettings
from gristmill.runtime.worker.datadirs import DataDirs


class CodeSource(Protocol):
    """Where code comes from (``runtime.worker.front.Front``)."""

    url: str

    def blob(self, name: str) -> bytes: ...


class Blocks(Protocol):
    """Who serves blocks to other machines (``shuffle.serve.BlockServer``)."""

    def allow(self, job: str, ticket: str) -> None: ...

    def forget(self, job: str) -> None: ...

    on_trouble: Callable[[str], None]


@dataclass(frozen=True)
class Premises:
    """What a worker has, whatever session it is in.

    Attributes:
        executors: how many to run.
        executor_memory_bytes: of each.
        machine: which file system they see.
        dirs: the data directories; only the chores of one session at a time change them, but for ``choose``.
        blocks: serves the blocks in them.
        front: where code comes from.
        usage: what is in use here, if there is something new.
        limits: of each executor.
        depth: attempts that a slot takes at a time.
        relay: the address of what passes questions for blocks on to other workers; empty: executors ask them.
    """

    executors: int
    executor_memory_bytes: int
    machine: str
    dirs: DataDirs
    blocks: Blocks
    front: CodeSource
    usage: Callable[[], Usage | None] = lambda: None
    limits: Limits = field(default_factory=lambda: limits_of(None, None))
    depth: int = AgentSettings.depth
    relay: str = ""
