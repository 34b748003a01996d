"""The same chains on Ray as on `local`, and beside Ray Data: what the road out of one machine costs.

    python bench/ray_jobs.py [--runs 3] [--size-mb 500] [--text FOLDER] [--only local peers] [--works wordcount …]

Word count, join and sort. Times are from when the executors are up, to the committed output; whole processes take some
seconds longer, for Ray itself has to start.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chains
import data
import measure
from peers import setup
from results import conclude, digest, digest_in_order, table, verdict
from settings import EXECUTORS, HERE, Settings, dataset

LIMIT = 1.3
"""Times ``local``, at most, after start-up."""

LIMITS = {"wordcount": 5.0, "sort": 2.0}
"""Ray Data takes so many times as long, at least."""

LOCAL, RAY = "`local`", "Gristmill on Ray"
PIECES = 8  # Ray Data reads a file in one task
_TEXT_SHARE, _SORT_SHARE, _JOIN_SHARE = 8, 5, 5  # of the inputs Ray Data gets one part of so many
# Ray's workers are nicer than other processes by default; here nobody is.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


@dataclass
class Side:
    """One way to do a piece of work, and how it went."""

    title: str
    command: list[str | Path]
    turns: list[tuple[float, measure.Run]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """After start-up; the median."""
        return statistics.median(seconds for seconds, _ in self.turns)

    def times(self, other: Side) -> float:
        """How many times as long as another one it takes: the median of the ratios within a turn."""
        return statistics.median(mine[0] / its[0] for mine, its in zip(self.turns, other.turns, strict=True))


@dataclass
class Work:
    """A piece of work on one input, and who does it. The first side's output is what all others' must be."""

    title: str
    source: Path
    sides: list[Side]
    read: Callable[[Path], Any] = digest


def local_section(settings: Settings, works: tuple[str, ...] = ()) -> tuple[str, str]:
    """Measure Ray beside ``local``.

    Returns:
        The section for RESULTS.md, and why it cannot be believed; empty if it can.
    """
    made = [
        Work(title, source, [_ours(name, "local"), _ours(name, "ray")], read)
        for name, title, source, read in _inputs(settings)
        if not works or name in works
    ]
    if problem := _measure(made, settings.runs):
        return "", f"On Ray: {problem}"
    rows = [["", "input", "`local`, s", "on Ray, s", "×", "whole: `local`, s", "on Ray, s", "CPU s", "CPU s on Ray"]]
    for work in made:
        local, ray = work.sides
        rows.append([
            work.title, _size(work.source), f"{local.seconds:.2f}", f"{ray.seconds:.2f}", f"{ray.times(local):.2f}",
            *(f"{_median(side, 'seconds'):.2f}" for side in work.sides),
            *(f"{_median(side, 'cpu_seconds'):.1f}" for side in work.sides),
        ])  # fmt: skip
    worst = max(ray.times(local) for local, ray in (work.sides for work in made))
    body = [
        "## On Ray",
        f"Chains of datasets with {EXECUTORS} executors, on `local` and on a Ray of their own with as many CPUs. Times "
        "are medians, from when the executors are up to the committed output; `whole` is the process from its start "
        "to its end, that of Ray included. × is the median of the ratios within a turn. CPU is that of all processes. "
        "The outputs are the same, byte by byte.",
        table(rows),
        f"At worst {worst:.2f} × `local`. Limit {LIMIT} ({verdict(worst <= LIMIT)}). {_disturbance(made)}",
    ]
    return "\n\n".join(body), ""


def peers_section(settings: Settings, works: tuple[str, ...] = ()) -> tuple[str, str]:
    """Measure Ray Data beside Gristmill on Ray.

    Returns:
        The section for RESULTS.md, and why it cannot be believed; empty if it can.
    """
    asked = "ray" in settings.peers
    if asked and (reason := setup.prepare(["ray"])["ray"]):
        return "", f"Ray Data: {reason}"
    made = {
        name: Work(title, source, [_ours(name, "ray"), *(_ray_data(name) if asked else [])], read)
        for name, title, source, read in _small_inputs(settings)
        if not works or name in works
    }
    if problem := _measure(list(made.values()), settings.runs):
        return "", f"Beside Ray Data: {problem}"
    rows = [["", "input", "median s", "fastest – slowest", "× Gristmill", "whole process, s", "CPU s"]]
    for work in made.values():
        rows += [_peer_row(work, side) for side in work.sides]
    judged = []
    for name, work in made.items():
        ours, *others = work.sides
        if name in LIMITS and others:
            first, best = others[0].times(ours), min(other.times(ours) for other in others)
            said = f"{work.title}: Ray Data takes {first:.1f} × as long"
            said += f", {best:.1f} × at its best" if len(others) > 1 else ""
            judged.append(f"{said}. Limit {LIMITS[name]:g} ({verdict(first >= LIMITS[name])}).")
    body = [
        "## Beside Ray Data",
        f"The same work by Gristmill on Ray and by Ray Data {setup.version_of('ray') if asked else '(not run)'}, each "
        f"on a Ray of its own with {EXECUTORS} CPUs. Times are from when Ray is up and its workers have done "
        "something, to the written output. Ray Data counts words in three ways: by a function of a line as "
        "Gristmill's chain has one (`flat_map`), by one of many lines (`map_batches`), and by one of many lines that "
        "adds up by itself. It sorts and joins in columns. The outputs are the same.",
        table(rows),
        " ".join([*judged, _disturbance(list(made.values()))]),
    ]
    return "\n\n".join(body), ""


def _inputs(settings: Settings) -> list[tuple[str, str, Path, Callable[[Path], Any]]]:
    rows = settings.size_mb * chains.ROWS_A_MB
    return [
        ("wordcount", "word count", data.Texts(settings.text).one_file(settings.size_mb), _ordered_parts),
        ("join", "join", data.tables(rows, rows // chains.ROWS_A_PARTNER), _ordered_parts),
        ("sort", "sort", data.sortable(settings.size_mb * chains.LINES_A_MB), _ordered_parts),
    ]


def _small_inputs(settings: Settings) -> list[tuple[str, str, Path, Callable[[Path], Any]]]:
    """For Ray Data: less of it, and in pieces, for it would read one file in one task."""
    size = settings.size_mb
    rows = max(1, size // _JOIN_SHARE) * chains.ROWS_A_MB
    text = data.Texts(settings.text).one_file(max(1, size // _TEXT_SHARE))
    lines = data.sortable(max(1, size // _SORT_SHARE) * chains.LINES_A_MB)
    return [
        ("wordcount", "Word count", data.pieces(text, PIECES), digest),
        ("sort", "Sort", data.pieces(lines, PIECES), digest_in_order),
        ("join", "Join", data.tables(rows, rows // chains.ROWS_A_PARTNER), digest),
    ]


def _ours(name: str, where: str) -> Side:
    return Side({"local": LOCAL, "ray": RAY}[where], [*dataset("anywhere"), name, where])


def _ray_data(name: str) -> list[Side]:
    script = HERE / "peers" / f"{name}_ray.py"
    ways = {"": "Ray Data"}
    if name == "wordcount":
        ways = {
            "rows": "Ray Data, `flat_map`",
            "batches": "Ray Data, `map_batches`",
            "counted": "Ray Data, `map_batches` that counts",
        }
    return [Side(title, [setup.PYTHON, script, *([way] if way else [])]) for way, title in ways.items()]


def _measure(works: list[Work], runs: int) -> str:
    """Let all sides of all works take turns. Returns what went wrong."""
    for work in works:
        print(f"{work.title}: {_size(work.source)}", file=sys.stderr)
        expected = None
        for _ in range(runs):
            for side in work.sides:
                found, error = _run(work, side)
                if error:
                    return f"{work.title}, {side.title}: {error}"
                expected = found if expected is None else expected
                if found != expected:
                    return f"{work.title}, {side.title}: its output differs from that of {work.sides[0].title}"
                seconds, run = side.turns[-1]
                print(f"  {side.title}: {seconds:.2f} s, whole {run.seconds:.2f} s", file=sys.stderr)
    return ""


def _run(work: Work, side: Side) -> tuple[Any, str]:
    """One turn of a side: what of its output is compared, and what went wrong."""
    output = data.folder() / "out" / "ray"
    output.parent.mkdir(exist_ok=True)
    shutil.rmtree(output, ignore_errors=True)
    environment = {**_ENVIRONMENT, "GRISTMILL_DATA_DIR": str(data.folder() / "gristmill")}
    try:
        done = measure.run([*side.command, work.source, output], environment)
        if done.error:
            return None, done.error
        side.turns.append((float(done.stdout.splitlines()[-1]), done))
        return work.read(output), ""
    finally:
        shutil.rmtree(output, ignore_errors=True)


def _ordered_parts(output: Path) -> list[tuple[str, str]]:
    """The name and a digest of each file."""
    found = sorted(path for path in output.iterdir() if not path.name.startswith(("_", ".")))
    return [(path.name, digest_in_order(path)) for path in found]


def _peer_row(work: Work, side: Side) -> list[str]:
    ours = work.sides[0]
    seconds = [each for each, _ in side.turns]
    first = side is ours
    return [
        f"{work.title}: {f'**{side.title}**' if first else side.title}",
        _size(work.source) if first else "",
        f"{side.seconds:.2f}",
        f"{min(seconds):.2f} – {max(seconds):.2f}",
        f"{side.times(ours):.1f}",
        f"{_median(side, 'seconds'):.1f}",
        f"{_median(side, 'cpu_seconds'):.1f}",
    ]


def _median(side: Side, name: str) -> float:
    return statistics.median(getattr(run, name) for _, run in side.turns)


def _disturbance(works: list[Work]) -> str:
    return measure.disturbance([run for work in works for side in work.sides for _, run in side.turns])


def _size(source: Path) -> str:
    return f"{data.size_bytes(source) / data.MB:,.0f} MB"


SECTIONS = {"ray_local": local_section, "ray_peers": peers_section}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=Settings.runs)
    parser.add_argument("--size-mb", type=int, default=Settings.size_mb, help="of text; the other inputs follow")
    parser.add_argument("--text", type=Path, help="folder with text files; the standard library's sources by default")
    parser.add_argument("--only", nargs="+", choices=["local", "peers"], default=["local", "peers"])
    parser.add_argument("--works", nargs="+", choices=["wordcount", "join", "sort"], default=[])
    given = parser.parse_args()
    asked = Settings(given.runs, given.size_mb, given.text, ("ray",))
    whole = given.size_mb == Settings.size_mb and not given.works
    for only in given.only:
        conclude(f"ray_{only}", *SECTIONS[f"ray_{only}"](asked, tuple(given.works)), write=whole)
