"""Too much memory in one task is ended and named; much data in little memory is not too much."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import chaos_jobs
import pytest
from chaos_kit import litter

from gristmill import JobFailed

BENCH = Path(__file__).resolve().parents[2] / "bench"
KEYS = 6_000_000  # 600 MB
BEYOND_IDLE_MIB = 160


def test_a_hoarding_task_is_ended_and_named(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("little\nmuch\nlittle\n")
    options = {"executors": 2, "memory": "128MiB", "split_size": 7, "data_dir": tmp_path / "data"}
    with pytest.raises(JobFailed) as caught:
        chaos_jobs.Hoarding.run(tmp_path / "in.txt", tmp_path / "out", **options)  # type: ignore[arg-type]
    report = caught.value.report
    assert report is not None
    assert report.error == "MemoryLimitExceeded"
    assert report.details["task"] == "map task 1"
    peak, limit = report.details["peak_bytes"], report.details["limit_bytes"]
    assert isinstance(peak, int) and isinstance(limit, int) and peak > limit > 64 * chaos_jobs.MIB
    assert re.search(r"Map task 1, attempt \d grew to [\d.]+ MiB of memory; its limit is [\d.]+ MiB", str(caught.value))
    assert not (tmp_path / "out").exists()
    assert litter(tmp_path) == []


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_much_data_in_little_memory(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    command = [sys.executable, str(BENCH / "memory.py"), "--keys", str(KEYS), "--memory", "128MiB"]
    environment = {**os.environ, "GRISTMILL_BENCH_DATA": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1100)
    assert done.returncode == 0, done.stderr  # it checks the result, too
    found = re.search(r"\*\*beyond idle\*\* *\| *([\d,]+) MiB", done.stdout)
    assert found, done.stdout
    beyond = int(found[1].replace(",", ""))
    record_property("note", f"600 MB grouped with --memory 128MiB: {beyond} MiB beyond idle (limit {BEYOND_IDLE_MIB})")
    assert beyond <= BEYOND_IDLE_MIB, done.stdout
