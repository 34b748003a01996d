"""Many submissions at once, at a server that is a process of its own: they wait their turn, and take little of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from gristmill.runtime.journal.facts import JobBegun
from gristmill.runtime.journal.journal import JOURNAL, Journal

PATIENCE = 60.0
MIB = 1 << 20


class Service:
    """``gristmill serve``, and calls of it."""

    def __init__(self, data_dir: Path, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        facts = json.loads((data_dir / "server.json").read_text())
        self._url = facts["url"] + "/api/v1"
        self._token = (data_dir / "token").read_text().strip()

    def call(self, path: str, body: Any = None, **headers: str) -> Any:
        """One call; its answer."""
        data = None if body is None else json.dumps(body).encode()
        named = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", **headers}
        with urllib.request.urlopen(urllib.request.Request(self._url + path, data, named), timeout=PATIENCE) as answer:
            return json.loads(answer.read())

    def states(self) -> dict[str, str]:
        """The state of every job, by the name of its output."""
        found, page = {}, self.call("/jobs?limit=200")
        while True:
            found.update({Path(job["output"]).name: job["state"] for job in page["jobs"]})
            if not page["next"]:
                return found
            page = self.call(f"/jobs?limit=200&before={page['next']}")


@contextmanager
def service(data_dir: Path, *options: str) -> Iterator[Service]:
    """A server that runs until the end of the block."""
    command = [
        str(Path(sys.executable).with_name("gristmill")),
        "serve",
        "--port",
        "0",
        "--data-dir",
        str(data_dir),
        *options,
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRISTMILL_")}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    try:
        until = time.monotonic() + PATIENCE
        while not (data_dir / "server.json").exists():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        yield Service(data_dir, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


@pytest.mark.parametrize(
    ("count", "growth"),
    [(20, 40 * MIB), pytest.param(500, 40 * MIB, marks=[pytest.mark.soak, pytest.mark.timeout(600)])],
)
def test_many_that_come_at_once_wait_their_turn(
    count: int, growth: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    text = tmp_path / "in.txt"
    text.write_text("a b a\n" * 100)
    with service(tmp_path / "data", "--executors", "1", "--max-jobs", "2") as s:

        def submit(number: int) -> None:
            wish = {"job": "wordcount", "inputs": [str(text)], "output": str(tmp_path / f"out{number}")}
            s.call("/jobs", wish, **{"Idempotency-Key": f"job {number}"})

        server = psutil.Process(s.process.pid)
        for number in range(4):
            submit(number)
        before, files = server.memory_info().rss, server.num_fds()
        began = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(submit, range(4, count)))
        seconds = time.monotonic() - began
        grown, opened = server.memory_info().rss - before, server.num_fds() - files
        assert grown < growth
        assert opened < 60, "those that wait have nothing open"
        assert len(s.states()) == count
        until = time.monotonic() + PATIENCE + count
        while set(s.states().values()) != {"succeeded"}:
            assert time.monotonic() < until, s.states()
            time.sleep(0.1)
        facts = Journal(tmp_path / "data" / JOURNAL).facts()
        assert [fact for fact in facts if isinstance(fact, JobBegun)], "some have waited for their turn"
        for number in range(count):
            rows = [part.read_text() for part in sorted((tmp_path / f"out{number}").glob("part-*"))]
            assert sorted("".join(rows).split()) == ["100", "200", "a", "b"]
        grown_after = server.memory_info().rss - before
        assert grown_after < growth + 20 * MIB, "nor is much kept of those that are over"
    memory = f"memory grown by {grown / MIB:.0f} MiB, at the end by {grown_after / MIB:.0f}"
    record_property("note", f"{count} submissions in {seconds:.1f} s; {memory}")
