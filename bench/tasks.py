"""How many empty tasks a second the engine carries: what a task costs beside its work.

    python bench/tasks.py [--tasks 20000] [--executors 2] [--runs 3] [--only NAME...]

An empty task is a map task without input in a job with a shuffle. Everything is real: the coordinator, its scheduler,
the agent, executor processes, and a result that is awaited and counted for every task. The time is that of the whole
job, from its submission to its committed output; the executors are up before.

Names: local, journal (local, with a journal), grpc (what ``gristmill serve --executors`` starts: a journal, and a
worker process beside it that is reached over gRPC) and ray (a Ray of its own, whose actor keeps the executors).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cloudpickle
from results import verdict
from settings import EXECUTORS

from gristmill.config import MIB
from gristmill.fleets.local import LocalFleet
from gristmill.plan.build import build_plan, shapes_of
from gristmill.plan.functions import JobCode, StepFunctions
from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.coordinator.coordinator import Coordinator
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.journal.journal import Journal
from gristmill.runtime.process.processes import collect_garbage_rarely
from gristmill.scheduling.commands import JobState
from gristmill.storage.commit import OutputCommit

LIMITS = {"local": 10_000, "journal": 10_000, "grpc": 4_000, "ray": 10_000}
"""Tasks a second, at least, in the median."""

_PATIENCE_SECONDS = 300.0


def _mapper(_: Any, line: str) -> Iterator[tuple[str, int]]:
    yield line, 1


def _reducer(word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
    yield word, sum(counts)


def prepared_job(folder: Path, name: str, tasks: int) -> PreparedJob:
    """A word count of nothing, in so many map tasks."""
    steps = (StepFunctions(mapper=_mapper, reducer=_reducer),)
    output = OutputCommit.prepare(folder / f"{name}-output", name, False)
    spec = JobSpec(
        job=name,
        code=cloudpickle.dumps(JobCode(steps)),
        import_paths=(),
        staging=str(output.staging),
        folder=str(folder / name),
        memory_bytes=64 * MIB,
        max_bad_records=0,
        max_record_bytes=MIB,
        task_timeout_seconds=None,
    )
    plan = build_plan(shapes_of(steps), reducers=1, output_format="text")
    return PreparedJob(spec, name, plan, (((),) * tasks,), output, str(output.output))


@contextmanager
def local(executors: int, folder: Path) -> Iterator[tuple[Coordinator, Journal | None]]:
    """A coordinator on this machine's executors, which notes nothing."""
    with closing(Coordinator(LocalFleet(executors))) as coordinator:
        coordinator.start()
        yield coordinator, None


@contextmanager
def with_journal(executors: int, folder: Path) -> Iterator[tuple[Coordinator, Journal | None]]:
    """The same, and a journal of its jobs."""
    with local(executors, folder) as (coordinator, _), closing(Journal(folder / "journal.db")) as journal:
        yield coordinator, journal


@contextmanager
def over_grpc(executors: int, folder: Path) -> Iterator[tuple[Coordinator, Journal | None]]:
    """A server with a worker of its own."""
    from gristmill.service.server import Server, ServeSettings

    with Server(ServeSettings(port=0, data_dir=folder / "server", executors=executors)) as server:
        yield server.coordinator, None  # it has its own


@contextmanager
def on_ray(executors: int, folder: Path) -> Iterator[tuple[Coordinator, Journal | None]]:
    """A Ray of its own, with one node."""
    from gristmill.api.shipping import Shipment
    from gristmill.fleets.ray.fleet import RayFleet
    from gristmill.fleets.ray.settings import RaySettings

    settings = RaySettings(executors=executors, data_dir=folder / "ray")
    with closing(Coordinator(RayFleet(settings, lambda code: Shipment(code).bundle()))) as coordinator:
        coordinator.start()
        yield coordinator, None


SETTINGS = {"local": local, "journal": with_journal, "grpc": over_grpc, "ray": on_ray}


def run_job(coordinator: Coordinator, journal: Journal | None, prepared: PreparedJob) -> float:
    """Seconds that a job took."""
    begun = time.perf_counter()
    outcome = coordinator.submit(prepared, journal=journal).wait(_PATIENCE_SECONDS)
    seconds = time.perf_counter() - begun
    assert outcome is not None, f"not done within {_PATIENCE_SECONDS:.0f} s"
    assert outcome.view.state is JobState.SUCCEEDED, outcome.error
    assert sum(stage.done for stage in outcome.view.stages) == len(prepared.splits[0]) + 1
    return seconds


def measure(name: str, tasks: int, runs: int, executors: int) -> list[float]:
    """Tasks a second of some jobs, one after another."""
    with tempfile.TemporaryDirectory(prefix="gristmill-bench-") as made:
        folder = Path(made)
        with SETTINGS[name](executors, folder) as (coordinator, journal):
            run_job(coordinator, journal, prepared_job(folder, "warm-up", 10 * executors))
            jobs = (prepared_job(folder, f"job-{number}", tasks) for number in range(runs))
            return [tasks / run_job(coordinator, journal, job) for job in jobs]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--executors", type=int, default=EXECUTORS)
    parser.add_argument("--runs", type=int, default=3)
    there = [name for name in SETTINGS if name != "ray" or find_spec("ray")]
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=there, help="by default all that can run")
    options = parser.parse_args()
    collect_garbage_rarely()  # as every command of Gristmill does
    print(f"{'fleet':<9} {'tasks':>9} {'tasks/s, best':>14} {'median':>9} {'worst':>9}  limit")
    for name in options.only:
        rates = measure(name, options.tasks, options.runs, options.executors)
        best, median, worst = max(rates), statistics.median(rates), min(rates)
        limit = f"at least {LIMITS[name]:,} ({verdict(median >= LIMITS[name])})"
        print(f"{name:<9} {options.tasks:>9,} {best:>14,.0f} {median:>9,.0f} {worst:>9,.0f}  {limit}", flush=True)


if __name__ == "__main__":
    main()
