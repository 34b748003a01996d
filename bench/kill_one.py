"""What it costs a job when one of nine workers is killed with its data in the middle of the map tasks.

    python bench/kill_one.py [--pairs 3] [--smoke]

Tasks wait rather than work (``bench/jobs/waiting.py``), so that nine workers are really parallel on any machine; all
else is real: nine ``gristmill worker`` with a data directory each, a server, blocks over Flight. When half of the map
tasks are done, the agent and its executors are killed by SIGKILL and the data directory is deleted. Nobody takes the
place. The cost is what the job takes beyond the time in which the others could have done what was left:
undisturbed, that is nine eighths of the rest.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import data
import measure
from cluster import DEFAULT_PACE, Cluster, Pace, Worker, cluster
from results import conclude, digest, table

LIMIT, GOAL = 0.15, 0.05
PAIRS = 3


@dataclass(frozen=True)
class Size:
    """How large the job and the cluster are."""

    workers: int = 9
    map_tasks: int = 216
    map_seconds: float = 1.5
    reduce_tasks: int = 72
    reduce_seconds: float = 3.0
    pace: Pace = DEFAULT_PACE


SIZE = Size()
SMOKE = Size(workers=3, map_tasks=12, map_seconds=0.2, reduce_tasks=3, reduce_seconds=0.1, pace=Pace("0.2s", "1s"))


class Killer:
    """Destroys a worker as soon as there are so many blocks.

    Attributes:
        at: when that was, on the clock of ``time.perf_counter``; 0 if it was not.
        lost: finished map tasks that went with it.
    """

    def __init__(self, cluster: Cluster, victim: Worker, blocks: int) -> None:
        self._cluster, self._victim, self._blocks = cluster, victim, blocks
        self.at = 0.0
        self.lost = 0

    def __call__(self, _pid: int, _memory: measure.Memory) -> None:
        """Look whether it is time."""
        if self.at or self._cluster.blocks() < self._blocks:
            return
        self.lost, self.at = self._victim.blocks(), time.perf_counter()
        self._cluster.workers.remove(self._victim)
        self._victim.destroy()


@dataclass(frozen=True)
class Pair:
    """The job undisturbed, and with a worker killed."""

    even: measure.Run
    killed: measure.Run
    killed_after: float
    lost: int
    again: int  # attempts beyond one a task
    workers: int

    @property
    def ideal_seconds(self) -> float:
        """What the job would take if losing a worker cost nothing but its help from then on."""
        left = self.even.seconds - self.killed_after
        return self.killed_after + left * self.workers / (self.workers - 1)

    @property
    def cost(self) -> float:
        """What it took beyond that, as a share of it."""
        return self.killed.seconds / self.ideal_seconds - 1


def section(pairs: int = PAIRS, size: Size = SIZE) -> tuple[str, str]:
    """Measure.

    Returns:
        The section for RESULTS.md, and why it cannot be believed; empty if it can.
    """
    source = waits(size.map_tasks, size.map_seconds)
    try:
        with cluster(size.workers, pace=size.pace) as made:
            done = [_pair(made, source, size) for _ in range(pairs)]
    except RuntimeError as error:
        return "", f"Killing one worker: {error}"
    finally:
        source.unlink()
    return _text(done, size), ""


def waits(tasks: int, seconds: float) -> Path:
    """An input with a line for each map task: what it is to take, from half of ``seconds`` to one and a half."""
    path = data.folder() / "waits.txt"
    path.write_text("".join(f"{seconds * (0.5 + task * 37 % 101 / 100):09.4f}\n" for task in range(tasks)))
    return path


def options_of(size: Size) -> list[str]:
    """The options of the job of this size."""
    params = [f"reducers={size.reduce_tasks}", f"reduce_seconds={size.reduce_seconds}"]
    sizes = ["--split-size", "10", "--reducers", str(size.reduce_tasks)]  # a line is a split
    return [*sizes, *(word for param in params for word in ("--set", param))]


def _pair(made: Cluster, source: Path, size: Size) -> Pair:
    made.add_workers(size.workers - len(made.workers))
    output = data.folder() / "out" / "kill-one"
    output.parent.mkdir(exist_ok=True)
    runs, digests, again = [], set(), 0
    killer = Killer(made, made.workers[0], size.map_tasks // 2)
    for observe in (None, killer):
        begun = time.perf_counter()
        done, summary = made.run("waiting", source, output, *options_of(size), observe=observe)
        if done.error:
            raise RuntimeError(done.error)
        print(f"  {'one killed' if observe else 'undisturbed'}: {done.seconds:.2f} s", file=sys.stderr)
        runs.append(done)
        digests.add(digest(output))
        again = summary["attempts"] - summary["map_tasks"] - summary["reduce_tasks"]
        shutil.rmtree(output)
    if not killer.at or len(digests) > 1:
        raise RuntimeError("no worker was killed" if not killer.at else "the outputs differ")
    return Pair(runs[0], runs[1], killer.at - begun, killer.lost, again, size.workers)


def _text(done: list[Pair], size: Size) -> str:
    cost = statistics.median(pair.cost for pair in done)
    rows = [["", "undisturbed", "killed after", "took", "nothing lost but help", "cost", "lost tasks", "run again"]]
    for number, pair in enumerate(done, 1):
        times = (pair.even.seconds, pair.killed_after, pair.killed.seconds, pair.ideal_seconds)
        shown = [f"{each:.1f} s" for each in times]
        rows.append([f"pair {number}", *shown, f"{pair.cost:.1%}", str(pair.lost), str(pair.again)])
    body = [
        f"## One of {size.workers} workers killed",
        f"{size.map_tasks} map tasks of {size.map_seconds:g} s and {size.reduce_tasks} reduce tasks of "
        f"{size.reduce_seconds:g} s, each half as long to one and a half times as long. The tasks wait rather than "
        f"work, so that {size.workers} workers of one executor are really parallel on this machine; blocks go over "
        "Flight. When half of the map tasks are done, a worker and its executor are killed by SIGKILL, and its data "
        f"directory is deleted; it counts as lost after {size.pace.limit} of silence. Nobody takes its place. The cost "
        f"is beyond {size.workers}/{size.workers - 1} of what was left of the undisturbed job; `lost tasks` are the "
        "finished map tasks that went with the worker, `run again` all attempts beyond one a task. The outputs are "
        "the same.",
        table(rows),
        f"It costs {cost:.1%} (median). Limit {LIMIT:.0%} ({'kept' if cost <= LIMIT else 'MISSED'}), goal {GOAL:.0%}. "
        + measure.disturbance([run for pair in done for run in (pair.even, pair.killed)]),
    ]
    return "\n\n".join(body)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--smoke", action="store_true", help="tiny; nothing is written")
    given = parser.parse_args()
    conclude("kill_one", *section(given.pairs, SMOKE if given.smoke else SIZE), write=not given.smoke)
