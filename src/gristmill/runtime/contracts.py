"""The seam between the coordinator and whatever runs tasks: specs in, results or failure reports out.

Everything that an executor sends back is plain data (JSON), so that a coordinator never unpickles what user code made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gristmill.errors import FailureReport
from gristmill.plan.stages import Stage
from gristmill.scheduling.ids import AttemptId
from gristmill.shuffle.contracts import BlockInfo, BlockSource, PackedSegments
from gristmill.storage.contracts import PartFile, Split

_MANY_SEGMENTS = 16  # of a block: so many are worth packing

KEPT_SHARE = 4
"""Of the memory of all executors, this part may be taken by what sessions keep."""


@dataclass(frozen=True)
class JobSpec:
    """What every task of a job shares. Shipped to an executor once.

    Attributes:
        code: ``JobCode``, pickled by value. Opaque to all but executors.
        import_paths: put in front of ``sys.path`` in executors (the script's own folder, the caller's).
        staging: the output's staging folder.
        folder: the job's folder: blocks, spills and logs go below it.
        memory_bytes: budget of one executor.
        epoch: counts the coordinators that have run the job, from 0; part of the name of every file that its attempts
            make, so that those of a coordinator that died are never mistaken for new ones.
        bundles: zip files with modules that came along with the job, in front of ``import_paths``. In a job that is
            sent to workers: their SHA-256, and each worker puts in where it keeps them.
        ticket: the job's secret, of which tickets for its blocks are made; empty when there are no other workers, and
            in executors, but for a driver's.
        shuffle_dir: shared storage for blocks (a path or URI); empty: each worker keeps its own.
        inputs: files that the job reads and their sizes, a thousand at most: workers look whether they see the same.
        session: the session that the job belongs to; empty: none.
        session_ticket: likewise for the blocks that it keeps.
        keep_bytes: what sessions may keep in the memory of this machine.
        begun: when the job came here, in seconds since the epoch.
        broadcasts: files with the values of broadcasts that the job's functions use, each named by its SHA-256. In a
            job that is sent to workers: the SHA-256, and each worker puts in where it keeps them.
        driver: its one task is a program that submits jobs itself, and waits for them.
        server: the address of the server, as this worker knows it; empty when there is none.
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
    epoch: int = 0
    bundles: tuple[str, ...] = ()
    ticket: str = ""
    shuffle_dir: str = ""
    inputs: tuple[tuple[str, int], ...] = ()
    session: str = ""
    session_ticket: str = ""
    keep_bytes: int = 0
    begun: float = 0.0
    broadcasts: tuple[str, ...] = ()
    driver: bool = False
    server: str = ""

    def file_name(self, attempt: AttemptId) -> str:
        """What files of an attempt are named after: it is used once, whatever is restarted."""
        return f"{attempt}-e{self.epoch}" if self.epoch else str(attempt)


@dataclass
class TaskSpec:
    """One attempt's work: ``splits`` for a source of splits, ``blocks`` for all others.

    Never changed; not frozen, since there are many and that takes thrice as long.

    Attributes:
        blocks: of the parents' tasks in order, but for empty ones; of each, segment ``partition`` is read.
        folder: stands in for the job's folder, on a worker with several data directories.
        sources: where blocks of other workers are.
        machine: what this one sees.
        branch: of the stage.
        counts: how many of ``blocks`` belong to each source of the branch, and that for each turn; what is read as a
            whole belongs to the first. Empty: there is one source, and one turn.
        tasks: how many parts the stage's sources have, if its programs are to know.
        part: the number of the first part that is read, within the branch, likewise.
        before: how many parts the branches before it have, likewise.
        turns: the parts that are read one after the other; empty: it is one.
        ticket: opens the job's blocks at other workers, for this attempt.
        session_ticket: likewise those that the session keeps.
    """

    attempt: AttemptId
    stage: Stage
    splits: tuple[Split, ...] = ()
    blocks: tuple[BlockInfo, ...] = ()
    partition: int = 0
    folder: str = ""
    sources: tuple[BlockSource, ...] = ()
    machine: str = ""
    branch: int = 0
    counts: tuple[int, ...] = ()
    tasks: int = 0
    part: int = 0
    before: int = 0
    turns: tuple[int, ...] = ()
    ticket: str = ""
    session_ticket: str = ""

    def places_of(self, source: int, turn: int = 0) -> range:
        """Where in ``blocks`` those of a source of the branch are."""
        if not self.counts:
            return range(len(self.blocks))
        place = turn * len(self.stage.branches[self.branch].sources) + source
        begin = sum(self.counts[:place])
        return range(begin, begin + self.counts[place])


