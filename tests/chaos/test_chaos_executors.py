"""Executors are killed all the time, and the output is the one of a run that nobody disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chaos_jobs
import pytest
from chaos_kit import Killer, counted, counts_of, lines_of, litter, read_output, write_text

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds executors by /proc")

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "words": (chaos_jobs.WordCount, {}),
    "words-uncombined": (chaos_jobs.WordCount, {"combiner": False}),
    "two-steps": (chaos_jobs.TwoSteps, {}),
    "ordered": (chaos_jobs.Ordered, {}),
    "map-only": (chaos_jobs.Shouted, {}),
}


def run_killed(case: str, folder: Path, seed: int, lines: int, tasks: int, pause: float) -> Killer:
    """Run a job undisturbed and inline, then under fire; compare, and count attempts."""
    job, options = CASES[case]
    text = write_text(folder / "in", seed, lines)
    size = sum(path.stat().st_size for path in text.iterdir())
    common = {"reducers": 5, "split_size": size // tasks, "data_dir": folder / "data", **options}
    job.run(text, folder / "calm", on="inline", **common)
    with Killer(seed) as killer:
        result = job.run(text, folder / "out", executors=3, params={"pause": str(pause)}, **common)
    assert read_output(folder / "out") == read_output(folder / "calm")
    if job is chaos_jobs.WordCount:
        assert counted(read_output(folder / "out")) == counts_of(text)
    assert result.counters == {"lines": {"read": len(lines_of(text))}}
    summary = result.summary()
    assert summary["attempts"] == summary["map_tasks"] + summary["reduce_tasks"] + summary["failed_attempts"]
    assert summary["failed_attempts"] <= killer.executors
    assert killer.executors, "nobody was killed"
    assert litter(folder) == []
    assert list((folder / "data" / "jobs").iterdir()) == []
    return killer


@pytest.mark.parametrize("case", ["words"])
def test_killed_executors_change_nothing(case: str, tmp_path: Path) -> None:
    run_killed(case, tmp_path, seed=len(case), lines=1500, tasks=24, pause=0.05)


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(100, 102))
def test_killed_executors_change_nothing_for_long(case: str, seed: int, tmp_path: Path) -> None:
    killer = run_killed(case, tmp_path, seed, lines=30_000, tasks=200, pause=0.1)
    assert killer.executors >= 10
    assert killer.forkservers >= 2
