"""How long it takes from the start of a process to the result of a trivial job.

    python bench/first_result.py [--runs 10] [--peers dask]

The job counts the words of one small file into an output; the time ends with the process.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path

import data
import measure
from compare import GRISTMILL, PEER_TITLES
from peers import setup
from results import conclude, table
from settings import HERE, gristmill, job

RUNS = 10
PEERS = ("dask", "spark")
LIMIT_SECONDS = 1.0
GOAL_SECONDS = 0.7
_PEER_RUNS = 3  # they are far away, and slow
_LINES = 1_000


def section(runs: int = RUNS, peers: tuple[str, ...] = PEERS) -> tuple[str, str]:
    """Measure.

    Returns:
        The section for RESULTS.md, and why it cannot be believed; empty if it can.
    """
    source = data.folder() / "small.txt"
    source.write_text("the quick brown fox jumps over the lazy dog\n" * _LINES)
    output = data.folder() / "out" / "first"
    output.parent.mkdir(exist_ok=True)
    run_job = gristmill("run", job("wordcount"), source, "-o", output)
    contenders: dict[str, list[str | Path]] = {
        GRISTMILL: run_job,
        "Gristmill, `--on inline`": [*run_job, "--on", "inline"],
        "Python that does nothing": [sys.executable, "-c", ""],
    }
    for name, why in setup.prepare([name for name in PEERS if name in peers]).items():
        if not why:
            script = HERE / "peers" / f"wordcount_{name}.py"
            contenders[f"{PEER_TITLES[name]} {setup.version_of(name)}"] = [setup.PYTHON, script, source, output]
    peer_titles = list(contenders)[3:]
    all_runs: dict[str, list[measure.Run]] = {title: [] for title in contenders}
    for turn in range(runs):
        for title, command in contenders.items():
            if title in peer_titles and turn >= _PEER_RUNS:
                continue
            done = measure.run(command, {"GRISTMILL_DATA_DIR": str(data.folder() / "gristmill")})
            shutil.rmtree(output, ignore_errors=True)
            output.unlink(missing_ok=True)
            if done.error:
                return "", f"First result: {title}: {done.error}"
            all_runs[title].append(done)
    times = {title: [run.seconds for run in done] for title, done in all_runs.items()}
    median = statistics.median(times[GRISTMILL])
    kept = "kept" if median <= LIMIT_SECONDS else "MISSED"
    rows = [["", "median s", "fastest – slowest", "runs"]]
    rows += [
        [title, f"{statistics.median(each):.2f}", f"{min(each):.2f} – {max(each):.2f}", str(len(each))]
        for title, each in times.items()
    ]
    body = [
        "## First result",
        f"Counting the words of {_LINES:,} lines, from the start of the process to its end.",
        table(rows),
        f"Limit {LIMIT_SECONDS} s ({kept}), goal {GOAL_SECONDS} s. " + measure.disturbance(all_runs[GRISTMILL]),
    ]
    return "\n\n".join(body), ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--peers", default=",".join(PEERS), help="of dask and spark; none")
    given = parser.parse_args()
    conclude("first_result", *section(given.runs, tuple(given.peers.split(","))))
