"""Ctrl-C: all processes end, no output is left, the job's folder stays and is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from gristmill import MapReduce

SCRIPT = """
import sys, time
from pathlib import Path
from gristmill import JobCancelled, MapReduce

class Slow(MapReduce):
    def mapper(self, key, line):
        Path(self.params["mark"]).touch()
        time.sleep(60)
        yield line, 1

if __name__ == "__main__":
    here = Path(sys.argv[1])
    try:
        Slow.run(here / "in.txt", here / "out", on=sys.argv[2], executors=2, data_dir=here / "data",
                 params={"mark": str(here / "mark")})
    except JobCancelled as cancelled:
        print(cancelled)
        sys.exit(130)
"""


class Same(MapReduce):
    def mapper(self, key: Any, line: str) -> Any:
        yield line, 1


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("on", ["inline", "local"])
def test_ctrl_c(on: str, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SCRIPT)
    (tmp_path / "in.txt").write_text("a\nb\n")
    command = [sys.executable, str(tmp_path / "slow.py"), str(tmp_path), on]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "mark").exists():
            assert time.monotonic() < deadline, "no task began"
            time.sleep(0.02)
        family = psutil.Process(process.pid).children(recursive=True)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        seconds = time.monotonic() - began
    assert process.returncode == 130, output
    assert seconds < 5
    assert psutil.wait_procs(family, timeout=max(0.1, 5 - seconds))[1] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "in.txt", "mark", "slow.py"]
    [folder] = (tmp_path / "data" / "jobs").iterdir()
    assert json.loads((folder / "job.json").read_text())["state"] == "cancelled"
    assert f"What is kept of it is in {folder}" in output


@pytest.mark.parametrize("point", ["prepare.parents-made", "prepare.staging-unnamed", "prepare.done"])
def test_ctrl_c_while_a_job_starts_leaves_nothing(point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    monkeypatch.setenv("GRISTMILL_FAILPOINT", f"{point}:SIGINT")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Same.start(tmp_path / "in.txt", tmp_path / "made" / "out", on="inline", data_dir=tmp_path / "data")
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "in.txt"]
