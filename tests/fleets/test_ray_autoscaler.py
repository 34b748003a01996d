"""Ray's own autoscaler adds nodes for a job that waits for slots, and takes them away when nobody has them any more.

The nodes that it buys are processes on this machine.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster_jobs import WordCount, counts_in, write_words
from ray_kit import RayCluster, free_port, ray_cluster, ray_marks

pytestmark = ray_marks
PATIENCE = 120.0  # for a node to come, or to go: each is four processes
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
HEAD = "ray.head.default"
NOTHING: dict[str, Any] = {  # what machines are set up with, which these are not
    "auth": {}, "docker": {}, "file_mounts": {}, "cluster_synced_files": [], "file_mounts_sync_continuously": False,
    "initialization_commands": [], "setup_commands": [], "head_setup_commands": [], "worker_setup_commands": [],
    "head_start_ray_commands": [], "worker_start_ray_commands": [], "rsync_exclude": [], "rsync_filter": [],
}  # fmt: skip


@pytest.mark.soak
@pytest.mark.timeout(420)
def test_nodes_come_for_a_job_and_go_after_it(tmp_path: Path) -> None:
    path, expected = write_words(tmp_path)
    with growing_cluster(tmp_path) as cluster, cluster.joined():
        assert workers() == 0
        with WordCount.start(path, tmp_path / "out", on="ray", executors=2, data_dir=tmp_path / "data") as handle:
            handle.wait(PATIENCE)
        assert counts_in(tmp_path / "out") == expected
        deadline = time.monotonic() + PATIENCE
        while workers():
            assert time.monotonic() < deadline, cluster.said()
            time.sleep(0.5)


@contextmanager
def growing_cluster(folder: Path) -> Iterator[RayCluster]:
    """A head without CPUs, and an autoscaler that may add two nodes with one each."""
    import ray
    from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID as head_id

    port = free_port()
    config = folder / "autoscaler.json"
    host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    config.write_text(json.dumps(autoscaling(f"{host}:{port}", head_id)))
    variables = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": head_id,
        "RAY_CLOUD_INSTANCE_ID": head_id,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    with ray_cluster(folder, 0, 0, client=False, **variables) as cluster:
        cluster.add_node(0, no_monitor=False, autoscaling_config=str(config), gcs_server_port=port)
        yield cluster


def autoscaling(gcs_address: str, head_id: str) -> dict[str, Any]:
    """What the autoscaler is told."""

    def kind(most: int, **resources: int) -> dict[str, Any]:
        return {"resources": resources, "node_config": {}, "labels": {}, "min_workers": 0, "max_workers": most}

    provider = {"type": "external", "module": PROVIDER, "launch_multiple": True, "disable_node_updaters": True}
    return {
        **NOTHING,
        "cluster_name": "tests",
        "provider": provider | {"gcs_address": gcs_address, "head_node_id": head_id},
        "available_node_types": {HEAD: kind(0, CPU=0), "worker": kind(2, CPU=1, object_store_memory=100 << 20)},
        "head_node_type": HEAD,
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.1,
    }


def workers() -> int:
    """How many nodes live beside the head."""
    import ray

    ray.init("auto", log_to_driver=False, logging_level=logging.CRITICAL)
    try:
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        return len([node for node in nodes if node["Alive"]]) - 1
    finally:
        ray.shutdown()
