"""Ray's object stores are full, and Ray is told to put what does not fit into a bucket instead of on a disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chaos_ray_kit import grounds
from ray_kit import ray_cluster, ray_marks
from s3_server import ENVIRONMENT, s3_server

pytestmark = ray_marks

BUCKET = "spilled"


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_what_does_not_fit_into_rays_memory_is_put_into_a_bucket(tmp_path: Path) -> None:
    """Each node's object store has room for 80 MB, and readers ask it for twice as much at a time."""
    boto3: Any = pytest.importorskip("boto3")
    pytest.importorskip("smart_open")
    (tmp_path / "cluster").mkdir()
    with s3_server() as url:
        known = {key: ENVIRONMENT[f"AWS_{key.upper()}"] for key in ("access_key_id", "secret_access_key")}
        keys = {f"aws_{name}": value for name, value in known.items()}
        store = boto3.client("s3", endpoint_url=url, region_name=ENVIRONMENT["AWS_REGION"], **keys)
        store.create_bucket(Bucket=BUCKET)

        def kept() -> list[str]:
            return [one["Key"] for one in store.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

        where = {"type": "smart_open", "params": {"uri": f"s3://{BUCKET}/ray"}}
        told = {**ENVIRONMENT, "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": ENVIRONMENT["AWS_REGION"]}
        told["RAY_object_spilling_config"] = json.dumps(where)
        with ray_cluster(tmp_path / "cluster", nodes=0, **told) as cluster:
            for _ in range(2):
                cluster.add_node(3, object_store_memory=80 << 20)
            with grounds(cluster, tmp_path, tasks=12, partitions=6, numbers=3000, row_bytes=100_000) as g:
                g.hold("map")
                g.begin()
                g.wait_for("map", 6)
                g.release()
                g.finish(300)
                g.check()
            assert cluster.spilled() == []
            assert kept(), "and Ray leaves it there: see docs/ray.md"
