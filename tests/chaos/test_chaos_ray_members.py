"""Members of the fleet and their executors are killed, sent away or frozen, and nodes come and go, while a job runs."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import psutil
import pytest
from chaos_ray_kit import Grounds, executors, grounds, members, pids_of
from ray_kit import RayCluster, ray_cluster, ray_marks

pytestmark = ray_marks


def begin_held(g: Grounds, *options: str) -> None:
    """Start the job; all nodes are at work, all maps are done, and all reducers that run wait."""
    nodes = len(g.cluster.nodes)
    g.hold("map", "open")
    g.begin(*options)
    g.wait_for("map", nodes)
    g.release("map")
    g.wait_for("open", nodes)


def again(g: Grounds, kind: str) -> set[str]:
    """The tasks that have begun more than once."""
    return {task for task, count in g.runs(kind).items() if count > 1}


def test_a_member_is_killed(ray_nodes: RayCluster, tmp_path: Path) -> None:
    """The process of an actor dies, and the node lives: another takes its place there, and removes what it left."""
    with grounds(ray_nodes, tmp_path) as g:
        begin_held(g)
        [member] = members(ray_nodes.nodes[1])
        [executor] = executors(member)
        lost = g.on({executor.pid}, "map")
        folders = g.member_folders()
        member.kill()
        psutil.wait_procs([executor], 10)
        assert not executor.is_running()
        noticed = g.wait_until(lambda: again(g, "map") == lost)
        g.wait_until(lambda: members(ray_nodes.nodes[1]))
        g.wait_until(lambda: len(folders & g.member_folders()) < len(folders))
        g.finish()
        assert again(g, "map") == lost != set()
        assert noticed < 10
        g.check()
        g.assert_gone()


@pytest.mark.soak
def test_an_executor_is_killed(ray_nodes: RayCluster, tmp_path: Path) -> None:
    with grounds(ray_nodes, tmp_path) as g:
        begin_held(g)
        [member] = members(ray_nodes.nodes[1])
        [executor] = executors(member)
        executor.kill()
        g.wait_for("open", 3)
        summary = g.finish()
        assert summary["failed_attempts"] == 1
        assert again(g, "map") == set(), "its blocks stay"
        g.check()
        g.assert_gone()


@pytest.mark.soak
def test_a_node_leaves_in_order(ray_nodes: RayCluster, tmp_path: Path) -> None:
    node = ray_nodes.add_node()
    with grounds(ray_nodes, tmp_path) as g:
        begin_held(g)
        lost = g.on(pids_of(node), "map")
        ray_nodes.remove_node(node)
        g.wait_until(lambda: again(g, "map") == lost)
        g.finish()
        assert again(g, "map") == lost != set()
        g.check()


@pytest.mark.soak
def test_a_node_comes_while_a_job_runs(ray_nodes: RayCluster, tmp_path: Path) -> None:
    with grounds(ray_nodes, tmp_path, tasks=8) as g:
        g.hold("map")
        g.begin()
        g.wait_for("map", 2)
        node = ray_nodes.add_node()
        try:
            g.wait_for("map", 3)
            assert g.on(pids_of(node), "map")
            g.finish()
            g.check()
        finally:
            ray_nodes.remove_node(node)


@pytest.mark.soak
def test_a_lost_node_is_replaced_by_another(ray_nodes: RayCluster, tmp_path: Path) -> None:
    """The member that had to be made anew takes the place, and there is no second one for it."""
    node = ray_nodes.add_node()
    with grounds(ray_nodes, tmp_path, tasks=8) as g:
        begin_held(g)
        lost = g.on(pids_of(node), "map")
        node.kill()
        ray_nodes.remove_node(node)
        g.wait_until(lambda: again(g, "map") == lost)
        other = ray_nodes.add_node()
        try:
            g.wait_until(lambda: members(other))
            g.finish()
            g.check()
            assert [len(members(each)) for each in ray_nodes.nodes] in ([1, 1, 1], [0, 0, 0])
        finally:
            ray_nodes.remove_node(other)


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_a_member_that_freezes_counts_as_lost(ray_nodes: RayCluster, tmp_path: Path) -> None:
    """Its process neither dies nor answers. What it says when it wakes up is not heard."""
    with grounds(ray_nodes, tmp_path) as g:
        begin_held(g)
        [member] = members(ray_nodes.nodes[1])
        lost = g.on({executor.pid for executor in executors(member)}, "map")
        member.send_signal(signal.SIGSTOP)
        try:
            took = g.wait_until(lambda: again(g, "map") == lost, 100)
        finally:
            member.send_signal(signal.SIGCONT)
        assert took > 30
        g.finish()
        assert again(g, "map") == lost
        g.check()
        g.assert_gone()


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_what_does_not_fit_into_rays_memory_is_put_on_disk(tmp_path: Path) -> None:
    """Each node's object store has room for 80 MB, and readers ask it for twice as much at a time."""
    (tmp_path / "cluster").mkdir()
    with ray_cluster(tmp_path / "cluster", nodes=0) as cluster:
        for _ in range(2):
            cluster.add_node(3, object_store_memory=80 << 20)
        with grounds(cluster, tmp_path, tasks=12, partitions=6, numbers=6000, row_bytes=100_000) as g:
            g.hold("map")
            g.begin()
            g.wait_for("map", 6)
            g.release()
            g.wait_until(cluster.spilled, 200)
            g.finish(200)
            g.check()


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(6))
def test_whoever_is_killed_nothing_is_lost(seed: int, tmp_path: Path) -> None:
    """Executors, members and nodes, one after the other; in place of a node comes another."""
    chance = random.Random(seed)
    (tmp_path / "cluster").mkdir()
    with ray_cluster(tmp_path / "cluster", nodes=3) as cluster:
        with grounds(cluster, tmp_path, tasks=60, partitions=12, job="Twice", pause=0.5) as g:
            g.hold("last.0")  # the job is not over before all is done to it
            g.begin()
            g.wait_for("map", 3)
            kinds = ["executor", "member", "node"] * 2
            for kind in chance.sample(kinds, len(kinds)):
                g.wait_until(g.living)
                g.strike(kind, chance)
            g.finish(200)
            g.check()
            g.assert_gone()
