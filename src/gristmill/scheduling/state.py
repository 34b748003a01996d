"""Everything the scheduler knows, and nothing else. Each attribute's comment says what always holds for it.

A task is an index into arrays of its stage, about 16 bytes in all; only tasks that run, or fail, get an object of
their own (:class:`Attempt`, :class:`~gristmill.scheduling.retry.Trouble`). What
:mod:`invariants <gristmill.scheduling.invariants>` checks is what these comments promise.
"""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from gristmill.scheduling.events import AttemptId, RetryPolicy, SpeculationPolicy, TaskId, TaskRestored
from gristmill.scheduling.retry import Trouble
from gristmill.scheduling.transitions import Cause, TaskState, follow

# What stands in Stage.makers instead of a worker's number.
FREED = -4  # it is done, and its block was freed because nothing can need it again
NEVER = -3  # the task was never done
LOST = -2  # it was done, and its block was lost, or its input has changed since
NO_BLOCK = -1  # it is done and made no block
SHARED = 0  # its block is where no worker's death reaches it

_DURATIONS = 255  # of a stage's last finished attempts: enough for a median
_SMOOTHING = 0.25  # weight of the last attempt in Stage.mean_seconds
_ROUNDING = 1e-9  # CPUs are fractions, and sums of them round

Rank = tuple[float, int, int, str]


class Shape(NamedTuple):
    """What a job's tasks take of a worker, each."""

    cpus: float
    memory_bytes: int


COMMON_SHAPE = Shape(1.0, 0)


class Alarm(IntEnum):
    """What a timer is for."""

    RESTED = 0  # an attempt's task has backed off long enough
    LEAVES = 1  # a slot was to leave by now
    STALL = 2  # a slot may have attempts that wait behind a long one
    PROBE = 3  # a resting worker may be tried again
    LOOK = 4  # a stage has waited long enough for a better place
    SPECULATE = 5  # time to look for a job's stragglers


Timer = tuple[float, int, Alarm, object]  # when, sequence, what for, and whose: an id


@dataclass(slots=True, eq=False)
class Worker:
    """A machine's agent. Known until it is lost; one that comes back is another object."""

    name: str
    number: int  # never used again, and never SHARED; stands in Stage.makers
    joined: bool = False  # WorkerJoined came: what follows is known
    host: str = ""
    rack: str = ""
    cpus: float | None = None  # None: as many as most_slots
    memory_bytes: int | None = None  # None: no limit
    suspect_seconds: float | None = None
    lost_seconds: float | None = None
    slots: dict[str, Slot] = field(default_factory=dict)  # its slots, each also in SchedulerState.slots
    free: dict[str, Slot] = field(default_factory=dict)  # those of them that are free, longest free first
    most_slots: int = 0  # the most that it ever had at a time
    used: int = 0  # how many of its slots hold a shape
    cpus_used: float = 0.0  # the sum of these shapes; never more than it has
    memory_used: int = 0  # likewise
    offered: set[Shape] = field(default_factory=set)  # exactly the shapes in whose Offer its free slots stand
    reserved_for: Shape | None = None  # its slots are kept for tasks of this shape until one fits
    serving: bool = False  # it is in service and has slots; counted in SchedulerState.serving
    heard_at: float = 0.0  # when it last gave a sign of life
    watch_at: float | None = None  # when its silence is judged next: its entry in SchedulerState.watch
    suspect: bool = False  # silent for suspect_seconds: no work for it
    draining: bool = False  # wants to leave: no work for it any more
    failed_tasks: set[TaskId] = field(default_factory=set)  # that failed here since its last success, and only here
    rests: int = 0  # how often in a row it was rested
    rest_until: float | None = None  # its circuit is open: no work for it; exactly then it is in SchedulerState.resting
    probing: bool = False  # its circuit is half open: one attempt at a time

    @property
    def in_service(self) -> bool:
        """Whether it may get work at all."""
        return not (self.draining or self.suspect or self.rest_until is not None)

    def holds(self, shape: Shape) -> bool:
        """Whether a task of this shape would fit if nothing else ran here."""
        cpus = self.most_slots if self.cpus is None else self.cpus
        return shape.cpus <= cpus + _ROUNDING and (self.memory_bytes is None or shape.memory_bytes <= self.memory_bytes)

    def takes(self, shape: Shape) -> bool:
        """Whether a task of this shape may start here now, given a free slot."""
        return (
            self.in_service
            and self.reserved_for in (None, shape)
            and not (self.probing and self.used)
            and self.cpus_used + shape.cpus <= (self.most_slots if self.cpus is None else self.cpus) + _ROUNDING
            and (self.memory_bytes is None or self.memory_used + shape.memory_bytes <= self.memory_bytes)
        )


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt that was launched and is not over: in one slot, and in its stage's running or copies."""

    id: AttemptId
    slot: Slot
    launched_at: float
    began_at: float  # when it became the first of its slot, as far as can be told
    sequence: int  # of its launch; see SchedulerState.sequence
    ready_at: float  # since when its task only waited for a slot
    listed: bool = False  # a heartbeat named it
    missed: int = 0  # so many heartbeats in a row should have named it and did not
    progress: float = 0.0  # 0 to 1, as the last heartbeat said
    copied: bool = False  # another attempt at the task was started beside it


