"""The tables of docs/scale.md, out of what was measured and the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from results import table
from scale_cuts import best_cut, cuts, nearly_fastest
from scale_model import (
    COORDINATOR,
    EXECUTORS,
    Costs,
    Cut,
    Forecast,
    Machines,
    Work,
    default_cut,
    forecast,
)

from gristmill.config import GIB, MIB

TERABYTE = 1e12
INPUTS = {"1 TB": TERABYTE, "100 TB": 100 * TERABYTE, "1 PB": 1000 * TERABYTE}
COUNTS = (10, 100, 1000)
CHECKED_WITHIN = 0.35
"""So far from what was measured a prediction may be, for the page to stand."""

# 2 slots, files that the system keeps in memory, nobody else to ask.
HERE = Machines(1, cores=2, memory_bytes=24 * GIB, disk_speed=1e12, ray=False, remote_input=False)

GOOGLE = Machines(1700, cores=2, memory_bytes=4 * GIB, disk_bytes=320e9, disk_speed=50e6, network_speed=125e6,
                  ray=False, speed=0.2, remote_input=False)  # fmt: skip
EXOSHUFFLE = Machines(40, cores=16, memory_bytes=128 * GIB, disk_bytes=3.75e12, disk_speed=2e9, network_speed=1.5e9)

_WHENCE = {
    "map_": "grouping in few and in many tasks, for few and for many reducers",
    "reduce_": "the same jobs",
    "merge_": "the same jobs",
    "segment_bytes": "the same jobs",
    "coordinator_task": "20,000 empty tasks over gRPC",
    "agent_task": "the same tasks",
    "coordinator_": "the coordinator, on a fleet that answers at once",
    "agent_segment": "an agent's own functions",
    "agent_block": "an agent's own functions",
    "agent_": "the grouping jobs",
    "segment_held": "the objects themselves",
    "task_held": "the objects themselves",
    "launch_": "the message itself",
    "slot_": "the message, and what is read of it",
    "answer_": "the message itself",
    "journal_": "a journal's file",
    "split_": "the list itself",
    "ray_": "plain actors on two nodes of a Ray on this machine",
    "start_": "[First result](../bench/RESULTS.md)",
}


@dataclass(frozen=True)
class Measured:
    """What bench/scale_costs.json holds.

    Attributes:
        costs: by task, segment, byte.
        works: the jobs, by name.
        played: what the simulator said, by scene.
        checked: what bench/RESULTS.md says of jobs, and of machines that are lost or slow.
        on: where each part was measured.
    """

    costs: Costs
    works: Mapping[str, Work]
    played: Mapping[str, Mapping[str, Any]]
    checked: Mapping[str, Any]
    on: Mapping[str, str]


def tables(measured: Measured, machines: Machines) -> dict[str, str]:
    """All tables by the names of their places in the page.

    Args:
        measured: what was measured.
        machines: what a machine is taken to be like; how many there are is said by the tables.
    """
    costs, works = measured.costs, measured.works
    return {
        **{name.replace(" ", "-"): _grid(costs, work, machines) for name, work in works.items()},
        "loads": _loads(costs, works["sort"], replace(machines, count=100), 100 * TERABYTE),
        "petabyte": _by_split(costs, works["sort"], replace(machines, count=1000), 1000 * TERABYTE),
        "losses": _losses(measured.played),
        "checks": _checks(measured),
        "simulator": _simulator(measured),
        "published": _published(costs, works["sort"]),
        "machines": _machines(machines),
        "works": _works(works),
        "costs": _costs(costs),
        "measured": f"Measured on {measured.on['jobs']}.",
    }


def details(forecasts: Sequence[Forecast]) -> str:
    """All loads of some forecasts of one job, side by side."""
    names = list(forecasts[0].loads)
    rows = [["", *(_cut_text(one.cut) for one in forecasts)]]
    rows.append(["map tasks", *(f"{one.maps:,}" for one in forecasts)])
    rows.append(["segments", *(f"{one.segments:,}" for one in forecasts)])
    rows.append(["of bytes, in the mean", *(_bytes(one.shuffled_bytes / one.segments) for one in forecasts)])
    rows.append(["longest task", *(_seconds(one.task_seconds) for one in forecasts)])
    rows.append(["shuffled", *(_bytes(one.shuffled_bytes) for one in forecasts)])
    for phase, name in (("map_seconds", "map phase"), ("reduce_seconds", "reduce phase")):
        rows.append([name, *(_seconds(max(getattr(one, phase).values())) for one in forecasts)])
    rows += [[f"load: {name}", *(_load(one.loads[name]) for one in forecasts)] for name in names]
    rows.append(["**time**", *(_time(one) for one in forecasts)])
    return table(rows)


def _grid(costs: Costs, work: Work, machines: Machines) -> str:
    rows = [
        ["data, machines", "by default, first limit", "split", "reducers", "time", "waits for", "next limit", "no Ray"]
    ]
    for title, size in INPUTS.items():
        for count in COUNTS:
            here = replace(machines, count=count)
            usual = forecast(costs, work, here, default_cut(size), size)
            best = best_cut(costs, work, here, size)
            bare = best_cut(costs, work, replace(here, ray=False), size)
            rows.append([
                f"{title}, {count:,}",
                _limit(usual),
                _bytes(best.cut.split_bytes) if best.fits else "–",
                f"{best.cut.reducers:,}" if best.fits else "–",
                _time(best),
                best.held_up_by if best.fits else "–",
                _limit(best),
                _time(bare),
            ])  # fmt: skip
    return table(rows)


def _loads(costs: Costs, work: Work, machines: Machines, size: float) -> str:
    usual = forecast(costs, work, machines, default_cut(size), size)
    return details([usual, best_cut(costs, work, machines, size)])


def _by_split(costs: Costs, work: Work, machines: Machines, size: float) -> str:
    rows = [["split", "map tasks", "reducers", "segments", "fullest", "coordinator busy", "longest task", "time"]]
    split = 64.0 * MIB
    while split <= 64 * GIB:
        found = [forecast(costs, work, machines, cut, size) for cut in cuts(machines, size) if cut.split_bytes == split]
        fitting = [each for each in found if each.fits]
        one = nearly_fastest(fitting) if fitting else min(found, key=lambda each: each.fullest)
        fullest = max(one.rooms, key=lambda name: one.rooms[name].load)
        busy = one.map_seconds[COORDINATOR] + one.reduce_seconds[COORDINATOR]
        rows.append([
            _bytes(split), f"{one.maps:,}", f"{one.cut.reducers:,}", f"{one.segments / 1e6:,.0f} M",
            f"{fullest} ({_load(one.fullest)})", _seconds(busy), _seconds(one.task_seconds), _time(one),
        ])  # fmt: skip
        split *= 4
    return table(rows)


def _losses(played: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [["", "time", "× all alike", "machines lost", "attempts", "events", "µs each"]]
    even = 1.0
    for name, one in played.items():
        if name.endswith("all alike"):
            even = one["seconds"]
        rows.append([
            name, _seconds(one["seconds"]), f"{one['seconds'] / even:.3f}", f"{one['lost']}", f"{one['attempts']:,}",
            f"{one['events']:,}", f"{one['cpu_seconds'] / one['events'] * 1e6:.0f}",
        ])  # fmt: skip
    return table(rows)


def checks(measured: Measured) -> Iterator[tuple[str, float, float]]:
    """Jobs that were measured on one machine: their names, the seconds that the model says, and those it took."""
    for name, job in measured.checked["jobs"].items():
        said = forecast(measured.costs, measured.works[name], HERE, default_cut(job["bytes"]), job["bytes"])
        yield name, said.seconds, job["seconds"]


def _checks(measured: Measured) -> str:
    rows = [["", "input", "the model says", "it took", "said ÷ took"]]
    for name, said, took in checks(measured):
        size = measured.checked["jobs"][name]["bytes"]
        rows.append([name, f"{size / 1e6:,.0f} MB", f"{said:.1f} s", f"{took:.1f} s", f"{said / took:.2f}"])
    return table(rows)


def _simulator(measured: Measured) -> str:
    rows = [["× the even run", "simulated", "real processes"]]
    for name, one in measured.checked["scenes"].items():
        rows.append([name, f"{one['played']:.2f}", f"{one['measured']:.2f}"])
    return table(rows)


def _published(costs: Costs, work: Work) -> str:
    google = best_cut(costs, work, GOOGLE, TERABYTE)
    exoshuffle = best_cut(costs, work, EXOSHUFFLE, 100 * TERABYTE)
    rows = [["", "published", "the model says", "it waits for"]]
    for name, took, one in (
        ("Google, 1 TB on 1,700 machines", 891, google),
        ("Exoshuffle on Ray, 100 TB on 40", 5378, exoshuffle),
    ):
        rows.append([name, f"{took:,} s", f"{one.seconds:,.0f} s", one.held_up_by])
    return table(rows)


def _machines(machines: Machines) -> str:
    one = machines
    return table([
        ["of each machine", "assumed", "option"],
        ["cores, an executor on each", f"{one.cores}", "`--cores`"],
        ["memory", _bytes(one.memory_bytes), "`--memory`"],
        ["memory of the coordinator's machine", _bytes(one.coordinator_bytes), "`--coordinator-memory`"],
        ["disk, for blocks", f"{one.disk_bytes / 1e12:g} TB", "`--disk`"],
        ["disk, read and written together", f"{one.disk_speed / 1e6:,.0f} MB/s", "`--disk-speed`"],
        ["network, each way", f"{one.network_speed * 8 / 1e9:g} Gbit/s", "`--network`"],
        ["a core, beside one of the machine that was measured on", f"{one.speed:g} ×", "`--speed`"],
    ])  # fmt: skip


def _works(works: Mapping[str, Work]) -> str:
    rows = [["", *works]]
    rows.append(["map, a byte of input", *(_seconds(work.map_byte_seconds) for work in works.values())])
    rows.append(["reduce, a byte that is shuffled", *(_seconds(work.reduce_byte_seconds) for work in works.values())])
    rows.append(["shuffled, a byte of input", *(f"{work.shuffle_ratio:.2f}" for work in works.values())])
    rows.append(["and for each map task", *(_bytes(work.shuffle_task_bytes) for work in works.values())])
    rows.append(["written, a byte of input", *(f"{work.output_ratio:.2f}" for work in works.values())])
    return table(rows)


def _costs(costs: Costs) -> str:
    rows = [["cost", "measured", "of"]]
    for field in fields(costs):
        value = getattr(costs, field.name)
        shown = _seconds(value) if field.name.endswith("_seconds") else f"{value:,.0f} B"
        whence = next(text for start, text in _WHENCE.items() if field.name.startswith(start))
        rows.append([f"`{field.name}`", shown, whence])
    return table(rows)


def _limit(one: Forecast) -> str:
    name = one.first_limit
    if one.loads[name] < 1:
        return f"{EXECUTORS}; then {name} ({_load(one.loads[name])})"
    return f"{name} ({_load(one.loads[name])})"


def _time(one: Forecast) -> str:
    return _seconds(one.seconds) if one.fits else "does not fit"


def _load(load: float) -> str:
    return f"{load:,.0f}" if load >= 10 else f"{load:.1f}" if load >= 0.1 else f"{load:.2f}"


def _cut_text(cut: Cut) -> str:
    return f"{_bytes(cut.split_bytes)}, {cut.reducers:,} reducers"


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:,.0f} TiB" if size >= 10 else f"{size:.1f} TiB"


def _seconds(seconds: float) -> str:
    for unit, size in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3)):
        if seconds < 1000 * size:
            return f"{seconds / size:.3g} {unit}"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
