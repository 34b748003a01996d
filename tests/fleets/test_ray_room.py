"""Ray clusters that have no room, or not what it takes: nobody waits for ever, and it is said why."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from cluster_jobs import WordCount, counts_in, write_words
from ray_kit import RayCluster, ray_cluster, ray_marks

import gristmill as gm
from gristmill.errors import RayFull, UsageError
from gristmill.fleets.ray.fleet import RayFleet
from gristmill.fleets.ray.settings import RaySettings
from gristmill.runtime.contracts import FleetBroken, SlotUp, WorkerUp

pytestmark = ray_marks
PATIENCE = 60.0


@pytest.mark.parametrize(
    ("options", "asked"),
    [({"task_cpus": 3}, "3 CPUs"), ({"task_memory": "900GiB"}, "1 CPUs and 900.0 GiB of memory")],
)
def test_what_no_node_can_ever_do_is_refused_at_once(
    on_ray: RayCluster, tmp_path: Path, options: dict[str, object], asked: str
) -> None:
    path, _ = write_words(tmp_path, lines=10)
    with pytest.raises(UsageError, match=rf"{asked} never runs on this Ray cluster: its largest node has 1 CPUs"):
        WordCount.run(path, tmp_path / "out", on="ray", data_dir=tmp_path, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.soak
@pytest.mark.parametrize(
    ("settings", "slots", "member_bytes"),
    [
        (RaySettings(task_cpus=0.5, task_memory_bytes=200 << 20), 4, 400 << 20),
        (RaySettings(memory_bytes=600 << 20), 2, 300 << 20),
    ],
    ids=["of a task", "of all"],
)
def test_what_tasks_take_ray_counts(on_ray: RayCluster, settings: RaySettings, slots: int, member_bytes: int) -> None:
    import ray

    ray.init(on_ray.address, log_to_driver=False)
    whole = {"CPU": float(len(on_ray.nodes)), "memory": ray.cluster_resources()["memory"]}
    _until_free(whole)  # those of the test before let go of all
    events: queue.Queue[object] = queue.Queue()
    fleet = RayFleet(settings, lambda code: None)
    fleet.start(events.put)
    try:
        up = [event for event in _until(events, SlotUp, slots) if isinstance(event, WorkerUp)]
        assert [(one.cpus, one.memory_bytes) for one in up] == [(1.0, member_bytes)] * 2
        _until_free({"CPU": 0.0, "memory": whole["memory"] - 2 * member_bytes})
    finally:
        fleet.close()


def _until_free(wanted: Mapping[str, float]) -> None:
    """Wait until the cluster has just this for others; Ray counts a moment later than it gives."""
    import ray

    deadline = time.monotonic() + PATIENCE
    while {name: (free := ray.available_resources()).get(name, 0.0) for name in wanted} != pytest.approx(wanted):
        assert time.monotonic() < deadline, free
        time.sleep(0.05)


@pytest.mark.soak
def test_while_others_hold_everything_it_waits_and_then_gives_up(
    on_ray: RayCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with gm.Session(on="ray", data_dir=tmp_path) as session:
        assert session.range(3).count() == 3  # it holds both CPUs
        events: queue.Queue[object] = queue.Queue()
        fleet = RayFleet(RaySettings(executors=1, place_seconds=2.0), lambda code: None)
        fleet.start(events.put)
        try:
            *_, broken = _until(events, FleetBroken, 1)
        finally:
            fleet.close()
        with pytest.raises(RayFull, match="In 3 s the Ray cluster has found no room"):
            WordCount.run(__file__, tmp_path / "out", on="ray", executors=1, place_timeout="3s", data_dir=tmp_path)
        assert session.range(4).count() == 4
    assert isinstance(broken, FleetBroken)
    assert broken.report.error == "RayFull"
    assert "In 2 s the Ray cluster has found no room for a single slot, which takes 1 CPUs:" in broken.report.message
    assert "Its largest node has 1 CPUs and " in broken.report.message


@pytest.mark.soak
def test_slots_beyond_what_there_is_do_not_stop_the_others(on_ray: RayCluster, tmp_path: Path) -> None:
    path, expected = write_words(tmp_path)
    WordCount.run(path, tmp_path / "out", on="ray", executors=5, data_dir=tmp_path / "data")
    assert counts_in(tmp_path / "out") == expected


def _until(events: queue.Queue[object], kind: type, count: int) -> list[object]:
    """What is told, until so many of a kind have come."""
    found: list[object] = []
    while sum(isinstance(one, kind) for one in found) < count:
        found.append(events.get(timeout=PATIENCE))
    return found


@pytest.mark.soak
def test_a_cluster_without_processors_waits_for_the_slots_that_were_asked_for(tmp_path: Path) -> None:
    path, expected = write_words(tmp_path)
    with ray_cluster(tmp_path, nodes=1, cpus=0) as empty, empty.joined():
        with pytest.raises(UsageError, match=r"has no CPUs now. With --executors N a job waits until there are some"):
            WordCount.run(path, tmp_path / "out", on="ray", data_dir=tmp_path / "data")
        with WordCount.start(path, tmp_path / "out", on="ray", executors=1, data_dir=tmp_path / "data") as handle:
            with pytest.raises(TimeoutError):
                handle.wait(3)
            empty.add_node(1)
            handle.wait(PATIENCE)
    assert counts_in(tmp_path / "out") == expected


@pytest.mark.soak
@pytest.mark.parametrize("road", ["ray", "client"])
def test_a_node_that_dies_says_nothing_on_our_stdout(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], road: str
) -> None:
    with ray_cluster(tmp_path, nodes=2, client=True) as cluster, cluster.joined():
        on = cluster.client if road == "client" else "ray"
        with gm.Session(on=on, data_dir=tmp_path / "data") as session:
            assert session.range(100, partitions=4).count() == 100
            cluster.nodes[1].kill()
            assert session.range(100, partitions=4).count() == 100
    assert capfd.readouterr() == ("", "")


@pytest.mark.soak
def test_slots_that_find_no_place_together_are_asked_for_one_by_one(tmp_path: Path) -> None:
    """A node of two CPUs is lost, and two of one come in its place: no node ever has room for both slots again."""
    events: queue.Queue[object] = queue.Queue()
    with ray_cluster(tmp_path, nodes=1, cpus=0) as cluster, cluster.joined():
        large = cluster.add_node(2)
        fleet = RayFleet(RaySettings(split_seconds=20.0), lambda code: None)
        fleet.start(events.put)
        try:
            before = {event.slot for event in _until(events, SlotUp, 2) if isinstance(event, SlotUp)}
            large.kill()
            cluster.remove_node(large, graceful=False)
            for _ in range(2):
                cluster.add_node(1)
            seen = _until(events, SlotUp, 2)
        finally:
            fleet.close()
    assert before.isdisjoint(event.slot for event in seen if isinstance(event, SlotUp))
    assert [event.cpus for event in seen if isinstance(event, WorkerUp)] == [1.0, 1.0]
