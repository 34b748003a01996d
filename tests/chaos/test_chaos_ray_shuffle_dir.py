"""A node of a Ray cluster is lost while what lies between map and reduce is kept on storage that all nodes share."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos_ray_kit import grounds, pids_of
from pyarrow.fs import FileSelector
from ray_kit import RayCluster, RayNode, ray_cluster, ray_marks
from s3_server import ENVIRONMENT, s3_server

from gristmill.storage.filesystems import open_filesystem

pytestmark = ray_marks


def check_no_map_runs_again(cluster: RayCluster, node: RayNode, folder: Path, shared: str) -> None:
    """All map tasks are done, some on the node that is killed; of its tasks only the reducers run elsewhere."""
    with grounds(cluster, folder, tasks=9) as g:
        g.hold("map", "open")
        g.begin("--shuffle-dir", shared)
        g.wait_for("map", 3)
        g.release("map")
        g.wait_for("open", 3)
        assert g.on(pids_of(node), "map"), "its work is used, though it is gone"
        assert blocks_in(shared) == 9
        dead = pids_of(node)
        node.kill()
        g.finish()
        assert set(g.runs("map").values()) == {1}
        assert {note.pid for note in g.notes("reduce")}.isdisjoint(dead)
        g.check()
    assert not blocks_in(shared)


def blocks_in(shared: str) -> int:
    store, path = open_filesystem(shared if "://" in shared else Path(shared).as_uri())
    found = store.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
    return sum(info.path.endswith(".block") for info in found)


@pytest.mark.soak
@pytest.mark.parametrize("as_uri", [False, True])
def test_in_a_folder_that_all_nodes_see(ray_nodes: RayCluster, tmp_path: Path, as_uri: bool) -> None:
    shared = tmp_path / "shared"
    node = ray_nodes.add_node()
    try:
        check_no_map_runs_again(ray_nodes, node, tmp_path, shared.as_uri() if as_uri else str(shared))
    finally:
        node.kill()
        ray_nodes.remove_node(node)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cluster").mkdir()
    with s3_server() as url:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": url}.items():
            monkeypatch.setenv(name, value)
        store, _ = open_filesystem("s3://shuffle/?allow_bucket_creation=true")
        store.create_dir("shuffle")
        with ray_cluster(tmp_path / "cluster", nodes=3) as cluster:
            check_no_map_runs_again(cluster, cluster.nodes[2], tmp_path, "s3://shuffle/blocks")
