"""Thousands of short tasks through coordinator, agent and executors, undisturbed and with executors that are killed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest
from agent_kit import PATIENCE

from gristmill.config import MIB
from gristmill.fleets.local import LocalFleet
from gristmill.plan.build import build_plan, shapes_of
from gristmill.plan.functions import JobCode, StepFunctions
from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.coordinator.coordinator import Coordinator
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.outcome import Outcome
from gristmill.scheduling.commands import JobState
from gristmill.storage.commit import OutputCommit
from gristmill.storage.contracts import Split

cloudpickle.register_pickle_by_value(sys.modules[__name__])

WORDS = 40


def mapper(_: Any, line: str) -> Iterator[tuple[str, int]]:
    yield line, 1


def reducer(word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
    yield word, sum(counts)


def word_count(folder: Path, tasks: int) -> PreparedJob:
    """A word count of so many lines, each of which is a map task."""
    lines = [f"{number % WORDS:02d}\n" for number in range(tasks)]
    source = folder / "in.txt"
    source.write_text("".join(lines))
    splits = (tuple((Split(str(source), 3 * number, 3, 3, "text"),) for number in range(tasks)),)
    steps = (StepFunctions(mapper=mapper, reducer=reducer),)
    output = OutputCommit.prepare(folder / "out", "job", False)
    spec = JobSpec(
        "job", cloudpickle.dumps(JobCode(steps)), (), str(output.staging), str(folder / "job"), 64 * MIB, 0, MIB, None
    )
    plan = build_plan(shapes_of(steps), reducers=1, output_format="text")
    return PreparedJob(spec, "words", plan, splits, output, str(output.output))


def executors(elders: list[psutil.Process]) -> list[psutil.Process]:
    """The executors of this process's agents, but those of other tests' agents."""
    servers = [server for server in psutil.Process().children() if server not in elders]
    return [executor for server in servers for executor in server.children()]


def check(outcome: Outcome | None, folder: Path, tasks: int) -> None:
    """The job is done, and each line was counted once."""
    assert outcome is not None
    assert outcome.view.state is JobState.SUCCEEDED, outcome.error
    expected = [f"{word:02d}\t{len(range(word, tasks, WORDS))}" for word in range(WORDS)]
    assert (folder / "out" / "part-r-00000").read_text().splitlines() == expected


def test_two_thousand_short_tasks(tmp_path: Path) -> None:
    with closing(Coordinator(LocalFleet(2))) as coordinator:
        coordinator.start()
        outcome = coordinator.submit(word_count(tmp_path, 2000)).wait(4 * PATIENCE)
        check(outcome, tmp_path, 2000)
        assert outcome is not None
        assert outcome.view.failed_attempts == 0
        # On a busy machine the agent may be so late to say what is done that attempts are recalled which have begun.
        assert outcome.view.attempts >= 2001


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere executors have no forkserver above them")
def test_a_killed_executor_costs_one_attempt_however_many_waited(tmp_path: Path) -> None:
    kills = 4
    elders = psutil.Process().children()
    with closing(Coordinator(LocalFleet(2))) as coordinator:
        coordinator.start()
        running = coordinator.submit(word_count(tmp_path, 2000))
        for number in range(kills):
            give_up = time.monotonic() + PATIENCE
            while running.view().stages[0].done < 300 * (number + 1) and time.monotonic() < give_up:
                time.sleep(0.005)
            for executor in executors(elders)[:1]:
                executor.kill()
        outcome = running.wait(4 * PATIENCE)
        check(outcome, tmp_path, 2000)
        assert outcome is not None
        assert outcome.view.failed_attempts <= kills
        assert all(failure.error == "ExecutorDied" for failure in outcome.view.failures)


def test_a_job_of_short_tasks_is_cancelled_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.runtime.coordinator.dispatch._DRAIN_SECONDS", 2 * PATIENCE)
    with closing(Coordinator(LocalFleet(2))) as coordinator:
        coordinator.start()
        running = coordinator.submit(word_count(tmp_path, 4000))
        give_up = time.monotonic() + PATIENCE
        while running.view().stages[0].done < 100 and time.monotonic() < give_up:
            time.sleep(0.005)
        running.cancel()
        outcome = running.wait(PATIENCE)
        assert outcome is not None, "it is given up only later to wait for attempts"
        assert outcome.view.state is JobState.CANCELLED
        assert not (tmp_path / "out").exists()
