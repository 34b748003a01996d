"""How much memory members on Ray reserve, and their executors may use."""

from __future__ import annotations

import pytest

from gristmill.config import GIB, MIB
from gristmill.errors import UsageError
from gristmill.fleets.ray.placing import Berth, Node, berths, memory_of_member

NODE = Node(8, 24 * GIB)


@pytest.mark.parametrize(
    ("executors", "task_memory", "memory", "wanted"),
    [
        (None, 0, None, Berth(8, 8, 0)),  # nobody said: nothing is reserved
        (None, 2 * GIB, None, Berth(8, 8, 16 * GIB)),
        (None, 0, 16 * GIB, Berth(8, 8, 16 * GIB)),
        (4, 0, 16 * GIB, Berth(4, 4, 16 * GIB)),
        (None, 4 * GIB, 16 * GIB, Berth(4, 4, 16 * GIB)),  # more tasks at a time would take more than there is for all
        (8, 3 * GIB, 16 * GIB, Berth(5, 5, 5 * (16 * GIB // 5))),
    ],
)
def test_what_is_reserved(executors: int | None, task_memory: int, memory: int | None, wanted: Berth) -> None:
    assert berths([NODE], executors, 1, task_memory, memory) == [wanted]


def test_memory_for_all_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"A task that reserves 4.0 GiB of memory never runs with 2.0 GiB for all"):
        berths([NODE], None, 1, 4 * GIB, 2 * GIB)
    with pytest.raises(UsageError, match=r"256.0 MiB of memory for 8 executors leaves 32.0 MiB each"):
        berths([NODE], None, 1, 0, 256 * MIB)
    with pytest.raises(UsageError, match=r"1 CPUs and 32.0 GiB of memory never runs .* Give less .* or --memory"):
        berths([NODE], 1, 1, 0, 32 * GIB)


def test_where_nodes_are_added_a_larger_one_may_come() -> None:
    assert berths([NODE], None, 16, 0, grows=True) == [Berth(1, 16, 0)]


@pytest.mark.parametrize(
    ("node", "cpus", "available", "share"),
    [
        (Node(8, 20 * GIB), 8, 32 * GIB, 17 * GIB),  # what Ray counts, but for a bit
        (Node(8, 20 * GIB), 2, 32 * GIB, 17 * GIB // 4),  # as much of the memory as of the CPUs
        (Node(8, 20 * GIB), 8, 4 * GIB, 4 * GIB),  # a container that has less than Ray believes
        (Node(8, 0), 8, 10 * GIB, 6 * GIB),  # Ray counts none
        (Node(1, 20 * GIB), 4, 32 * GIB, 17 * GIB),  # a Ray of our own: there, nothing is reserved
        (Node(0, 20 * GIB), 0, 32 * GIB, 17 * GIB),
    ],
)
def test_what_executors_may_use_if_nobody_said_it(node: Node, cpus: float, available: int, share: int) -> None:
    assert memory_of_member(node, cpus, available) == pytest.approx(share, rel=1e-6)
