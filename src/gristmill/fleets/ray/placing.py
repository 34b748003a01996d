"""How many slots the members of a fleet have, and how much memory. Functions of what Ray's nodes have and of wishes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gristmill.config import MIN_EXECUTOR_MEMORY_BYTES, format_size
from gristmill.errors import UsageError

_MEMORY_SHARE = 0.85  # of what Ray counts of a node, mostly 70 % of it; the rest is for the member, and to be safe
_PLAIN_SHARE = 0.6  # of a node of which Ray counts none


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
    """What one member asks of Ray.

    Attributes:
        slots: tasks at a time.
        cpus: they take.
        memory_bytes: they take, all together; 0: nothing is asked for, and the node's share is theirs.
    """

    slots: int
    cpus: float
    memory_bytes: int

    def singles(self) -> list[Berth]:
        """The same slots, a member each."""
        return [Berth(1, self.cpus / self.slots, self.memory_bytes // self.slots)] * self.slots


def memory_of_member(node: Node, cpus: float, available_bytes: int) -> int:
    """What the executors of a member may use together where nobody said it: as much of the memory as of the CPUs.

    Args:
        node: where it is.
        cpus: what it has of the node's.
        available_bytes: what a process may use there, which a container may bound.
    """
    whole = min(int(node.memory_bytes * _MEMORY_SHARE), available_bytes) or int(available_bytes * _PLAIN_SHARE)
    return int(whole * min(1.0, cpus / node.cpus)) if node.cpus else whole


def berths(
    nodes: Sequence[Node],
    executors: int | None,
    task_cpus: float,
    task_memory_bytes: int,
    memory_bytes: int | None = None,
    *,
    shared: bool = False,
    grows: bool = False,
) -> list[Berth]:
    """What to ask of Ray: a member for each node, with all its slots; where others are at work, a member for each slot.

    Slots that are asked for and have no room yet wait as members of their own: it is what they wait for that makes an
    autoscaler add nodes, and where there is none, they wait until somebody else does.

    Args:
        nodes: those that are there.
        executors: slots that are wanted; None: all that there is room for.
        task_cpus: what a slot takes.
        task_memory_bytes: likewise.
        memory_bytes: of all slots together; None: nobody said.
        shared: others use the cluster too.
        grows: there is an autoscaler, which may add nodes that are larger.

    Raises:
        UsageError: no node has room for a single task; or none has CPUs, and it was not said how many to wait for; or
            there is too little memory for so many.
    """
    by_cpus = sum(node.slots(task_cpus, 0) for node in nodes)
    slot_bytes = _slot_bytes(executors or by_cpus, task_memory_bytes, memory_bytes)
    room = sorted((node.slots(task_cpus, slot_bytes) for node in nodes), reverse=True)
    wanted = executors or sum(room)
    if memory_bytes and slot_bytes:
        wanted = min(wanted, memory_bytes // slot_bytes)
    if not wanted and not any(node.cpus for node in nodes):
        raise UsageError(
            "This Ray cluster has no CPUs now. With --executors N a job waits until there are some, and Ray's "
            "autoscaler, if it has one, adds nodes for it."
        )
    if not any(room) and any(node.cpus for node in nodes) and not grows:
        raise _never(nodes, task_cpus, slot_bytes)
    sizes: list[int] = []
    for slots in room:
        size = min(slots, wanted - sum(sizes))
        if size > 0:
            sizes += [1] * size if shared else [size]
    sizes += [1] * (max(1, wanted) - sum(sizes))
    return [Berth(size, size * task_cpus, size * slot_bytes) for size in sizes]


def further(
    nodes: Sequence[Node],
    asked: Sequence[Berth],
    task_cpus: float,
    task_memory_bytes: int,
    *,
    shared: bool = False,
) -> list[Berth]:
    """What to ask for besides, where all that there is room for is wanted and nodes have come.

    A member whose node was lost is asked for again, and has the first right to a node that comes in its place.

    Args:
        nodes: those that are there now.
        asked: what was asked for already, whether it has a place or not.
        task_cpus: what a slot takes.
        task_memory_bytes: likewise.
        shared: others use the cluster too.
    """
    room = sorted((node.slots(task_cpus, task_memory_bytes) for node in nodes), reverse=True)
    left = sum(room) - sum(berth.slots for berth in asked)
    sizes: list[int] = []
    for slots in [1] * left if shared else (Counter(room) - Counter(berth.slots for berth in asked)).elements():
        if (size := min(slots, left - sum(sizes))) > 0:
            sizes.append(size)
    return [Berth(size, size * task_cpus, size * task_memory_bytes) for size in sizes]


def _slot_bytes(wanted: int, task_memory_bytes: int, memory_bytes: int | None) -> int:
    """What each slot takes of the memory; 0: nobody said."""
    if not memory_bytes or not wanted:
        return task_memory_bytes
    if memory_bytes < task_memory_bytes:
        raise UsageError(
            f"A task that reserves {format_size(task_memory_bytes)} of memory never runs with "
            f"{format_size(memory_bytes)} for all. Give more --memory, or less --task-memory."
        )
    fitting = min(wanted, memory_bytes // task_memory_bytes) if task_memory_bytes else wanted
    share = memory_bytes // fitting
    if share < MIN_EXECUTOR_MEMORY_BYTES:
        raise UsageError(
            f"{format_size(memory_bytes)} of memory for {fitting} executors leaves {format_size(share)} each; an "
            f"executor needs {format_size(MIN_EXECUTOR_MEMORY_BYTES)}. Give more --memory or fewer --executors."
        )
    return share


def _never(nodes: Sequence[Node], task_cpus: float, slot_bytes: int) -> UsageError:
    largest = largest_of(nodes)
    memory = f" and {format_size(slot_bytes)} of memory" if slot_bytes else ""
    less = "--task-cpus, --task-memory or --memory" if slot_bytes else "--task-cpus"
    return UsageError(
        f"A task that takes {task_cpus:g} CPUs{memory} never runs on this Ray cluster: its largest node has "
        f"{largest.cpus:g} CPUs and {format_size(largest.memory_bytes)}. Give less {less}."
    )


def largest_of(nodes: Sequence[Node]) -> Node:
    """The node that has most."""
    return max(nodes, key=lambda node: (node.cpus, node.memory_bytes), default=Node(0, 0))
