"""A cluster of two workers, who see different machines, gives the bytes that the inline fleet gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jobs
import pytest
from cluster_kit import Cluster, cluster


@pytest.fixture(scope="module")
def two_machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster"), workers=0) as c:
        for machine in ("one", "other"):
            c.add_worker("--machine", machine)
        c.wait_for_workers(2)
        yield c


def parts_of(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir() if path.name != "_SUCCESS"}


@pytest.mark.parametrize(
    "job",
    [jobs.WordCount, jobs.Index, jobs.Joined, jobs.TopWords, jobs.Lines, jobs.Remembering],
    ids=lambda j: j.__name__,
)
def test_every_job_is_the_same_on_a_cluster(two_machines: Cluster, job: Any, texts: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"split_size": "8KiB", "reducers": 5}
    job.run(texts, tmp_path / "inline", on="inline", data_dir=tmp_path / "data", **options)
    two_machines.run(job, texts, tmp_path / "cluster", **options)
    assert parts_of(tmp_path / "cluster") == parts_of(tmp_path / "inline")
    assert any(parts_of(tmp_path / "inline").values())


def test_executors_that_die_in_map_and_in_reduce(two_machines: Cluster, texts: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"split_size": "8KiB", "reducers": 5}
    jobs.WordCount.run(texts, tmp_path / "inline", on="inline", data_dir=tmp_path / "data", **options)
    params = {"die_at": "stopword", "marker": str(tmp_path / "died")}
    outcome = two_machines.run(jobs.DyingWordCount, texts, tmp_path / "cluster", params=params, **options)
    assert parts_of(tmp_path / "cluster") == parts_of(tmp_path / "inline")
    assert outcome.view.failed_attempts == 2