@dataclass
class Progress:
    """How far an attempt is. Written by the task, read by whoever reports; the numbers only grow."""

    records_in: int = 0
    bytes_in: int = 0
    printed: int = 0  # bytes of its log, as its agent has heard
    current: Iterator[Any] | None = None  # over the records of the block in work

    def advance(self, records: int, nbytes: int) -> None:
        """A block of input is done."""
        self.records_in += records
        self.bytes_in += nbytes


@dataclass
class TaskResult:
    """What a finished attempt made. Never changed; not frozen, since there are many and that takes thrice as long."""

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
    seconds: float = 0.0  # from its begin to its end, in the executor
    hot_keys: tuple[tuple[str, int], ...] = ()  # for people: keys with many rows, and how many; the most first
    accumulated: Mapping[str, int | float] = field(default_factory=dict)  # what was added to accumulators, by their ids
    parcel: BlockInfo | None = None  # the bytes of ``parts``, if they are not in the staging folder yet

    def packed(self) -> TaskResult:
        """The same, if need be in a form that takes less memory: there are tasks times partitions of segments."""
        block = self.block
        if block is None or len(block.segments) < _MANY_SEGMENTS or isinstance(block.segments, PackedSegments):
            return self
        return replace(self, block=replace(block, segments=PackedSegments(block.segments)))

    def to_json(self) -> dict[str, Any]:
        """As values that ``json.dumps`` takes. What is as it is by default is left out: many tasks make little.

        The inverse is :func:`gristmill.runtime.answers.result_of`.
        """
        made = {name: value for name, value in vars(self).items() if value != _NOTHING[name]}
        if self.block is not None:
            made["block"] = self.block.to_json()
        if self.parcel is not None:
            made["parcel"] = self.parcel.to_json()
        if self.last_bad is not None:
            made["last_bad"] = self.last_bad.to_json()
        if self.parts:
            made["parts"] = [asdict(part) for part in self.parts]
        if self.accumulated:
            made["accumulated"] = numbers_to_json(self.accumulated)
        return made


_NOTHING = vars(TaskResult())


def numbers_to_json(numbers: Mapping[str, int | float]) -> dict[str, int | str]:
    """Numbers as JSON can carry them all: floats as text, for there are some that JSON does not know."""
    return {name: repr(n) if isinstance(n, float) else n for name, n in numbers.items()}


def numbers_from_json(data: Mapping[str, int | str]) -> dict[str, int | float]:
    """The inverse of :func:`numbers_to_json`."""
    return {name: float(n) if isinstance(n, str) else n for name, n in data.items()}


# What a fleet tells the coordinator. Any thread may call; the callee only queues.


@dataclass(frozen=True)
class WorkerUp:
    """A worker is there; its slots follow. Its name is never used again.

    The attributes are those of :class:`gristmill.scheduling.events.WorkerJoined`; ``kept`` are the paths of blocks that
    it keeps from an earlier life, by job.
    """

    worker: str
    host: str = ""
    rack: str = ""
    cpus: float | None = None
    memory_bytes: int | None = None
    suspect_seconds: float | None = None
    lost_seconds: float | None = None
    kept: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerLeaving:
    """A worker drains: it takes no more work."""

    worker: str


@dataclass(frozen=True)
class WorkerDown:
    """A worker is gone, with its slots and its blocks. If it was ``idle``, what it did not answer never began.

    It has ``left`` in good order, or else is lost.
    """

    worker: str
    reason: str = ""
    idle: bool = False
    left: bool = False


@dataclass(frozen=True)
class BlocksGone:
    """These blocks of a worker can be read no more (a data directory failed, say)."""

    worker: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class JobAdmitted:
    """The answer to ``add_job``: tasks of the job can be launched."""

    job: str


