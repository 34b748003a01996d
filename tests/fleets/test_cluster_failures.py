"""What becomes of a cluster when workers, streams and the coordinator fail. Real processes, small limits."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_jobs import SlowMaps, WordCount, counts_in, write_words
from cluster_kit import PATIENCE, Cluster, Proxy, cluster

from gristmill.runtime.contracts import SlotUp, WorkerDown, WorkerLeaving, WorkerUp

FAST = {"beat_seconds": 0.1, "lost_seconds": 2.0}


@contextlib.contextmanager
def proxied(c: Cluster) -> Iterator[Proxy]:
    """Workers that join from now on reach the coordinator by a proxy."""
    proxy = Proxy(c.fleet.address)
    c.facts = lambda facts: {**facts, "grpc": proxy.address}
    try:
        yield proxy
    finally:
        c.facts = lambda facts: facts
        proxy.close()


def begun(folder: Path, what: str) -> int:
    return len(list(folder.glob(f"{what}-*")))


def test_a_broken_stream_costs_nothing(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    with cluster(tmp_path, workers=0, beat_seconds=0.1, lost_seconds=5.0) as c, proxied(c) as proxy:
        for _ in range(2):
            c.add_worker()
        c.wait_for_workers(2)
        params = {"folder": str(tmp_path), "seconds": 0.05}
        running = c.submit(SlowMaps, words, tmp_path / "out", split_size="2KiB", reducers=3, params=params)
        for tasks in range(2, 20, 3):
            c.wait_until(lambda tasks=tasks: begun(tmp_path, "map") >= tasks)
            proxy.cut()
        outcome = c.finish(running)
        assert counts_in(tmp_path / "out") == expected
        assert outcome.view.attempts == sum(stage.tasks for stage in outcome.view.stages)
        assert len(c.fleet.heard(WorkerUp)) == 2
        assert proxy.connections >= 8


def damaged_run(folder: Path, seed: int, lines: int) -> int:
    """A job over streams on which bytes are flipped; how many."""
    words, expected = write_words(folder, lines)
    with cluster(folder, workers=0, beat_seconds=0.1, lost_seconds=5.0) as c, proxied(c) as proxy:
        for _ in range(2):
            c.add_worker()
        c.wait_for_workers(2)
        proxy.damage = random.Random(seed)
        outcome = c.run(WordCount, words, folder / "out", split_size="1KiB", reducers=5)
        assert counts_in(folder / "out") == expected
        assert outcome.view.state.value == "succeeded"
        assert all(worker.process.poll() is None for worker in c.workers), c.said()
        return proxy.flips


def test_damaged_messages_are_noticed(tmp_path: Path) -> None:
    assert damaged_run(tmp_path, seed=1, lines=4000) > 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_many_damaged_messages_are_noticed(tmp_path: Path, seed: int) -> None:
    assert damaged_run(tmp_path, seed, lines=10_000) > 0


@pytest.mark.soak
def test_a_stream_that_carries_nothing_is_replaced(tmp_path: Path) -> None:
    """The connection stands, but nothing comes through: the agent opens another one in time."""
    words, expected = write_words(tmp_path)
    with cluster(tmp_path, workers=0, beat_seconds=0.1, lost_seconds=8.0) as c, proxied(c) as proxy:
        c.add_worker()
        c.wait_for_workers(1)
        proxy.hold()
        direct = c.fleet.address
        c.facts = lambda facts: {**facts, "grpc": direct}
        c.run(WordCount, words, tmp_path / "out", split_size="4KiB")
        assert counts_in(tmp_path / "out") == expected
        assert len(c.fleet.heard(WorkerUp)) == 1


@pytest.mark.soak
def test_a_stopped_agent_is_lost_and_joins_anew(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    with cluster(tmp_path, workers=2, **FAST) as c:
        params = {"folder": str(tmp_path), "gate": True}
        running = c.submit(SlowMaps, words, tmp_path / "out", split_size="4KiB", reducers=4, params=params)
        c.wait_until(lambda: begun(tmp_path, "reduce") >= 2)
        stopped = c.workers[0]
        stopped.send(signal.SIGSTOP)
        (tmp_path / "gate").touch()  # its executor finishes, and its agent says so when it is too late
        outcome = c.finish(running)
        assert counts_in(tmp_path / "out") == expected
        assert outcome.view.failed_attempts >= 1
        assert any("was lost while it ran" in failure.message for failure in outcome.view.failures)
        stopped.send(signal.SIGCONT)
        c.wait_for_workers(3)
        ups = [up.worker for up in c.fleet.heard(WorkerUp)]
        assert len(set(ups)) == 3
        assert "No sign of life" in stopped.said()
        c.wait_until(lambda: any(slot.worker == ups[2] for slot in c.fleet.heard(SlotUp)))
        c.run(WordCount, words, tmp_path / "again", split_size="4KiB")
        assert counts_in(tmp_path / "again") == expected


def test_a_killed_agent_takes_its_blocks_along(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    with cluster(tmp_path, workers=0, **FAST) as c:
        for machine in "ab":
            c.add_worker("--machine", machine)
        c.wait_for_workers(2)
        params = {"folder": str(tmp_path), "gate": True}
        options: dict[str, Any] = {"split_size": "4KiB", "reducers": 4, "speculation": False}
        running = c.submit(SlowMaps, words, tmp_path / "out", params=params, **options)
        c.wait_until(lambda: begun(tmp_path, "reduce") >= 2)
        maps, lost = begun(tmp_path, "map"), len(list(c.workers[0].data_dir.rglob("*.block")))
        assert 0 < lost < maps
        c.workers[0].end()
        (tmp_path / "gate").touch()
        outcome = c.finish(running)
        assert counts_in(tmp_path / "out") == expected
        assert begun(tmp_path, "map") == maps + lost, "what was lost has run again, and nothing else"
        assert outcome.view.failed_attempts <= 3, "they were lost at once, not one by one"


def test_a_killed_executor_is_replaced_and_its_blocks_stay(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    # No beat comes in time to tell of it: its exit does.
    with cluster(tmp_path, workers=0, beat_seconds=2 * PATIENCE, lost_seconds=20 * PATIENCE) as c:
        for machine in "ab":  # each asks the other's agent for its blocks
            c.add_worker("--machine", machine)
        c.wait_for_workers(2)
        params = {"folder": str(tmp_path), "gate": True}
        options: dict[str, Any] = {"split_size": "4KiB", "reducers": 4, "speculation": False}
        running = c.submit(SlowMaps, words, tmp_path / "out", params=params, **options)
        c.wait_until(lambda: begun(tmp_path, "reduce") == 2)
        maps = begun(tmp_path, "map")
        os.kill(c.workers[0].executors()[0], signal.SIGKILL)
        c.wait_until(lambda: begun(tmp_path, "reduce") == 3)
        (tmp_path / "gate").touch()
        outcome = c.finish(running)
        assert counts_in(tmp_path / "out") == expected
        assert outcome.view.failed_attempts == 1
        assert begun(tmp_path, "map") == maps, "no map task ran again"


def test_sigterm_drains(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    with cluster(tmp_path) as c:
        params = {"folder": str(tmp_path)}
        running = c.submit(SlowMaps, words, tmp_path / "out", split_size="4KiB", reducers=3, params=params)
        c.wait_until(lambda: begun(tmp_path, "map") >= 3)
        c.workers[0].send(signal.SIGTERM)
        outcome = c.finish(running)
        assert counts_in(tmp_path / "out") == expected
        assert outcome.view.failed_attempts == 0
        assert c.workers[0].wait() == 0
        c.wait_until(lambda: c.fleet.heard(WorkerDown))
        leaving, down = c.fleet.heard(WorkerLeaving), c.fleet.heard(WorkerDown)
        assert [event.worker for event in leaving] == [event.worker for event in down] != []
        assert list((c.workers[0].data_dir / "worker" / "jobs").iterdir()) == []


@pytest.mark.soak
def test_a_second_sigterm_ends_at_once(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    with cluster(tmp_path, workers=1) as c:
        params = {"folder": str(tmp_path), "seconds": 3.0}
        running = c.submit(SlowMaps, words, tmp_path / "out", split_size="1MiB", params=params)
        c.wait_until(lambda: begun(tmp_path, "map") >= 1)
        worker = c.workers[0]
        worker.send(signal.SIGTERM)
        c.wait_until(lambda: c.fleet.heard(WorkerLeaving))
        worker.send(signal.SIGTERM)
        assert worker.wait(60) == 0
        c.wait_until(lambda: c.fleet.heard(WorkerDown))
        c.add_worker()
        c.finish(running)
        assert counts_in(tmp_path / "out") == expected


def test_a_drained_worker_waits_for_its_blocks_to_be_read(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    with cluster(tmp_path, workers=1) as c:
        params = {"folder": str(tmp_path), "gate": True, "seconds": 0.01}
        running = c.submit(SlowMaps, words, tmp_path / "out", split_size="4KiB", reducers=2, params=params)
        c.wait_until(lambda: begun(tmp_path, "reduce") >= 1)
        c.add_worker()
        c.wait_for_workers(2)
        c.workers[0].send(signal.SIGTERM)
        c.wait_until(lambda: c.fleet.heard(WorkerLeaving))
        c.workers[0].send(signal.SIGCONT)
        (tmp_path / "gate").touch()
        outcome = c.finish(running)
        assert counts_in(tmp_path / "out") == expected
        assert outcome.view.failed_attempts == 0
        assert c.workers[0].wait() == 0


def test_a_wrong_token_is_refused(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=0) as c:
        worker = c.add_worker(token="wrong")
        assert worker.wait() == 2
        assert "does not know this token" in worker.said()


def test_another_version_is_refused_with_both_named(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=0) as c:
        c.facts = lambda facts: {**facts, "python": "3.99", "version": "7.7.7"}
        worker = c.add_worker()
        assert worker.wait() == 2
        assert "The coordinator runs Gristmill 7.7.7 on Python 3.99, and this worker runs Gristmill 0." in worker.said()


def test_two_workers_never_share_a_data_directory(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=1) as c:
        worker = c.add_worker("--data-dir", str(c.workers[0].data_dir))
        assert worker.wait() == 2
        assert "is used by another worker" in worker.said()


def test_a_coordinator_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=0) as c:
        url, c.url = c.url, "http://127.0.0.1:1"
        worker = c.add_worker("--patience-seconds", "0.5")
        c.url = url
        assert worker.wait() == 75
        assert "No coordinator answers at http://127.0.0.1:1" in worker.said()


def test_what_a_worker_does_not_see_is_refused_before_any_task(tmp_path: Path) -> None:
    words, _ = write_words(tmp_path)
    with cluster(tmp_path) as c:
        for change in (
            {"inputs": ((str(words), 5),)},
            {"inputs": ((str(tmp_path / "none"), 5),)},
            {"staging": "/proc"},
        ):
            prepared = c.prepare(SlowMaps, words, tmp_path / "out", params={"folder": str(tmp_path)})
            running = c.coordinator.submit(replace(prepared, spec=replace(prepared.spec, **change)))
            outcome = running.wait(60)
            assert outcome is not None
            assert outcome.error is not None
            assert "orker" in str(outcome.error) or "output's folder" in str(outcome.error)
            assert outcome.view.attempts == 0
            prepared.output.abort()
        assert begun(tmp_path, "map") == 0


def test_a_late_worker_that_does_not_see_a_running_jobs_input_waits_outside(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    other = tmp_path / "other.txt"
    other.write_text("w1 w2\n")
    expected.update(("w1", "w2"))
    with cluster(tmp_path, workers=1) as c:
        params = {"folder": str(tmp_path), "gate": True, "seconds": 0.01}
        running = c.submit(SlowMaps, [words, other], tmp_path / "out", params=params, reducers=2)
        c.wait_until(lambda: begun(tmp_path, "reduce") >= 1)
        other.rename(tmp_path / "hidden.txt")
        late = c.add_worker()
        c.wait_until(lambda: "Joining again" in late.said())
        assert f"the input {other} cannot be read there" in late.said()
        assert len(c.fleet.heard(WorkerUp)) == 1
        (tmp_path / "hidden.txt").rename(other)
        c.wait_for_workers(2)
        (tmp_path / "gate").touch()
        c.finish(running)
        assert counts_in(tmp_path / "out") == expected


def test_after_a_restart_workers_come_back_with_their_blocks(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    with cluster(tmp_path) as c:
        params = {"folder": str(tmp_path), "gate": True, "seconds": 0.01}
        running = c.submit(SlowMaps, words, tmp_path / "out", split_size="4KiB", reducers=2, params=params)
        c.wait_until(lambda: begun(tmp_path, "reduce") == 2)
        c.stop()
        c.start(await_jobs=[running.job])
        c.wait_for_workers(2)
        kept = [path for up in c.fleet.heard(WorkerUp) for path in up.kept.get(running.job, ())]
        assert len(kept) == len(set(kept)) == begun(tmp_path, "map")
        assert all(Path(path).exists() for path in kept)
        c.stop()
        c.start()
        c.wait_for_workers(2)
        c.wait_until(lambda: not any(Path(path).exists() for path in kept))
        c.run(WordCount, words, tmp_path / "again", split_size="4KiB")
        assert counts_in(tmp_path / "again") == expected


def test_dismissed_workers_leave(tmp_path: Path) -> None:
    with cluster(tmp_path) as c:
        c.fleet.dismiss()
        assert [worker.wait(60) for worker in c.workers] == [0, 0]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there are no such signals")
def test_nothing_of_a_killed_worker_stays_alive(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=1) as c:
        c.wait_until(lambda: c.fleet.heard(SlotUp))
        executors = c.workers[0].executors()
        c.workers[0].process.kill()
        c.wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in executors))
