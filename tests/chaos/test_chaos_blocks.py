"""Blocks are damaged between map and reduce: their tasks run again, and the output is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chaos_jobs
import pytest
from chaos_kit import counted, counts_of, litter, read_output, seeds, write_text

HOW = ("flip", "cut", "empty", "delete")


def run_damaged(folder: Path, seed: int, how: str, blocks: int, tasks: int = 12, on: str = "local") -> dict[str, Any]:
    """Run a job whose first reducer damages blocks before it reads them; check the output and return the summary."""
    text = write_text(folder / "in", seed, 600)
    data = folder / "data"
    data.mkdir()
    size = sum(path.stat().st_size for path in text.iterdir())
    result = chaos_jobs.Damaging.run(
        text,
        folder / "out",
        on=on,
        executors=2,
        reducers=1,  # so that every byte of a block is read
        split_size=size // tasks,
        data_dir=data,
        params={"damage": how, "seed": str(seed), "blocks": str(blocks), "data": str(data)},
    )
    assert (data / "damaged").exists()
    assert counted(read_output(folder / "out")) == counts_of(text)
    assert litter(folder) == []
    assert list((data / "jobs").iterdir()) == []
    return result.summary()


@pytest.mark.parametrize("on", ["inline", "local"])
@pytest.mark.parametrize("how", HOW)
def test_one_damaged_block_is_made_again(how: str, on: str, tmp_path: Path) -> None:
    summary = run_damaged(tmp_path, seed=len(how), how=how, blocks=1, on=on)
    assert summary["failed_attempts"] == 1, "the reducer that met it"
    assert summary["attempts"] == summary["map_tasks"] + summary["reduce_tasks"] + 2, "only its maker runs again"


@pytest.mark.parametrize("seed", seeds((0,), soak=25))
def test_every_flip_is_noticed(seed: int, tmp_path: Path) -> None:
    """A bit in each of 40 blocks: the reducer names them all, and each maker runs again, once."""
    summary = run_damaged(tmp_path, seed=100 + seed, how="flip", blocks=1000, tasks=40, on="inline")
    flips = int((tmp_path / "data" / "damaged").read_text())
    assert 40 <= flips <= summary["map_tasks"]  # a task without rows makes no block
    assert summary["failed_attempts"] == 1
    assert summary["attempts"] == summary["map_tasks"] + 1 + flips + 1


@pytest.mark.parametrize("how", ["flip", "delete"])
def test_all_blocks_damaged(how: str, tmp_path: Path) -> None:
    summary = run_damaged(tmp_path, seed=3, how=how, blocks=1000, tasks=40, on="inline")
    assert summary["attempts"] <= 3 * (summary["map_tasks"] + summary["reduce_tasks"])


@pytest.mark.parametrize("on", ["inline", "local"])
@pytest.mark.parametrize("how", ["cut", "delete"])
def test_damage_behind_the_second_step(how: str, on: str, tmp_path: Path) -> None:
    """What a block was made of may be freed by then, so that tasks of two generations run again."""
    text = write_text(tmp_path / "in", 5, 600)
    data = tmp_path / "data"
    common: dict[str, Any] = {"reducers": 3, "split_size": "4KiB", "data_dir": data}
    chaos_jobs.TwoSteps.run(text, tmp_path / "calm", on="inline", **common)
    params = {"damage": how, "seed": "5", "blocks": "2", "data": str(data)}
    chaos_jobs.DamagingTwoSteps.run(text, tmp_path / "out", on=on, executors=2, params=params, **common)
    assert (data / "damaged").exists()
    assert read_output(tmp_path / "out") == read_output(tmp_path / "calm")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("seed", seeds((), soak=15))
def test_damage_anywhere(how: str, seed: int, tmp_path: Path) -> None:
    run_damaged(tmp_path, seed, how, blocks=1 + seed % 4)
