"""Full disks in a cluster: where workers spill, where the output goes, and under the journal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_cluster_jobs import expected_bulk, expected_spread, write_ranges
from chaos_cluster_kit import CLUSTER_JOBS, read_rows, site
from chaos_kit import litter
from small_disk_kit import SmallDisk, small_disk, wait_for_space

from gristmill.errors import JournalFailed

LINES = ["a 24", "b 10", "c 10", "d 10"]


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", request.param) as made:
        if made is None:
            pytest.skip("this user may not mount anything, not even in a name space of its own")
        yield made


def write_lines(folder: Path) -> Path:
    """Some lines, each a split."""
    path = folder / "bulk.txt"
    path.write_text("".join(f"{line}\n" for line in LINES))
    return path


@pytest.mark.parametrize("disk", ["24m"], indirect=True)
def test_a_worker_goes_on_with_its_other_data_directory(disk: SmallDisk, tmp_path: Path) -> None:
    with site(tmp_path) as s:
        s.add_worker(executors=2, dirs=[disk.path / "data", tmp_path / "other"], prefix=disk.prefix)
        s.wait_for_executors(2)
        options = ["--split-size", "5", "--reducers", "3"]
        client = s.run(f"{CLUSTER_JOBS}:Bulky", write_lines(tmp_path), tmp_path / "out", *options)
        summary = s.finish(client)
        assert read_rows(tmp_path / "out") == expected_bulk(LINES)
        assert summary["failed_attempts"] > 0, "the disk was never full"
        s.assert_clean(tmp_path)
        assert list((disk.inside / "data/worker/jobs").iterdir()) == []
        s.end()


@pytest.mark.soak
@pytest.mark.parametrize("disk", ["20m"], indirect=True)
def test_without_another_the_job_fails_and_says_why(disk: SmallDisk, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with site(tmp_path) as s:
        s.add_worker(executors=2, dirs=[disk.path / "data"], prefix=disk.prefix)
        s.wait_for_executors(2)
        options = ["--split-size", "5", "--reducers", "3"]
        output = tmp_path / "there" / "out"
        began = time.monotonic()
        client = s.run(f"{CLUSTER_JOBS}:Bulky", write_lines(tmp_path), output, *options)
        assert client.process.wait(90) == 1, s.said()
        assert time.monotonic() - began < 60
        assert "No space" in client.said(), client.said()
        assert str(disk.path) in client.said().replace("\n", "")
        assert "Traceback" not in s.said()
        assert list((tmp_path / "there").iterdir()) == []
        s.wait_until(lambda: not list(disk.inside.glob("data/worker/jobs/*")))
        s.end()


@pytest.mark.parametrize("disk", ["24m"], indirect=True)
def test_an_output_that_has_no_room_is_not_there(disk: SmallDisk, tmp_path: Path) -> None:
    with site(tmp_path, prefix=disk.prefix) as s:
        for _ in range(2):
            s.add_worker(executors=1, prefix=disk.prefix)
        s.wait_for_executors(2)
        options = ["--split-size", "5", "--reducers", "3"]
        output = disk.path / "out"
        client = s.run(f"{CLUSTER_JOBS}:Copying", write_lines(tmp_path), output, *options, prefix=disk.prefix)
        assert client.process.wait(60) == 1, s.said()
        assert "disk is full" in client.said() or "No space" in client.said(), client.said()
        assert str(output) in client.said().replace("\n", ""), client.said()
        assert "Traceback" not in s.said()
        s.wait_until(lambda: not list(disk.inside.iterdir()))
        s.end()


@pytest.mark.soak
@pytest.mark.parametrize("disk", ["8m"], indirect=True)
def test_a_journal_that_has_no_room_ends_the_server_and_the_next_one_goes_on(disk: SmallDisk, tmp_path: Path) -> None:
    numbers, keys = 14_000, 101
    ranges = write_ranges(tmp_path / "ranges.txt", numbers, 14)
    with site(tmp_path, prefix=disk.prefix, data_dir=disk.path / "server", seen=disk.inside / "server") as s:
        for _ in range(2):
            s.add_worker()
        s.wait_for_executors(2)
        options = ["--split-size", "10", "--reducers", "3", "--set", f"keys={keys}", "--set", "pause=0.3"]
        client = s.run(f"{CLUSTER_JOBS}:Spread", ranges, tmp_path / "out", *options)
        s.wait_until(lambda: len(s.blocks()) >= 2)
        filler = disk.fill()
        assert s.server.process.wait(60) == JournalFailed.exit_code, s.said()
        assert f"{disk.path}/server/journal.db cannot be written" in s.said().replace("\n", " ")
        assert "Traceback" not in s.said()
        assert client.process.poll() is None, "it waits for the next server"
        filler.unlink()
        wait_for_space(disk)
        s.start_server()
        s.finish(client)
        assert {int(key): value for key, value in read_rows(tmp_path / "out").items()} == expected_spread(numbers, keys)
        assert litter(tmp_path) == []
        s.end()
