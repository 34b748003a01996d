"""Jobs on a cluster of real workers: the right result, whatever happens to a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_jobs import HoldsTheGil, SlowMaps, WordCount, counts_in, write_words
from cluster_kit import Cluster, cluster

from gristmill.runtime.contracts import BlocksGone, SlotUp


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("shared")) as c:
        yield c


def test_workers_of_different_machines_fetch_from_each_other(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    with cluster(tmp_path, workers=0) as c:
        for machine in ("here", "there"):
            c.add_worker("--machine", machine)
        c.wait_for_workers(2)
        outcome = c.run(WordCount, words, tmp_path / "out", split_size="4KiB", reducers=3)
        assert counts_in(tmp_path / "out") == expected
        assert outcome.view.failed_attempts == 0


@pytest.mark.parametrize("machines", ["ab", "aa"], ids=["two machines", "one machine"])
def test_blocks_of_the_same_machine_are_not_fetched(machines: str, tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    with cluster(tmp_path, workers=0) as c:
        for machine in machines:
            c.add_worker("--machine", machine)
        c.wait_until(lambda: len({up.worker for up in c.fleet.heard(SlotUp)}) == 2)  # else one may do it all
        params = {"folder": str(tmp_path), "gate": True, "seconds": 0.05, "places": 2}
        running = c.submit(SlowMaps, words, tmp_path / "out", split_size="4KiB", reducers=2, params=params)
        c.wait_until(lambda: len(list(tmp_path.glob("reduce-*"))) == 2)
        assert all(list(worker.data_dir.rglob("*.block")) for worker in c.workers)
        fetched = [worker for worker in c.workers if list(worker.data_dir.rglob("fetched-*"))]
        assert len(fetched) == (2 if machines == "ab" else 0)
        (tmp_path / "gate").touch()
        c.finish(running)
        assert counts_in(tmp_path / "out") == expected


def test_two_workers_count_words(shared: Cluster, tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    outcome = shared.run(WordCount, words, tmp_path / "out", split_size="4KiB", reducers=3)
    assert counts_in(tmp_path / "out") == expected
    assert outcome.view.failed_attempts == 0


def test_user_code_that_holds_the_gil_is_no_silence(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path, lines=10)
    with cluster(tmp_path, workers=1, beat_seconds=0.05, lost_seconds=2.0) as c:
        outcome = c.run(HoldsTheGil, words, tmp_path / "out", params={"seconds": 2.5})
        assert counts_in(tmp_path / "out") == expected
        assert outcome.view.failed_attempts == 0
        assert outcome.view.seconds > 2.5


def test_several_data_directories_share_the_work(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    with cluster(tmp_path, workers=0) as c:
        worker = c.add_worker("--data-dir", str(tmp_path / "second"))
        c.wait_for_workers(1)
        params = {"folder": str(tmp_path), "gate": True, "seconds": 0.01}
        running = c.submit(SlowMaps, words, tmp_path / "out", split_size="4KiB", reducers=2, params=params)
        c.wait_until(lambda: list(tmp_path.glob("reduce-*")))
        blocks = [len(list(folder.rglob("*.block"))) for folder in (worker.data_dir, tmp_path / "second")]
        assert min(blocks) >= 5
        (tmp_path / "gate").touch()
        c.finish(running)
        assert counts_in(tmp_path / "out") == expected


def test_a_data_directory_that_fails_is_retired_and_its_blocks_made_anew(tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    bad = tmp_path / "bad"
    with cluster(tmp_path, workers=0) as c:
        worker = c.add_worker("--data-dir", str(bad))
        c.wait_for_workers(1)
        params = {"folder": str(tmp_path), "gate": True, "seconds": 0.01}
        running = c.submit(SlowMaps, words, tmp_path / "out", split_size="4KiB", reducers=2, params=params)
        c.wait_until(lambda: list(tmp_path.glob("reduce-*")))
        bad.rename(tmp_path / "away")
        bad.write_text("no folder any more")
        (tmp_path / "gate").touch()
        c.finish(running)
        assert counts_in(tmp_path / "out") == expected
        assert "a data directory failed" in worker.said()
        assert c.fleet.heard(BlocksGone)
        again = c.run(WordCount, words, tmp_path / "again", split_size="4KiB", reducers=2)
        assert counts_in(tmp_path / "again") == expected
        assert again.view.failed_attempts == 0


def test_code_travels_once(shared: Cluster, tmp_path: Path) -> None:
    words, expected = write_words(tmp_path, lines=10)
    for name in ("first", "second"):
        shared.run(WordCount, words, tmp_path / name)
        assert counts_in(tmp_path / name) == expected
    assert all(shared.asked.count(path) == len(shared.workers) for path in set(shared.asked) if "blobs" in path)


def test_nothing_of_a_job_stays_at_its_workers(shared: Cluster, tmp_path: Path) -> None:
    words, _ = write_words(tmp_path, lines=10)
    shared.run(WordCount, words, tmp_path / "out")
    shared.wait_until(
        lambda: not any(list((worker.data_dir / "worker" / "jobs").iterdir()) for worker in shared.workers)
    )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
