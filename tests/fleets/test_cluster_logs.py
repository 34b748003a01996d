"""What attempts print is at the server while they run, and stays there whatever becomes of them and of their worker."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_kit import Cluster, cluster

from gristmill import MapReduce
from gristmill.runtime.coordinator.coordinator import RunningJob
from gristmill.runtime.files.joblogs import LogKeeper, list_logs, read_log
from gristmill.runtime.views import WorkerView


class Talk(MapReduce):
    """Says something in its first attempt, then waits until it may go on."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        folder = Path(self.params["folder"])
        print("first words of", line)
        if line == "loud":
            for number in range(40_000):
                print("line", number)
        (folder / f"said-{line}").touch()
        deadline = time.monotonic() + 60
        while not (folder / "gate").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        print("last words of", line)
        yield line, 1


@pytest.fixture
def keeper() -> Iterator[LogKeeper]:
    keeper = LogKeeper()
    yield keeper
    keeper.close()


def begin(c: Cluster, folder: Path, lines: str) -> tuple[RunningJob, Path]:
    """A job that talks; and its folder on the server."""
    (folder / "in.txt").write_text(lines)
    params = {"folder": str(folder)}
    running = c.submit(Talk, folder / "in.txt", folder / "out", params=params, split_size=6, reducers=1)
    return running, Path(running.held.prepared.spec.folder)


def test_a_killed_workers_log_reads_up_to_the_kill(tmp_path: Path, keeper: LogKeeper) -> None:
    with cluster(tmp_path, workers=1, beat_seconds=0.2, lost_seconds=2.0, logs=keeper) as c:
        running, folder = begin(c, tmp_path, "quiet\n")
        name = f"{running.job}-s0-t00000-a1"
        c.wait_until(lambda: read_log(folder, name)[0] == b"first words of quiet\n")
        c.workers[0].send(signal.SIGKILL)
        (tmp_path / "gate").touch()
        c.add_worker()
        c.finish(running)
        assert read_log(folder, name)[0] == b"first words of quiet\n"
        keeper.settle(60)
        [again] = [info.attempt for info in list_logs(folder) if info.attempt != name]
        assert read_log(folder, again)[0] == b"first words of quiet\nlast words of quiet\n"


def test_of_much_at_once_the_end_comes(tmp_path: Path, keeper: LogKeeper) -> None:
    with cluster(tmp_path, workers=1, beat_seconds=0.2, logs=keeper) as c:
        running, folder = begin(c, tmp_path, "loud\n")
        name = f"{running.job}-s0-t00000-a1"
        c.wait_until(lambda: b"line 39999\n" in read_log(folder, name)[0])
        (tmp_path / "gate").touch()
        c.finish(running)
        keeper.settle(60)
        text = read_log(folder, name, limit=1 << 20)[0]
        assert text.endswith(b"line 39999\nlast words of loud\n")
        assert b"bytes are left out]\n" in text and len(text) < 300_000


def test_what_a_cancelled_attempt_printed_last_is_kept(tmp_path: Path, keeper: LogKeeper) -> None:
    with cluster(tmp_path, workers=1, beat_seconds=20.0, lost_seconds=60.0, logs=keeper) as c:  # no beat takes it along
        running, folder = begin(c, tmp_path, "short\n")
        c.wait_until((tmp_path / "said-short").exists)
        running.cancel()
        assert running.wait(60) is not None
        keeper.settle(60)
        assert read_log(folder, f"{running.job}-s0-t00000-a1")[0] == b"first words of short\n"


def view(c: Cluster) -> WorkerView:
    """How the one worker is."""
    [found] = c.coordinator.workers()
    return found


def test_a_worker_that_is_drained_finishes_and_leaves_for_good(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=1, beat_seconds=0.2) as c:
        running, _ = begin(c, tmp_path, "quiet\n")
        c.wait_until((tmp_path / "said-quiet").exists)
        c.wait_until(lambda: view(c).used_bytes)
        seen = view(c)
        assert (seen.worker, seen.host, seen.state, seen.slots, seen.busy) == ("w0#1", "w0", "up", 1, 1)
        assert seen.cpu_percent is not None and 0 <= seen.cpu_percent <= 100
        assert seen.disk_bytes and seen.free_bytes and seen.disk_bytes > seen.free_bytes
        assert abs(seen.beat - time.time()) < 30 and seen.joined <= seen.beat
        assert not c.coordinator.drain("nobody")
        assert c.coordinator.drain("w0#1")
        c.wait_until(lambda: view(c).state == "draining")
        assert "leaves when what it runs is done" in view(c).note
        assert c.workers[0].process.poll() is None
        c.add_worker()
        c.wait_for_workers(2)
        (tmp_path / "gate").touch()
        c.finish(running)
        assert c.workers[0].wait() == 0
        c.wait_until(lambda: [found.worker for found in c.coordinator.workers()] == ["w1#2"])
    assert "told to leave: An administrator asked for it." in c.workers[0].said()


class Ticks(MapReduce):
    """Prints the time, again and again."""

    def mapper(self, _: Any, line: str) -> Iterator[tuple[str, int]]:
        until = time.monotonic() + 60
        while not (Path(self.params["folder"]) / "gate").exists() and time.monotonic() < until:
            print(time.time())
            time.sleep(0.02)
        yield line, 1


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_logs_of_workers_that_are_killed_at_any_time(
    tmp_path: Path, keeper: LogKeeper, record_property: Callable[[str, object], None]
) -> None:
    chance, late = random.Random(5), []
    (tmp_path / "in.txt").write_text("a line\n")
    with cluster(tmp_path, workers=1, lost_seconds=3.0, logs=keeper) as c:
        running = c.submit(Ticks, tmp_path / "in.txt", tmp_path / "out", params={"folder": str(tmp_path)})
        folder = Path(running.held.prepared.spec.folder)
        for number in range(1, 21):
            name = f"{running.job}-s0-t00000-a{number}"
            c.wait_until(lambda name=name: read_log(folder, name)[1] > 0)  # type: ignore[misc]
            time.sleep(chance.uniform(0, 2))
            killed = time.time()
            c.workers[-1].send(signal.SIGKILL)
            keeper.settle(60)
            lines = read_log(folder, name, limit=1 << 20)[0].decode().splitlines()
            times = list(map(float, lines[:-1]))
            assert times == sorted(times) and "left out" not in "".join(lines)
            late.append(killed - times[-1])
            c.add_worker()
        (tmp_path / "gate").touch()
        c.finish(running)
        assert len(list_logs(folder)) >= 20
    record_property(
        "note", f"a killed worker's log ends {sorted(late)[10]:.1f} s before the kill, {max(late):.1f} at most"
    )
    assert max(late) < 5.0
