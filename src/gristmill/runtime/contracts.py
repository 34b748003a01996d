"""The seam between the coordinator and whatever runs tasks: specs in, results or failure reports out.

Everything that an executor sends back is plain data (JSON), so that a coordinator never unpickles what user code made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gristmill.errors import FailureReport
from gristmill.plan.stages import Stage
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo
from gristmill.storage.contracts import PartFile, Split


@dataclass(frozen=True)
class JobSpec:
    """What every task of a job shares. Shipped to an executor once.

    Attributes:
        code: ``JobCode``, pickled by value. Opaque to all but executors.
        import_paths: put in front of ``sys.path`` in executors (the script's own folder, the caller's).
        staging: the output's staging folder.
        folder: the job's folder: blocks, spills and logs go below it.
        memory_bytes: budget of one executor.
    """

    job: str
    code: bytes
    import_paths: tuple[str, ...]
    staging: str
    folder: str
    memory_bytes: int
    max_bad_records: int
    max_record_bytes: int
    task_timeout_seconds: float | None


@dataclass(frozen=True)
class TaskSpec:
    """One attempt's work: exactly one of ``splits`` and ``blocks`` is used, by the stage's source."""

    attempt: AttemptId
    stage: Stage
    splits: tuple[Split, ...] = ()
    blocks: tuple[BlockInfo, ...] = ()  # of the parent's tasks in order; read segment ``partition`` of each
    partition: int = 0


@dataclass
class Progress:
    """How far an attempt is. Written by the task, read by whoever reports; the numbers only grow."""

    records_in: int = 0
    bytes_in: int = 0
    current: Iterator[Any] | None = None  # over the records of the block in work

    def advance(self, records: int, nbytes: int) -> None:
        """A block of input is done."""
        self.records_in += records
        self.bytes_in += nbytes


@dataclass(frozen=True)
class TaskResult:
    """What a finished attempt made."""

    records_in: int = 0
    bytes_in: int = 0
    records_out: int = 0
    bytes_out: int = 0
    spilled_bytes: int = 0
    bad_records: int = 0
    last_bad: FailureReport | None = None  # the last of those records
    counters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    block: BlockInfo | None = None
    parts: tuple[PartFile, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As values that ``json.dumps`` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TaskResult:
        """The inverse of :meth:`to_json`."""
        fields = dict(data)
        fields["block"] = BlockInfo.from_json(fields["block"]) if fields.get("block") else None
        fields["last_bad"] = FailureReport.from_json(fields["last_bad"]) if fields.get("last_bad") else None
        fields["parts"] = tuple(PartFile(**part) for part in fields.get("parts", ()))
        return cls(**fields)


# What a fleet tells the coordinator. Any thread may call; the callee only queues.


@dataclass(frozen=True)
class SlotUp:
    """A slot is ready."""

    slot: str
    worker: str


@dataclass(frozen=True)
class SlotDown:
    """A slot is gone; a replacement, if there is one, has another id."""

    slot: str


@dataclass(frozen=True)
class AttemptDone:
    """An attempt finished; its slot is free again."""

    attempt: AttemptId
    result: TaskResult


@dataclass(frozen=True)
class AttemptFailed:
    """An attempt failed. If its process died, a SlotDown follows.

    ``slot_leaves`` says whether it did; None if only the kind of failure tells.
    """

    attempt: AttemptId
    report: FailureReport
    slot_leaves: bool | None = None


@dataclass(frozen=True)
class Beat:
    """A worker's heartbeat: it lives, these attempts run, and this is how far they are.

    ``began`` is when the list was made, on the coordinator's clock; None if that cannot be told.
    """

    worker: str
    attempts: Mapping[AttemptId, Progress]
    began: float | None = None


@dataclass(frozen=True)
class FleetBroken:
    """The fleet cannot go on (executors cannot be started, say)."""

    report: FailureReport


FleetEvent = SlotUp | SlotDown | AttemptDone | AttemptFailed | Beat | FleetBroken
Post = Callable[[FleetEvent], None]


class Fleet(Protocol):
    """Where slots live. All calls come from the coordinator's one loop and return at once.

    ``launch`` and ``cancel`` are answered through ``post``: every launch by exactly one AttemptDone or AttemptFailed,
    except that a cancelled attempt may stay unanswered. After ``cancel`` the slot goes down and another comes up.
    """

    def start(self, post: Post) -> None:
        """Begin to offer slots."""
        ...

    def add_job(self, job: JobSpec) -> None:
        """Make a job's code known before its first launch."""
        ...

    def launch(self, slot: str, spec: TaskSpec) -> None:
        """Run an attempt in a slot."""
        ...

    def cancel(self, attempt: AttemptId) -> None:
        """End an attempt, and every process it started."""
        ...

    def free(self, block: BlockInfo) -> None:
        """Forget a block that nothing will read again."""
        ...

    def drop_job(self, job: str) -> None:
        """Forget a job's code; its attempts are over."""
        ...

    def close(self) -> None:
        """End every process of the fleet, within 5 seconds. May be called again."""
        ...


@dataclass(frozen=True)
class TaskEnvironment:
    """Where an attempt may write, and what it may use."""

    job: JobSpec
    scratch: Path  # this attempt's own folder for spills; removed by the agent when the attempt is over
    blocks: Path  # finished blocks are renamed into here
