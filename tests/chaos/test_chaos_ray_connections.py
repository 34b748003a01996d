"""Connections between the driver and actors break, again and again, while both live: nothing is lost or done twice.

They are destroyed in the system's kernel, as by a firewall that resets them; ``ss -K`` asks for it.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import chaos_ray_jobs
import psutil
import pytest
from chaos_kit import read_output
from chaos_ray_jobs import SPLIT_BYTES, write_tasks
from chaos_ray_kit import members
from ray_kit import PATIENCE, RayCluster, ray_marks

pytestmark = ray_marks

BREAK_SECONDS, PAUSE_SECONDS = 5.0, 0.2


def destroyed(ours: psutil.Process, theirs: psutil.Process) -> int:
    """End all connections from one process to doors of another. Returns how many there were."""
    doors = {one.laddr.port for one in theirs.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    found = [one for one in ours.net_connections("tcp") if one.raddr and one.raddr.port in doors]
    for one in found:
        ends = ["sport", "=", f":{one.laddr.port}", "and", "dport", "=", f":{one.raddr.port}"]
        subprocess.run(["ss", "-K", "-t", *ends], check=True, capture_output=True, timeout=PATIENCE)
    return len(found)


def can_destroy() -> bool:
    """Whether this process may."""
    if shutil.which("ss") is None:
        return False
    with socket.create_server(("127.0.0.1", 0)) as door, socket.create_connection(door.getsockname()) as one:
        me = psutil.Process()
        assert destroyed(me, me) >= 1
        try:
            one.send(b"?")
        except OSError:
            return True
    return False


@pytest.mark.soak
def test_connections_to_an_actor_break_again_and_again(
    on_ray: RayCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not can_destroy():
        pytest.skip("connections of others cannot be ended here: that takes ss, and the right to")
    caplog.set_level(logging.DEBUG, "gristmill.fleets.ray.crew")
    notes = tmp_path / "notes"
    notes.mkdir()
    options: dict[str, Any] = {
        "reducers": 6,
        "split_size": SPLIT_BYTES,
        "params": {"notes": str(notes), "partitions": "6", "pause": "0.4"},
    }
    path = write_tasks(tmp_path / "in", 24, 2400)
    ours, ended = psutil.Process(os.getpid()), 0
    with chaos_ray_jobs.Dealt.start(
        path, tmp_path / "out", on="ray", executors=2, data_dir=tmp_path / "data", speculation=False, **options
    ) as handle:
        deadline = time.monotonic() + PATIENCE
        while len(list(notes.iterdir())) < 2:
            assert time.monotonic() < deadline, "it does not begin"
            time.sleep(0.05)
        until = time.monotonic() + BREAK_SECONDS
        while time.monotonic() < until:
            ended += sum(destroyed(ours, member) for node in on_ray.nodes for member in members(node))
            time.sleep(PAUSE_SECONDS)
        handle.wait(PATIENCE)
    repeated = [record for record in caplog.records if "cannot be reached for a moment" in record.getMessage()]
    assert ended and repeated
    assert len(list(notes.iterdir())) == 24 + 6 + 6, "no attempt has run twice"
    options["params"]["pause"] = "0"
    chaos_ray_jobs.Dealt.run(path, tmp_path / "calm", on="inline", data_dir=tmp_path / "calm-data", **options)
    assert read_output(tmp_path / "out") == read_output(tmp_path / "calm")
