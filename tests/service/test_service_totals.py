"""What is counted of a job is a fold over its facts: also after the server was killed, and when it is tried again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from chaos_cluster_kit import free_port

from gristmill.api.loading import load_job
from gristmill.api.remote import submit
from gristmill.config import JobOptions
from gristmill.errors import JobFailed

SECONDS = 60.0
SCRIPT = """
import time
from pathlib import Path
from gristmill import MapReduce

class Unlucky(MapReduce):
    def mapper(self, _, line):
        folder = Path(self.params["folder"])
        if line == "first" and not (folder / "failed").exists():
            (folder / "failed").touch()
            raise ValueError("the first attempt fails")
        if line == "second":
            (folder / "begun").touch()
            until = time.monotonic() + 60
            while not (folder / "gate").exists() and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.2)
        yield line, 1

    def reducer(self, word, counts):
        if not (Path(self.params["folder"]) / "good").exists():
            raise ValueError("it is not good yet")
        yield word, sum(counts)
"""


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that nobody tells."""
    give_up = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@contextmanager
def served(data_dir: Path, port: int) -> Iterator[httpx.Client]:
    """A server of one slot that is killed when it is left."""
    facts = data_dir / "server.json"
    facts.unlink(missing_ok=True)
    command = [sys.executable, "-m", "gristmill.cli.main", "serve", "--executors", "1", "--port", str(port)]
    with (data_dir.parent / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--data-dir", str(data_dir)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        wait_until(facts.exists)
        url = str(json.loads(facts.read_text())["url"])
        headers = {"Authorization": f"Bearer {(data_dir / 'token').read_text().strip()}"}
        with httpx.Client(base_url=url, headers=headers, timeout=SECONDS) as client:
            yield client
    finally:
        process.kill()
        process.wait(SECONDS)


def told(client: httpx.Client, job: str) -> list[Any]:
    """A job's facts, as they are exported."""
    text = client.get("/api/v1/events", params={"job": job}).text
    return [json.loads(line) for line in text.splitlines()]


def view_of(client: httpx.Client, job: str) -> Any:
    """How a job stands."""
    return client.get(f"/api/v1/jobs/{job}").json()["view"]


def check(client: httpx.Client, job: str, attempts: int, failed: int) -> None:
    """All that tells of a job that is over counts the same."""
    events = told(client, job)
    kinds = Counter(event.get("how", event["kind"]) for event in events)
    assert (kinds["task done"] + kinds["failed"], kinds["failed"]) == (attempts, failed), kinds
    ended = [event for event in events if event["kind"] == "job ended"][-1]
    assert (ended["attempts"], ended["failed_attempts"]) == (attempts, failed)
    detail = client.get(f"/api/v1/jobs/{job}").json()
    assert (detail["summary"]["attempts"], detail["summary"]["failed_attempts"]) == (attempts, failed)
    assert len(detail["view"]["failures"]) == failed
    rows = client.get(f"/api/v1/jobs/{job}/tasks").json()["tasks"]
    assert sum(row["attempts"] for row in rows) == attempts


def test_attempts_are_counted_over_restarts_and_tries(tmp_path: Path) -> None:
    (tmp_path / "unlucky.py").write_text(SCRIPT)
    lines = [tmp_path / name for name in ("first", "second", "third")]
    for path in lines:
        path.write_text(f"{path.name}\n")
    data_dir, params = tmp_path / "server", {"folder": str(tmp_path)}
    port = free_port()
    with served(data_dir, port) as client:
        url = str(client.base_url).rstrip("/")
        options = JobOptions(
            on=url, token_file=data_dir / "token", params=params, split_bytes=7, reducers=1, max_attempts=2
        )
        job = load_job(str(tmp_path / "unlucky.py"), params)
        handle = submit(job, list(map(str, lines)), tmp_path / "out", options)
        wait_until((tmp_path / "begun").exists)
        wait_until(lambda: any(event.get("how") == "failed" for event in told(client, handle.job_id)))
        wait_until(lambda: view_of(client, handle.job_id)["failed_attempts"] == 1)
    with served(data_dir, port) as client:
        view = view_of(client, handle.job_id)
        assert view["failed_attempts"] == 1 and "the first attempt fails" in str(view["failures"])
        (tmp_path / "gate").touch()
        with pytest.raises(JobFailed, match="not good yet"):
            handle.wait(timeout=SECONDS)
        check(client, handle.job_id, attempts=6, failed=3)
        (tmp_path / "good").touch()
        assert client.post(f"/api/v1/jobs/{handle.job_id}/retry").status_code == 202
        wait_until(lambda: client.get(f"/api/v1/jobs/{handle.job_id}").json()["state"] == "succeeded")
        check(client, handle.job_id, attempts=7, failed=3)
        waits = re.search(r"^gristmill_task_wait_seconds_sum (\S+)", client.get("/metrics").text, re.MULTILINE)
        assert waits is not None and float(waits[1]) >= 0.2, "there is one slot, and each task had to wait for it"
        trace = client.get(f"/api/v1/jobs/{handle.job_id}/trace").json()["traceEvents"]
        assert max(event.get("args", {}).get("waited_seconds", 0) for event in trace) >= 0.2
