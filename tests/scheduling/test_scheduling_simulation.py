"""Whole jobs on a fleet where everything breaks, by Hypothesis: whatever happens, in whatever order, jobs end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from fleet_model import FleetModel
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gristmill.errors import FailureKind
from gristmill.scheduling.commands import JobState, WakeAt
from gristmill.scheduling.events import (
    AttemptId,
    Event,
    Heartbeat,
    JobCancelled,
    JobSubmitted,
    RetryPolicy,
    SlotJoined,
    SlotLeft,
    StageAdded,
    StageReplaced,
    TaskFailed,
    TaskFinished,
    TimePassed,
    WorkerLost,
)
from gristmill.scheduling.invariants import check
from gristmill.scheduling.state import SchedulerState
from gristmill.scheduling.step import step

POLICY = RetryPolicy(user_attempts=3, death_attempts=5, lost_attempts=10, fetch_attempts=10)
WORKERS = ("a", "b", "c")
picks = st.integers(0, 2**16)


class Simulation(RuleBasedStateMachine):
    """Rules are what can happen. After each, everything is checked."""

    def __init__(self) -> None:
        super().__init__()
        self.state = SchedulerState()
        self.fleet = FleetModel()
        self.now = 0.0
        self.jobs = 0
        self.old_attempts: list[AttemptId] = []
        self.log: list[tuple[Event, float]] = []

    def feed(self, event: Event) -> None:
        self.log.append((event, self.now))
        asked = None if isinstance(event, TimePassed) else self.state.wake_at
        commands = step(self.state, event, self.now)
        assert WakeAt(asked or -1.0) not in commands, "asked for the same wake twice"
        self.fleet.obey(commands)

    def attempt(self, pick: int) -> AttemptId:
        attempts = sorted(self.fleet.running)
        return attempts[pick % len(attempts)]

    @rule(worker=st.sampled_from(WORKERS))
    def join(self, worker: str) -> None:
        if len(self.fleet.slots) < 8:
            self.fleet.slot_count += 1
            slot = f"{worker}-{self.fleet.slot_count}"
            self.fleet.slots[slot] = worker
            self.feed(SlotJoined(slot, worker))

    @rule(
        counts=st.lists(st.integers(0, 4), min_size=1, max_size=4),
        parents=st.lists(picks, min_size=4, max_size=4),
        priority=st.integers(-1, 1),
        awaiting=picks,
    )
    def submit(self, counts: list[int], parents: list[int], priority: int, awaiting: int) -> None:
        if len(self.state.jobs) >= 3:
            return
        self.jobs += 1
        name = f"j{self.jobs}"
        self.fleet.stages[name] = {}
        self.feed(JobSubmitted(name, self.jobs, POLICY, 2, priority))
        for stage, tasks in enumerate(counts):
            chosen = tuple(p for p in range(stage) if parents[stage] >> p & 1 or p == stage - 1 == 0)
            awaits = bool(chosen and tasks and awaiting >> stage & 1)
            added = StageAdded(name, stage, chosen, tasks, stage == len(counts) - 1, awaits_plan=awaits)
            self.fleet.stages[name][stage] = added
            self.feed(added)

    @precondition(lambda self: self.fleet.awaiting())
    @rule(pick=picks, tasks=st.integers(1, 6), between=st.integers(0, 2))
    def replace_stage(self, pick: int, tasks: int, between: int) -> None:
        """It is decided how a stage is cut; perhaps with another one between it and a parent."""
        waiting = self.fleet.awaiting()
        job, number = waiting[pick % len(waiting)]
        stages = self.fleet.stages[job]
        parents = stages[number].parents
        if between:
            added = StageAdded(job, len(stages), parents[:1], between, False)
            stages[added.stage] = added
            self.feed(added)
            parents += (added.stage,)
        stages[number] = replace(stages[number], parents=parents, tasks=tasks, awaits_plan=False)
        self.feed(StageReplaced(job, number, parents, tasks))

    @precondition(lambda self: self.fleet.running)
    @rule(pick=picks, bad=st.sampled_from([0, 0, 0, 0, 1]))
    def finish(self, pick: int, bad: int) -> None:
        attempt = self.attempt(pick)
        self.old_attempts.append(attempt)
        self.feed(self.fleet.finish(attempt, bad))

    @precondition(lambda self: self.fleet.running)
    @rule(pick=picks, kind=st.sampled_from([FailureKind.USER, FailureKind.FETCH, FailureKind.FATAL]))
    def fail(self, pick: int, kind: FailureKind) -> None:
        attempt = self.attempt(pick)
        self.old_attempts.append(attempt)
        del self.fleet.running[attempt]
        lost = self.fleet.missing_inputs(attempt) if kind is FailureKind.FETCH else ()
        self.feed(TaskFailed(attempt, kind, lost))

    @precondition(lambda self: self.fleet.running)
    @rule(pick=picks, blocks=picks)
    def read_a_corrupt_block(self, pick: int, blocks: int) -> None:
        attempt = self.attempt(pick)
        inputs = sorted(
            task
            for task in self.fleet.blocks
            if task.job == attempt.job
            and task.stage in self.fleet.stages[attempt.job][attempt.stage].parents
            and self.state.jobs[attempt.job].stages[task.stage].redone.get(task.index, 0) == 0
        )
        lost = tuple(inputs[:: 1 + blocks % 3])
        del self.fleet.running[attempt]
        for task in lost:
            self.fleet.lose_block(task)
        self.feed(TaskFailed(attempt, FailureKind.FETCH, lost))

    @precondition(lambda self: self.fleet.running)
    @rule(pick=picks, kind=st.sampled_from([FailureKind.DEATH, FailureKind.MEMORY, FailureKind.USER]))
    def die(self, pick: int, kind: FailureKind) -> None:
        attempt = self.attempt(pick)
        self.fleet.dying.add(self.fleet.running.pop(attempt))
        self.feed(TaskFailed(attempt, kind, slot_leaves=True))

    @precondition(lambda self: self.fleet.slots)
    @rule(pick=picks, dying_first=st.booleans())
    def leave(self, pick: int, dying_first: bool) -> None:
        slots = sorted(self.fleet.dying if dying_first and self.fleet.dying else self.fleet.slots)
        slot = slots[pick % len(slots)]
        self.fleet.lose_slot(slot)
        self.feed(SlotLeft(slot))

    @rule(worker=st.sampled_from(WORKERS))
    def lose_worker(self, worker: str) -> None:
        self.fleet.lose_worker(worker)
        self.feed(WorkerLost(worker))

    @precondition(lambda self: self.fleet.blocks)
    @rule(pick=picks)
    def lose_block(self, pick: int) -> None:
        blocks = sorted(self.fleet.blocks)
        self.feed(self.fleet.lose_block(blocks[pick % len(blocks)]))

    @precondition(lambda self: self.fleet.running)
    @rule(pick=picks)
    def lose_launch(self, pick: int) -> None:
        del self.fleet.running[self.attempt(pick)]

    @rule(worker=st.sampled_from(WORKERS))
    def beat(self, worker: str) -> None:
        self.now += 0.01
        alive = tuple(a for a, slot in self.fleet.running.items() if self.fleet.slots[slot] == worker)
        self.feed(Heartbeat(worker, alive, began=self.now))

    @precondition(lambda self: self.old_attempts)
    @rule(pick=picks, kind=st.sampled_from([None, *FailureKind]))
    def late_news(self, pick: int, kind: FailureKind | None) -> None:
        attempt = self.old_attempts[pick % len(self.old_attempts)]
        if kind is None:
            self.fleet.pending[attempt] = (TaskFinished(attempt, True), "a")
            self.feed(self.fleet.pending[attempt][0])
            assert attempt not in self.fleet.pending
        else:
            self.feed(TaskFailed(attempt, kind))

    @rule(pick=st.integers(1, 5))
    def cancel(self, pick: int) -> None:
        if pick == 5 and self.jobs:
            self.feed(JobCancelled(f"j{self.jobs}"))

    @rule(seconds=st.floats(0.0, 3.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.feed(TimePassed())

    @invariant()
    def consistent(self) -> None:
        check(self.state)
        for job in self.state.jobs.values():
            for stage in job.stages.values():
                living = {index for index, maker in enumerate(stage.makers) if maker >= 0}
                assert living == {t.index for t in self.fleet.blocks if t[:2] == (job.id, stage.id)}

    def teardown(self) -> None:
        """Let things go well from here on: every job must end, and nothing may be left of any."""
        self.replay()
        for _ in range(400):
            if not self.state.jobs:
                break
            for slot in sorted(self.fleet.dying):
                self.fleet.lose_slot(slot)
                self.feed(SlotLeft(slot))
            for worker in WORKERS:
                self.join(worker)
                self.beat(worker)
            if self.fleet.awaiting():
                self.replace_stage(0, 2, 0)
            if self.fleet.running:
                self.feed(self.fleet.finish(self.attempt(0)))
            self.now += 0.5
            self.feed(TimePassed())
            self.consistent()
        assert not self.state.jobs, "a job does not end"
        assert self.fleet.ended.keys() == self.fleet.stages.keys()
        assert not self.fleet.blocks and not self.fleet.running
        assert not any(offer.ready for offer in self.state.offers.values())
        assert set(self.fleet.ended.values()) <= {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}

    def replay(self) -> None:
        """The same events at the same times make the same commands."""
        first, second = SchedulerState(), SchedulerState()
        for event, now in self.log:
            assert step(first, event, now) == step(second, event, now)
        assert repr(sorted(first.slots)) == repr(sorted(self.state.slots))


Simulation.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestSimulation = Simulation.TestCase


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(n, marks=pytest.mark.soak) for n in range(20, 400))])
def test_long_runs_with_more_luck_than_hypothesis_has(seed: int) -> None:
    """Hypothesis breaks everything all the time; here jobs get far enough to have something to lose."""
    random = Random(seed)
    sim = Simulation()
    rates = {"finish": 40, "beat": 6, "join": 6, "pass_time": 4, "submit": 2, "leave": 2, "late_news": 1}
    rates |= {"lose_block": 3, "read_a_corrupt_block": 2, "die": 1, "lose_launch": 1, "lose_worker": 1, "fail": 1}
    rates["replace_stage"] = 5
    needs = {"lose_block": "blocks", "leave": "slots"}
    needs |= dict.fromkeys(("finish", "read_a_corrupt_block", "die", "lose_launch", "fail"), "running")
    arguments: dict[str, Callable[[], tuple[object, ...]]] = {
        "finish": lambda: (random.randrange(2**16), int(random.random() < 0.01)),
        "join": lambda: (random.choice(WORKERS),),
        "beat": lambda: (random.choice(WORKERS),),
        "lose_worker": lambda: (random.choice(WORKERS),),
        "pass_time": lambda: (random.random(),),
        "submit": lambda: (
            [random.randrange(1, 6) for _ in range(random.randrange(2, 5))],
            [random.randrange(2**16) for _ in range(4)],
            random.randrange(-1, 2),
            random.randrange(2**16),
        ),
        "replace_stage": lambda: (random.randrange(2**16), random.randrange(1, 7), random.randrange(3)),
        "leave": lambda: (random.randrange(2**16), random.random() < 0.8),
        "late_news": lambda: (random.randrange(2**16), random.choice([None, *FailureKind])),
        "lose_block": lambda: (random.randrange(2**16),),
        "read_a_corrupt_block": lambda: (random.randrange(2**16), random.randrange(3)),
        "die": lambda: (random.randrange(2**16), FailureKind.DEATH),
        "lose_launch": lambda: (random.randrange(2**16),),
        "fail": lambda: (random.randrange(2**16), random.choice([FailureKind.USER, FailureKind.FETCH])),
    }
    for _ in range(400):
        (name,) = random.choices(list(rates), list(rates.values()))
        if (name in needs and not getattr(sim.fleet, needs[name])) or (name == "late_news" and not sim.old_attempts):
            continue
        if name == "replace_stage" and not sim.fleet.awaiting():
            continue
        getattr(sim, name)(*arguments[name]())
        sim.consistent()
    sim.teardown()
    assert JobState.SUCCEEDED in sim.fleet.ended.values()
