"""Paths that only the client sees, on a disk that is mounted for it alone: refused before any task starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_cluster_jobs import expected_spread, write_ranges
from chaos_cluster_kit import CLUSTER_JOBS, read_rows, site
from chaos_kit import litter
from small_disk_kit import SmallDisk, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "1m") as made:
        if made is None:
            pytest.skip("this user may not mount anything, not even in a name space of its own")
        yield made


def test_what_only_the_client_sees_is_refused_before_any_task_starts(disk: SmallDisk, tmp_path: Path) -> None:
    numbers, keys = 1000, 101
    ranges = write_ranges(tmp_path / "ranges.txt", numbers, 4)
    (disk.inside / "own.txt").write_bytes(ranges.read_bytes())
    (disk.path / "other.txt").write_text("0 1\n")  # the client has another file of this name
    (disk.inside / "other.txt").write_bytes(ranges.read_bytes())
    options = ["--set", f"keys={keys}"]
    with site(tmp_path, workers=1) as s:
        for inputs, output, path in (
            (disk.path / "own.txt", tmp_path / "out", disk.path / "own.txt"),
            (disk.path / "other.txt", tmp_path / "out", disk.path / "other.txt"),
            (ranges, disk.path / "out", disk.path),
        ):
            client = s.run(f"{CLUSTER_JOBS}:Spread", inputs, output, *options, prefix=disk.prefix)
            assert client.process.wait(60) == 2, s.said()
            assert str(path) in client.said().replace("\n", ""), client.said()
            assert "Traceback" not in client.said()
        assert not list(s.data_dir.glob("jobs/*")) and not s.blocks(), "nothing was begun"
        assert litter(tmp_path) == [] and litter(disk.inside) == []
        s.finish(s.run(f"{CLUSTER_JOBS}:Spread", ranges, tmp_path / "out", *options, prefix=disk.prefix))
        assert {int(key): value for key, value in read_rows(tmp_path / "out").items()} == expected_spread(numbers, keys)
        s.end()
