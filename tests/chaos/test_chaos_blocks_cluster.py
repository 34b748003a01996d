"""Blocks and data directories of workers fail while a job runs on them: nothing is lost, nothing is wrong."""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import chaos_jobs
import pytest
from chaos_kit import counted, counts_of, read_output, write_text
from cluster_jobs import SlowMaps, counts_in, write_words
from cluster_kit import Cluster, cluster
from test_chaos_disk import unshare

from gristmill.runtime.contracts import BlocksGone, WorkerDown


def blocks_below(folder: Path) -> set[str]:
    """The blocks that lie anywhere below a folder."""
    return {str(path) for path in folder.glob("**/jobs/*/blocks/*.block")}


def begun(folder: Path, what: str) -> int:
    return len(list(folder.glob(f"{what}-*")))


def add_machines(c: Cluster, *names: str) -> None:
    """One worker each, and none sees the files of another."""
    for name in names:
        c.add_worker("--machine", name)
    c.wait_for_workers(len(names))


SOAK = [pytest.param(how, seed, marks=pytest.mark.soak) for seed in range(10, 20) for how in ("flip", "cut", "empty")]


@pytest.mark.parametrize(("how", "seed"), [("flip", 1), ("cut", 2), ("delete", 3), *SOAK])
def test_damage_on_another_machine(how: str, seed: int, tmp_path: Path) -> None:
    text = write_text(tmp_path / "in", seed, 600)
    size = sum(path.stat().st_size for path in text.iterdir())
    with cluster(tmp_path, workers=0) as c:
        add_machines(c, "here", "there")
        params = {"damage": how, "seed": str(seed), "blocks": "2", "data": str(tmp_path)}
        outcome = c.run(chaos_jobs.Damaging, text, tmp_path / "out", reducers=1, split_size=size // 12, params=params)
    assert (tmp_path / "damaged").exists()
    assert counted(read_output(tmp_path / "out")) == counts_of(text)
    view = outcome.view
    # What was fetched before the damage was done is whole; else the reducer fails, and the two makers run again.
    assert view.attempts <= view.stages[0].tasks + 1 + 2 * (1 + view.failed_attempts)
    assert view.failed_attempts <= 2


@pytest.mark.parametrize("company", ["alone", "read from afar"])
def test_a_data_directory_that_fails_is_retired_and_the_worker_goes_on(company: str, tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    bad = tmp_path / "bad"
    with cluster(tmp_path, workers=0) as c:
        c.add_worker("--data-dir", str(bad), "--machine", "here", executors=2 if company == "alone" else 1)
        c.wait_for_workers(1)
        if company != "alone":
            c.add_worker("--machine", "there")
            c.wait_for_workers(2)
        params = {"folder": str(tmp_path), "seconds": 0.01, "gate": True}
        running = c.submit(SlowMaps, words, tmp_path / "out", split_size="4KiB", reducers=8, params=params)
        c.wait_until(lambda: begun(tmp_path, "reduce") >= 2)
        gone = blocks_below(bad)
        maps = running.view().stages[0].tasks
        assert 0 < len(gone) < maps
        shutil.rmtree(bad)
        bad.write_text("it is no directory any more")
        (tmp_path / "gate").touch()
        outcome = c.finish(running)
        assert counts_in(tmp_path / "out") == expected
        assert {path for event in c.fleet.heard(BlocksGone) for path in event.paths} == gone, "all at once"
        assert c.fleet.heard(WorkerDown) == []
        assert begun(tmp_path, "map") == maps + len(gone), "only what was lost ran again"
        assert outcome.view.failed_attempts <= 3
        assert c.workers[0].process.poll() is None


@pytest.mark.parametrize("as_uri", [False, True])
def test_blocks_on_shared_storage_survive_their_worker(as_uri: bool, tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    shared = tmp_path / "shared"
    with cluster(tmp_path, workers=0, beat_seconds=0.1, lost_seconds=2.0) as c:
        add_machines(c, "here", "there")
        params = {"folder": str(tmp_path), "seconds": 0.05, "gate": True}
        running = c.submit(
            SlowMaps, words, tmp_path / "out", split_size="4KiB", reducers=3, params=params,
            shuffle_dir=shared.as_uri() if as_uri else shared,
        )  # fmt: skip
        c.wait_until(lambda: begun(tmp_path, "reduce") >= 2)
        maps = begun(tmp_path, "map")
        assert len(blocks := list(shared.glob("*/*.block"))) == maps, blocks
        assert blocks_below(tmp_path) == set()
        c.workers[0].send(signal.SIGKILL)
        c.wait_until(lambda: c.fleet.heard(WorkerDown) or running.view().failed_attempts)
        (tmp_path / "gate").touch()
        c.finish(running)
        assert counts_in(tmp_path / "out") == expected
        assert begun(tmp_path, "map") == maps, "no map task ran again"
        # Not Path.glob, which stumbles over folders that vanish while it looks.
        c.wait_until(lambda: not glob.glob(str(shared / "*" / "*.block")))  # noqa: PTH207


# Mounts a small file system that only this process and its children see, and runs a job on a worker that uses it.
ON_A_SMALL_DISK = """
import json, subprocess, sys
from pathlib import Path
root, size, alone = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "alone"
disk = root / "disk"
disk.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
from chaos_jobs import Bulky
from cluster_kit import cluster
text = root / "in.txt"
text.write_text("".join(f"{number:07d}\\n" for number in range(400 if alone else 1200)))
options = {"split_size": 1600, "reducers": 4}  # 20 MB a task
with cluster(root, workers=0) as c:
    c.add_worker("--data-dir", str(disk / "data"), executors=2)
    if not alone:
        c.add_worker()
    c.wait_for_workers(1 if alone else 2)
    outcome = c.run(Bulky, text, root / "out", **options)
    view = outcome.view
    said = [report.error for report in view.failures]
Bulky.run(text, root / "calm", on="inline", data_dir=root / "calm-data", **options)
print(json.dumps({"failed": view.failed_attempts, "errors": said}))
"""


@pytest.mark.parametrize("company", ["alone", pytest.param("together", marks=pytest.mark.soak)])
def test_a_worker_with_a_small_disk(company: str, tmp_path: Path) -> None:
    """It is one of two data directories: what finds no room there is made again in the other, or by another worker."""
    if not (own_mounts := unshare()):
        pytest.skip("this user may not mount anything, not even in a name space of its own")
    command = [*own_mounts, sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path), "18m", company]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if "tests" in path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["errors"]) == {"DataDirFailed"}
    assert read_output(tmp_path / "out") == read_output(tmp_path / "calm")