@dataclass(frozen=True)
class JobRejected:
    """The other answer to ``add_job``: the job cannot run here."""

    job: str
    report: FailureReport


@dataclass(frozen=True)
class SlotUp:
    """A slot is ready. ``depth`` attempts may be launched in it at a time: one runs, the others wait there."""

    slot: str
    worker: str
    depth: int = 1


@dataclass(frozen=True)
class SlotDown:
    """A slot is gone; a replacement, if there is one, has another id."""

    slot: str


class AttemptDone(NamedTuple):
    """An attempt finished; its slot is free again.

    Attributes:
        attempt: which one.
        result: what it has made.
        said: the result as the executor wrote it, for whoever passes it on; empty if nobody did.
        printed: whether there may be a log.
    """

    attempt: AttemptId
    result: TaskResult
    said: bytes = b""
    printed: bool = True


@dataclass(frozen=True)
class AttemptFailed:
    """An attempt failed. If its process died, a SlotDown follows.

    ``slot_leaves`` says whether it did; None if only the kind of failure tells.
    """

    attempt: AttemptId
    report: FailureReport
    slot_leaves: bool | None = None


@dataclass(frozen=True)
class Usage:
    """What is in use at a worker.

    Attributes:
        cpu_percent: of all CPUs of its machine, 0 to 100.
        used_bytes: memory of its executors, and of what they have started.
        free_bytes: on the disk of its data directory; the least, if there are several.
        disk_bytes: how large that disk is.
    """

    cpu_percent: float
    used_bytes: int
    free_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class Beat:
    """A worker's heartbeat: it lives, these attempts run, and this is how far they are.

    ``began`` is when the list was made, on the coordinator's clock; None if that cannot be told. ``usage`` does not
    come with every one, and not from every fleet.
    """

    worker: str
    attempts: Mapping[AttemptId, Progress]
    began: float | None = None
    usage: Usage | None = None


@dataclass(frozen=True)
class FleetBroken:
    """The fleet cannot go on (executors cannot be started, say)."""

    report: FailureReport


FleetEvent = (
    WorkerUp
    | WorkerLeaving
    | WorkerDown
    | SlotUp
    | SlotDown
    | AttemptDone
    | AttemptFailed
    | Beat
    | BlocksGone
    | JobAdmitted
    | JobRejected
    | FleetBroken
)
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
        """Make a job known before its first launch. Answered by exactly one JobAdmitted or JobRejected."""
        ...

    def launch(self, slot: str, spec: TaskSpec) -> None:
        """Run an attempt in a slot."""
        ...

    def cancel(self, attempt: AttemptId, recalled: bool = False) -> None:
        """End an attempt, and every process it started.

        ``recalled`` says that it waits behind another in its slot, which stays then. If it has begun meanwhile, it has
        a moment to come to its end.
        """
        ...

    def free(self, block: BlockInfo) -> None:
        """Forget a block that nothing will read again."""
        ...

    def drop_job(self, job: str) -> None:
        """Forget a job's code; its attempts are over."""
        ...

    def keep_job(self, job: str) -> None:
        """As ``drop_job``, but the job may be tried again: its blocks stay, until ``drop_job``."""
        ...

    def drop_worker(self, worker: str) -> None:
        """This worker counts as lost: refuse whatever still comes from it. It may join anew."""
        ...

    def drain_worker(self, worker: str) -> None:
        """Let a worker take no new work and leave when it has done what it runs. Answered by WorkerLeaving, if ever."""
        ...

    def close(self) -> None:
        """End every process of the fleet, within 5 seconds. May be called again."""
        ...


class TaskEnvironment(NamedTuple):
    """Where an attempt may write, and what it may use. Places are text: a Path takes long, as small tasks go.

    Attributes:
        job: the attempt's job.
        name: what the attempt's files are named after.
        scratch_folder: this attempt's own folder for spills; removed when the attempt is over, by the agent if need be.
        blocks_folder: finished blocks are renamed into here; below shared storage if the job has a shuffle_dir.
    """

    job: JobSpec
    name: str
    scratch_folder: str
    blocks_folder: str

    @property
    def scratch(self) -> Path:
        """The attempt's own folder."""
        return Path(self.scratch_folder)
