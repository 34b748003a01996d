"""Everything the scheduler knows, and nothing else. Each attribute's comment says what always holds for it.

A task is an index into arrays of its stage, about 16 bytes in all; only tasks that fail get an object of their own
(:class:`~gristmill.scheduling.retry.Trouble`). What :mod:`invariants <gristmill.scheduling.invariants>` checks is what
these comments promise.
"""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field

from gristmill.scheduling.events import AttemptId, RetryPolicy, TaskId
from gristmill.scheduling.retry import Trouble
from gristmill.scheduling.transitions import Cause, TaskState, follow

# What stands in Stage.makers instead of a worker's number.
FREED = -4  # it is done, and its block was freed because nothing can need it again
NEVER = -3  # the task was never done
LOST = -2  # its block was lost
NO_BLOCK = -1  # it is done and made no block

Rank = tuple[float, int, int, str]
Timer = tuple[float, int, AttemptId | str]


@dataclass(slots=True, eq=False)
class Worker:
    """A machine's agent. Known from its first slot until WorkerLost; one that comes back is another object."""

    name: str
    number: int  # never used again; stands in Stage.makers
    slots: dict[str, Slot] = field(default_factory=dict)  # its slots, each also in SchedulerState.slots
    heard_at: float | None = None  # when its last heartbeat came


@dataclass(slots=True, eq=False)
class Slot:
    """An executor's place. Exactly one of: free, busy (has an attempt), leaving."""

    id: str
    worker: Worker
    attempt: AttemptId | None = None  # busy: this attempt runs here, and Stage.running says so too
    leaves_by: float | None = None  # leaving: SlotLeft is expected; at this time it counts as free after all
    launched_at: float = 0.0  # of the attempt
    sequence: int = 0  # of the attempt's launch; see SchedulerState.sequence
    listed: bool = False  # a heartbeat named the attempt
    missed: int = 0  # so many heartbeats in a row should have named it and did not


@dataclass(slots=True, eq=False)
class Stage:
    """A stage of a job: its place in the DAG, and its tasks as arrays."""

    id: int
    parents: tuple[Stage, ...]
    tasks: int
    final: bool
    depth: int  # the longest way from a stage without parents
    children: list[Stage] = field(default_factory=list)  # stages that name this one as a parent
    reported: bool = False  # it has been whole once
    available: bool = False  # whole, and no block lost: children may read
    blocked: int = 0  # how many parents are not available; 0: the gate is open
    freed: bool = False  # its blocks were freed: whole, and nothing can need them again
    listed: bool = False  # it stands in Job.ready_stages
    states: bytearray = field(init=False)  # TaskState of each task, WAITING for ready ones too
    counts: list[int] = field(init=False)  # how many tasks have each state in `states`
    attempts: array[int] = field(init=False)  # number of each task's last attempt, 0 for none
    makers: array[int] = field(init=False)  # number of the worker that keeps each task's block, or one of the above
    cursor: int = 0  # tasks from here on were never launched; they wait in index order
    requeued: list[int] = field(default_factory=list)  # a heap: the waiting tasks before the cursor, each once
    running: dict[int, Slot] = field(default_factory=dict)  # exactly the RUNNING tasks
    gone: set[int] = field(default_factory=set)  # exactly the GONE tasks
    troubles: dict[int, Trouble] = field(default_factory=dict)  # tasks that failed and are not done
    kept: int = 0  # how many blocks live
    blocks_on: dict[int, array[int]] = field(default_factory=dict)  # worker number -> tasks, stale ones too
    redone: dict[int, int] = field(default_factory=dict)  # task done again after a loss -> sequence of that
    bad_records: dict[int, int] = field(default_factory=dict)  # of accepted attempts that had any
    partition_bytes: list[int] = field(default_factory=list)  # summed over tasks, each once (a second run is the same)

    def __post_init__(self) -> None:
        self.states = bytearray(self.tasks)
        self.counts = [self.tasks] + [0] * (len(TaskState) - 1)
        self.attempts = array("I", [0]) * self.tasks
        self.makers = array("i", [NEVER]) * self.tasks

    @property
    def open(self) -> bool:
        """Whether its waiting tasks are ready."""
        return self.blocked == 0

    @property
    def whole(self) -> bool:
        """Whether every task was done and none has to run again as things stand."""
        return self.reported and self.counts[TaskState.DONE] + self.counts[TaskState.GONE] == self.tasks

    @property
    def needed(self) -> bool:
        """Whether its blocks are wanted now: for the output, for its sizes, or by a child that is not whole."""
        return self.final or not self.reported or any(not child.whole for child in self.children)

    @property
    def settled(self) -> bool:
        """Whether it is whole for good: it keeps no block that could be lost and wanted."""
        return self.whole and (self.freed or (self.kept == 0 and not self.gone))

    def state_of(self, index: int) -> TaskState:
        """The state of a task, waiting and ready told apart."""
        stored = self.states[index]
        return TaskState.READY if stored == TaskState.WAITING and self.blocked == 0 else TaskState(stored)

    def move(self, index: int, cause: Cause) -> None:
        """Change a task's state by the table of transitions."""
        stored = self.states[index]
        ready = stored == TaskState.WAITING and self.blocked == 0
        target = follow(TaskState.READY if ready else stored, cause)
        self.states[index] = target
        self.counts[stored] -= 1
        self.counts[target] += 1

    def requeue(self, index: int, cause: Cause) -> None:
        """Let a task that was launched before wait again."""
        self.move(index, cause)
        heapq.heappush(self.requeued, index)

    def next_index(self) -> int:
        """Take the next waiting task: one that has run before comes first, then by index."""
        if self.requeued:
            return heapq.heappop(self.requeued)
        self.cursor += 1
        return self.cursor - 1


@dataclass(slots=True, eq=False)
class Job:
    """A job that runs. One that has ended is not remembered."""

    id: str
    order: int  # jobs count up; the earlier wins a tie
    seed: int
    policy: RetryPolicy
    max_bad_records: int
    priority: int
    stages: dict[int, Stage] = field(default_factory=dict)
    ready_stages: list[tuple[int, int]] = field(default_factory=list)  # (-depth, id) where a task is ready; sorted
    rank: Rank | None = None  # its entry in SchedulerState.ready_jobs, None when no task is ready
    running: int = 0  # attempts, over all stages
    bad_records: int = 0  # of accepted attempts, over all stages

    def task(self, stage: Stage, index: int) -> TaskId:
        """The name of a task."""
        return TaskId(self.id, stage.id, index)


@dataclass(slots=True, eq=False)
class SchedulerState:
    """What ``step`` reads and changes. Make one, hand it to ``step``, and look at it only through commands."""

    workers: dict[str, Worker] = field(default_factory=dict)
    slots: dict[str, Slot] = field(default_factory=dict)
    free: OrderedDict[str, Slot] = field(default_factory=OrderedDict)  # slots to launch in, longest free first
    jobs: dict[str, Job] = field(default_factory=dict)
    ready_jobs: list[Rank] = field(default_factory=list)  # jobs with a ready task, sorted: first is served first
    timers: list[Timer] = field(default_factory=list)  # a heap; entries that mean nothing any more are skipped
    wake_at: float | None = None  # the WakeAt that was asked for last and has not come
    sequence: int = 0  # counts launches, acceptances and timers, to tell which was first
    worker_count: int = 0  # workers ever seen: the next one's number
    job_count: int = 0  # jobs ever seen: the next one's order

    def tick(self) -> int:
        """The next sequence number."""
        self.sequence += 1
        return self.sequence
