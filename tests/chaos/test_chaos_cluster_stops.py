"""Agents, executors and the server stand still for a while, longer or shorter than the limit; the result is right."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from chaos_cluster_jobs import expected_spread, write_ranges
from chaos_cluster_kit import CLUSTER_JOBS, Site, go_on, is_alive, read_rows, site, stop
from chaos_kit import Command

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")

NUMBERS, KEYS, MAPS, REDUCERS = 12_000, 101, 12, 6


def begin(s: Site, *options: str, pause: float = 0.4) -> Command:
    """Begin a job of so many tasks, each of which takes a while."""
    ranges = write_ranges(s.folder / "ranges.txt", NUMBERS, MAPS)
    size = ranges.stat().st_size // MAPS - 3  # a line a task
    fine = ["--split-size", str(size), "--reducers", str(REDUCERS), "--set", f"keys={KEYS}", "--set", f"pause={pause}"]
    return s.run(f"{CLUSTER_JOBS}:Spread", ranges, s.folder / "out", *fine, *options)


def finish(s: Site, client: Command) -> dict[str, Any]:
    """Wait for it, and look at what it made."""
    summary = s.finish(client)
    rows = {int(key): value for key, value in read_rows(s.folder / "out").items()}
    assert rows == expected_spread(NUMBERS, KEYS)
    return summary


def tasks_of(summary: dict[str, Any]) -> int:
    return int(summary["map_tasks"]) + int(summary["reduce_tasks"])


@pytest.mark.soak
@pytest.mark.parametrize("phase", ["map", "reduce"])
def test_an_agent_that_stands_still_for_too_long_is_lost_and_comes_back(phase: str, tmp_path: Path) -> None:
    """Its executors go on meanwhile: what they make comes late, and counts for nothing."""
    with site(tmp_path, workers=3, beat="0.2s", limit="1.2s") as s:
        # In the middle of the maps there must be some of them to come, however late a busy machine shows that.
        client = begin(s, "--no-speculation", pause=1.2 if phase == "map" else 0.4)
        still = s.workers[0]
        s.wait_until(lambda: s.staged() if phase == "reduce" else still.blocks())
        stop(still.pid)
        s.wait_until(lambda: client.process.poll() is not None)
        assert not is_alive(still.pid) or still.executors(), "its executors were not touched"
        summary = finish(s, client)
        assert summary["attempts"] > tasks_of(summary), "its tasks ran elsewhere"
        assert len(s.staged()) == 0
        go_on(still.pid)
        s.wait_until(lambda: "Joining again" in still.command.said())
        s.wait_for_executors(3)
        s.wait_until(lambda: not s.blocks())
        (tmp_path / "out").rename(tmp_path / "first")
        stop(s.workers[1].pid)  # so that the one that came back must work
        stop(s.workers[2].pid)
        finish(s, begin(s, pause=0))
        s.assert_clean(tmp_path)
        rows = {int(key): value for key, value in read_rows(tmp_path / "first").items()}
        assert rows == expected_spread(NUMBERS, KEYS), "what came late has changed nothing"
        for worker in s.workers[1:]:
            go_on(worker.pid)
        s.end()


@pytest.mark.soak
def test_it_comes_back_while_the_job_runs(tmp_path: Path) -> None:
    with site(tmp_path, workers=2, beat="0.2s", limit="1s") as s:
        client = begin(s, "--no-speculation", pause=0.6)
        still = s.workers[0]
        for times in (1, 2):
            s.wait_until(lambda: still.blocks())
            stop(still.pid)
            time.sleep(2)
            go_on(still.pid)
            s.wait_until(lambda times=times: still.command.said().count("Joining again") == times)  # type: ignore[misc]
            s.wait_for_executors(2)
        finish(s, client)
        s.assert_clean(tmp_path)
        s.end()


@pytest.mark.soak
def test_nobody_is_lost_for_a_short_while(tmp_path: Path) -> None:
    with site(tmp_path, workers=2, beat="0.2s", limit="8s") as s:
        client = begin(s, "--no-speculation")
        s.wait_until(s.blocks)
        for pid in (s.workers[0].pid, s.workers[1].executors()[0].pid, s.server.process.pid):
            stop(pid)
            time.sleep(0.8)
            go_on(pid)
        summary = finish(s, client)
        assert (summary["attempts"], summary["failed_attempts"]) == (tasks_of(summary), 0)
        assert "again" not in s.said()
        s.end()


@pytest.mark.soak
def test_a_server_that_stood_still_does_not_take_its_workers_for_dead(tmp_path: Path) -> None:
    with site(tmp_path, workers=2, beat="0.2s", limit="1.2s") as s:
        client = begin(s, "--no-speculation")
        s.wait_until(s.blocks)
        stop(s.server.process.pid)
        time.sleep(3.5)
        go_on(s.server.process.pid)
        summary = finish(s, client)
        assert (summary["attempts"], summary["failed_attempts"]) == (tasks_of(summary), 0)
        assert "Joining again" not in s.said()
        s.assert_clean(tmp_path)
        s.end()


@pytest.mark.soak
def test_an_executor_that_stands_still_for_ever_is_a_straggler(tmp_path: Path) -> None:
    with site(tmp_path, workers=3, beat="0.2s", limit="1.2s") as s:
        client = begin(s)
        s.wait_until(s.blocks)
        [executor] = s.workers[0].executors()
        stop(executor.pid)
        summary = finish(s, client)
        assert summary["attempts"] > tasks_of(summary)
        assert not is_alive(executor.pid), "it lost, and was ended"
        s.assert_clean(tmp_path)
        s.end()
