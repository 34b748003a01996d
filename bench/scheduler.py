"""How fast the scheduler decides, and how much it remembers: a simulated fleet, no processes.

    python bench/scheduler.py [--tasks 1000000] [--workers 10000] [--failures 0.01]

A decision is one event taken in, with all commands that follow from it: workers join, with limits to their silence,
and send a heartbeat a second; tasks finish, or fail; time passes. One map-reduce job is played with a hundredth of the
tasks and workers, a tenth, and all of them: the cost of a decision must depend on neither number.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections import deque
from collections.abc import Iterator
from random import Random

from results import verdict

from gristmill.errors import FailureKind
from gristmill.scheduling.commands import Command, DropWorker, EndJob, JobState, Launch, WakeAt
from gristmill.scheduling.events import (
    AttemptId,
    Event,
    Heartbeat,
    JobSubmitted,
    SlotJoined,
    SpeculationPolicy,
    StageAdded,
    TaskFailed,
    TaskFinished,
    TimePassed,
    WorkerJoined,
)
from gristmill.scheduling.state import SchedulerState
from gristmill.scheduling.step import step

RATE_LIMIT = 20_000  # decisions a second, at each size
SPREAD_LIMIT = 0.20  # between the sizes
BYTES_LIMIT = 1024  # a task

SLOTS_A_WORKER = 2
TASK_SECONDS = 2.0
BEAT_SECONDS = 1.0
PARTITION_BYTES = (100,) * 8


class Play:
    """One run of a job, in virtual time."""

    def __init__(self, tasks: int, workers: int, failures: float) -> None:
        self.tasks, self.workers, self.failures = tasks, workers, failures
        self.state = SchedulerState()
        self.random = Random(1)
        self.now = 0.0
        self.events = 0
        self.seconds = 0.0
        self.ended: JobState | None = None
        self.running: deque[tuple[float, AttemptId]] = deque()  # until when, in order: tasks take the same time each
        self.wake_at: float | None = None

    def feed(self, event: Event) -> None:
        begun = time.perf_counter()
        commands = step(self.state, event, self.now)
        self.seconds += time.perf_counter() - begun
        self.events += 1
        for command in commands:
            self.carry_out(command)

    def carry_out(self, command: Command) -> None:
        match command:
            case Launch(attempt):
                self.running.append((self.now + TASK_SECONDS, attempt))
            case WakeAt(when):
                self.wake_at = when
            case EndJob(_, ended):
                self.ended = ended
            case DropWorker():
                raise AssertionError(f"{command} is not silent")

    def begin(self) -> None:
        for number in range(self.workers):
            self.feed(WorkerJoined(f"w{number}", suspect_seconds=5.0, lost_seconds=10.0))
            for slot in range(SLOTS_A_WORKER):
                self.feed(SlotJoined(f"w{number}/{slot}", f"w{number}"))
        self.feed(JobSubmitted("j", 1, speculation=SpeculationPolicy()))
        self.feed(StageAdded("j", 0, (), self.tasks, False))
        self.feed(StageAdded("j", 1, (0,), max(1, self.tasks // 10), True))

    def run(self) -> None:
        self.begin()
        beats = self.beats()
        while self.ended is None:
            beat_at = self.events_of_time(beats)
            self.now = min(beat_at, self.wake_at or beat_at, self.running[0][0] if self.running else beat_at)
            if self.wake_at is not None and self.wake_at <= self.now:
                self.wake_at = None
                self.feed(TimePassed())
        assert self.ended is JobState.SUCCEEDED, self.ended

    def events_of_time(self, beats: Iterator[None]) -> float:
        """Whatever is due by now: attempts that are over, then one heartbeat. Returns when the next one is due."""
        while self.running and self.running[0][0] <= self.now and self.ended is None:
            _, attempt = self.running.popleft()
            if self.random.random() < self.failures:
                self.feed(TaskFailed(attempt, FailureKind.USER))
            else:
                is_map = attempt.stage == 0
                self.feed(TaskFinished(attempt, is_map, PARTITION_BYTES if is_map else (), seconds=TASK_SECONDS))
        next(beats)
        return self.now + BEAT_SECONDS / self.workers

    def beats(self) -> Iterator[None]:
        """Heartbeats of all workers in turn, evenly over each second."""
        while True:
            for worker in list(self.state.workers.values()):
                alive = tuple(slot.attempt for slot in worker.slots.values() if slot.attempt is not None)
                self.feed(Heartbeat(worker.name, alive, self.now, (0.5,) * len(alive)))
                yield


def bytes_a_task(tasks: int) -> float:
    """What the state takes with all map tasks done, for each."""
    state = SchedulerState()
    for number in range(100):
        step(state, SlotJoined(f"s{number}", f"w{number // SLOTS_A_WORKER}"), 0.0)
    tracemalloc.start()
    step(state, JobSubmitted("j", 1), 0.0)
    commands = step(state, StageAdded("j", 0, (), tasks, False), 0.0)
    while launches := [command for command in commands if isinstance(command, Launch)]:
        commands = [
            c
            for launch in launches
            for c in step(state, TaskFinished(launch.attempt, True, PARTITION_BYTES, digest=launch.attempt.index), 0.0)
        ]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / tasks


def main() -> None:
    """Print a row for each number of tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, help="default: a hundredth of the tasks")
    parser.add_argument("--failures", type=float, default=0.01, help="share of attempts that fail")
    options = parser.parse_args()
    workers = options.workers or max(1, options.tasks // 100)
    print(f"{'tasks':>9} {'workers':>7} {'events':>9} {'decisions/s':>12}")
    rates = []
    for scale in (100, 10, 1):
        play = Play(max(1, options.tasks // scale), max(1, workers // scale), options.failures)
        play.run()
        rates.append(play.events / play.seconds)
        print(f"{play.tasks:>9,} {play.workers:>7,} {play.events:>9,} {rates[-1]:>12,.0f}")
    spread = 1 - min(rates) / max(rates)
    size = bytes_a_task(max(1, options.tasks // 10))
    print(f"decisions: {min(rates):,.0f} a second. Limit at least {RATE_LIMIT:,} ({verdict(min(rates) >= RATE_LIMIT)})")
    print(f"slowest size: {spread:.0%} below the fastest. Limit {SPREAD_LIMIT:.0%} ({verdict(spread <= SPREAD_LIMIT)})")
    print(f"memory: {size:.0f} bytes a task. Limit {BYTES_LIMIT:,} ({verdict(size <= BYTES_LIMIT)})")


if __name__ == "__main__":
    main()
