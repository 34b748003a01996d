"""Everything that can happen to the scheduler, in one place.

Any thread may post these; one loop feeds them to ``step``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gristmill.errors import FailureKind


class TaskId(NamedTuple):
    """A task of a stage of a job."""

    job: str
    stage: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of an id


class AttemptId(NamedTuple):
    """One try at a task. ``number`` counts from 1 and never repeats for a task, so a late result is known as such."""

    job: str
    stage: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of an id
    number: int

    @property
    def task(self) -> TaskId:
        """The task this is an attempt at."""
        return TaskId(self.job, self.stage, self.index)

    def __str__(self) -> str:
        return f"{self.job}-s{self.stage}-t{self.index:05d}-a{self.number}"


@dataclass(frozen=True)
class RetryPolicy:
    """Budgets of attempts by kind of failure, and the backoff between attempts at one task."""

    user_attempts: int = 4
    death_attempts: int = 20
    memory_attempts: int = 3
    lost_attempts: int = 100
    fetch_attempts: int = 20
    backoff_seconds: float = 0.1  # doubled at each failure of the task …
    backoff_limit_seconds: float = 2.0  # … up to here; jitter takes off up to half of it


@dataclass(frozen=True)
class SlotJoined:
    """A slot (an executor's place) is ready for work. Slot ids are never used again."""

    slot: str
    worker: str


@dataclass(frozen=True)
class SlotLeft:
    """A slot is gone. If an attempt ran in it and no TaskFailed came before, it is lost."""

    slot: str


@dataclass(frozen=True)
class WorkerLost:
    """A worker is gone with all its slots, and with all blocks that its slots made."""

    worker: str


@dataclass(frozen=True)
class Heartbeat:
    """A worker lives, and runs these attempts.

    ``began`` is when the worker made the list, on the clock that ``now`` is read from. Without it nothing is concluded
    about an attempt that no heartbeat of the worker has named yet: the list may be older than the launch.
    """

    worker: str
    attempts: tuple[AttemptId, ...]
    began: float | None = None


@dataclass(frozen=True)
class JobSubmitted:
    """A job begins. Its stages follow as StageAdded. ``seed`` is for the jitter of its retries.

    Job ids are never used again: what comes late for an ended job is known by its id.
    """

    job: str
    seed: int
    policy: RetryPolicy = RetryPolicy()
    max_bad_records: int = 0
    priority: int = 0


@dataclass(frozen=True)
class StageAdded:
    """A stage of a job. Parents were added before. Its tasks start when every parent is whole.

    The job succeeds when a stage with ``final`` is whole.
    """

    job: str
    stage: int
    parents: tuple[int, ...]
    tasks: int
    final: bool


@dataclass(frozen=True)
class TaskFinished:
    """An attempt is done. ``has_block`` says that its worker keeps a block which child stages will read."""

    attempt: AttemptId
    has_block: bool
    partition_bytes: tuple[int, ...] = ()  # empty for output
    bad_records: int = 0


@dataclass(frozen=True)
class TaskFailed:
    """An attempt ended without result. For FETCH, ``lost_blocks`` names the tasks whose blocks are gone.

    ``slot_leaves`` says whether the process ended with the attempt, so that SlotLeft follows and nothing is launched
    there. None means: yes after DEATH and MEMORY, no after the others. (A time-out is of kind USER, but ends it too.)
    """

    attempt: AttemptId
    kind: FailureKind
    lost_blocks: tuple[TaskId, ...] = ()
    slot_leaves: bool | None = None


@dataclass(frozen=True)
class BlockLost:
    """The block of a finished task is gone. It runs again if anything still needs it."""

    task: TaskId


@dataclass(frozen=True)
class JobCancelled:
    """Stop this job. Unknown or ended jobs are ignored."""

    job: str


@dataclass(frozen=True)
class TimePassed:
    """Nothing happened but the time that a WakeAt asked for."""


Event = (
    SlotJoined
    | SlotLeft
    | WorkerLost
    | Heartbeat
    | JobSubmitted
    | StageAdded
    | TaskFinished
    | TaskFailed
    | BlockLost
    | JobCancelled
    | TimePassed
)
