"""A simulated cluster in which everything breaks: every seed must keep every promise, and end every job.

What is checked after each step stands in ``sim_coordinator.py`` (what a fleet and a user see) and in
``scheduling/invariants.py`` (the scheduler's own state). `python tests/simulation/replay.py SEED` plays a seed again.
"""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest
from sim_cluster import run_seed

SECONDS = float(os.environ.get("GRISTMILL_SIMULATION_SECONDS", "60"))
SOAK_SEEDS = int(os.environ.get("GRISTMILL_SIMULATION_SEEDS", "100000"))
SHARDS = 50


@pytest.mark.parametrize("seed", range(40))
def test_fixed_seeds_with_the_whole_state_checked_after_each_step(seed: int) -> None:
    run_seed(seed)


def test_a_seed_is_the_same_each_time() -> None:
    for seed in range(5):
        traces: list[list[str]] = [[], []]
        for trace in traces:
            run_seed(seed, trace=trace)
        assert traces[0] == traces[1] != []


@pytest.mark.timeout(2 * SECONDS + 120)
def test_new_seeds_for_as_long_as_there_is_time() -> None:
    """Other seeds each time: the first is the time of day."""
    first, until = int(time.time()) * 1000, time.process_time() + SECONDS
    seeds, steps = 0, 0
    while time.process_time() < until:
        steps += run_seed(first + seeds, check_every=8).steps
        seeds += 1
    print(f"{seeds} seeds from {first}, {steps} steps")
    assert seeds


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_hundred_thousand_seeds(shard: int) -> None:
    """In shards, so that several processes share them."""
    ends: Counter[str] = Counter()
    seeds = range(1_000_000 + shard, 1_000_000 + SOAK_SEEDS, SHARDS)
    for seed in seeds:
        ends.update(state.value for state in run_seed(seed, check_every=16).journal.ended.values())
    print(f"{len(seeds)} seeds; jobs: {dict(ends)}")
