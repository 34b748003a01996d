"""Full disks: the error names the path within seconds, nothing is left at the output, an old output stays."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from chaos_kit import JOBS, write_text

ENOUGH_SECONDS = 45.0  # a few, on a machine that nobody else keeps busy

# Mounts a small file system that only this command and its children see, runs the job there, says what became of it.
IN_A_SMALL_DISK = """
import json, os, subprocess, sys
size, disk, output, *command = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
if "--overwrite" in command:
    os.mkdir(output)
    open(os.path.join(output, "old"), "w").write("the old output")
done = subprocess.run(command, capture_output=True, text=True, timeout=60)
beside = sorted(os.listdir(os.path.dirname(output)))
inside = sorted(os.listdir(output)) if os.path.isdir(output) else []
used = sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(disk) for name in names)
print(json.dumps({"code": done.returncode, "said": done.stderr, "beside": beside, "inside": inside, "used": used}))
"""


def unshare() -> list[str]:
    """The command that gives a process mounts of its own; empty where that is not allowed."""
    for command in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        try:
            tried = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
            if subprocess.run(tried, capture_output=True, timeout=10).returncode == 0:
                return command
        except OSError:
            continue
    return []


@pytest.fixture(scope="module")
def own_mounts() -> list[str]:
    command = unshare()
    if not command:
        pytest.skip("this user may not mount anything, not even in a name space of its own")
    return command


def run_in_small_disk(
    own_mounts: list[str], folder: Path, size: str, job: str, output: Path, data: Path, *options: str
) -> tuple[dict[str, Any], float]:
    disk = folder / "disk"
    disk.mkdir()
    output.parent.mkdir(exist_ok=True)
    text = write_text(folder / "in", 1, 24_000)
    run = [sys.executable, "-m", "gristmill.cli.main", "run", f"{JOBS}:{job}", str(text), "-o", str(output)]
    fine = ["--data-dir", str(data), "--executors", "2", "--split-size", "64KiB", "--reducers", "4", *options]
    inner = [sys.executable, "-c", IN_A_SMALL_DISK, size, str(disk), str(output), *run, *fine]
    began = time.monotonic()
    done = subprocess.run([*own_mounts, *inner], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found, time.monotonic() - began


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize("full", ["data", "output"])
def test_a_full_disk(full: str, overwrite: bool, own_mounts: list[str], tmp_path: Path) -> None:
    disk, elsewhere = tmp_path / "disk", tmp_path / "elsewhere"
    output = (disk if full == "output" else elsewhere) / "out"
    data = disk / "data" if full == "data" else elsewhere / "data"
    options = ["--overwrite"] if overwrite else []
    found, seconds = run_in_small_disk(own_mounts, tmp_path, "700k", "Ordered", output, data, *options)
    said = found["said"]
    assert found["code"] == 1, said
    assert "The disk is full" in said
    # A sentence that names the file which could not be written, wherever the terminal's width broke it.
    assert str(disk) in said.replace("\n", ""), said
    assert "Traceback" not in said
    assert seconds < ENOUGH_SECONDS
    assert found["inside"] == (["old"] if overwrite else [])
    assert [name for name in found["beside"] if name not in ("data", "out")] == []
    assert ("out" in found["beside"]) == overwrite


@pytest.mark.soak
@pytest.mark.parametrize("kib", range(40, 1600, 120))
@pytest.mark.parametrize("full", ["data", "output", "both"])
def test_a_disk_of_any_size(full: str, kib: int, own_mounts: list[str], tmp_path: Path) -> None:
    """Whichever write is the first to fail: done, or a full disk with its name; never anything between."""
    disk, elsewhere = tmp_path / "disk", tmp_path / "elsewhere"
    elsewhere.mkdir()
    output = (disk if full != "data" else elsewhere) / "out"
    data = (disk if full != "output" else elsewhere) / "data"
    found, seconds = run_in_small_disk(own_mounts, tmp_path, f"{kib}k", "Ordered", output, data)
    said = found["said"]
    assert "Traceback" not in said
    assert seconds < ENOUGH_SECONDS
    assert [name for name in found["beside"] if name not in ("data", "out")] == []
    if found["code"] == 0:
        assert "_SUCCESS" in found["inside"]
    else:
        assert found["inside"] == []
        assert "out" not in found["beside"]
        assert "No space left" in said or "No space is left" in said, said
