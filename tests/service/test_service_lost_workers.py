"""A worker that is lost is still shown, everywhere and for a while; one that left in good order is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from gristmill.cli.workers import workers as workers_command
from gristmill.runtime.contracts import WorkerUp
from gristmill.runtime.coordinator.crew import Crew
from gristmill.runtime.journal.facts import WorkerGone, WorkerJoined
from gristmill.service.server import Server, ServeSettings

SECONDS = 60.0


def workers_of(server: Server, states: set[str]) -> dict[str, Any]:
    """The workers by name, as soon as their states are these."""
    headers = {"Authorization": f"Bearer {server.token_file.read_text().strip()}"}
    give_up = time.monotonic() + SECONDS
    while True:
        rows = httpx.get(f"{server.url}/api/v1/workers", headers=headers, timeout=SECONDS).json()["workers"]
        if {row["state"] for row in rows} == states:
            return {row["worker"]: row for row in rows}
        assert time.monotonic() < give_up, rows
        time.sleep(0.05)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Any]:
    begun: list[subprocess.Popen[bytes]] = []

    def begin(server: Server, name: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "gristmill.cli.main", "worker", server.url, "--executors", "1", "--name", name,
            "--data-dir", str(tmp_path / name), "--token-file", str(server.token_file),
        ]  # fmt: skip
        begun.append(subprocess.Popen(command, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def test_a_killed_worker_is_shown_as_gone_and_one_that_left_is_not(tmp_path: Path, worker: Any) -> None:
    settings = ServeSettings(port=0, data_dir=tmp_path / "server", executors=0, beat_seconds=0.2, lost_seconds=2.0)
    with Server(settings) as server:
        killed, leaves = worker(server, "killed"), worker(server, "leaves")
        give_up = time.monotonic() + SECONDS
        while len(workers_of(server, {"up"})) < 2:
            assert time.monotonic() < give_up
        killed.kill()
        [gone] = [row for row in workers_of(server, {"up", "gone"}).values() if row["state"] == "gone"]
        assert gone["worker"].startswith("killed#") and gone["slots"] == 0
        assert gone["note"].startswith("It was lost at ") and "silent for too long" in gone["note"]
        leaves.send_signal(signal.SIGTERM)
        assert leaves.wait(SECONDS) == 0
        assert set(workers_of(server, {"gone"})) == {gone["worker"]}

        headers = {"Authorization": f"Bearer {server.token_file.read_text().strip()}"}
        page = httpx.get(f"{server.url}/workers", headers=headers, timeout=60).text
        assert gone["worker"] in page and "It was lost at" in page and "No worker is connected." in page
        metrics = httpx.get(f"{server.url}/metrics", headers=headers, timeout=60).text
        assert 'gristmill_workers{state="gone"} 1.0' in metrics and "gristmill_worker_slots{" not in metrics
        name = gone["worker"].replace("#", "%23")
        assert httpx.delete(f"{server.url}/api/v1/workers/{name}", headers=headers, timeout=60).status_code == 404
        asked = CliRunner().invoke(
            workers_command, ["--server", server.url, "--token-file", str(server.token_file)], catch_exceptions=False
        )
        assert gone["worker"] in asked.output and "gone" in asked.output and "It was lost at" in asked.output
    with Server(settings) as server:
        [again] = workers_of(server, {"gone"}).values()
        assert {name: again[name] for name in ("worker", "host", "note")} == {
            name: gone[name] for name in ("worker", "host", "note")
        }


def test_who_was_lost_is_shown_for_an_hour() -> None:
    now = 10_000.0
    crew = Crew(lambda: now)
    crew.joined(WorkerUp("a#1", "a"))
    crew.gone("a#1", "it broke", left=False)
    crew.joined(WorkerUp("a#2", "a"))
    crew.gone("a#2", "It left.", left=True)

    def shown() -> list[tuple[str, str]]:
        return [(view.worker, view.note) for view in crew.views({}, {}, (), 0.0)]

    assert shown() == [("a#1", "It was lost at 02:46:40 UTC: it broke.")]
    now += 3599
    assert len(shown()) == 1
    now += 1
    assert shown() == []
    for number in range(150):
        crew.joined(WorkerUp(f"b#{number}", "b"))
        crew.gone(f"b#{number}", "it broke", left=False)
    assert len(shown()) == 100 and "b#149" in dict(shown()) and "b#0" not in dict(shown())


def test_facts_tell_a_new_server_who_was_lost() -> None:
    crew = Crew(lambda: 10_000.0)
    crew.recall(
        [
            *(WorkerJoined("", 5000.0, name, "box") for name in ("old#1", "lost#2", "left#3", "stays#4")),
            WorkerGone("", 6000.0, "old#1", "silent"),
            WorkerGone("", 9000.0, "lost#2", "silent"),
            WorkerGone("", 9000.0, "left#3", "done", left=True),
        ]
    )
    [view] = crew.views({}, {}, (), 0.0)
    assert (view.worker, view.host, view.state, view.joined) == ("lost#2", "box", "gone", 5000.0)
    crew.joined(WorkerUp("lost#2", "box"))
    [view] = crew.views({}, {}, (), 0.0)
    assert view.note == ""
