"""A server whose users do harm: a task that forks ten thousand processes or fills memory is stopped; the rest goes on.

Bombs bound themselves: they start no more than so many processes, and each of those ends after some seconds.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from gristmill.api.loading import load_job
from gristmill.api.remote import RemoteHandle, submit
from gristmill.config import JobOptions
from gristmill.errors import JobFailed
from gristmill.service.server import Server, ServeSettings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and needs a subreaper")

SECONDS = 60.0
SCRIPT = """
import os, subprocess, time
from pathlib import Path
from gristmill import MapReduce

class Harm(MapReduce):
    def mapper(self, _, line):
        getattr(self, line)()
        yield line, 1

    def forks(self):
        for _ in range(10_000):
            if os.fork() == 0:
                os.setsid()
                with open(self.params["mark"], "a") as mark:
                    mark.write(f"{os.getpid()} ")
                time.sleep(20)
                os._exit(0)

    def fills(self):
        kept = []
        while True:
            kept.append(b"x" * (16 << 20))

    def tells(self):
        folder = Path(self.params["mark"])
        folder.mkdir()
        pid = os.getpid()
        while pid > 1 and not (folder / "gristmill-worker").exists():  # the forkserver, and the worker
            found = Path(f"/proc/{pid}/environ").read_bytes()
            name = b"gristmill-worker" if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes() else str(pid).encode()
            (folder / name.decode()).write_bytes(found)
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        (folder / "own").write_text(repr(dict(os.environ)))
        (folder / "child").write_bytes(subprocess.run(["env"], capture_output=True).stdout)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one executor, started with secrets in its environment."""
    data_dir = tmp_path_factory.mktemp("served") / "data"
    secrets = {name: "the canary" for name in ("GRISTMILL_TOKEN", "GRISTMILL_SERVE_SMTP_URL", "DB_PASSWORD")}
    os.environ.update(secrets)
    try:
        arguments = ("--max-processes=30", "--drop-env=DB_*", "--max-file-size=1GiB")
        settings = ServeSettings(
            port=0, data_dir=data_dir, executors=1, memory_bytes=64 << 20, worker_arguments=arguments
        )
        with Server(settings) as server:
            yield server
    finally:
        for name in secrets:
            del os.environ[name]


def begin(server: Server, folder: Path, what: str) -> RemoteHandle:
    (folder / "harm.py").write_text(SCRIPT)
    (folder / "in.txt").write_text(what + "\n")
    params = {"mark": str(folder / "mark")}
    options = JobOptions(on=server.url, token_file=server.token_file, max_attempts=1, params=params)
    return submit(load_job(str(folder / "harm.py"), params), [str(folder / "in.txt")], folder / "out", options)


class Pulse:
    """Asks the server whether it lives, again and again; ``worst``: how long it took at most."""

    def __init__(self, url: str) -> None:
        self.worst = 0.0
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join(SECONDS)

    def _run(self) -> None:
        while not self._over.wait(0.05):
            begun = time.monotonic()
            with urllib.request.urlopen(f"{self._url}/livez", timeout=SECONDS) as answer:
                assert answer.status == 200
            self.worst = max(self.worst, time.monotonic() - begun)


@pytest.mark.parametrize(("what", "error"), [("forks", "ProcessLimitExceeded"), ("fills", "MemoryLimitExceeded")])
def test_a_task_that_takes_too_much_is_stopped(server: Server, tmp_path: Path, what: str, error: str) -> None:
    with Pulse(server.url) as pulse, pytest.raises(JobFailed) as failed:
        begin(server, tmp_path, what).wait(timeout=SECONDS)
    report = failed.value.report
    assert report is not None and report.error == error
    assert pulse.worst < 20.0
    mark = tmp_path / "mark"
    started = [int(pid) for pid in mark.read_text().split()] if mark.exists() else []
    assert len(started) < 5000
    wait_until(lambda: not any(map(psutil.pid_exists, started)))
    [worker] = server.coordinator.workers()
    assert worker.state == "up"  # the same as before


def test_no_secret_of_the_service_reaches_a_task(server: Server, tmp_path: Path) -> None:
    begin(server, tmp_path, "tells").wait(timeout=SECONDS)
    seen = {path.name: path.read_bytes() for path in (tmp_path / "mark").iterdir()}
    assert {"gristmill-worker", "own", "child"} < seen.keys()
    for name, environment in seen.items():
        assert b"PATH" in environment
        if name == "gristmill-worker":
            environment = environment.replace(b"DB_PASSWORD=the canary", b"")  # what it keeps back, it has itself
        assert b"the canary" not in environment, name


def test_the_own_worker_is_told_to_leave_and_stays_away(tmp_path: Path) -> None:
    with Server(ServeSettings(port=0, data_dir=tmp_path, executors=1, memory_bytes=64 << 20)) as server:
        wait_until(lambda: server.coordinator.workers())
        [worker] = server.coordinator.workers()
        keepers = {thread for thread in threading.enumerate() if thread.name == "gristmill-own-worker"}
        assert server.coordinator.drain(worker.worker)
        wait_until(lambda: not server.coordinator.workers())
        wait_until(lambda: any(not keeper.is_alive() for keeper in keepers))  # nobody would start another


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that nobody tells."""
    give_up = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)
