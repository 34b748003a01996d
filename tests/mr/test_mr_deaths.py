"""A job that expects deaths: they have no limit, nobody is blamed for them, and who is late counts as dead."""

from __future__ import annotations

from pathlib import Path

import pytest

from gristmill.api.job import run_job
from gristmill.api.mr import load_app
from gristmill.config import JobOptions
from gristmill.errors import FailureKind, JobFailed
from gristmill.scheduling.commands import Command, EndJob, Launch
from gristmill.scheduling.events import (
    Event,
    JobSubmitted,
    RetryPolicy,
    SlotJoined,
    SlotLeft,
    StageAdded,
    TaskFailed,
    TimePassed,
    WorkerJoined,
)
from gristmill.scheduling.retry import attempts_allowed
from gristmill.scheduling.state import SchedulerState
from gristmill.scheduling.step import step


@pytest.mark.parametrize("kind", [FailureKind.DEATH, FailureKind.LOST])
def test_deaths_have_no_limit(kind: FailureKind) -> None:
    assert attempts_allowed(RetryPolicy(), kind) <= 100
    assert attempts_allowed(RetryPolicy(deaths_expected=True), kind) > 10**9


@pytest.mark.parametrize("kind", [FailureKind.USER, FailureKind.MEMORY, FailureKind.FETCH, FailureKind.FATAL])
def test_all_else_has_the_usual_limits(kind: FailureKind) -> None:
    assert attempts_allowed(RetryPolicy(deaths_expected=True), kind) == attempts_allowed(RetryPolicy(), kind)


class Run:
    """A scheduler with two workers, one of which kills all that it runs."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.state = SchedulerState()
        self.now = 0.0
        self.slots = 0
        self.launched: list[Launch] = []
        for worker in ("good", "bad"):
            self.feed(WorkerJoined(worker))
        self.feed(JobSubmitted("job", seed=1, policy=policy))
        self.feed(StageAdded("job", 0, (), 50, True))

    def feed(self, event: Event) -> list[Command]:
        """One event; what follows."""
        commands = step(self.state, event, self.now)
        self.launched += [command for command in commands if isinstance(command, Launch)]
        return commands

    def die(self, count: int) -> bool:
        """Let so many attempts on the bad worker die, each of another task; False if it is not given any more."""
        for _ in range(count):
            self.slots += 1
            before = len(self.launched)
            self.feed(SlotJoined(f"bad-{self.slots}", "bad"))
            if len(self.launched) == before:
                return False
            (launch,) = self.launched[before:]
            commands = self.feed(TaskFailed(launch.attempt, FailureKind.DEATH))
            commands += self.feed(SlotLeft(launch.slot))
            assert not any(isinstance(command, EndJob) for command in commands)
            self.now += 0.01
            self.feed(TimePassed())
        return True


def test_a_worker_where_processes_die_is_not_rested() -> None:
    for expected in (False, True):
        run = Run(RetryPolicy(deaths_expected=expected))
        run.feed(SlotJoined("good-0", "good"))
        assert run.die(10) is expected


LATE_ONCE = """
import time
from pathlib import Path


def map_func(filename, content):
    been = Path(filename + ".been")
    if not been.exists():
        been.touch()
        time.sleep(60.0)
    return [(content, 1)]


def reduce_func(key, values):
    return str(len(values))
"""


@pytest.mark.parametrize("expected", [False, True])
def test_who_is_late_counts_as_dead(tmp_path: Path, expected: bool) -> None:
    (tmp_path / "app.py").write_text(LATE_ONCE)
    (tmp_path / "a.txt").write_text("word")
    options = JobOptions(
        executors=1,
        memory_bytes=256 << 20,
        reducers=1,
        max_attempts=1,
        task_timeout_seconds=2.0 if expected else 0.3,  # the second time there must be enough of it
        deaths_expected=expected,
        data_dir=tmp_path / "data",
    )
    job = load_app(tmp_path / "app.py")
    if not expected:
        with pytest.raises(JobFailed, match="time-out"):
            run_job(job, [tmp_path / "a.txt"], tmp_path / "out", options)
        return
    run_job(job, [tmp_path / "a.txt"], tmp_path / "out", options)
    assert (tmp_path / "out" / "part-r-00000").read_text() == "word 1\n"
