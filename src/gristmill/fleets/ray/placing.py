"""How many slots the members of a fleet have. A function of what Ray's nodes have and what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gristmill.config import format_size
from gristmill.errors import UsageError


@dataclass(frozen=True)
class Node:
    """What a node of the cluster has in all."""

    cpus: float
    memory_bytes: int

    def slots(self, task_cpus: float, task_memory_bytes: int) -> int:
        """How many tasks find room on it at a time."""
        by_cpus = int(self.cpus / task_cpus + 1e-9)
        return min(by_cpus, self.memory_bytes // task_memory_bytes) if task_memory_bytes else by_cpus


@dataclass(frozen=True)
class Berth:
    """What one member asks of Ray."""

    slots: int
    cpus: float
    memory_bytes: int


def berths(
    nodes: Sequence[Node],
    executors: int | None,
    task_cpus: float,
    task_memory_bytes: int,
    *,
    shared: bool = False,
) -> list[Berth]:
    """What to ask of Ray: a member for each node, with all its slots; where others are at work, a member for each slot.

    Slots that are asked for and have no room yet wait as members of their own: it is what they wait for that makes an
    autoscaler add nodes, and where there is none, they wait until somebody else does.

    Args:
        nodes: those that are there.
        executors: slots that are wanted; None: all that there is room for.
        task_cpus: what a slot takes.
        task_memory_bytes: likewise.
        shared: others use the cluster too.

    Raises:
        UsageError: no node has room for a single task; or none has CPUs, and it was not said how many to wait for.
    """
    room = sorted((node.slots(task_cpus, task_memory_bytes) for node in nodes), reverse=True)
    wanted = executors or sum(room)
    if not wanted and not any(node.cpus for node in nodes):
        raise UsageError(
            "This Ray cluster has no CPUs now. With --executors N a job waits until there are some, and Ray's "
            "autoscaler, if it has one, adds nodes for it."
        )
    if not any(room) and any(node.cpus for node in nodes):
        largest = max(nodes, key=lambda node: (node.cpus, node.memory_bytes), default=Node(0, 0))
        memory = f" and {format_size(task_memory_bytes)} of memory" if task_memory_bytes else ""
        raise UsageError(
            f"A task that takes {task_cpus:g} CPUs{memory} never runs on this Ray cluster: its largest node has "
            f"{largest.cpus:g} CPUs and {format_size(largest.memory_bytes)}. Give less --task-cpus or --task-memory."
        )
    sizes: list[int] = []
    for slots in room:
        size = min(slots, wanted - sum(sizes))
        if size > 0:
            sizes += [1] * size if shared else [size]
    sizes += [1] * (wanted - sum(sizes))
    return [Berth(size, size * task_cpus, size * task_memory_bytes) for size in sizes]
