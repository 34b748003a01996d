"""Drives the scheduler by lists of events, checking everything after each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from gristmill.errors import FailureKind
from gristmill.scheduling.commands import AcceptOutput, Command, EndJob, Launch
from gristmill.scheduling.events import (
    AttemptId,
    Event,
    JobSubmitted,
    RetryPolicy,
    SlotJoined,
    StageAdded,
    TaskFailed,
    TaskFinished,
    TaskId,
    WorkerJoined,
)
from gristmill.scheduling.invariants import check
from gristmill.scheduling.state import COMMON_SHAPE, SchedulerState
from gristmill.scheduling.step import step

DEFAULT = RetryPolicy()
C = TypeVar("C", bound=Command)


class Run:
    """A scheduler and its time."""

    def __init__(self, *events: Event) -> None:
        self.state = SchedulerState()
        self.now = 0.0
        self.history: list[Command] = []
        self(*events)

    def __call__(self, *events: Event, at: float | None = None) -> list[Command]:
        """Feed events, all at one time; return the commands of all of them."""
        if at is not None:
            assert at >= self.now
            self.now = at
        out: list[Command] = []
        for event in events:
            out += step(self.state, event, self.now)
            check(self.state)
        self.history += out
        return out

    @property
    def free(self) -> list[str]:
        """Slots that are free, longest free first."""
        return list(self.state.offers[COMMON_SHAPE].slots)

    def finish_all(self) -> list[Command]:
        """Finish every running attempt, and those launched because of it, until nothing runs."""
        out: list[Command] = []
        while busy := [slot.attempt for slot in self.state.slots.values() if slot.attempt is not None]:
            for attempt in busy:
                stage = self.state.jobs[attempt.job].stages[attempt.stage]
                out += self(TaskFinished(attempt, has_block=not stage.final))
                if attempt.job not in self.state.jobs:
                    break
        return out


def slots(count: int, worker: str = "w", first: int = 0) -> list[Event]:
    """Slots w-0, w-1 … of one worker."""
    return [SlotJoined(f"{worker}-{number}", worker) for number in range(first, first + count)]


def job(
    *tasks: int, name: str = "j", policy: RetryPolicy = DEFAULT, max_bad_records: int = 0, priority: int = 0
) -> list[Event]:
    """A job whose stages are a chain with so many tasks each; the last one is final."""
    events: list[Event] = [JobSubmitted(name, 1, policy, max_bad_records, priority)]
    for stage, count in enumerate(tasks):
        events.append(StageAdded(name, stage, (stage - 1,) if stage else (), count, stage == len(tasks) - 1))
    return events


def worker(
    name: str = "w",
    count: int = 1,
    cpus: float | None = None,
    memory: int | None = None,
    host: str = "",
    rack: str = "",
    limits: tuple[float, float] | None = None,
    depth: int = 1,
) -> list[Event]:
    """A worker that says what it is, and its slots. ``limits`` are the seconds of suspicion and of loss."""
    suspect, lost = limits or (None, None)
    joined = WorkerJoined(name, host, rack, cpus, memory, suspect, lost)
    return [joined, *(SlotJoined(f"{name}-{number}", name, depth) for number in range(count))]


def attempt(stage: int, index: int, number: int = 1, job: str = "j") -> AttemptId:
    return AttemptId(job, stage, index, number)


def task(stage: int, index: int, job: str = "j") -> TaskId:
    return TaskId(job, stage, index)


def done(stage: int, index: int, number: int = 1, job: str = "j", sizes: tuple[int, ...] = ()) -> TaskFinished:
    """An attempt that keeps a block is done."""
    return TaskFinished(attempt(stage, index, number, job), True, sizes)


def written(stage: int, index: int, number: int = 1, job: str = "j", bad: int = 0) -> TaskFinished:
    """An attempt that wrote output is done."""
    return TaskFinished(attempt(stage, index, number, job), False, (), bad)


def failed(
    stage: int,
    index: int,
    number: int = 1,
    kind: FailureKind = FailureKind.USER,
    lost: Sequence[TaskId] = (),
    job: str = "j",
) -> TaskFailed:
    return TaskFailed(attempt(stage, index, number, job), kind, tuple(lost))


def launches(commands: Sequence[Command]) -> list[tuple[int, int, int, str]]:
    """(stage, index, number, slot) of each launch."""
    return [(*c.attempt[1:], c.slot) for c in commands if isinstance(c, Launch)]


def placed(commands: Sequence[Command]) -> dict[int, str]:
    """The slot of each task of one stage that is launched."""
    return {c.attempt.index: c.slot for c in commands if isinstance(c, Launch)}


def of(commands: Sequence[Command], kind: type[C]) -> list[C]:
    return [c for c in commands if isinstance(c, kind)]


def accepted(commands: Sequence[Command]) -> list[tuple[int, int, int]]:
    return [c.attempt[1:] for c in commands if isinstance(c, AcceptOutput)]


def ended(commands: Sequence[Command]) -> list[EndJob]:
    return [c for c in commands if isinstance(c, EndJob)]