@dataclass(slots=True, eq=False)
class Slot:
    """An executor's place. Exactly one of: free, busy (has attempts), leaving."""

    id: str
    worker: Worker
    depth: int = 1  # it never has more attempts
    attempts: deque[Attempt] = field(default_factory=deque)  # in the order of their launch, all of one job
    leaves_by: float | None = None  # leaving: SlotLeft is expected; at this time it counts as free after all
    shape: Shape | None = None  # what it holds of its worker; None exactly while it is free
    offered_at: float = 0.0  # since when it is free
    doubtful: bool = False  # its first attempt was cancelled while others waited: it probably leaves
    stall_at: float | None = None  # when its STALL timer goes off, if one is set

    @property
    def attempt(self) -> AttemptId | None:
        """What runs here, as far as can be told."""
        return self.attempts[0].id if self.attempts else None


@dataclass(slots=True, eq=False)
class Offer:
    """What there is for tasks of one shape, and who wants it."""

    slots: OrderedDict[str, Slot] = field(default_factory=OrderedDict)  # where one may start now, longest free first
    log: list[tuple[int, Slot]] = field(default_factory=list)  # (sequence, slot) as they were put into `slots`
    ready: list[Rank] = field(default_factory=list)  # jobs of this shape with a ready task, sorted: first served first
    jobs: int = 0  # how many jobs have this shape
    reserved: Worker | None = None  # the worker whose reserved_for is this shape
    hopeless: bool = False  # no worker could hold such a task when one was last looked for


@dataclass(slots=True, eq=False)
class Places:
    """Where the tasks of a stage that were never launched would best run. A hint: entries of others are skipped."""

    by_host: bool  # keys are hosts (where the input lies); else names of workers (that keep most of a partition)
    waits: bool  # a better place is worth waiting for
    local: dict[str, list[int]]  # key -> tasks, the first last
    anywhere: list[int]  # tasks that no living place is better for, the first last
    since: float  # when its tasks became ready
    scanned: int = 0  # the entries of Offer.log up to this sequence have been looked at
    racks: dict[str, list[int]] | None = None  # rack -> tasks, made when first wanted


