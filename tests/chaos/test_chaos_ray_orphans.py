"""The driver of a Ray of its own is killed where orphans are adopted and never buried: all that is ours ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ray_kit import needs_ray

OURS = ("GristmillMember", "gristmill.runtime")
ENDED_SECONDS = 30  # Ray itself would take a minute

DRIVER = """
    import sys, time
    from pathlib import Path
    import gristmill as gm

    notes = Path(sys.argv[1])

    def hold(number):
        (notes / f"{number}.begun").touch()
        while True:
            time.sleep(1)

    with gm.Session(on="ray", executors=2, data_dir=sys.argv[2]) as session:
        session.range(2, partitions=2).map(hold).count()
"""

KEEPER = """
    import contextlib, ctypes, json, subprocess, sys, time
    from pathlib import Path
    import psutil

    PR_SET_CHILD_SUBREAPER = 36
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    driver = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
    while len(list(Path(sys.argv[2]).glob("*.begun"))) < 2 and driver.poll() is None:
        time.sleep(0.05)
    family = []
    for one in psutil.Process(driver.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            family.append([one.pid, one.create_time(), " ".join(one.cmdline())])
    print(json.dumps(family), flush=True)
    driver.kill()
    sys.stdin.read()
"""


@needs_ray
@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody but init adopts")
def test_a_killed_driver_takes_all_along_where_nobody_buries_them(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    keeper = subprocess.Popen(
        [sys.executable, "-c", _program(KEEPER), _program(DRIVER), str(tmp_path / "notes"), str(tmp_path / "data")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=variables | {"HOME": str(tmp_path)},
        cwd=tmp_path,
        text=True,
    )
    family: list[psutil.Process] = []
    with keeper:
        try:
            assert keeper.stdout is not None
            told = json.loads(keeper.stdout.readline())
            names = {pid: name for pid, _, name in told}
            family = [one for pid, born, _ in told if (one := _living(pid, born)) is not None]
            ours = [one for one in family if any(name in names[one.pid] for name in OURS)]
            assert len(ours) >= 3, "a member, a forkserver, executors"
            deadline = time.monotonic() + ENDED_SECONDS
            while left := [names[one.pid] for one in ours if _lives(one)]:
                assert time.monotonic() < deadline, left
                time.sleep(0.05)
        finally:
            for one in family:  # Ray's own agents stay for a while
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGKILL)
            keeper.kill()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _living(pid: int, born: float) -> psutil.Process | None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return process if process.create_time() == born else None
    return None


def _program(text: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in text.splitlines())
