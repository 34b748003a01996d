"""A node of a Ray cluster is lost while what lies between map and reduce is kept on storage that all nodes share."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos_ray_kit import grounds, pids_of
from ray_kit import RayCluster, ray_marks

pytestmark = ray_marks


@pytest.mark.soak
@pytest.mark.parametrize("as_uri", [False, True])
def test_no_map_task_runs_again(ray_nodes: RayCluster, tmp_path: Path, as_uri: bool) -> None:
    """All map tasks are done, some on the node that is killed; of its tasks only the reducers run elsewhere."""
    shared = tmp_path / "shared"
    node = ray_nodes.add_node()
    try:
        with grounds(ray_nodes, tmp_path, tasks=9) as g:
            g.hold("map", "open")
            g.begin("--shuffle-dir", shared.as_uri() if as_uri else str(shared))
            g.wait_for("map", 3)
            g.release("map")
            g.wait_for("open", 3)
            assert g.on(pids_of(node), "map"), "its work is used, though it is gone"
            assert len(list(shared.glob("*/*.block"))) == 9
            cut_off = pids_of(node)
            node.kill()
            g.finish()
            assert set(g.runs("map").values()) == {1}
            assert {note.pid for note in g.notes("reduce")}.isdisjoint(cut_off)
            g.check()
            assert not list(shared.glob("*/*.block"))
    finally:
        node.kill()
        ray_nodes.remove_node(node)
