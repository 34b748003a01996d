"""Nodes of a Ray cluster are killed in the middle of a job: what is lost with them is made again, and nothing else."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from chaos_ray_kit import grounds, members, pids_of
from ray_kit import RayCluster, RayNode, ray_marks

pytestmark = ray_marks


@pytest.fixture
def node(ray_nodes: RayCluster) -> Iterator[RayNode]:
    """One more node, to be killed."""
    made = ray_nodes.add_node()
    yield made
    made.kill()
    ray_nodes.remove_node(made)


@pytest.mark.soak
def test_a_node_is_killed_while_maps_run(ray_nodes: RayCluster, node: RayNode, tmp_path: Path) -> None:
    with grounds(ray_nodes, tmp_path, tasks=9) as g:
        g.hold("map")
        g.begin()
        g.wait_for("map", 3)
        g.hold(*(f"map.{task}" for task in (6, 7, 8)))
        g.release("map")
        g.wait_until(lambda: g.done(0) >= set(range(6)))
        g.wait_for("map", 9)
        lost = g.on(pids_of(node), "map")
        node.kill()
        g.finish()
        assert {task for task, count in g.runs("map").items() if count > 1} == lost
        assert len(lost) >= 2, "a finished one, and one that ran"
        assert set(g.runs("reduce").values()) == {1}
        g.check()


def test_a_node_is_killed_while_blocks_move(ray_nodes: RayCluster, node: RayNode, tmp_path: Path) -> None:
    """All map tasks are done, and reducers have begun, but read nothing yet."""
    with grounds(ray_nodes, tmp_path, tasks=9) as g:
        g.hold("map", "open")
        g.begin()
        g.wait_for("map", 3)
        g.release("map")
        g.wait_for("open", 3)
        lost = g.on(pids_of(node), "map")
        node.kill()
        g.finish()
        assert {task for task, count in g.runs("map").items() if count > 1} == lost != set()
        assert set(g.runs("map").values()) == {1, 2}
        g.check()


@pytest.mark.soak
def test_a_node_is_killed_that_others_are_asking_for_blocks(
    ray_nodes: RayCluster, node: RayNode, tmp_path: Path
) -> None:
    """Its actor stands still when the last map task ends, so that what reducers elsewhere ask of it is on its way."""
    with grounds(ray_nodes, tmp_path, tasks=9, numbers=180, row_bytes=100_000) as g:
        g.hold("map")
        g.begin()
        g.wait_for("map", 3)
        g.hold(*(f"map.{task}" for task in (6, 7, 8)))
        g.release("map")
        g.wait_for("map", 9)
        [own] = g.on(pids_of(node), "map") & {"6", "7", "8"}
        last, other = {"6", "7", "8"} - {own}
        g.release(f"map.{own}", f"map.{other}")
        g.wait_until(lambda: g.done(0) == set(range(9)) - {int(last)})
        lost = g.on(pids_of(node), "map")
        [keeper] = members(node)
        readers = [member for each in ray_nodes.nodes if each.id != node.id for member in members(each)]
        doors = listening(keeper)
        assert not any(connected(reader, doors) for reader in readers)
        keeper.send_signal(signal.SIGSTOP)
        g.release()
        g.wait_until(lambda: all(connected(reader, doors) for reader in readers))
        node.kill()
        assert not g.notes("open"), "nobody has all that it reads"
        g.finish()
        assert {task for task, count in g.runs("map").items() if count > 1} == lost != set()
        assert set(g.runs("map").values()) == {1, 2}
        g.check()


def listening(process: psutil.Process) -> set[int]:
    """The ports at which a process takes connections."""
    return {one.laddr.port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN}


def connected(process: psutil.Process, ports: set[int]) -> bool:
    """Whether a process has a connection to one of these ports of this machine."""
    return any(one.raddr and one.raddr.port in ports for one in process.net_connections("tcp"))


@pytest.mark.soak
def test_a_node_is_killed_while_reducers_run(ray_nodes: RayCluster, node: RayNode, tmp_path: Path) -> None:
    with grounds(ray_nodes, tmp_path, tasks=6, partitions=8) as g:
        g.hold("map", "open")
        g.begin()
        g.wait_for("map", 3)
        g.release("map")
        g.wait_for("open", 3)
        g.hold("reduce.6", "reduce.7")
        g.release("open")
        g.wait_until(lambda: g.done(1) >= set(range(6)) and {"6", "7"} <= g.runs("reduce").keys())
        lost, cut_off = g.on(pids_of(node), "map"), g.on(pids_of(node), "reduce") & {"6", "7"}
        node.kill()
        g.finish()
        assert {task for task, count in g.runs("reduce").items() if count > 1} >= cut_off
        assert {task for task, count in g.runs("reduce").items() if count > 1} <= {"6", "7"}
        assert {task for task, count in g.runs("map").items() if count > 1} <= lost
        g.check()


@pytest.mark.soak
def test_finished_stages_are_not_repeated(ray_nodes: RayCluster, node: RayNode, tmp_path: Path) -> None:
    """A node is killed in the third stage: of the first two runs again what it kept and is still needed."""
    with grounds(ray_nodes, tmp_path, tasks=6, partitions=6, job="Twice") as g:
        g.hold("map", "last")
        g.begin()
        g.wait_for("map", 3)
        g.release("map")
        g.wait_for("last", 3)
        maps, reduces = g.on(pids_of(node), "map"), g.on(pids_of(node), "reduce")
        node.kill()
        g.finish()
        assert {task for task, count in g.runs("map").items() if count > 1} <= maps
        assert {task for task, count in g.runs("reduce").items() if count > 1} <= reduces
        g.check()
