"""A simulated cluster in which everything breaks: every seed must keep every promise, and end every job.

Simulated are delays, stragglers, slow machines, user code that fails, deaths of executors, agents and the coordinator,
stopped agents and a stopped coordinator (for it the clock jumps), partitions, blocks that break, shared storage, work
that makes other data each time, draining, joining and cancelling. Each third seed is played over a network that loses,
repeats and reorders packets below real sessions (``sim_wire.py``); the others over one that is only late.

What is checked after each step stands in ``sim_coordinator.py`` (what a fleet and a user see) and in
``scheduling/invariants.py`` (the scheduler's own state). `python tests/simulation/replay.py SEED` plays a seed again.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from sim_cluster import LOSSY_EVERY, run_seed
from sim_wire import Link, Weather
from sim_world import World

SECONDS = float(os.environ.get("GRISTMILL_SIMULATION_SECONDS", "3"))
SOAK_SEEDS = int(os.environ.get("GRISTMILL_SIMULATION_SEEDS", "100000"))
SHARDS = 50


@pytest.mark.parametrize("seed", range(40))
def test_fixed_seeds_with_the_whole_state_checked_after_each_step(seed: int) -> None:
    run_seed(seed)


def test_a_seed_is_the_same_each_time() -> None:
    for seed in range(2 * LOSSY_EVERY):
        traces: list[list[str]] = [[], []]
        for trace in traces:
            run_seed(seed, trace=trace)
        assert traces[0] == traces[1] != []


@pytest.mark.parametrize("seed", range(5))
def test_sessions_hand_out_each_message_once_and_in_order_over_a_bad_network(seed: int) -> None:
    world = World(seed)
    link = Link(world, Weather(lost=0.3, repeated=0.3, overtaken=0.2, clear_at=60.0), lambda what: what())
    heard: tuple[list[int], list[int]] = ([], [])
    for number in range(300):
        for end, list_ in zip((link.out, link.back), heard, strict=True):
            world.at(number / 10, partial(end.send, partial(list_.append, number)))
    for second in range(90):
        world.at(second, partial(link.out.beat, lambda: None))
    while world.turn():
        pass
    assert heard[0] == heard[1] == list(range(300))
    assert link.out.stream > 5  # it was no good network


@pytest.mark.timeout(2 * SECONDS + 120)
def test_new_seeds_for_as_long_as_there_is_time() -> None:
    """Other seeds each time: the first is the time of day. `make test` does it for a minute, beside the suite."""
    first, until = int(time.time()) * 1000, time.monotonic() + SECONDS
    seeds, steps = 0, 0
    while time.monotonic() < until:
        steps += run_seed(first + seeds, check_every=8).steps
        seeds += 1
    print(f"{seeds} seeds from {first}, {steps} steps")
    assert seeds


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_hundred_thousand_seeds(shard: int, record_property: Callable[[str, object], None]) -> None:
    """In shards, so that several processes share them."""
    ends: Counter[str] = Counter()
    seeds = range(1_000_000 + shard, 1_000_000 + SOAK_SEEDS, SHARDS)
    for seed in seeds:
        ends.update(state.value for state in run_seed(seed, check_every=16).journal.ended.values())
    print(f"{len(seeds)} seeds; jobs: {dict(ends)}")
    record_property("note", f"{SOAK_SEEDS:,} seeds of the simulated cluster, in {SHARDS} shards")
