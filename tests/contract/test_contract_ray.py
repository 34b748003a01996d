"""Two nodes of Ray give the bytes that the inline fleet gives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jobs
import pytest
from ray_kit import RayCluster, ray_marks

pytestmark = ray_marks

JOBS = [jobs.Joined, jobs.WordCount, jobs.Index, jobs.TopWords, jobs.Lines, jobs.Remembering]


def output_of(job: Any, on: str, texts: Path, folder: Path, **options: Any) -> dict[str, bytes]:
    job.run(texts, folder / on, on=on, **{"data_dir": folder / "data", "split_size": "8KiB", "reducers": 5, **options})
    return {path.name: path.read_bytes() for path in (folder / on).iterdir() if path.name != "_SUCCESS"}


@pytest.mark.parametrize(
    "options",
    [{}, {"combiner": False}, {"executors": 1, "memory": "128MiB"}],
    ids=lambda options: "-".join(options) or "plain",
)
@pytest.mark.parametrize("job", JOBS)
@pytest.mark.soak
def test_every_job_is_the_same_on_ray(job: Any, options: Any, on_ray: RayCluster, texts: Path, tmp_path: Path) -> None:
    inline = output_of(job, "inline", texts, tmp_path, **{**options, "executors": None})
    assert output_of(job, "ray", texts, tmp_path, **options) == inline
    assert any(inline.values())


def test_executors_that_die_in_map_and_in_reduce(on_ray: RayCluster, texts: Path, tmp_path: Path) -> None:
    inline = output_of(jobs.WordCount, "inline", texts, tmp_path)
    params = {"die_at": "stopword", "marker": str(tmp_path / "died")}
    assert output_of(jobs.DyingWordCount, "ray", texts, tmp_path, params=params) == inline
    assert {path.name for path in tmp_path.glob("died*")} == {"died-map", "died-reduce"}


@pytest.mark.soak
@pytest.mark.skipif("GRISTMILL_TEST_BOOKS" not in os.environ, reason="GRISTMILL_TEST_BOOKS names no folder of books")
def test_real_books(on_ray: RayCluster, tmp_path: Path) -> None:
    books = Path(os.environ["GRISTMILL_TEST_BOOKS"])
    variants: list[dict[str, Any]] = [{}, {"combiner": False}, {"executors": 1, "memory": "128MiB"}]
    for number, options in enumerate(variants):
        folder = tmp_path / f"{number}"
        outputs = [
            output_of(jobs.WordCount, on, books, folder, split_size="64KiB", **options) for on in ("inline", "ray")
        ]
        assert outputs[0] == outputs[1]
        assert all(outputs[0].values())
