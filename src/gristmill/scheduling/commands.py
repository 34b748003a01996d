"""Everything that the scheduler can ask for, in one place. Whoever runs the loop carries these out, in order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from gristmill.scheduling.events import AttemptId, TaskId


class JobState(Enum):
    """How a job stands. The last three are final; the first one the scheduler never sees."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job is over."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Launch(NamedTuple):
    """Start this attempt in this slot."""

    attempt: AttemptId
    slot: str
    speculative: bool = False  # another attempt at the task runs already
    waited_seconds: float = 0.0  # so long the task could have run, and there was no slot for it


@dataclass(frozen=True)
class Cancel:
    """End this attempt. No answer is expected; one that comes is ignored. The slot answers with SlotLeft.

    ``recalled`` says that it waits behind another attempt in its slot, so that the slot stays, unless it has begun.
    """

    attempt: AttemptId
    slot: str
    recalled: bool = False


class AcceptOutput(NamedTuple):
    """This attempt is the one that counts for its task: keep its block, parts and counters."""

    attempt: AttemptId


@dataclass(frozen=True)
class DiscardOutput:
    """This attempt came late, or its job is over: nothing of it may remain."""

    attempt: AttemptId


@dataclass(frozen=True)
class RevokeOutput:
    """What was accepted for this task was made from data that has changed since: it counts no more.

    Nothing of it may remain, and whoever keeps a journal takes note of this before it notes anything that follows. The
    task runs again, and another attempt at it will be accepted.
    """

    task: TaskId


@dataclass(frozen=True)
class FreeBlock:
    """Nothing will read this task's block again: its consumers are whole for good, or its job has succeeded."""

    task: TaskId


@dataclass(frozen=True)
class ReportStage:
    """A stage is whole: the sum of its tasks' bytes for each partition (empty for output)."""

    job: str
    stage: int
    partition_bytes: tuple[int, ...]


@dataclass(frozen=True)
class DropWorker:
    """This worker was silent for too long: it is lost. Whatever still comes from it is refused."""

    worker: str


@dataclass(frozen=True)
class WakeAt:
    """Send TimePassed at this time (of the clock that ``now`` is read from), unless another event comes first."""

    when: float


@dataclass(frozen=True)
class EndJob:
    """A job is over. For FAILED, ``cause`` names the attempt that ended it, or None for too many bad records."""

    job: str
    state: JobState
    cause: AttemptId | None = None


Command = (
    Launch
    | Cancel
    | AcceptOutput
    | DiscardOutput
    | RevokeOutput
    | FreeBlock
    | ReportStage
    | DropWorker
    | WakeAt
    | EndJob
)
