"""What is said of scale is worked out by hand here, and the page says what the model says."""

import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_bench_scripts import BENCH, load

DOCS = BENCH.parent / "docs"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model's names."""
    monkeypatch.syspath_prepend(BENCH)
    import scale_model

    return scale_model


@pytest.fixture
def free(model: Any) -> Any:
    """Costs of nothing."""
    return model.Costs(**{field.name: 0.0 for field in fields(model.Costs)})


def work(model: Any, **given: float) -> Any:
    """A job whose bytes are all shuffled, and written."""
    return model.Work(**{
        "name": "w", "map_byte_seconds": 1e-8, "reduce_byte_seconds": 2e-8, "shuffle_ratio": 1.0,
        "shuffle_task_bytes": 0.0, "output_ratio": 1.0, "run_bytes": 1e12, **given,
    })  # fmt: skip


def test_bytes_cost_what_they_are_multiplied_by(model: Any, free: Any) -> None:
    machines = model.Machines(10, cores=4, disk_speed=1e9, network_speed=1e9, ray=False)
    found = model.forecast(free, work(model), machines, model.Cut(1e9, 80), 4e11)
    assert (found.maps, found.segments, found.shuffled_bytes) == (400, 32_000, 4e11)
    # 400 tasks of 10 s in 40 slots, and 80 of 5 GB, which take 100 s each.
    assert found.map_seconds["processors"] == pytest.approx(100)
    assert found.reduce_seconds["processors"] == pytest.approx(200)
    # 40 GB a machine are written; then read, and nine tenths of it written and read again where they are reduced,
    # merged once before: 400 blocks are more than 64.
    assert found.map_seconds["disk"] == pytest.approx(40)
    assert found.reduce_seconds["disk"] == pytest.approx(40 + 2 * 36 + 2 * 40)
    assert found.map_seconds["network"] == pytest.approx(40)
    assert found.reduce_seconds["network"] == pytest.approx(36 + 40)
    assert found.seconds == pytest.approx(300)
    assert found.held_up_by == "processors"
    assert found.loads["disk"] == pytest.approx((40 + 192) / 300)


def test_the_last_wave_counts_as_a_whole_one(model: Any, free: Any) -> None:
    machines = model.Machines(10, cores=4)
    at_once, one_more = (model.forecast(free, work(model), machines, model.Cut(1e9, 40), size) for size in (40e9, 41e9))
    assert at_once.map_seconds["processors"] == pytest.approx(10)
    assert one_more.map_seconds["processors"] == pytest.approx(20)


def test_segments_are_maps_times_reducers(model: Any, free: Any) -> None:
    costs = replace(
        free, coordinator_segment_seconds=1e-6, coordinator_block_seconds=3e-6, coordinator_task_seconds=1e-3,
        segment_held_bytes=32.0, task_held_bytes=1000.0, launch_block_bytes=100.0, segment_bytes=500.0,
    )  # fmt: skip
    machines = model.Machines(10, cores=4, coordinator_bytes=1e9, ray=False)
    found = model.forecast(costs, work(model), machines, model.Cut(1e6, 1000), 1e10)
    assert found.segments == 10_000_000
    assert found.shuffled_bytes == 1e10 + 5e9
    assert found.map_seconds["coordinator"] == pytest.approx(10 + 10)
    assert found.reduce_seconds["coordinator"] == pytest.approx(1 + 30)
    # What is known of 10,000 tasks and their segments, and 40 launches at once that name 10,000 blocks each.
    assert found.rooms["coordinator's memory"].needed == pytest.approx(10e6 + 320e6 + 40e6)
    assert found.rooms["coordinator's memory"].load == pytest.approx(0.37)
    assert found.rooms["launch message"].needed == pytest.approx(1e6)
    assert found.fits


def test_heartbeats_take_their_part_of_the_coordinator(model: Any, free: Any) -> None:
    costs = replace(free, coordinator_task_seconds=1e-3, coordinator_beat_seconds=1e-4)
    machines = model.Machines(1000, ray=False)
    found = model.forecast(costs, work(model), machines, model.Cut(1e9, 1), 1e12)
    assert found.map_seconds["coordinator"] == pytest.approx(1 / 0.9)  # a thousand beats a second take a tenth of it


