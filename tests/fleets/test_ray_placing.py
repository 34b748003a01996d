"""How many slots the members of a fleet on Ray have, and when it is known that there will be none."""

from __future__ import annotations

import pytest

from gristmill.config import GIB
from gristmill.errors import UsageError
from gristmill.fleets.ray.placing import Berth, Node, berths

HEAD = Node(0, 8 * GIB)  # of a cluster whose head has no slots
NODE = Node(8, 24 * GIB)


def slots(
    *nodes: Node, executors: int | None = None, cpus: float = 1, memory: int = 0, shared: bool = False
) -> list[int]:
    return [berth.slots for berth in berths(nodes, executors, cpus, memory, shared=shared)]


def test_each_node_has_one_member_with_all_its_slots() -> None:
    assert slots(HEAD, NODE, Node(4, GIB)) == [8, 4]
    assert slots(HEAD, NODE, Node(4, GIB), shared=True) == [1] * 12


def test_a_slot_takes_what_a_task_takes() -> None:
    assert slots(NODE, cpus=2) == [4]
    assert slots(NODE, cpus=0.5) == [16]
    assert slots(NODE, memory=10 * GIB) == [2]
    assert berths([NODE], None, 2, GIB) == [Berth(4, 8, 4 * GIB)]


def test_fewer_slots_than_there_is_room_for_lie_close_together() -> None:
    assert slots(Node(4, GIB), NODE, executors=10) == [8, 2]
    assert slots(NODE, NODE, executors=3) == [3]


def test_what_was_asked_for_beyond_that_waits() -> None:
    assert slots(HEAD, NODE, executors=11) == [8, 1, 1, 1]
    assert slots(HEAD, executors=2) == [1, 1], "an autoscaler adds the first nodes, too"


@pytest.mark.parametrize(("cpus", "memory"), [(9, 0), (1, 25 * GIB)])
@pytest.mark.parametrize("executors", [None, 4])
def test_a_task_that_no_node_has_room_for_is_refused(cpus: float, memory: int, executors: int | None) -> None:
    with pytest.raises(UsageError, match=r"never runs on this Ray cluster: its largest node has 8 CPUs and 24.0 GiB"):
        slots(HEAD, NODE, cpus=cpus, memory=memory, executors=executors)


def test_a_cluster_without_processors_wants_to_know_how_many_to_wait_for() -> None:
    with pytest.raises(UsageError, match=r"no CPUs now\. With --executors N a job waits"):
        slots(HEAD)
