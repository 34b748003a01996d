"""Jobs on a cluster of real workers: the right result, whatever happens to a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_jobs import WordCount, counts_in, write_words
from cluster_kit import Cluster, cluster


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


def test_two_workers_count_words(shared: Cluster, tmp_path: Path) -> None:
    words, expected = write_words(tmp_path)
    outcome = shared.run(WordCount, words, tmp_path / "out", split_size="4KiB", reducers=3)
    assert counts_in(tmp_path / "out") == expected
    assert outcome.view.failed_attempts == 0
