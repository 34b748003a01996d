"""The driver of a job on Ray is killed or interrupted, or Ray is: nothing goes on, and nobody waits for ever."""

from __future__ import annotations

import queue
import signal
from pathlib import Path
from typing import Any

import pytest
from chaos_kit import litter
from chaos_ray_kit import Grounds, grounds
from ray_kit import RayCluster, ray_cluster, ray_marks

from gristmill.fleets.ray.fleet import RayFleet
from gristmill.fleets.ray.settings import RaySettings
from gristmill.runtime.contracts import FleetBroken, FleetEvent, SlotUp, WorkerDown

pytestmark = ray_marks


def at_work(g: Grounds) -> None:
    """The job has begun, and all members are at work."""
    g.hold("map")
    g.begin()
    g.wait_for("map", 2)


@pytest.mark.soak
def test_a_killed_driver_takes_all_along(ray_nodes: RayCluster, tmp_path: Path) -> None:
    """Its members end, and their executors, though user code hangs."""
    with grounds(ray_nodes, tmp_path) as g:
        kill_driver(g)
        g.assert_gone(15.0)
        assert not g.output.exists()


@pytest.mark.soak
def test_what_a_killed_driver_left_is_removed_by_the_next_job(ray_nodes: RayCluster, tmp_path: Path) -> None:
    for name in ("first", "next"):
        (tmp_path / name).mkdir()
    with grounds(ray_nodes, tmp_path / "first") as g:
        kill_driver(g)
        g.assert_gone(15.0)
        left = g.member_folders() - g.folders_before
        assert left
    with grounds(ray_nodes, tmp_path / "next") as g:
        at_work(g)
        g.wait_until(lambda: not left & g.member_folders())
        g.finish()
        g.check()
        assert g.member_folders() <= g.folders_before


def kill_driver(g: Grounds) -> None:
    at_work(g)
    assert g.driver is not None
    g.driver.process.kill()
    g.driver.process.wait(10)


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_driver_cleans_up(number: signal.Signals, ray_nodes: RayCluster, tmp_path: Path) -> None:
    with grounds(ray_nodes, tmp_path) as g:
        at_work(g)
        assert g.driver is not None
        g.driver.process.send_signal(number)
        code = g.driver.process.wait(20)
        assert code == 130, g.said()
        g.assert_gone(10.0)
        assert not g.output.exists() and litter(tmp_path) == []
        assert g.member_folders() <= g.folders_before
        assert "Traceback" not in g.driver.said()


@pytest.mark.soak
@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.3, 1.8, 2.5, 3.5])
def test_a_driver_is_interrupted_as_it_starts(seconds: float, ray_nodes: RayCluster, tmp_path: Path) -> None:
    with grounds(ray_nodes, tmp_path) as g:
        g.hold("map")
        driver = g.begin()
        assert driver.hit(signal.SIGINT, seconds)
        assert driver.process.wait(30) in (130, -signal.SIGINT), g.said()
        g.assert_gone(15.0)
        assert not g.output.exists() and litter(tmp_path) == []


@pytest.mark.soak
def test_all_members_are_lost_and_none_comes(tmp_path: Path) -> None:
    """The head has no CPUs: no room is left when the only other node dies."""
    (tmp_path / "cluster").mkdir()
    with ray_cluster(tmp_path / "cluster", nodes=0) as cluster, cluster.joined():
        cluster.add_node(0)
        with pytest.MonkeyPatch.context() as changed:
            changed.setenv("RAY_ADDRESS", cluster.address)
            node = cluster.add_node(1)
            events: queue.SimpleQueue[FleetEvent] = queue.SimpleQueue()
            fleet = RayFleet(RaySettings(place_seconds=6.0), lambda code: None)
            try:
                fleet.start(events.put)
                heard_until(events, SlotUp)
                node.kill()
                heard = heard_until(events, FleetBroken)
            finally:
                fleet.close()
    assert any(isinstance(event, WorkerDown) for event in heard)
    assert heard[-1].report.error == "RayFull"


def heard_until(events: queue.SimpleQueue[FleetEvent], kind: type[Any]) -> list[Any]:
    """What the fleet tells, until it tells this."""
    heard = [events.get(timeout=60)]
    while not isinstance(heard[-1], kind):
        heard.append(events.get(timeout=60))
    return heard


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_the_head_is_killed(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    with ray_cluster(tmp_path / "cluster", nodes=2) as cluster:
        with grounds(cluster, tmp_path) as g:
            at_work(g)
            assert g.driver is not None
            cluster.nodes[0].kill()
            code = g.driver.process.wait(120)
            assert code == 75, g.said()
            assert "The head of the Ray cluster is gone" in g.driver.said()
            assert litter(tmp_path) == [] and not g.output.exists()
            g.assert_gone(90.0)