def test_what_does_not_fit_in_memory_is_sorted_in_runs(model: Any, free: Any) -> None:
    costs = replace(free, merge_byte_seconds=1e-9)
    machines, cut = model.Machines(1, cores=1, ray=False, remote_input=False), model.Cut(1e9, 1)
    whole, runs, many = (
        model.forecast(costs, work(model, run_bytes=size), machines, cut, 1e9) for size in (1e9, 1e8, 1e7)
    )
    assert [one.map_seconds["processors"] for one in (whole, runs, many)] == pytest.approx([10, 11, 12])
    # Read, written; and each time that it is merged, written and read once more.
    assert [one.map_seconds["disk"] for one in (whole, runs, many)] == pytest.approx([2, 4, 6])


def test_64_blocks_are_merged_at_a_time(model: Any) -> None:
    assert [model.passes(count) for count in (0, 1, 64, 65, 4096, 4097, 262_144)] == [0, 0, 0, 1, 1, 2, 2]


def test_ray_takes_calls_and_objects(model: Any, free: Any) -> None:
    costs = replace(free, ray_call_seconds=1e-3, ray_object_seconds=1e-2, ray_byte_seconds=1e-9)
    machines, cut = model.Machines(10, cores=4), model.Cut(1e8, 100)
    found, bare = (model.forecast(costs, work(model), replace(machines, ray=on), cut, 1e10) for on in (True, False))
    # A hundred tasks of a second each, told and answered; ten beats a second take a hundredth of the time.
    assert found.map_seconds["coordinator"] == pytest.approx(0.2 / 0.99)
    assert found.reduce_seconds["agents"] - bare.reduce_seconds["agents"] == pytest.approx(100 * 9 * 1e-2 / 10)
    assert found.reduce_seconds["processors"] - bare.reduce_seconds["processors"] == pytest.approx(9e9 * 1e-9 / 40)
    # 10 GB for one reader: 1 GB of each keeper, in objects of 64 MiB.
    one = model.forecast(costs, work(model), machines, model.Cut(1e8, 1), 1e10)
    assert one.reduce_seconds["agents"] == pytest.approx(9 * 15 * 1e-2 / 10)
    # Tasks of a millisecond: of 4 slots 80 are over in 20 ms, and told in one call. Of ten milliseconds: 2 in 5 ms.
    for split, each in ((1e5, 80), (1e6, 2)):
        short = model.forecast(costs, work(model), machines, model.Cut(split, 100), 1e8)
        assert short.map_seconds["coordinator"] == pytest.approx(2 * 1e8 / split / each * 1e-3 / 0.99)


def test_a_job_that_does_not_fit_is_cut_otherwise(model: Any, free: Any) -> None:
    costs = replace(free, segment_held_bytes=32.0, coordinator_segment_seconds=1e-9)
    machines = model.Machines(100, cores=16, coordinator_bytes=8e9, disk_bytes=1e15)
    usual = model.forecast(costs, work(model), machines, model.default_cut(1e14), 1e14)
    assert (usual.cut.split_bytes, usual.cut.reducers) == (64 << 20, 1000)
    assert not usual.fits and usual.first_limit == "coordinator's memory"
    import scale_cuts

    best = scale_cuts.best_cut(costs, work(model), machines, 1e14)
    assert best.fits and best.cut.split_bytes > 64 << 20
    nowhere = scale_cuts.best_cut(costs, work(model), replace(machines, disk_bytes=1e9), 1e14)
    assert not nowhere.fits and nowhere.first_limit == "room on the disks"


