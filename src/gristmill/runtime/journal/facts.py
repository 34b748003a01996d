"""What the journal holds: facts, as plain data. How a job stands is a fold over them: see ``job_records``.

Each kind of fact has a version of its own. A kind or version that is not known here was written by a newer Gristmill,
and is refused rather than guessed at.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

from gristmill.errors import FailureReport, JournalFailed
from gristmill.plan.decision import Decision
from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.outcome import Outcome
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.storage.contracts import PartFile


class _Listed:
    """A fact that is kept as the list of its fields, in their order; they may be added to at the end."""

    def to_json(self) -> Any:
        """As values that ``json.dumps`` takes."""
        return [value for name, value in vars(self).items() if name != "job"]

    @classmethod
    def from_json(cls, job: str, data: Any) -> Self:
        """The inverse of :meth:`to_json`."""
        return cls(job, *data)  # type: ignore[call-arg]  # of the classes that are made of this one


@dataclass(frozen=True)
class JobAccepted:
    """A job is here to stay. Its code and its splits lie in blobs beside the fact.

    Attributes:
        at: seconds since the epoch.
        key: the idempotency key of its submission; empty when there was none.
        boot: names the run of the system: what was not made durable before another one may be gone.
        parents: the parents of each stage.
        prepared: the rest of a ``PreparedJob``, see ``recovery``.
        request: what tells the request that came with the key from others; empty when there was no key.
        user: who submitted it; empty when that is not known.
        deadline_seconds: after so long, counted from ``at``, it is late, and somebody is to be told; None: never.
        signature: of the job and its blobs, by the server's key; empty where nothing is signed.
        queued: it waits for its turn. If not, it begins at once.
    """

    kind: ClassVar[str] = "job accepted"
    job: str
    name: str
    at: float
    key: str
    boot: str
    parents: tuple[tuple[int, ...], ...]
    prepared: Mapping[str, Any]
    request: str = ""
    user: str = ""
    deadline_seconds: float | None = None
    signature: str = ""
    queued: bool = False

    def to_json(self) -> Any:
        """As values that ``json.dumps`` takes."""
        return {name: value for name, value in vars(self).items() if name != "job"}

    @classmethod
    def from_json(cls, job: str, data: Any) -> JobAccepted:
        """The inverse of :meth:`to_json`."""
        return cls(job, **{**data, "parents": tuple(map(tuple, data["parents"]))})


@dataclass(frozen=True)
class JobRequested:
    """A job is wanted whose code has to be loaded first. Once that is done, it is accepted under the same id.

    What came with it (a file of code, say) lies in blobs beside the fact.

    Attributes:
        name: for people.
        user: who wants it.
        at: seconds since the epoch.
        request: what is wanted, for whoever loads it; values that ``json.dumps`` takes.
        output: where the result is to appear, for people; None: nowhere.
        key: the idempotency key; empty when there was none.
        digest: tells the request that came with the key from others; empty when there was no key.
        priority: over other jobs'.
        deadline_seconds: see :class:`JobAccepted`.
        signature: likewise.
    """

    kind: ClassVar[str] = "job requested"
    job: str
    name: str
    user: str
    at: float
    request: Mapping[str, Any]
    output: str | None = None
    key: str = ""
    digest: str = ""
    priority: int = 0
    deadline_seconds: float | None = None
    signature: str = ""

    def to_json(self) -> Any:
        """As values that ``json.dumps`` takes."""
        return {name: value for name, value in vars(self).items() if name != "job"}

    @classmethod
    def from_json(cls, job: str, data: Any) -> JobRequested:
        """The inverse of :meth:`to_json`."""
        return cls(job, **data)


@dataclass(frozen=True)
class JobTakenUp(_Listed):
    """Another coordinator goes on with a job, or the same one tries it again. What it launches is of this epoch.

    Attributes:
        queued: it was over, is tried again, and waits for its turn.
        key: the idempotency key with which that was asked for; empty when there was none.
    """

    kind: ClassVar[str] = "job taken up"
    job: str
    epoch: int
    at: float
    boot: str
    queued: bool = False
    key: str = ""


@dataclass(frozen=True)
class JobBegun(_Listed):
    """A job that waited for its turn has left the queue."""

    kind: ClassVar[str] = "job begun"
    job: str
    at: float


class Span(NamedTuple):
    """Where and when an attempt ran. Times are seconds since the epoch, on the coordinator's clock.

    Attributes:
        slot: where.
        launched: when it was sent there.
        began: when its turn came, as far as the coordinator can tell: others may have been before it in the slot.
        ended: when its end was heard of.
        speculative: another attempt at the task ran already.
        ready: since when its task could have run, had there been a slot for it: all that it reads was there, and the
            pause after a failure was over. 0 in journals of earlier versions.
    """

    slot: str
    launched: float
    began: float
    ended: float
    speculative: bool = False
    ready: float = 0.0

    @property
    def waited_seconds(self) -> float:
        """For how long its task has waited for a slot, and in it for its turn."""
        return max(0.0, self.began - (self.ready or self.launched))


@dataclass
class TaskDone:
    """An attempt counts for its task: its block and its files are what the task made.

    Never changed; not frozen, since there are many and that takes thrice as long.
    """

    kind: ClassVar[str] = "task done"
    job: str
    stage: int
    index: int
    number: int
    epoch: int
    result: TaskResult
    span: Span | None = None

    @property
    def attempt(self) -> AttemptId:
        """The attempt."""
        return AttemptId(self.job, self.stage, self.index, self.number)

    def to_json(self) -> Any:
        """As values that ``json.dumps`` takes; a list, for there are many of these."""
        return [self.stage, self.index, self.number, self.epoch, result_to_json(self.result), self.span]

    @classmethod
    def from_json(cls, job: str, data: Any) -> TaskDone:
        """The inverse of :meth:`to_json`."""
        stage, index, number, epoch, result, *rest = data
        span = Span(*rest[0]) if rest and rest[0] else None
        return cls(job, stage, index, number, epoch, result_from_json(result), span)


How = Literal["failed", "lost", "cancelled", "superseded"]


@dataclass(frozen=True)
class AttemptOver:
    """An attempt came to an end that does not count for its task. For people: nothing is decided by it.

    Attributes:
        how: ``failed``; ``lost`` with its slot or worker; ``cancelled``, since another attempt was first or the job is
            over; ``superseded``: it finished, and came too late.
        report: why, if it failed.
    """

    kind: ClassVar[str] = "attempt over"
    job: str
    stage: int
    index: int
    number: int
    epoch: int
    how: How
    span: Span
    report: FailureReport | None = None

    @property
    def attempt(self) -> AttemptId:
        """The attempt."""
        return AttemptId(self.job, self.stage, self.index, self.number)

    def to_json(self) -> Any:
        """As values that ``json.dumps`` takes."""
        report = None if self.report is None else self.report.to_json()
        return [self.stage, self.index, self.number, self.epoch, self.how, self.span, report]

    @classmethod
    def from_json(cls, job: str, data: Any) -> AttemptOver:
        """The inverse of :meth:`to_json`."""
        stage, index, number, epoch, how, span, report = data
        failure = None if report is None else FailureReport.from_json(report)
        return cls(job, stage, index, number, epoch, how, Span(*span), failure)


@dataclass(frozen=True)
class StageReplanned:
    """It was decided how a stage is cut. No task of it was launched before.

    Attributes:
        stage: the stage.
        decision: how.
        parents: of this stage, and of those that were added for it, by their ids.
    """

    kind: ClassVar[str] = "stage replanned"
    job: str
    stage: int
    decision: Decision
    parents: tuple[tuple[int, tuple[int, ...]], ...]

    def to_json(self) -> Any:
        """As values that ``json.dumps`` takes."""
        return [self.stage, self.decision.to_json(), self.parents]

    @classmethod
    def from_json(cls, job: str, data: Any) -> StageReplanned:
        """The inverse of :meth:`to_json`."""
        stage, decision, parents = data
        return cls(job, stage, Decision.from_json(decision), tuple((one, tuple(some)) for one, some in parents))


@dataclass(frozen=True)
class JobLate(_Listed):
    """A job has outlived its deadline; whoever wanted to know is told once."""

    kind: ClassVar[str] = "job late"
    job: str
    at: float


@dataclass(frozen=True)
class WorkerJoined(_Listed):
    """A worker is there. It belongs to no job."""

    kind: ClassVar[str] = "worker joined"
    job: str
    at: float
    worker: str
    host: str
    rack: str = ""
    cpus: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class WorkerGone(_Listed):
    """A worker has left in good order, or is lost. It belongs to no job."""

    kind: ClassVar[str] = "worker gone"
    job: str
    at: float
    worker: str
    reason: str = ""
    left: bool = False


@dataclass(frozen=True)
class JobCancelling(_Listed):
    """Somebody wants a job to end. Whoever takes the job up next ends it."""

    kind: ClassVar[str] = "job cancelling"
    job: str
    at: float


@dataclass(frozen=True)
class JobCommitting:
    """All tasks are done, and from here on these files are being put in the output's place.

    Attributes:
        at: seconds since the epoch.
        parts: the files.
        replaces: names what was in the output's place then; empty when nothing was.
    """

    kind: ClassVar[str] = "job committing"
    job: str
    at: float
    parts: tuple[PartFile, ...]
    replaces: str = ""

    def to_json(self) -> Any:
        """As values that ``json.dumps`` takes."""
        return [self.at, [list(_part_fields(part)) for part in self.parts], self.replaces]

    @classmethod
    def from_json(cls, job: str, data: Any) -> JobCommitting:
        """The inverse of :meth:`to_json`."""
        at, parts, replaces = data
        return cls(job, at, tuple(PartFile(*part) for part in parts), replaces)


@dataclass(frozen=True)
class JobEnded:
    """A job is over: its output is in place, or there will be none.

    Attributes:
        refused: whoever submitted it was told that it was not accepted. So its key may come again, with another job.
    """

    kind: ClassVar[str] = "job ended"
    job: str
    at: float
    outcome: Outcome
    refused: bool = False

    def to_json(self) -> Any:
        """As values that ``json.dumps`` takes."""
        refused = {"refused": True} if self.refused else {}
        return {"at": self.at, **refused, **self.outcome.to_json()}

    @classmethod
    def from_json(cls, job: str, data: Any) -> JobEnded:
        """The inverse of :meth:`to_json`."""
        return cls(job, data["at"], Outcome.from_json(data), data.get("refused", False))


Fact = (
    JobRequested
    | JobAccepted
    | JobBegun
    | JobTakenUp
    | TaskDone
    | AttemptOver
    | StageReplanned
    | JobCancelling
    | JobLate
    | JobCommitting
    | JobEnded
    | WorkerJoined
    | WorkerGone
)
_KINDS: dict[str, type[Fact]] = {cls.kind: cls for cls in get_args(Fact)}
_VERSION = 1  # of every kind so far
ROW_FACTS = 256  # at most in a row, ever: each may be about a thousand partitions
_encode = json.JSONEncoder(separators=(",", ":")).encode  # made once: facts are many


Row = tuple[str, str, int, str]
"""Facts of one job and one kind as the journal keeps them: job, kind, version, a JSON list of them."""


def to_rows(facts: Iterable[Fact]) -> Iterator[Row]:
    """Facts as the journal keeps them. Those of one kind that come together make one row: tasks are many."""
    for (job, kind), group in groupby(facts, attrgetter("job", "kind")):
        while some := [fact.to_json() for fact in islice(group, ROW_FACTS)]:
            yield job, kind, _VERSION, _encode(some)


def from_row(job: str, kind: str, version: int, data: str) -> list[Fact]:
    """The inverse of :func:`to_rows`, of one row.

    Raises:
        JournalFailed: a newer Gristmill has written it, or it is damaged.
    """
    cls = _KINDS.get(kind)
    if cls is None or version > _VERSION:
        raise JournalFailed(
            f"The journal holds a fact ({kind}, version {version}) that this version of Gristmill does not know: "
            f"a newer one has written it. Use that one, or another --data-dir."
        )
    try:
        return [cls.from_json(job, each) for each in json.loads(data)]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise JournalFailed(f"The journal is damaged: a fact about job {job} ({kind}) makes no sense.") from error


# Results are many: they are kept as lists, in the order of their classes' fields, which may be added to at the end.

_result_fields = attrgetter(*TaskResult.__match_args__)
_segment_fields = attrgetter(*SegmentInfo.__match_args__)
_part_fields = attrgetter(*PartFile.__match_args__)
_BLOCK = TaskResult.__match_args__.index("block")
_PARTS = TaskResult.__match_args__.index("parts")
_LAST_BAD = TaskResult.__match_args__.index("last_bad")
_HOT_KEYS = TaskResult.__match_args__.index("hot_keys")


def result_to_json(result: TaskResult) -> list[Any]:
    """A result as values that ``json.dumps`` takes."""
    data = list(_result_fields(result))
    if (block := result.block) is not None:
        data[_BLOCK] = [block.path, block.worker, [_segment_fields(segment) for segment in block.segments]]
    if result.parts:
        data[_PARTS] = [_part_fields(part) for part in result.parts]
    if result.last_bad is not None:
        data[_LAST_BAD] = result.last_bad.to_json()
    return data


def result_from_json(data: list[Any]) -> TaskResult:
    """The inverse of :func:`result_to_json`, in a form that takes little memory."""
    fields = list(data)
    if fields[_BLOCK] is not None:
        path, worker, segments = fields[_BLOCK]
        fields[_BLOCK] = BlockInfo(path, tuple(SegmentInfo(*segment) for segment in segments), worker)
    fields[_PARTS] = tuple(PartFile(*part) for part in fields[_PARTS])
    if fields[_LAST_BAD] is not None:
        fields[_LAST_BAD] = FailureReport.from_json(fields[_LAST_BAD])
    if len(fields) > _HOT_KEYS:
        fields[_HOT_KEYS] = tuple((key, rows) for key, rows in fields[_HOT_KEYS])
    return TaskResult(*fields).packed()
