"""What 1 TB, 100 TB and 1 PB would take on 10, 100 and 1,000 machines, and the first limit at each.

    python bench/scale.py                          print the tables of docs/scale.md
    python bench/scale.py --write                  put them into the page
    python bench/scale.py --measure jobs,engine,ray,play,check [--again] [--text FILE]     measure some of it anew
    python bench/scale.py --job sort --data 20TB --machines 40 [--split 1GiB --reducers 4000]     one job, all loads

What a machine is like can be said, for all of these: --cores, --memory, --disk, --disk-speed, --network, --speed,
--fleet. What was measured stands in bench/scale_costs.json, and nowhere else: change a cost there, and write the page.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import scale_tables
from results import RESULTS, machine
from scale_cuts import best_cut
from scale_model import Costs, Cut, Machines, Work, default_cut, forecast

from gristmill.config import parse_size

HERE = Path(__file__).resolve().parent
MEASURED = HERE / "scale_costs.json"
PAGE = HERE.parent / "docs" / "scale.md"
JOBS = {"word count": ("wordcount", 515e6), "sort": ("sort", 2000e6), "join": ("join", 261e6)}
"""Those that the page is about: their sections in RESULTS.md, and the bytes that they read there."""


def load() -> scale_tables.Measured:
    """What was measured."""
    kept = json.loads(MEASURED.read_text())
    works = {name: Work(name, **fields) for name, fields in kept["works"].items()}
    return scale_tables.Measured(Costs(**kept["costs"]), works, kept["played"], kept["checked"], kept["on"])


def measure(parts: list[str], text: Path | None, again: bool) -> None:
    """Measure some of it, and keep it beside what is not measured now.

    Args:
        parts: what.
        text: whose words are counted.
        again: keep the less of what was known and what is found: whatever else a machine does only adds.
    """
    kept: dict[str, Any] = json.loads(MEASURED.read_text()) if MEASURED.exists() else {"costs": {}, "on": {}}
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "jobs": lambda: _jobs(text, kept.get("trials", {}) if again else {}),
        "engine": lambda: {"costs": _less(_engine(), kept["costs"] if again else {})},
        "ray": lambda: {"costs": _less(_ray(), kept["costs"] if again else {})},
        "play": _play,
        "check": _check,
    }
    for part in parts:
        found = steps[part]()
        kept["costs"] |= found.pop("costs", {})
        kept |= found
        kept["on"][part] = machine()
        MEASURED.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
        print(f"{part} is measured", file=sys.stderr)


def _less(found: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The less of numbers that are known under the same name."""
    return {
        name: _less(value, known.get(name, {})) if isinstance(value, dict) else min(value, known.get(name, value))
        for name, value in found.items()
    }


def _jobs(text: Path | None, known: dict[str, Any]) -> dict[str, Any]:
    import scale_costs as measuring

    found = {name: asdict(trial) for name, trial in measuring.trials(text)}
    least = _less(found, known)
    works = {name: asdict(work) for name, work in measuring.works(least, _whole()).items()}
    return {
        "trials": least,
        "costs": measuring.executor_costs(*(measuring.trial_of(least[name]) for name in measuring.GROUPINGS)),
        "works": {name: {key: n for key, n in work.items() if key != "name"} for name, work in works.items()},
    }


def _engine() -> dict[str, Any]:
    import scale_coordinator
    import scale_costs

    costs = scale_coordinator.memory() | scale_coordinator.agent_costs() | scale_coordinator.coordinator_costs()
    return costs | scale_costs.task_costs() | {"start_seconds": _column("first_result", "median s")}


def _ray() -> dict[str, Any]:
    import scale_ray

    return dict(scale_ray.measured())


def _play() -> dict[str, Any]:
    import scale_fleet

    played = {}
    for name, scene in scale_fleet.scenes().items():
        played[name] = asdict(scale_fleet.play(scene)) | {"machines": scene.machines}
        print(f"  {name}: {played[name]}", file=sys.stderr)
    return {"played": played}


def _check() -> dict[str, Any]:
    """What bench/RESULTS.md says of jobs that the model can tell of, too."""
    import scale_fleet

    jobs = {name: {"bytes": size, "seconds": _column(section, "median s")} for name, (section, size) in JOBS.items()}
    scenes = {}
    ratios = {"one of 9 workers is killed": _kill_ratio(), **_straggler_ratios()}
    for name, (even, odd, section) in scale_fleet.measured_scenes().items():
        ratio = scale_fleet.play(odd).seconds / scale_fleet.play(even).seconds
        scenes[name] = {"section": section, "played": ratio, "measured": ratios[name]}
    return {"checked": {"jobs": jobs, "scenes": scenes}}