@dataclass(slots=True, eq=False)
class Stage:
    """A stage of a job: its place in the DAG, and its tasks as arrays."""

    id: int
    parents: tuple[Stage, ...]
    tasks: int
    final: bool
    depth: int  # the longest way from a stage without parents
    hosts: tuple[tuple[str, ...], ...] = ()  # where each task's input lies; empty when none of them cares
    awaits_plan: bool = False  # how it is cut is not decided yet: none of its tasks has a number
    reads: tuple[tuple[int, int], ...] = ()  # partitions that each task reads; empty: as many as tasks, one each
    children: list[Stage] = field(default_factory=list)  # stages that name this one as a parent
    reported: bool = False  # it has been whole once
    available: bool = False  # whole, and no block lost: children may read
    blocked: int = 0  # parents that are not available, and one each if the job is held, or the stage awaits its plan
    opened_at: float = 0.0  # when `blocked` became 0 last
    freed: bool = False  # its blocks were freed: whole, and nothing can need them again
    listed: bool = False  # it stands in Job.ready_stages
    states: bytearray = field(init=False)  # TaskState of each task, WAITING for ready ones too
    counts: list[int] = field(init=False)  # how many tasks have each state in `states`
    numbers: array[int] = field(init=False)  # of each task's last attempt, 0 for none
    makers: array[int] = field(init=False)  # number of the worker that keeps each task's block, or one of the above
    digests: array[int] | None = None  # of what each task made last; None while all are 0
    cursor: int = 0  # waiting tasks from here on that have no number wait in index order
    requeued: list[int] = field(default_factory=list)  # a heap: the waiting tasks that have a number, each once
    requeued_at: dict[int, float] = field(default_factory=dict)  # since when these could run, once the stage is open
    running: dict[int, Attempt] = field(default_factory=dict)  # exactly the RUNNING tasks
    copies: dict[int, Attempt] = field(default_factory=dict)  # second attempts at some of these
    gone: set[int] = field(default_factory=set)  # exactly the GONE tasks
    stale: set[int] = field(default_factory=set)  # tasks that were done with input that has changed; none is done
    troubles: dict[int, Trouble] = field(default_factory=dict)  # tasks that failed and are not done
    kept: int = 0  # how many blocks live
    blocks_on: dict[int, array[int]] = field(default_factory=dict)  # worker number -> tasks, stale ones too
    redone: dict[int, int] = field(default_factory=dict)  # task done again after a loss -> sequence of that
    bad_records: dict[int, int] = field(default_factory=dict)  # of accepted attempts that had any
    partition_bytes: list[int] = field(default_factory=list)  # summed over tasks, each once (a second run is the same)
    bytes_on: dict[int, array[int]] | None = None  # worker number -> bytes of each partition; None: one worker, or many
    only_maker: int | None = None  # the one worker that keeps blocks, while bytes_on is None
    places: Places | None = None  # None: any place is as good
    look_at: float | None = None  # when its LOOK timer goes off, if one is set
    finished: int = 0  # how many attempts were accepted
    mean_seconds: float = 0.0  # of accepted attempts, the last ones weighing more
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=_DURATIONS))  # of the last accepted attempts

    def __post_init__(self) -> None:
        self._cut()

    def cut_again(self, tasks: int, reads: tuple[tuple[int, int], ...], hosts: tuple[tuple[str, ...], ...]) -> None:
        """Have other tasks; none was ever launched."""
        assert self.counts[TaskState.WAITING] == self.tasks, "its tasks only wait"
        assert not any(self.numbers), "none was launched"
        self.tasks, self.reads, self.hosts = tasks, reads, hosts
        self._cut()

    def _cut(self) -> None:
        self.states = bytearray(self.tasks)
        self.counts = [self.tasks] + [0] * (len(TaskState) - 1)
        self.numbers = array("I", [0]) * self.tasks
        self.makers = array("i", [NEVER]) * self.tasks

    @property
    def open(self) -> bool:
        """Whether its waiting tasks are ready."""
        return self.blocked == 0

    @property
    def done(self) -> bool:
        """Whether every task was done, and none has to run again as things stand."""
        return self.counts[TaskState.DONE] + self.counts[TaskState.GONE] == self.tasks

    @property
    def whole(self) -> bool:
        """Whether it was reported, and is done now."""
        return self.reported and self.done

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

    def requeue(self, index: int, cause: Cause, since: float) -> None:
        """Let a task that has a number wait again; it can run since then, if its stage is open."""
        self.move(index, cause)
        heapq.heappush(self.requeued, index)
        self.requeued_at[index] = since

    def ready_since(self, index: int) -> float:
        """Since when a task that is launched now could have run."""
        if not self.requeued_at:
            return self.opened_at
        return max(self.opened_at, self.requeued_at.pop(index, 0.0))

    def is_fresh(self, index: int) -> bool:
        """Whether a task waits and was never launched."""
        return self.numbers[index] == 0 and self.states[index] == TaskState.WAITING

    def next_fresh(self) -> int:
        """The first task that waits and was never launched. There must be one."""
        while not self.is_fresh(self.cursor):
            self.cursor += 1
        return self.cursor

    def note_seconds(self, seconds: float) -> None:
        """An attempt was accepted that ran for so long."""
        self.finished += 1
        self.durations.append(seconds)
        weight = 1.0 if self.finished == 1 else _SMOOTHING
        self.mean_seconds += weight * (seconds - self.mean_seconds)


