"""Measures what Gristmill claims, beside scripts by hand and beside its peers, and writes bench/RESULTS.md.

    python bench/run.py [--only NAME...] [--runs 3] [--size-mb 500] [--text FOLDER] [--peers none|all|spark,dask,…]
    python bench/run.py --smoke     everything once, tiny, nothing written: does it all still run?

Names: wordcount, access_log, inverted_index, first_result, memory, tasks, two_agents, straggler, kill_one, scheduler;
of datasets: chain, pagerank, join, sort, skew, small_files, dataset_memory; of the service: page; of Ray, where it is
installed: ray_local, ray_peers, ray_shuffle.
Inputs are made in `.bench-data`, the peers are installed in `.bench-venv`; a full run takes some hours on two cores,
most of it the peers'.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import dataset_memory
import first_result
import kill_one
import memory
import ray_jobs
import ray_shuffle
import skew
import small_files
import straggler
import two_agents
from chains import CHAINS
from compare import CLAIMS, compare
from peers.setup import PEERS
from results import write_section
from settings import HERE, Settings

import page

Measurement = Callable[[], tuple[str, str]]
"""Returns a section for RESULTS.md, and what is wrong with it; empty if nothing is."""

SMOKE = Settings(runs=1, size_mb=2)
_SMOKE_KEYS = 20_000


def tasks(count: int, *options: str) -> tuple[str, str]:
    """Empty tasks a second, as their own script prints them."""
    command = [sys.executable, HERE / "tasks.py", "--tasks", str(count), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    about = (
        "A map task without input in a job with a shuffle: real coordinator, agent and executors, each result awaited. "
        "`journal` notes every task; `grpc` does so too, and its worker is a process of its own, over gRPC; "
        "the agent of `ray` is in an actor."
    )
    return f"## Empty tasks\n\n{about}\n\n```\n{done.stdout.rstrip()}\n```", done.stderr.strip()


def scheduler(tasks: int) -> tuple[str, str]:
    """Decisions a second of the scheduler, as its own script prints them."""
    command = [sys.executable, HERE / "scheduler.py", "--tasks", str(tasks)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    about = "A simulated fleet, one process. A decision is one event taken in, with all commands that follow."
    return f"## Scheduler\n\n{about}\n\n```\n{done.stdout.rstrip()}\n```", done.stderr.strip()


def measurements(settings: Settings, smoke: bool) -> dict[str, Measurement]:
    """All measurements by name, in the order in which they are made."""
    return {
        **{claim.name: partial(compare, claim, settings) for claim in CLAIMS},
        "first_result": partial(first_result.section, 1 if smoke else first_result.RUNS, settings.peers),
        "memory": partial(memory.section, *((_SMOKE_KEYS, "256MiB") if smoke else (memory.KEYS, memory.MEMORY))),
        "tasks": partial(tasks, *((200, "--only", "local", "journal", "grpc") if smoke else (50_000,))),
        "two_agents": partial(two_agents.section, settings.runs, max(1, settings.size_mb * 2 // 5), settings.text),
        "straggler": partial(straggler.section, settings.runs, straggler.SMOKE if smoke else straggler.SIZE),
        "kill_one": partial(kill_one.section, settings.runs, kill_one.SMOKE if smoke else kill_one.SIZE),
        "scheduler": partial(scheduler, 1_000 if smoke else 1_000_000),
        **{claim.name: partial(compare, claim, settings) for claim in CHAINS},
        "skew": partial(skew.section, settings),
        "small_files": partial(
            small_files.section, settings.runs, small_files.SMOKE_FILES if smoke else small_files.FILES
        ),
        "dataset_memory": partial(dataset_memory.section, dataset_memory.SMOKE_MB if smoke else dataset_memory.MB),
        "page": partial(page.section, page.SMOKE if smoke else page.SIZE),
        **(_of_ray(settings, smoke) if find_spec("ray") else {}),
    }


def _of_ray(settings: Settings, smoke: bool) -> dict[str, Measurement]:
    return {
        "ray_local": partial(ray_jobs.local_section, settings),
        "ray_peers": partial(ray_jobs.peers_section, settings),
        "ray_shuffle": partial(
            ray_shuffle.section, settings.runs, ray_shuffle.SMOKE_MB if smoke else ray_shuffle.SIZE_MB
        ),
    }


def parse() -> tuple[Settings, argparse.Namespace]:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(measurements(SMOKE, True)), help="measure these alone")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size-mb", type=int, default=500, help="of text; the other inputs follow")
    parser.add_argument("--text", type=Path, help="folder with text files; the standard library's sources by default")
    parser.add_argument("--peers", help=f"none, all or some of {','.join(PEERS)}; all by default")
    parser.add_argument("--smoke", action="store_true", help="everything once, tiny; nothing is written")
    given = parser.parse_args()
    named = (given.peers or "all").split(",")
    peers = tuple(PEERS) if named == ["all"] else tuple(name for name in named if name != "none")
    if unknown := set(peers) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if given.smoke:
        return Settings(SMOKE.runs, SMOKE.size_mb, given.text, peers), given
    return Settings(given.runs, given.size_mb, given.text, peers), given


def main() -> int:
    """Measure, print, write down; 1 if something could not be measured or came out wrong."""
    settings, given = parse()
    problems = []
    for name, measurement in measurements(settings, given.smoke).items():
        if given.only and name not in given.only:
            continue
        section, problem = measurement()
        if problem:
            problems.append(problem)
            print(f"FAILED {problem}", file=sys.stderr)
            continue
        print(f"\n{section}\n", flush=True)
        if not given.smoke:
            write_section(name, section)
    return 1 if problems else 0


if __name__ == "__main__":
    if "--smoke" in sys.argv:  # leaves nothing behind, the inputs included
        with tempfile.TemporaryDirectory(prefix="gristmill-bench-") as scratch:
            os.environ["GRISTMILL_BENCH_DATA"] = scratch
            sys.exit(main())
    sys.exit(main())
