"""Bytes of finished blocks are flipped while a cluster works: each that is read is noticed, and the output is right."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import chaos_jobs
import pytest
from chaos_cluster_jobs import expected_spread, write_ranges
from chaos_cluster_kit import CLUSTER_JOBS, Site, read_rows, site, split_size
from chaos_kit import seeds

from gristmill.errors import BlockMissing

KEYS = 1009


class Flipper:
    """Flips a byte of a random finished block every so often, until it is left."""

    def __init__(self, s: Site, seed: int, pause_seconds: float, most: int) -> None:
        self._site = s
        self._chance = random.Random(seed)
        self._pause_seconds = pause_seconds
        self._most = most
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flipper", daemon=True)
        self.flips = 0

    def __enter__(self) -> Flipper:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        while self.flips < self._most and not self._over.wait(self._pause_seconds):
            if blocks := self._site.blocks():
                try:
                    chaos_jobs.damage(self._chance.choice(blocks), "flip", self._chance)
                except (OSError, BlockMissing):
                    continue  # it was freed meanwhile
                self.flips += 1


def run_flipped(folder: Path, seed: int, *, machine: str, most: int, maps: int, reducers: int) -> tuple[int, int]:
    """Run a job under fire. Returns how many bytes were flipped, and how many attempts failed."""
    numbers = maps * 4000
    ranges = write_ranges(folder / "ranges.txt", numbers, maps)
    with site(folder) as s:
        for _ in range(2):
            s.add_worker(machine=machine)
        s.wait_for_executors(2)
        options = [*split_size(ranges, maps), "--reducers", str(reducers), "--set", f"keys={KEYS}"]
        client = s.run(f"{CLUSTER_JOBS}:Spread", ranges, folder / "out", *options, "--set", "pause=0.05")
        with Flipper(s, seed, 0.15, most) as flipper:
            summary = s.finish(client, 300)
        rows = {int(key): value for key, value in read_rows(folder / "out").items()}
        assert rows == expected_spread(numbers, KEYS)
        s.assert_clean(folder)
        s.end()
    assert flipper.flips
    return flipper.flips, int(summary["failed_attempts"])


@pytest.mark.parametrize("machine", ["", pytest.param("one", marks=pytest.mark.soak)], ids=["fetched", "mapped"])
@pytest.mark.parametrize("seed", seeds((0,), soak=4))
def test_flips_while_a_cluster_works(seed: int, machine: str, tmp_path: Path) -> None:
    flips, failed = run_flipped(tmp_path, seed, machine=machine, most=12, maps=20, reducers=8)
    assert failed, f"{flips} flips, and nobody has noticed one"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_thousand_flips_while_a_cluster_works(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    flips = failed = runs = 0
    began = time.monotonic()
    while flips < 1000 and runs < 60:
        (folder := tmp_path / str(runs)).mkdir()
        more = run_flipped(folder, runs, machine="", most=40, maps=60, reducers=24)
        flips, failed, runs = flips + more[0], failed + more[1], runs + 1
    assert flips >= 1000
    note = f"{flips} flips in {runs} jobs on a cluster, {time.monotonic() - began:.0f} s: {failed} attempts noticed one"
    record_property("note", note)
