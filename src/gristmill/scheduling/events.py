"""Everything that can happen to the scheduler, in one place.

Any thread may post these; one loop feeds them to ``step``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gristmill.errors import FailureKind
from gristmill.scheduling.ids import AttemptId as AttemptId
from gristmill.scheduling.ids import TaskId as TaskId


@dataclass(frozen=True)
class RetryPolicy:
    """Budgets of attempts by kind of failure, and the backoff between attempts at one task.

    With ``deaths_expected`` processes and machines may go away without limit, and no worker is blamed for it.
    """

    user_attempts: int = 4
    death_attempts: int = 20
    memory_attempts: int = 3
    lost_attempts: int = 100
    fetch_attempts: int = 20
    backoff_seconds: float = 0.1  # doubled at each failure of the task …
    backoff_limit_seconds: float = 2.0  # … up to here; jitter takes off up to half of it
    deaths_expected: bool = False


@dataclass(frozen=True)
class SpeculationPolicy:
    """When a running task is a straggler, and how much work may be done twice.

    A task is one if, by its progress so far, it will take ``slowdown`` times as long as the median task of its stage,
    and has run for ``floor_seconds``. Its copy starts only in a slot that no ready task wants.
    """

    slowdown: float = 1.5
    floor_seconds: float = 2.0
    load_cap: float = 0.1  # copies that run at once, as a share of all slots; one is always allowed


@dataclass(frozen=True)
class WorkerJoined:
    """A worker is there; its slots follow. Worker names are never used again: one that comes back has another.

    Attributes:
        host: the machine, as splits name it; empty when it has none.
        rack: where the machine stands; empty when unknown.
        cpus: what its tasks may use together; None: as many as it has slots.
        memory_bytes: likewise; None: no limit that the scheduler knows of.
        suspect_seconds: without a heartbeat for so long it gets no more work; None: it cannot be lost by silence.
        lost_seconds: without a heartbeat for so long it is lost.
    """

    worker: str
    host: str = ""
    rack: str = ""
    cpus: float | None = None
    memory_bytes: int | None = None
    suspect_seconds: float | None = None
    lost_seconds: float | None = None


@dataclass(frozen=True)
class WorkerDraining:
    """A worker wants to leave: it gets no more work. Its attempts go on, and its blocks can still be read."""

    worker: str


@dataclass(frozen=True)
class SlotJoined:
    """A slot (an executor's place) is ready for work. Slot ids are never used again.

    ``depth`` is how many attempts it takes at a time: it runs one, the others wait in it. More than one is sent only
    while tasks are so short that the way to the slot costs more than they do.
    """

    slot: str
    worker: str
    depth: int = 1


@dataclass(frozen=True)
class SlotLeft:
    """A slot is gone. If an attempt ran in it and no TaskFailed came before, it is lost."""

    slot: str


@dataclass(frozen=True)
class WorkerLost:
    """A worker is gone with all its slots, and with all blocks that its slots made (but for shared ones)."""

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
    progress: tuple[float, ...] = ()  # of each attempt, 0 to 1; empty when unknown


@dataclass(frozen=True)
class JobSubmitted:
    """A job begins. Its stages follow as StageAdded. ``seed`` is for the jitter of its retries.

    Job ids are never used again: what comes late for an ended job is known by its id.

    Attributes:
        task_cpus: what each of its tasks takes of its worker's CPUs.
        task_memory_bytes: likewise of the memory.
        speculation: None: no task runs twice at once.
        locality_seconds: how long its tasks wait for a better place.
        held: nothing starts before JobReleased: what an earlier coordinator has done comes first, as TaskRestored.
    """

    job: str
    seed: int
    policy: RetryPolicy = RetryPolicy()
    max_bad_records: int = 0
    priority: int = 0
    task_cpus: float = 1.0
    task_memory_bytes: int = 0
    speculation: SpeculationPolicy | None = None
    locality_seconds: float = 0.5
    held: bool = False


@dataclass(frozen=True)
class JobReleased:
    """All that was done of a held job is known: it goes on."""

    job: str


@dataclass(frozen=True)
class StageAdded:
    """A stage of a job. Parents were added before. Its tasks start when every parent is whole.

    The job succeeds when a stage with ``final`` is whole. ``hosts`` names the machines where a task's input lies, for
    each task; empty when none of them cares. With ``awaits_plan`` no task starts before StageReplaced: how many there
    are follows from what the parents make, of which ReportStage tells. ``reads`` is that of StageReplaced.
    """

    job: str
    stage: int
    parents: tuple[int, ...]
    tasks: int
    final: bool
    hosts: tuple[tuple[str, ...], ...] = ()
    awaits_plan: bool = False
    reads: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class StageReplaced:
    """A stage that awaits a plan is cut into other tasks, or stays as it is. No task of it was launched.

    ``parents`` were added before; they may be more than they were, not fewer. ``reads`` says which partitions of its
    parents each task reads, from the first to the one after the last; empty: task i reads partition i. ``hosts`` are as
    in StageAdded.
    """

    job: str
    stage: int
    parents: tuple[int, ...]
    tasks: int
    reads: tuple[tuple[int, int], ...] = ()
    hosts: tuple[tuple[str, ...], ...] = ()


class TaskFinished(NamedTuple):
    """An attempt is done. ``has_block`` says that its worker keeps a block which child stages will read.

    ``digest`` tells the block's content: if a task that runs again makes another, every task that has read, or is
    reading, the old one runs again. ``shared`` says that the block does not die with its worker.
    """

    attempt: AttemptId
    has_block: bool
    partition_bytes: tuple[int, ...] = ()  # empty for output
    bad_records: int = 0
    digest: int = 0
    shared: bool = False
    seconds: float | None = None  # how long it ran, as its executor says; None: as long as it was launched


@dataclass(frozen=True)
class TaskRestored:
    """A task of a held job was done under an earlier coordinator.

    ``worker`` keeps its block; None: the block is gone (or was freed), so the task runs again if anything needs it. The
    attempt's number is taken: the next one is higher.
    """

    attempt: AttemptId
    worker: str | None
    has_block: bool
    partition_bytes: tuple[int, ...] = ()
    bad_records: int = 0
    digest: int = 0
    shared: bool = False


@dataclass(frozen=True)
class TaskFailed:
    """An attempt ended without result. For FETCH, ``lost_blocks`` names the tasks whose blocks are gone.

    ``slot_leaves`` says whether the process ended with the attempt, so that SlotLeft follows and nothing is launched
    there. None means: yes after DEATH and MEMORY, no after the others. (A time-out is of kind USER, but ends it too.)
    An attempt that had not ``begun`` costs its task nothing.
    """

    attempt: AttemptId
    kind: FailureKind
    lost_blocks: tuple[TaskId, ...] = ()
    slot_leaves: bool | None = None
    begun: bool = True


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
    WorkerJoined
    | WorkerDraining
    | SlotJoined
    | SlotLeft
    | WorkerLost
    | Heartbeat
    | JobSubmitted
    | JobReleased
    | StageAdded
    | StageReplaced
    | TaskFinished
    | TaskRestored
    | TaskFailed
    | BlockLost
    | JobCancelled
    | TimePassed
)
