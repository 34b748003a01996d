"""Thousands of hostile calls: the server answers all others meanwhile, and loses no worker that lives."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

ATTACK = Path(__file__).with_name("hostile_client.py")
UP_SECONDS = 60.0
PAUSE_SECONDS = 0.05
SLOWEST_SECONDS = 1.0


@dataclass
class Serving:
    """``gristmill serve`` in a process of its own, with a worker."""

    url: str
    token: str
    job: str
    pid: int

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def other_ports(self) -> list[int]:
        """Where the server and its worker listen besides."""
        server = psutil.Process(self.pid)
        found = [one.laddr.port for process in (server, *server.children(True)) for one in listening(process)]
        return sorted(set(found) - {int(self.host.rpartition(":")[2])})

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.url}{path}", headers={"Authorization": f"Bearer {self.token}"}, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    data_dir = tmp_path / "data"
    command = [sys.executable, "-m", "gristmill.cli.main", "serve", "--port", "0", "--executors", "1"]
    limits = ["--memory", "256MiB", "--heartbeat", "500ms", "--heartbeat-limit", "5s"]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [*command, *limits, "--data-dir", str(data_dir)], stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            env={name: value for name, value in os.environ.items() if not name.startswith("GRISTMILL_")},
        )  # fmt: skip
    try:
        facts = _wait_for(lambda: json.loads((data_dir / "server.json").read_text()))
        token = (data_dir / "token").read_text().strip()
        found = Serving(facts["url"], token, "", process.pid)
        _wait_for(lambda: found.get("/api/v1/workers")["workers"][0])
        (tmp_path / "in.txt").write_text("a b a\n")
        wish = {"job": "wordcount", "inputs": [str(tmp_path / "in.txt")], "output": str(tmp_path / "out")}
        headers = {"Authorization": f"Bearer {token}"}
        found.job = httpx.post(f"{found.url}/api/v1/jobs", json=wish, headers=headers, timeout=60).json()["id"]
        state = _wait_for(lambda: _over(found.get(f"/api/v1/jobs/{found.job}?wait=30")["state"]))
        assert state == "succeeded"
        yield found
        assert process.poll() is None, (tmp_path / "said").read_text()
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait(60)
    assert "Traceback" not in (tmp_path / "said").read_text()


def listening(process: psutil.Process) -> list[Any]:
    return [one for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]


def _over(state: str) -> str:
    assert state not in ("queued", "running")
    return state


def _wait_for(look: Any) -> Any:
    give_up = time.monotonic() + UP_SECONDS
    while True:
        try:
            return look()
        except (OSError, ValueError, LookupError, AssertionError, httpx.HTTPError):
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)


@dataclass
class Watch:
    """Asks again and again whether a server lives.

    Attributes:
        seconds: how long each answer took.
    """

    host: str
    seconds: list[float] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            began = time.monotonic()
            connection = http.client.HTTPConnection(self.host, timeout=20)
            try:
                connection.request("GET", "/livez")
                if (status := connection.getresponse().status) != 200:
                    self.trouble.append(f"answered {status}")
            except (OSError, http.client.HTTPException) as error:
                self.trouble.append(repr(error))
            finally:
                connection.close()
            self.seconds.append(time.monotonic() - began)


def attack(serving: Serving, count: int, seed: int, seconds: float) -> dict[str, Any]:
    """Let a program of its own call the server; what it was answered."""
    others = list(map(str, serving.other_ports()))
    assert len(others) >= 2, "the agents' gRPC, and the worker's Flight"
    command = [sys.executable, str(ATTACK), serving.host, serving.token, serving.job, str(count), str(seed), *others]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(serving: Serving, count: int, seed: int, slowest: float, seconds: float) -> str:
    """Attack, and see that the server goes on as if nothing were. What was answered, in words."""
    [before] = serving.get("/api/v1/workers")["workers"]
    with Watch(serving.host) as watch:
        told = attack(serving, count, seed, seconds)
    answers = ", ".join(f"{times:,} x {answer}" for answer, times in sorted(told["answers"].items()))
    said = f"{answers}; meanwhile {len(watch.seconds)} answers of /livez, the slowest after {max(watch.seconds):.3f} s"
    print(said)
    assert not told["failed"], "\n".join(told["failed"])
    assert sum(told["answers"].values()) == count and told["answers"]["elsewhere"] > count / 20
    assert "no answer" not in told["answers"]
    assert not watch.trouble and max(watch.seconds) < slowest
    [after] = serving.get("/api/v1/workers")["workers"]
    assert (after["worker"], after["joined"], after["state"]) == (before["worker"], before["joined"], "up")
    jobs = [job for job in serving.get("/api/v1/jobs?limit=1000")["jobs"] if job["state"] in ("queued", "running")]
    assert jobs == []
    headers = {"Authorization": f"Bearer {serving.token}"}
    result = httpx.get(f"{serving.url}/api/v1/jobs/{serving.job}/result", headers=headers, timeout=60)
    assert result.text == "a\t2\nb\t1\n"
    return said


def test_some_hundreds_of_hostile_calls(serving: Serving) -> None:
    check(serving, 300, 1, 15 * SLOWEST_SECONDS, 100)  # other tests want the machine meanwhile


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_ten_thousand_hostile_calls(serving: Serving, record_property: Callable[[str, object], None]) -> None:
    record_property("note", check(serving, 10_000, 2, SLOWEST_SECONDS, 2900))
