"""Clusters that do not match: other versions of Ray, Python or Gristmill, or none of it. Jobs end at once, by name."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest
from cluster_jobs import WordCount, write_words
from ray_kit import RayCluster, ray_cluster, ray_marks

import gristmill
from gristmill.config import VERSION
from gristmill.errors import VersionMismatch

pytestmark = [*ray_marks, pytest.mark.soak]


def _run(cluster: RayCluster, folder: Path, on: str = "ray") -> str:
    """What is said of a job that cannot run there."""
    path, _ = write_words(folder, lines=10)
    began = time.monotonic()
    with cluster.joined(), pytest.raises(VersionMismatch) as caught:
        WordCount.run(path, folder / "out", on=on, data_dir=folder / "data")
    assert time.monotonic() - began < 90, "it does not wait for what never comes"
    assert not (folder / "out").exists()
    return str(caught.value)


def test_nodes_without_gristmill(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(
        "import sys\n"
        "class Bare:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'gristmill':\n"
        "            raise ModuleNotFoundError(\"No module named 'gristmill'\", name='gristmill')\n"
        "sys.meta_path.insert(0, Bare())\n"
    )
    with ray_cluster(tmp_path, nodes=1, PYTHONPATH=str(tmp_path / "bare")) as bare:
        said = _run(bare, tmp_path)
    assert said == (
        f"The nodes of the Ray cluster have no Gristmill: install gristmill[ray]=={VERSION} in their image."
    )


def test_nodes_with_another_gristmill(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(Path(gristmill.__file__).parent, other / "gristmill")
    config = other / "gristmill" / "config.py"
    text, count = re.subn(r"(?m)^VERSION\b.*$", 'VERSION = "0.0.9"', config.read_text())
    assert count == 1
    config.write_text(text)
    with ray_cluster(tmp_path, nodes=1, PYTHONPATH=str(other)) as older:
        said = _run(older, tmp_path)
    assert "runs Gristmill 0.0.9 on Python 3." in said
    assert f"this process runs Gristmill {VERSION} on Python 3." in said
    assert f"install gristmill[ray]=={VERSION} in the image of the nodes" in said


def test_another_ray_or_python(tmp_path: Path) -> None:
    with ray_cluster(tmp_path, nodes=1, client=True) as cluster:
        for name, value in (("ray_version", "2.9.3"), ("python_version", "3.8.1")):
            with cluster.joined():
                _note(name, value)
            said = _run(cluster, tmp_path)
            assert said.startswith(
                f"The Ray cluster at {cluster.address} does not match this process. Version mismatch:"
            )
            assert value in said and "Both must have the same version of Ray, and the same minor version" in said


def _note(name: str, value: str) -> None:
    """Let the cluster say that it is of another version: that is what whoever joins it looks at."""
    import json
    import os

    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    gcs = GcsClient(address=os.environ["RAY_ADDRESS"])
    known = json.loads(gcs.internal_kv_get(b"CLUSTER_METADATA", b"cluster"))
    gcs.internal_kv_put(b"CLUSTER_METADATA", json.dumps({**known, name: value}).encode(), True, b"cluster")
