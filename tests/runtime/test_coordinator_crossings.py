"""The real coordinator with a fleet in which everything crosses, by seed: every job ends, and all attempts are counted.

A failure names its seed: ``play(tmp_path, SEED)`` plays it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from coordinator_kit import NotedOutput
from hostile_fleet import HostileFleet

from gristmill.errors import JobCancelled
from gristmill.plan.build import StepShape, build_plan
from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.coordinator.coordinator import Coordinator, RunningJob
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.outcome import Outcome
from gristmill.scheduling.events import AttemptId
from gristmill.scheduling.invariants import check
from gristmill.storage.contracts import PartFile, Split

MOVES = 8000  # many more than any seed has needed


class Output(NotedOutput):
    """Notes which attempts' files came into it."""

    def commit(self, parts: Sequence[PartFile], summary: Mapping[str, Any]) -> None:
        super().commit(parts, summary)
        self.staged = {part.staged.removeprefix("attempts/") for part in parts}


class Play:
    def __init__(self, place: Path, seed: int) -> None:
        self.random = Random(seed)
        self.now = 100.0
        self.deadly = seed % 3 > 0  # workers go away, too
        self.fleet = HostileFleet(self.random, self.deadly)
        self.coordinator = Coordinator(self.fleet, threaded=False, clock=lambda: self.now)
        self.coordinator.start()
        self.fleet.turn = self.turn  # type: ignore[method-assign]
        self.outputs: dict[str, Output] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.jobs = {name: self._submit(name, maps, place) for name, maps in (("j1", 40), ("j2", 8))}

    def _submit(self, name: str, maps: int, place: Path) -> RunningJob:
        output = self.outputs[name] = Output()
        spec = JobSpec(name, b"", (), str(place / "staging"), str(place / name), 1, 0, 1, None)
        plan = build_plan([StepShape(reduces=True)], reducers=4, output_format="text")
        splits = (tuple((Split(f"in{index}", 0, 50, 50, "text"),) for index in range(maps)),)
        running = self.coordinator.submit(PreparedJob(spec, "Job", plan, splits, output, "out"))
        assert isinstance(running, RunningJob)
        return running

    def turn(self) -> None:
        """Let the coordinator work, and look at the jobs that have ended by it."""
        self.coordinator._turn(0)
        for name, job in self.jobs.items():
            outcome = job._job.outcome
            if outcome is not None and name not in self.outcomes:
                self.outcomes[name] = outcome
                self.look_at(name, outcome)

    def move(self) -> None:
        """Something happens."""
        if self.random.random() < 0.03:
            self.now += self.random.random() * 0.3
            if self.random.random() < 0.8:
                self.fleet.beat()
            self.turn()
        [move] = self.random.choices(self.fleet.moves, self.fleet.weights)
        move()

    def look_at(self, name: str, outcome: Outcome) -> None:
        """A job is over: is it what it was, and are its attempts counted as they should be?"""
        ledger, view = self.fleet.ledger, outcome.view
        assert (view.attempts, view.failed_attempts) == ledger.counts(name)
        fates = {attempt: fate for attempt, fate in ledger.fates.items() if attempt.job == name}
        counted = {attempt for attempt, fate in fates.items() if fate not in ("not begun", "recalled")}
        # The truth is another one only where it cannot be known.
        assert {fates[attempt] for attempt in counted - self.fleet.begun} <= {"lost", "cancelled"}
        begun = {attempt for attempt in self.fleet.begun if attempt.job == name}
        assert self.deadly or {fates[attempt] for attempt in begun - counted} <= {"recalled"}
        if outcome.error is not None:
            assert isinstance(outcome.error, JobCancelled)
            return
        accepted = [attempt for attempt in fates if str(attempt) in self.outputs[name].staged]
        assert len(accepted) == 4
        seen = [self._data_of(attempt) for attempt in accepted]
        assert all(data == seen[0] for data in seen), "reducers have read different data"

    def _data_of(self, attempt: AttemptId) -> dict[str, int]:
        """What a reducer has read: the digest of each map task's block."""
        paths = self.fleet.read[attempt]
        return {path.rpartition("-a")[0]: self.fleet.digests[path] for path in paths}

    def look_for_remains(self) -> None:
        """All that was on its way has arrived: the dispatcher knows of nothing but what is there."""
        dispatcher, workers = self.coordinator._dispatcher, self.fleet.workers
        slots = {slot: name for name, worker in workers.items() for slot in worker.slots}
        assert dispatcher._workers.keys() == workers.keys()
        assert dispatcher._worker_of == slots
        assert dispatcher._attempts_in.keys() <= slots.keys()
        assert not any(dispatcher._attempts_in.values())
        assert not dispatcher._slot_of
        assert not dispatcher._arrived
        for job in self.jobs.values():
            assert not job._job.tally._running
        check(dispatcher._scheduler)


def play(place: Path, seed: int) -> None:
    play = Play(place, seed)
    cancel_at = play.random.randrange(3000)
    for number in range(MOVES):
        play.move()
        if number == cancel_at:
            play.jobs["j2"].cancel()
            play.turn()
        if number % 200 == 0:
            check(play.coordinator._dispatcher._scheduler)
        if len(play.outcomes) == len(play.jobs):
            break
    assert len(play.outcomes) == len(play.jobs), f"stuck: {[job.view() for job in play.jobs.values()]}"
    fleet = play.fleet
    while any(worker.orders or (worker.events and not worker.silent) for worker in fleet.workers.values()):
        fleet.hear()
        fleet.tell()
    for worker in fleet.workers.values():
        worker.silent = False
    while any(worker.events for worker in fleet.workers.values()):
        fleet.tell()
    play.look_for_remains()


def play_all(place: Path, seeds: range) -> None:
    for seed in seeds:
        try:
            play(place, seed)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.parametrize("first", [0, 60])
def test_whatever_crosses_all_jobs_end_and_attempts_are_counted(tmp_path: Path, first: int) -> None:
    play_all(tmp_path, range(first, first + 60))


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 21000, 1000))
def test_whatever_crosses_in_many_more_ways(tmp_path: Path, first: int) -> None:
    play_all(tmp_path, range(first, first + 1000))
