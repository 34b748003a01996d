"""Which members are asked for besides, when nodes of a Ray cluster have come or gone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gristmill.config import GIB
from gristmill.fleets.ray.lookout import patience_seconds
from gristmill.fleets.ray.placing import Berth, Node, further

HEAD, SMALL, LARGE = Node(0, GIB), Node(2, GIB), Node(8, 4 * GIB)


def slots(nodes: Sequence[Node], asked: Sequence[int], *, cpus: float = 1, shared: bool = False) -> list[int]:
    berths = [Berth(size, size * cpus, 0) for size in asked]
    return [berth.slots for berth in further(nodes, berths, cpus, 0, shared=shared)]


def test_a_node_that_comes_gets_a_member() -> None:
    assert slots([HEAD, SMALL, SMALL], [2]) == [2]
    assert slots([SMALL, LARGE, LARGE], [2]) == [8, 8]
    assert slots([SMALL, SMALL], [2], shared=True) == [1, 1]
    assert slots([SMALL, LARGE], [1], cpus=2) == [4]


def test_nothing_is_asked_for_twice() -> None:
    assert slots([SMALL, LARGE], [8, 2]) == []
    assert slots([SMALL], [8, 2]) == [], "a node is lost: its member is asked for already"
    assert slots([], [2]) == []


def test_a_lost_member_has_the_first_right_to_a_node_in_its_place() -> None:
    assert slots([SMALL, SMALL], [2, 2]) == []
    assert slots([SMALL, LARGE], [2, 2]) == [6], "… and it needs less than what has come"


def test_memory_counts() -> None:
    assert further([LARGE], [], 1, GIB) == [Berth(4, 4, 4 * GIB)]


@pytest.mark.parametrize(("said", "seconds"), [("", 50.0), ("300", 250.0), ("soon", 50.0)])
def test_patience_with_the_head_ends_before_rays_own(
    said: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", said)
    assert patience_seconds() == seconds
