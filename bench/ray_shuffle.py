"""A shuffle between two nodes of Ray through its object store, beside the same on one node.

    python bench/ray_shuffle.py [--runs 3] [--size-mb 800]

Values of 64 KiB that cannot be compressed are shuffled as they are, so that bytes count and records do not. Nodes are
those of a Ray on this machine; two of them have a CPU each and read no files of each other.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import data
import measure
import scale_ray
from results import conclude, digest, table
from settings import EXECUTORS, HERE

import gristmill as gm

RUNS = 3
SIZE_MB = 800
SMOKE_MB = 16
MEMORY = "1GiB"
VALUE_BYTES = 64 << 10
MAPS, PARTITIONS = 8, 8
_NODES = (1, 2)
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


def value(number: int) -> tuple[int, bytes]:
    """A record of its own, with its key."""
    return number, Random(number).randbytes(VALUE_BYTES)


def text(pair: tuple[int, bytes]) -> str:
    """What is left of it."""
    return f"{pair[0]}\t{len(pair[1])}\t{pair[1][:4].hex()}"


@dataclass
class Clock:
    """Sees when the job's last map task was done."""

    mapped: float = 0.0
    shuffled: int = 0

    def __call__(self, view: Any) -> None:
        """Take a look at the job."""
        self.shuffled = view.shuffle_bytes
        if not self.mapped and view.stages and view.stages[0].done == view.stages[0].tasks:
            self.mapped = time.perf_counter()


def shuffle(size_mb: int, target: str) -> str:
    """Run the job on Ray. Returns its seconds, those from its last map task on, and the bytes that were shuffled."""
    clock = Clock()
    with gm.Session(on="ray", executors=EXECUTORS, memory=MEMORY, progress=clock) as session:
        session.range(EXECUTORS, partitions=EXECUTORS).count()
        clock.mapped = 0.0
        begun = time.perf_counter()
        pairs = session.range(size_mb * data.MB // VALUE_BYTES, partitions=MAPS).map(value)
        pairs.partition_by(PARTITIONS).map(text).write_text(target)
        ended = time.perf_counter()
    return f"{ended - begun} {ended - clock.mapped} {clock.shuffled}"


@dataclass
class Side:
    """So many nodes, and how it went there."""

    nodes: int
    turns: list[tuple[Any, ...]] = field(default_factory=list)
    shuffled: int = 0

    def median(self, place: int) -> float:
        """Of all seconds (0), or those of the reduce tasks (1)."""
        return statistics.median(turn[place] for turn in self.turns)


def section(runs: int = RUNS, size_mb: int = SIZE_MB) -> tuple[str, str]:
    """Measure.

    Returns:
        The section for RESULTS.md, and why it cannot be believed; empty if it can.
    """
    sides = [Side(nodes) for nodes in _NODES]
    expected = ""
    for _ in range(runs):
        for side in sides:
            with tempfile.TemporaryDirectory(prefix="shuffle-", dir=data.folder()) as folder:
                output = Path(folder) / "output"
                command = [sys.executable, HERE / "ray_shuffle.py", "--nodes", str(side.nodes)]
                run = measure.run(
                    [*command, "--size-mb", str(size_mb), "--output", output],
                    {**_ENVIRONMENT, "GRISTMILL_DATA_DIR": str(Path(folder) / "data")},
                )
                if run.error:
                    return "", f"Shuffle on Ray, {side.nodes} nodes: {run.error}"
                found = digest(output)
            expected = expected or found
            if found != expected:
                return "", f"Shuffle on Ray: the output of {side.nodes} nodes differs"
            seconds, reducing, shuffled = run.stdout.splitlines()[-1].split()
            side.turns.append((float(seconds), float(reducing), run))
            side.shuffled = int(shuffled)
            print(f"  nodes {side.nodes}: {seconds} s, reduce {reducing} s", file=sys.stderr)
    return _text(sides), ""


def _text(sides: list[Side]) -> str:
    one, two = sides
    rows = [["", "shuffled", "between nodes", "median s", "of it reduce", "GB/s", "GB/s between nodes"]]
    for side in sides:
        crossed = side.shuffled * (side.nodes - 1) / side.nodes
        rows.append([
            f"{side.nodes} nodes with a CPU each" if side.nodes > 1 else f"a node with {EXECUTORS} CPUs",
            f"{side.shuffled / data.MB:,.0f} MB",
            f"{crossed / data.MB:,.0f} MB" if crossed else "–",
            f"{side.median(0):.2f}",
            f"{side.median(1):.2f}",
            f"{side.shuffled / side.median(1) / 1e9:.2f}",
            f"{crossed / side.median(1) / 1e9:.2f}" if crossed else "–",
        ])  # fmt: skip
    ratio = statistics.median(far[0] / near[0] for near, far in zip(one.turns, two.turns, strict=True))
    body = [
        "## Shuffle on Ray",
        f"{MAPS} map tasks, {PARTITIONS} reduce tasks, values of {VALUE_BYTES >> 10} KiB that cannot be compressed, "
        f"{EXECUTORS} executors. All of it on this machine, but each node counts as one of its own: with two, half of "
        "the bytes go from one to the other through Ray's object store. GB/s is what is shuffled by the time of the "
        "reduce tasks, in which it is read, checked and counted. The outputs are the same.",
        table(rows),
        f"Two nodes take {ratio:.2f} × the time of one. "
        + measure.disturbance([run for side in sides for _, _, run in side.turns]),
    ]
    return "\n\n".join(body)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--size-mb", type=int, default=SIZE_MB)
    parser.add_argument("--nodes", type=int, choices=_NODES, help="only run the job, once, on so many")
    parser.add_argument("--output", help="… into this folder")
    given = parser.parse_args()
    if given.nodes:
        with scale_ray.two_nodes() if given.nodes > 1 else contextlib.nullcontext():
            print(shuffle(given.size_mb, given.output))
    else:
        conclude("ray_shuffle", *section(given.runs, given.size_mb), write=given.size_mb == SIZE_MB)
