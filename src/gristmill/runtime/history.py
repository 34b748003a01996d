"""What became of a job, attempt by attempt: a fold over its facts, for people.

The page, the REST interface, traces and exports all show what is made here, be the job old or running: facts of a job
that runs are added as the journal has them. Nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gristmill.errors import FailureReport
from gristmill.runtime.facts import (
    AttemptOver,
    Fact,
    JobAccepted,
    JobBegun,
    JobCancelling,
    JobCommitting,
    JobEnded,
    JobLate,
    JobTakenUp,
    Span,
    StageReplanned,
    TaskDone,
)
from gristmill.scheduling.events import AttemptId

AttemptState = Literal["running", "done", "failed", "lost", "cancelled", "superseded"]


@dataclass(slots=True)
class AttemptRow:
    """One attempt.

    Attributes:
        epoch: counts the coordinators that ran the job.
        state: ``done`` is the one that counted when it came, be it that its task ran again later.
        span: where and when; None in journals of earlier versions.
        seconds: from its begin to its end, as its executor measured.
        report: why it failed.
    """

    stage: int
    index: int
    number: int
    epoch: int
    state: AttemptState
    span: Span | None
    seconds: float = 0.0
    records_in: int = 0
    bytes_in: int = 0
    records_out: int = 0
    bytes_out: int = 0
    spilled_bytes: int = 0
    bad_records: int = 0
    report: FailureReport | None = None

    @property
    def worker(self) -> str:
        """Where it ran; empty when that is not known."""
        return "" if self.span is None else self.span.slot.rpartition("-")[0]

    def log_name(self, job: str) -> str:
        """What its log is named after."""
        name = str(AttemptId(job, self.stage, self.index, self.number))
        return f"{name}-e{self.epoch}" if self.epoch else name


@dataclass
class StageHistory:
    """One stage.

    Attributes:
        parents: the stages that it reads.
        partition_bytes: what its tasks made for each partition, each task counted once; empty if it makes none.
        done: the tasks that were done at some time.
    """

    id: int
    name: str
    parents: tuple[int, ...] = ()
    partition_bytes: list[int] = field(default_factory=list)
    partition_rows: list[int] = field(default_factory=list)
    done: set[int] = field(default_factory=set)


@dataclass
class JobHistory:
    """A job, as its facts tell of it.

    Attributes:
        accepted: how it began.
        begun_at: when it left the queue; of a job that never waited, when it was accepted. None: it waits.
        taken_up: when other coordinators went on with it.
        cancelling_at: when somebody wanted it to end.
        committing_at: when its output began to be put in place.
        late_at: when it outlived its deadline.
        ended: how it ended; None if it has not, or was tried again.
        stages: by their ids.
        attempts: those that are over, in the order of their ends.
    """

    accepted: JobAccepted
    begun_at: float | None = None
    taken_up: list[float] = field(default_factory=list)
    cancelling_at: float | None = None
    committing_at: float | None = None
    late_at: float | None = None
    ended: JobEnded | None = None
    stages: list[StageHistory] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    _of_task: dict[tuple[int, int], list[AttemptRow]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.accepted.queued:
            self.begun_at = self.accepted.at
        names = [str(stage.get("name", "")) for stage in self.accepted.prepared.get("plan", ())]
        self._stages_are(dict(enumerate(self.accepted.parents)), names)

    def add(self, fact: Fact) -> None:
        """Take in the next fact."""
        match fact:
            case JobBegun(_, at):
                self.begun_at = at
            case JobTakenUp(_, _, at, _):
                self.taken_up.append(at)
                self.ended = None
            case TaskDone():
                self._task_done(fact)
            case AttemptOver(_, stage, index, number, epoch, how, span, report):
                self._over(AttemptRow(stage, index, number, epoch, how, span, report=report))
            case StageReplanned(_, _, _, parents):
                self._stages_are(dict(parents), [])
            case JobCancelling(_, at):
                self.cancelling_at = at
            case JobCommitting(_, at):
                self.committing_at = at
            case JobLate(_, at):
                self.late_at = at
            case JobEnded():
                self.ended = fact

    def attempts_of(self, stage: int, index: int) -> list[AttemptRow]:
        """The attempts at one task that are over, in the order of their ends."""
        return self._of_task.get((stage, index), [])

    def _over(self, row: AttemptRow) -> None:
        self.attempts.append(row)
        self._of_task.setdefault((row.stage, row.index), []).append(row)

    def _task_done(self, fact: TaskDone) -> None:
        result = fact.result
        self._over(
            AttemptRow(
                fact.stage,
                fact.index,
                fact.number,
                fact.epoch,
                "done",
                fact.span,
                result.seconds,
                result.records_in,
                result.bytes_in,
                result.records_out,
                result.bytes_out,
                result.spilled_bytes,
                result.bad_records,
            )
        )
        stage = self._stage(fact.stage)
        if fact.index in stage.done:
            return  # it ran again, and made the same
        stage.done.add(fact.index)
        if result.block is not None:
            missing = len(result.block.segments) - len(stage.partition_bytes)
            stage.partition_bytes += [0] * missing
            stage.partition_rows += [0] * missing
            for partition, segment in enumerate(result.block.segments):
                stage.partition_bytes[partition] += segment.length
                stage.partition_rows[partition] += segment.rows

    def _stage(self, id: int) -> StageHistory:
        while len(self.stages) <= id:
            self.stages.append(StageHistory(len(self.stages), f"stage {len(self.stages)}"))
        return self.stages[id]

    def _stages_are(self, parents: Mapping[int, tuple[int, ...]], names: Sequence[str]) -> None:
        for id, some in parents.items():
            stage = self._stage(id)
            stage.parents = tuple(some)
            if id < len(names) and names[id]:
                stage.name = names[id]


def replay(facts: Iterable[Fact]) -> dict[str, JobHistory]:
    """All jobs that begin among these facts."""
    found: dict[str, JobHistory] = {}
    for fact in facts:
        if isinstance(fact, JobAccepted):
            found[fact.job] = JobHistory(fact)
        elif (history := found.get(fact.job)) is not None:
            history.add(fact)
    return found