@dataclass(slots=True, eq=False)
class Job:
    """A job that runs. One that has ended is not remembered."""

    id: str
    order: int  # jobs count up; the earlier wins a tie
    seed: int
    policy: RetryPolicy
    max_bad_records: int
    priority: int
    shape: Shape = COMMON_SHAPE
    speculation: SpeculationPolicy | None = None
    locality_seconds: float = 0.0
    stages: dict[int, Stage] = field(default_factory=dict)
    ready_stages: list[tuple[int, int]] = field(default_factory=list)  # (-depth, id) where a task is ready; sorted
    rank: Rank | None = None  # its entry in its Offer.ready, None when no task is ready
    slots: int = 0  # how many slots have attempts of it
    bad_records: int = 0  # of accepted attempts, over all stages
    held: dict[TaskId, TaskRestored] | None = None  # until it is released: what was done before; None: it is not held
    speculate_at: float | None = None  # when its SPECULATE timer goes off, if one is set

    def task(self, stage: Stage, index: int) -> TaskId:
        """The name of a task."""
        return TaskId(self.id, stage.id, index)


@dataclass(slots=True, eq=False)
class SchedulerState:
    """What ``step`` reads and changes. Make one, hand it to ``step``, and look at it only through commands."""

    now: float = 0.0  # the time of the last step
    workers: dict[str, Worker] = field(default_factory=dict)
    slots: dict[str, Slot] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    offers: dict[Shape, Offer] = field(default_factory=lambda: {COMMON_SHAPE: Offer()})  # the common one, and all jobs'
    serving: int = 0  # how many workers are serving
    resting: dict[str, Worker] = field(default_factory=dict)  # those whose circuit is open, longest resting first
    dropped: OrderedDict[str, None] = field(default_factory=OrderedDict)  # the last names that are refused
    hosts: dict[str, int] = field(default_factory=dict)  # host -> how many workers stand there that do not drain
    rack_of: dict[str, str] = field(default_factory=dict)  # host -> rack, of all workers ever seen
    copies: int = 0  # second attempts that run
    due: list[str] = field(default_factory=list)  # jobs whose stragglers are to be looked for; empty between steps
    timers: list[Timer] = field(default_factory=list)  # a heap; entries that mean nothing any more are skipped
    watch: list[tuple[float, int, str]] = field(default_factory=list)  # a heap: when to ask if a worker was heard
    wake_at: float | None = None  # the WakeAt that was asked for last and has not come
    sequence: int = 0  # counts launches, acceptances, offers and timers, to tell which was first
    worker_count: int = 0  # workers ever seen: the last one's number
    job_count: int = 0  # jobs ever seen: the next one's order

    def tick(self) -> int:
        """The next sequence number."""
        self.sequence += 1
        return self.sequence

    def set_timer(self, when: float, alarm: Alarm, target: object) -> None:
        """Have an alarm go off."""
        heapq.heappush(self.timers, (when, self.tick(), alarm, target))