def test_costs_are_told_apart_by_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    import scale_costs

    def trial(maps: int, reducers: int) -> Any:
        """As it would be: a task 1 ms, a segment 10 µs to write and 100 µs to read, a pass 1 s, all else 5 s."""
        segments = maps * reducers
        reduced = 5 + 2e-3 * reducers + 1e-4 * segments + (maps > 64)
        return SimpleNamespace(
            maps=maps, reducers=reducers, segments=segments, shuffled_bytes=10**9 + 500 * segments,
            map_cpu=scale_costs.Cpu(0, 0, 5 + 1e-3 * maps + 1e-5 * segments),
            reduce_cpu=scale_costs.Cpu(0, 1 + 1e-3 * reducers + 2e-5 * segments, reduced),
        )  # fmt: skip

    found = scale_costs.executor_costs(*(trial(*size) for size in ((60, 8), (400, 8), (60, 1000), (400, 1000))))
    assert found["map_task_seconds"] == pytest.approx(1e-3)
    assert found["map_segment_seconds"] == pytest.approx(1e-5)
    assert found["reduce_task_seconds"] == pytest.approx(2e-3)
    assert found["reduce_segment_seconds"] == pytest.approx(1e-4)
    assert found["merge_byte_seconds"] == pytest.approx(1 / (10**9 + 500 * 3200))
    assert found["segment_bytes"] == pytest.approx(500)
    assert found["agent_piece_seconds"] == pytest.approx(4e-5)


def test_what_is_held_of_tasks_and_segments_is_what_is_reckoned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    import scale_coordinator

    kept = json.loads((BENCH / "scale_costs.json").read_text())["costs"]
    for name, size in scale_coordinator.memory(200).items():
        assert size == pytest.approx(kept[name], rel=0.3), name  # other Pythons have objects of other sizes


def test_a_coordinator_is_told_of_every_segment_by_a_fleet_that_answers_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(BENCH)
    import scale_coordinator

    few, many = (scale_coordinator.coordinated(20, reducers) for reducers in (2, 200))
    assert (few.maps, few.reducers) == (20, 2)
    assert many.launch_bytes == pytest.approx(100 * few.launch_bytes, rel=0.05)  # each launch names all blocks
    assert all(seconds > 0 for seconds in scale_coordinator.agent_costs(20).values())


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_jobs_are_tried_on_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_BENCH_DATA", str(tmp_path))
    monkeypatch.setenv("GRISTMILL_TOKEN", "")  # it is set, and so set back
    monkeypatch.syspath_prepend(BENCH)
    import scale_costs

    small = {"KEYS": 2000, "LINES": 4000, "ROWS": 4000, "TEXT_MB": 1, "GROUPINGS": {"few maps": (4, 3)}}
    for name, value in small.items():
        monkeypatch.setattr(scale_costs, name, value)
    tried = dict(scale_costs.trials(None))
    assert list(tried) == ["word count", "sort", "join", "few maps"]
    assert (tried["few maps"].maps, tried["few maps"].reducers) == (4, 3)
    assert tried["sort"].output_bytes == 4000 * 100
    assert all(one.map_cpu.executors >= 0 and one.shuffled_bytes > 0 for one in tried.values())


def test_machines_that_are_lost_and_slow_are_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    import scale_fleet

    scene = scale_fleet.Scene(8, 2, 160, 10.0, 16, 10.0)
    even = scale_fleet.play(scene)
    assert even.lost == 0 and even.seconds == scale_fleet.play(scene).seconds
    lost = scale_fleet.play(replace(scene, lost_at=0.5, back_seconds=float("inf")))
    assert lost.lost == 1 and lost.seconds > even.seconds and lost.attempts > even.attempts
    helped, left = (scale_fleet.play(replace(scene, slow=1, speculation=on)) for on in (True, False))
    assert even.seconds < helped.seconds < left.seconds


def test_the_page_says_what_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    import scale_tables

    scale = load("scale")
    page, measured = (DOCS / "scale.md").read_text(), scale.load()
    filled = scale.filled(page, scale_tables.tables(measured, scale.Machines(1)))
    assert page == filled, "stale: run `python bench/scale.py --write`"
    for name, said, took in scale_tables.checks(measured):
        assert abs(said / took - 1) <= scale_tables.CHECKED_WITHIN, name


def test_one_job_can_be_asked_for() -> None:
    command = [sys.executable, BENCH / "scale.py", "--job", "sort", "--data", "20TB", "--machines", "40"]
    for more in ([], ["--split", "1GiB", "--reducers", "2000"]):
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "coordinator's memory" in done.stdout, done.stderr
