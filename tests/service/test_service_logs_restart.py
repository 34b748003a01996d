"""The logs of attempts that were cut off by a restart of the server are there after it, up to their end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from chaos_cluster_kit import free_port

from gristmill.api.loading import load_job
from gristmill.api.remote import submit
from gristmill.config import JobOptions
from gristmill.runtime.files.joblogs import list_logs, read_log

SECONDS = 60.0
WORKER = Path(__file__).parents[1] / "fleets" / "worker_process.py"
SCRIPT = """
import time
from pathlib import Path
from gristmill import MapReduce

class Talk(MapReduce):
    def mapper(self, _, line):
        folder = Path(self.params["folder"])
        print("first words")
        while not (folder / "down").exists():
            time.sleep(0.01)
        print("said while the server was away")
        (folder / f"said-{line}").touch()
        until = time.monotonic() + 60
        while line != "short" and not (folder / "gate").exists() and time.monotonic() < until:
            time.sleep(0.01)
        yield line, 1
"""


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that nobody tells."""
    give_up = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def read(folder: Path, names: list[str]) -> list[bytes]:
    """What these attempts have printed."""
    return [read_log(folder, name)[0] for name in names]


@contextmanager
def served(data_dir: Path, port: int) -> Iterator[str]:
    """A server that is killed when it is left; its address."""
    facts = data_dir / "server.json"
    facts.unlink(missing_ok=True)
    command = [sys.executable, "-m", "gristmill.cli.main", "serve", "--executors", "0", "--port", str(port)]
    with (data_dir.parent / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--data-dir", str(data_dir)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        wait_until(facts.exists)
        yield str(json.loads(facts.read_text())["url"])
    finally:
        process.kill()
        process.wait(SECONDS)


def test_what_was_said_while_the_server_was_away(tmp_path: Path) -> None:
    (tmp_path / "talk.py").write_text(SCRIPT)
    inputs = [tmp_path / name for name in ("long.txt", "short.txt")]  # one ends while the server is away
    for path in inputs:
        path.write_text(f"{path.stem}\n")
    data_dir, params = tmp_path / "server", {"folder": str(tmp_path)}
    worker: subprocess.Popen[bytes] | None = None
    try:
        port = free_port()
        with served(data_dir, port) as url:
            command = [sys.executable, str(WORKER), url, "--executors", "2", "--memory", "512MiB"]
            more = ["--data-dir", str(tmp_path / "elsewhere"), "--patience-seconds", "100"]
            token = (data_dir / "token").read_text().strip()
            worker = subprocess.Popen(
                [*command, *more], stdin=subprocess.DEVNULL, env={**os.environ, "GRISTMILL_TOKEN": token}
            )
            options = JobOptions(on=url, token_file=data_dir / "token", params=params, split_bytes=6)
            job = load_job(str(tmp_path / "talk.py"), params)
            handle = submit(job, [str(path) for path in inputs], tmp_path / "out", options)
            folder = data_dir / "jobs" / handle.job_id
            names = [f"{handle.job_id}-s0-t0000{index}-a1" for index in range(2)]
            wait_until(lambda: read(folder, names) == [b"first words\n"] * 2)
        (tmp_path / "down").touch()
        wait_until(lambda: all((tmp_path / f"said-{path.stem}").exists() for path in inputs))
        assert read(folder, names) == [b"first words\n"] * 2
        with served(data_dir, port):
            wait_until(lambda: read(folder, names) == [b"first words\nsaid while the server was away\n"] * 2)
            (tmp_path / "gate").touch()
            handle.wait(timeout=SECONDS)
            wait_until(lambda: len(list_logs(folder)) > 2)  # that of the attempt that took its place
            for index, name in enumerate(names):  # the journal knows nothing of those that were cut off
                path = f"jobs/{handle.job_id}/tasks/0-{index}"
                headers = {"Authorization": f"Bearer {token}"}
                found = httpx.get(f"{url}/api/v1/{path}/attempts", headers=headers, timeout=SECONDS).json()["attempts"]
                assert [(one["name"], one["state"]) for one in found] == [(name, "lost"), (f"{name}-e1", "done")]
                assert "cut off" in found[0]["failure"]["message"] and found[0]["began"] is None
                page = httpx.get(f"{url}/{path}", headers=headers, timeout=SECONDS).text
                assert "cut off" in page and "said while the server was away" in page
            look = f"{url}/jobs/{handle.job_id}"
            assert httpx.get(look, headers=headers, timeout=SECONDS).text.count('class="mark cut"') >= 2
            trace = httpx.get(look.replace("/jobs", "/api/v1/jobs") + "/trace", headers=headers, timeout=SECONDS).json()
            assert sum("cut_off" in event.get("args", ()) for event in trace["traceEvents"]) == 2
    finally:
        if worker is not None:
            worker.kill()
            worker.wait(SECONDS)
