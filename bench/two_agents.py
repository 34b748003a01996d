"""The same jobs on two workers over Flight, and on ``local``: what the network costs.

    python bench/two_agents.py [--runs 3] [--size-mb 200]

Two executors each: ``gristmill run`` on this machine, and on a server with two workers of one executor. Each worker
counts as a machine of its own, so half of all blocks go over Flight (on loopback). The outputs must be the same.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import data
import measure
from cluster import Cluster, cluster
from results import conclude, digest, table
from settings import EXECUTORS, gristmill, job

LIMIT, GOAL = 1.3, 1.15
RUNS = 3
SIZE_MB = 200
_MEMORY_MIB = 512  # of an executor


@dataclass(frozen=True)
class Work:
    """A job and its input."""

    title: str
    job: str
    source: Path


def section(runs: int = RUNS, size_mb: int = SIZE_MB, text: Path | None = None) -> tuple[str, str]:
    """Measure.

    Returns:
        The section for RESULTS.md, and why it cannot be believed; empty if it can.
    """
    texts = data.Texts(text)
    works = [
        Work("word count, combined before the shuffle", "wordcount", texts.one_file(size_mb)),
        Work("inverted index, every pair shuffled", "inverted_index", texts.documents(max(1, size_mb // 6))),
        Work("grouping, the whole input shuffled", "grouping", data.hot_key_text(size_mb * data.MB // 200)),
    ]
    turns: dict[Work, list[tuple[measure.Run, measure.Run]]] = {work: [] for work in works}
    shuffled: dict[Work, int] = {}
    try:
        with cluster(EXECUTORS, memory=f"{_MEMORY_MIB}MiB") as made:
            for _ in range(runs):
                for work in works:
                    local, far, shuffled[work] = _turn(made, work)
                    print(f"  {work.title}: local {local.seconds:.2f} s, Flight {far.seconds:.2f} s", file=sys.stderr)
                    turns[work].append((local, far))
    except RuntimeError as error:
        return "", f"Two workers: {error}"
    return _text(turns, shuffled), ""


def _turn(made: Cluster, work: Work) -> tuple[measure.Run, measure.Run, int]:
    """Both runs, and the bytes that were shuffled."""
    output = data.folder() / "out" / "two-workers"
    output.parent.mkdir(exist_ok=True)
    sizes = ["--executors", str(EXECUTORS), "--memory", f"{_MEMORY_MIB * EXECUTORS}MiB"]
    command = gristmill("run", job(work.job), work.source, "-o", output, *sizes)
    local = measure.run(command, {"GRISTMILL_DATA_DIR": str(data.folder() / "gristmill")})
    if local.error:
        raise RuntimeError(local.error)
    expected = digest(output)
    shutil.rmtree(output)
    far, summary = made.run(work.job, work.source, output)
    if far.error:
        raise RuntimeError(far.error)
    found = digest(output)
    shutil.rmtree(output)
    if found != expected:
        raise RuntimeError("the outputs differ")
    return local, far, summary["shuffle_bytes"]


def _text(turns: dict[Work, list[tuple[measure.Run, measure.Run]]], shuffled: dict[Work, int]) -> str:
    rows = [["", "input", "shuffled", "`local`, median s", "Flight, median s", "×", "CPU s", "CPU s, Flight"]]
    ratios = []
    for work, pairs in turns.items():
        ratio = statistics.median(far.seconds / local.seconds for local, far in pairs)
        ratios.append(ratio)
        sides = list(zip(*pairs, strict=True))
        rows.append([
            work.title,
            f"{data.size_bytes(work.source) / data.MB:,.0f} MB",
            f"{shuffled[work] / data.MB:,.0f} MB",
            *(f"{statistics.median(run.seconds for run in side):.2f}" for side in sides),
            f"{ratio:.2f}",
            *(f"{statistics.median(run.cpu_seconds for run in side):.1f}" for side in sides),
        ])  # fmt: skip
    worst = max(ratios)
    body = [
        "## Two workers over Flight",
        f"{EXECUTORS} executors on `local`, and the same number on a server with {EXECUTORS} workers. All of it on "
        "this machine, but each worker counts as one of its own: half of the blocks go over Flight, on loopback. CPU "
        "is that of all processes, server and workers included. `local` starts its executors within its time, about "
        "0.3 s; workers are up before. The outputs are the same.",
        table(rows),
        f"At worst {worst:.2f} × `local`. Limit {LIMIT} ({'kept' if worst <= LIMIT else 'MISSED'}), goal {GOAL}. "
        + measure.disturbance([run for pairs in turns.values() for pair in pairs for run in pair]),
    ]
    return "\n\n".join(body)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--size-mb", type=int, default=SIZE_MB)
    parser.add_argument("--text", type=Path, help="folder with text files; the standard library's sources by default")
    given = parser.parse_args()
    conclude("two_agents", *section(given.runs, given.size_mb, given.text), write=given.size_mb == SIZE_MB)
