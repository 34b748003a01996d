"""How many empty tasks a second the engine carries: what a task costs beside its work.

    python bench/tasks.py [--tasks 20000] [--executors 2] [--runs 3]

An empty task is a map task without input in a job with a shuffle. Everything is real: the coordinator, its scheduler,
the agent, executor processes, and a result that is awaited and counted for every task. The time is that of the whole
job, from its submission to its committed output; the executors are up before.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
from settings import EXECUTORS

from gristmill.config import MIB
from gristmill.fleets.local import LocalFleet
from gristmill.plan.build import build_plan, shapes_of
from gristmill.plan.functions import JobCode, StepFunctions
from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.coordinator import Coordinator
from gristmill.runtime.jobs import PreparedJob
from gristmill.scheduling.commands import JobState
from gristmill.storage.commit import OutputCommit

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
    return PreparedJob(spec, name, plan, ((),) * tasks, output, str(output.output))


@contextmanager
def local(executors: int) -> Iterator[Coordinator]:
    """A coordinator on this machine's executors."""
    coordinator = Coordinator(LocalFleet(executors))
    coordinator.start()
    try:
        yield coordinator
    finally:
        coordinator.close()


def run_job(coordinator: Coordinator, prepared: PreparedJob) -> float:
    """Seconds that a job took."""
    begun = time.perf_counter()
    outcome = coordinator.submit(prepared).wait(_PATIENCE_SECONDS)
    seconds = time.perf_counter() - begun
    assert outcome is not None, f"not done within {_PATIENCE_SECONDS:.0f} s"
    assert outcome.view.state is JobState.SUCCEEDED, outcome.error
    assert sum(stage.done for stage in outcome.view.stages) == len(prepared.splits) + 1
    return seconds


def measure(coordinator: Coordinator, tasks: int, runs: int) -> list[float]:
    """Tasks a second of some jobs, one after another."""
    with tempfile.TemporaryDirectory(prefix="gristmill-bench-") as folder:
        run_job(coordinator, prepared_job(Path(folder), "warm-up", 100))
        jobs = (prepared_job(Path(folder), f"job-{number}", tasks) for number in range(runs))
        return [tasks / run_job(coordinator, job) for job in jobs]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--executors", type=int, default=EXECUTORS)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(f"{'fleet':<24} {'tasks':>9} {'tasks/s, best':>14} {'worst':>9}")
    with local(options.executors) as coordinator:
        rates = measure(coordinator, options.tasks, options.runs)
    print(f"{'local':<24} {options.tasks:>9,} {max(rates):>14,.0f} {min(rates):>9,.0f}")


if __name__ == "__main__":
    main()
