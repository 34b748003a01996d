"""What a fleet on Ray is told, and what it tells its members. Plain data; nothing of Ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gristmill.runtime.process.limits import Limits, limits_of

SCHEME = "ray:"
"""How the address of a member's blocks begins: ``ray:NAMESPACE/NAME`` of its actor."""
PLACE_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """How a fleet on Ray is to be.

    Attributes:
        address: ``ray``: the cluster that this process belongs to or that ``RAY_ADDRESS`` names, else one of its own;
            or ``ray://HOST:PORT``.
        executors: slots in all; None: as many as the cluster has CPUs for.
        memory_bytes: of all executors together; None: a share of what each node has.
        task_cpus: of Ray's CPUs, what a slot takes.
        task_memory_bytes: likewise of its memory; 0: nothing is reserved.
        limits: of each executor.
        data_dir: where a Ray of our own keeps its files, and the members on it theirs.
        place_seconds: how long Ray may take to find a place for the first slot.
        split_seconds: … and for all slots of a member together; then they are asked for one by one.
    """

    address: str = "ray"
    executors: int | None = None
    memory_bytes: int | None = None
    task_cpus: float = 1.0
    task_memory_bytes: int = 0
    limits: Limits = field(default_factory=lambda: limits_of(None, None))
    data_dir: Path | None = None
    place_seconds: float = PLACE_SECONDS
    split_seconds: float = 60.0


@dataclass(frozen=True, kw_only=True)
class MemberSettings:
    """What an actor is made with.

    Attributes:
        namespace: Ray's, in which the fleet's actors have their names.
        name: the actor's.
        executors: its slots.
        cpus: what they take together, of Ray's CPUs.
        memory_bytes: of all executors together; None: a share of what the node has.
        limits: of each executor.
        data_dir: where to keep blocks; empty: in the node's own cache folder.
    """

    namespace: str
    name: str
    executors: int
    cpus: float
    memory_bytes: int | None
    limits: Limits
    data_dir: str = ""

    @property
    def address(self) -> str:
        """Where others ask for its blocks."""
        return f"{SCHEME}{self.namespace}/{self.name}"
