"""How fast the scheduler decides, and how much it remembers: a simulated fleet, no processes.

    python bench/scheduler.py [--tasks 100000] [--slots 1000] [--failures 0.01]

A decision is one event taken in (with all commands that follow from it). Two rows, of which the second has ten times
the tasks and slots, show whether the cost stays flat.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections import deque
from random import Random

from gristmill.errors import FailureKind
from gristmill.scheduling.commands import EndJob, JobState, Launch
from gristmill.scheduling.events import (
    Event,
    JobSubmitted,
    SlotJoined,
    StageAdded,
    TaskFailed,
    TaskFinished,
    TimePassed,
)
from gristmill.scheduling.state import SchedulerState
from gristmill.scheduling.step import step

SLOTS_A_WORKER = 16


def play(tasks: int, slots: int, failures: float) -> tuple[int, float]:
    """Run one map-reduce job; return the number of events and the seconds that ``step`` took."""
    state, random, now = SchedulerState(), Random(1), 0.0
    running: deque[Launch] = deque()
    events: deque[Event] = deque(SlotJoined(f"s{n}", f"w{n // SLOTS_A_WORKER}") for n in range(slots))
    events.append(JobSubmitted("j", 1))
    events.append(StageAdded("j", 0, (), tasks, False))
    events.append(StageAdded("j", 1, (0,), max(1, tasks // 10), True))
    count, seconds, ended = 0, 0.0, None
    while ended is None:
        if events:
            event = events.popleft()
        elif running:
            attempt = running.popleft().attempt
            if random.random() < failures:
                event = TaskFailed(attempt, FailureKind.USER)
            else:
                event = TaskFinished(attempt, attempt.stage == 0, (100,) * 8 if attempt.stage == 0 else ())
            now += 0.0001
        else:
            event, now = TimePassed(), now + 0.1
        begun = time.perf_counter()
        commands = step(state, event, now)
        seconds += time.perf_counter() - begun
        count += 1
        for command in commands:
            if isinstance(command, Launch):
                running.append(command)
            elif isinstance(command, EndJob):
                ended = command.state
    assert ended is JobState.SUCCEEDED, ended
    return count, seconds


def bytes_a_task(tasks: int) -> float:
    """What the state takes with all map tasks done, for each."""
    state = SchedulerState()
    for n in range(100):
        step(state, SlotJoined(f"s{n}", f"w{n // SLOTS_A_WORKER}"), 0.0)
    tracemalloc.start()
    step(state, JobSubmitted("j", 1), 0.0)
    commands = step(state, StageAdded("j", 0, (), tasks, False), 0.0)
    while launches := [command for command in commands if isinstance(command, Launch)]:
        commands = [c for launch in launches for c in step(state, TaskFinished(launch.attempt, True, (100,) * 8), 0.0)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / tasks


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--slots", type=int, default=1_000)
    parser.add_argument("--failures", type=float, default=0.01, help="share of attempts that fail")
    options = parser.parse_args()
    print(f"{'tasks':>9} {'slots':>7} {'events':>9} {'decisions/s':>12}")
    for scale in (10, 1):
        tasks, slots = max(1, options.tasks // scale), max(1, options.slots // scale)
        count, seconds = play(tasks, slots, options.failures)
        print(f"{tasks:>9,} {slots:>7,} {count:>9,} {count / seconds:>12,.0f}")
    print(f"memory: {bytes_a_task(max(1, options.tasks // 5)):.0f} bytes a task")


if __name__ == "__main__":
    main()