def _whole() -> dict[str, float]:
    """CPU seconds for a byte of input, as RESULTS.md has them of whole processes."""
    return {name: _column(section, "CPU s") / size for name, (section, size) in JOBS.items()}


def _column(section: str, column: str) -> float:
    """A figure of Gristmill's in a section of RESULTS.md."""
    body = RESULTS.read_text().partition(f"<!-- {section} -->")[2].partition("<!-- /")[0]
    rows = [[cell.strip() for cell in line.split("|")] for line in body.splitlines() if line.startswith("|")]
    return float(next(row for row in rows if row[1] == "**Gristmill**")[rows[0].index(column)])


def _kill_ratio() -> float:
    body = RESULTS.read_text().partition("<!-- kill_one -->")[2].partition("<!-- /")[0]
    pairs = re.findall(r"^\| pair \d+ \| +([\d.]+) s \| +[\d.]+ s \| ([\d.]+) s", body, re.MULTILINE)
    return sorted(float(took) / float(even) for even, took in pairs)[len(pairs) // 2]


def _straggler_ratios() -> dict[str, float]:
    body = RESULTS.read_text().partition("<!-- straggler -->")[2].partition("<!-- /")[0]
    _, helped, left = (float(row.split("|")[4]) for row in body.splitlines() if re.match(r"\| (all|one) ", row))
    return {"one of 8 is 5 × slower": helped, "the same, `--no-speculation`": left}


def write(measured: scale_tables.Measured, machines: Machines) -> None:
    """Put the tables into the page, between their markers."""
    PAGE.write_text(filled(PAGE.read_text(), scale_tables.tables(measured, machines)))


def filled(page: str, tables: dict[str, str]) -> str:
    """A page with its tables.

    Raises:
        KeyError: it has no place for one of them.
    """
    for name, body in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if begin not in page or end not in page:
            raise KeyError(f"{begin.strip()} … {end} is not in the page")
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}{body}\n{end}{rest.partition(end)[2]}"
    return page


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--measure", help="jobs, engine, ray, play, check: some of these, with commas")
    parser.add_argument("--again", action="store_true", help="keep the less of what is known and what is found")
    parser.add_argument("--text", type=Path, help="a text file whose words are counted, when costs are measured")
    parser.add_argument("--job", help="one job alone: word count, sort or join")
    parser.add_argument("--data", type=parse_size, default=10**12)
    parser.add_argument("--machines", type=int, default=10)
    parser.add_argument("--split", type=parse_size, help="the best, if neither this nor --reducers is given")
    parser.add_argument("--reducers", type=int)
    usual = Machines(1)
    parser.add_argument("--cores", type=int, default=usual.cores)
    parser.add_argument("--memory", type=parse_size, default=usual.memory_bytes)
    parser.add_argument("--disk", type=parse_size, default=usual.disk_bytes, help="room for blocks, of a machine")
    parser.add_argument("--disk-speed", type=parse_size, default=usual.disk_speed, help="a second")
    parser.add_argument("--network", type=parse_size, default=usual.network_speed, help="a second, each way")
    parser.add_argument("--speed", type=float, default=1.0, help="of a processor, beside the one that was measured on")
    parser.add_argument("--coordinator-memory", type=parse_size, default=usual.coordinator_bytes)
    parser.add_argument("--fleet", choices=("ray", "cluster"), default="ray")
    given = parser.parse_args()
    if given.measure:
        measure(given.measure.split(","), given.text, given.again)
        return 0
    machines = Machines(
        given.machines, given.cores, given.memory, given.disk, given.disk_speed, given.network,
        given.fleet == "ray", given.speed, coordinator_bytes=given.coordinator_memory,
    )  # fmt: skip
    measured = load()
    if given.job:
        print(one_job(measured, replace(machines, count=given.machines), given))
    elif given.write:
        write(measured, machines)
    else:
        print("\n\n".join(scale_tables.tables(measured, machines).values()))
    return 0


def one_job(measured: scale_tables.Measured, machines: Machines, given: argparse.Namespace) -> str:
    """One job, with all loads."""
    work = measured.works[given.job]
    if given.split or given.reducers:
        usual = default_cut(given.data)
        cut = Cut(given.split or usual.split_bytes, given.reducers or usual.reducers)
        return scale_tables.details([forecast(measured.costs, work, machines, cut, given.data)])
    return scale_tables.details([best_cut(measured.costs, work, machines, given.data)])


if __name__ == "__main__":
    sys.exit(main())
