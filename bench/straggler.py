"""What one executor that is five times slower than the others costs a job, with and without speculation.

    python bench/straggler.py [--turns 3] [--smoke]

Eight workers of one executor, and tasks that wait rather than work (``bench/jobs/waiting.py``). One worker takes five
times as long for everything, map and reduce. The even run is the same job where none does.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path

import data
import measure
from cluster import Cluster, Pace, cluster
from kill_one import Size, options_of, waits
from results import conclude, digest, table

LIMIT = 1.3
TIMES = 5
TURNS = 3
SIZE = Size(workers=8, map_tasks=80, map_seconds=3.0, reduce_tasks=16, reduce_seconds=3.0)
SMOKE = Size(workers=3, map_tasks=9, map_seconds=0.2, reduce_tasks=3, reduce_seconds=0.1, pace=Pace("0.2s", "1s"))
EVEN, SPECULATION, NONE = "all alike", "one slow, with speculation", "one slow, `--no-speculation`"


def section(turns: int = TURNS, size: Size = SIZE) -> tuple[str, str]:
    """Measure.

    Returns:
        The section for RESULTS.md, and why it cannot be believed; empty if it can.
    """
    source = waits(size.map_tasks, size.map_seconds)
    runs: dict[str, list[measure.Run]] = {EVEN: [], SPECULATION: [], NONE: []}
    copies: dict[str, list[int]] = {name: [] for name in runs}
    try:
        with cluster(size.workers, pace=size.pace) as made:
            options = {
                EVEN: ["--set", "slow_worker=nobody"],
                SPECULATION: ["--set", f"slow_worker={made.workers[0].name}"],
                NONE: ["--set", f"slow_worker={made.workers[0].name}", "--no-speculation"],
            }
            digests = set()
            for _ in range(turns):
                for name, more in options.items():
                    done, again, found = _run(made, source, [*options_of(size), "--set", f"times={TIMES}", *more])
                    print(f"  {name}: {done.seconds:.2f} s", file=sys.stderr)
                    runs[name].append(done)
                    copies[name].append(again)
                    digests.add(found)
    except RuntimeError as error:
        return "", f"One slow executor: {error}"
    finally:
        source.unlink()
    if len(digests) > 1:
        return "", "One slow executor: the outputs differ"
    return _text(runs, copies, size), ""


def _run(made: Cluster, source: Path, options: list[str]) -> tuple[measure.Run, int, str]:
    """The run, the attempts beyond one a task, and a digest of the output."""
    output = data.folder() / "out" / "straggler"
    output.parent.mkdir(exist_ok=True)
    done, summary = made.run("waiting", source, output, *options)
    if done.error:
        raise RuntimeError(done.error)
    found = digest(output)
    shutil.rmtree(output)
    return done, summary["attempts"] - summary["map_tasks"] - summary["reduce_tasks"], found


def _text(runs: dict[str, list[measure.Run]], copies: dict[str, list[int]], size: Size) -> str:
    ratios = {
        name: statistics.median(run.seconds / even.seconds for run, even in zip(each, runs[EVEN], strict=True))
        for name, each in runs.items()
    }
    rows = [["", "median s", "fastest – slowest", "× all alike", "copies"]]
    for name, each in runs.items():
        seconds = [run.seconds for run in each]
        spread = f"{min(seconds):.1f} – {max(seconds):.1f}"
        times = f"{ratios[name]:.2f}"
        rows.append([name, f"{statistics.median(seconds):.1f}", spread, times, "/".join(map(str, copies[name]))])
    kept = "kept" if ratios[SPECULATION] <= LIMIT else "MISSED"
    even = (size.workers - 1 + 1 / TIMES) / size.workers
    body = [
        f"## One executor {TIMES} × slower",
        f"{size.workers} workers of one executor, {size.map_tasks} map tasks of {size.map_seconds:g} s and "
        f"{size.reduce_tasks} reduce tasks of {size.reduce_seconds:g} s, each half as long to one and a half times as "
        f"long. The tasks wait rather than work. One worker takes {TIMES} × as long for each, which leaves {even:.0%} "
        "of the capacity. A map task here is one record and tells no progress before its end, so it is known as a "
        "straggler by its time alone. The outputs are the same.",
        table(rows),
        f"With speculation it takes {ratios[SPECULATION]:.2f} × the even run. Limit {LIMIT} ({kept}). "
        + measure.disturbance([run for each in runs.values() for run in each]),
    ]
    return "\n\n".join(body)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--smoke", action="store_true", help="tiny; nothing is written")
    given = parser.parse_args()
    conclude("straggler", *section(given.turns, SMOKE if given.smoke else SIZE), write=not given.smoke)
