"""What became of a job, attempt by attempt: a fold over its facts, for people.

The page, the REST interface, traces and exports all show what is made here, be the job old or running: facts of a job
that runs are added as the journal has them. Nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import add
from sys import intern
from typing import Literal

from gristmill.errors import FailureReport
from gristmill.plan.adapt import carry_out
from gristmill.plan.decision import Decision
from gristmill.plan.encoding import plan_from_json
from gristmill.plan.stages import StagePlan
from gristmill.runtime.journal.facts import (
    AttemptOver,
    Fact,
    JobAccepted,
    JobBegun,
    JobCancelling,
    JobCommitting,
    JobEnded,
    JobLate,
    JobRequested,
    JobTakenUp,
    Span,
    StageReplanned,
    TaskDone,
)
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import PackedSegments, SegmentInfo

AttemptState = Literal["running", "done", "failed", "lost", "cancelled", "superseded"]


def attempt_name(job: str, stage: int, index: int, number: int, epoch: int = 0) -> str:
    """What an attempt's log is named after."""
    name = str(AttemptId(job, stage, index, number))
    return f"{name}-e{epoch}" if epoch else name


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
        return attempt_name(job, self.stage, self.index, self.number, self.epoch)


_HOT_KEYS_KEPT = 20  # of a stage


@dataclass
class StageHistory:
    """One stage.

    Attributes:
        parents: the stages that it reads.
        tasks: how many it has; None as long as the facts do not tell (a job that runs has a view that does).
        partition_bytes: what its tasks made for each partition, each task counted once; empty if it makes none.
        partition_rows: likewise.
        done: the tasks that were done at some time.
        hot_keys: keys with many rows, and how many; the most first.
        skipped: it was planned, and another did its work.
        added: it was not planned; another was cut by what its parents had made.
    """

    id: int
    name: str
    parents: tuple[int, ...] = ()
    tasks: int | None = None
    partition_bytes: list[int] = field(default_factory=list)
    partition_rows: list[int] = field(default_factory=list)
    done: set[int] = field(default_factory=set)
    hot_keys: tuple[tuple[str, int], ...] = ()
    skipped: bool = False
    added: bool = False

    def task_done(self, index: int, segments: Sequence[SegmentInfo], hot_keys: Sequence[tuple[str, int]]) -> None:
        """A task of it made this."""
        if index in self.done:
            return  # it ran again, and made the same
        self.done.add(index)
        if segments:
            self.partition_bytes = _sums(self.partition_bytes, _column(segments, 1))
            self.partition_rows = _sums(self.partition_rows, _column(segments, 2))
        if hot_keys:
            known: dict[str, int] = {}
            for key, rows in (*self.hot_keys, *hot_keys):
                known[key] = known.get(key, 0) + rows
            most = sorted(known.items(), key=lambda item: -item[1])
            self.hot_keys = tuple(most[:_HOT_KEYS_KEPT])


def _column(segments: Sequence[SegmentInfo], place: int) -> Sequence[int]:
    if isinstance(segments, PackedSegments):
        return segments.column(place)
    return [segment[place] for segment in segments]


def _sums(some: Sequence[int], more: Sequence[int]) -> list[int]:
    return list(map(add, some, more)) if some else list(more)


@dataclass
class JobHistory:
    """A job, as its facts tell of it. That of a job that runs grows, under whoever reads it: lists only at their ends.

    Attributes:
        first: how it began: as a request whose code was to be loaded, or accepted at once.
        accepted: what it is; None as long as its code is not loaded.
        begun_at: when it left the queue last; of a job that never waited, when it was accepted. None: it waits.
        taken_up: when other coordinators went on with it, or it was tried again.
        cancelling_at: when somebody wanted it to end; None if nobody did, or it was tried again since.
        committing_at: when its output began to be put in place; likewise.
        late_at: when it outlived its deadline.
        ended: how it ended; None if it has not, or was tried again.
        stages: by their ids.
        adaptations: how stages were cut by what was measured, and why; a sentence each.
        attempts: those that are over, in the order of their ends.
    """

    first: JobAccepted | JobRequested
    accepted: JobAccepted | None = None
    begun_at: float | None = None
    taken_up: list[float] = field(default_factory=list)
    cancelling_at: float | None = None
    committing_at: float | None = None
    late_at: float | None = None
    ended: JobEnded | None = None
    stages: list[StageHistory] = field(default_factory=list)
    adaptations: list[str] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    _of_task: dict[tuple[int, int], AttemptRow | list[AttemptRow]] = field(default_factory=dict)
    _plan: StagePlan | None = None

    def __post_init__(self) -> None:
        if isinstance(self.first, JobAccepted):
            self._is_accepted(self.first)

    @property
    def job(self) -> str:
        """The job's id."""
        return self.first.job

    @property
    def name(self) -> str:
        """What it is called."""
        return (self.accepted or self.first).name

    @property
    def user(self) -> str:
        """Who submitted it; empty when that is not known."""
        return self.first.user

    @property
    def submitted_at(self) -> float:
        """When it was submitted."""
        return self.first.at

    @property
    def deadline_seconds(self) -> float | None:
        """After so long, counted from when it was submitted, it is late; None: never."""
        return self.first.deadline_seconds

    @property
    def output(self) -> str | None:
        """Where its output appears; None if that has no place of its own."""
        if self.accepted is not None:
            found = self.accepted.prepared.get("output_path")
            return None if found is None else str(found)
        return self.first.output if isinstance(self.first, JobRequested) else None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, and was not tried again."""
        return self.ended is not None

    def add(self, fact: Fact) -> None:
        """Take in the next fact."""
        match fact:
            case JobAccepted():
                self._is_accepted(fact)
                self.taken_up.clear()  # its code was to be loaded till now, again and again maybe
            case JobBegun(_, at):
                self.begun_at = at
            case JobTakenUp(_, _, at, _, queued):
                self.taken_up.append(at)
                if self.ended is not None:  # tried again: whoever wanted it to end has had that
                    self.ended = self.cancelling_at = self.committing_at = None
                if queued:
                    self.begun_at = None
            case TaskDone():
                self._task_done(fact)
            case AttemptOver(_, stage, index, number, epoch, how, span, report):
                self._over(AttemptRow(stage, index, number, epoch, how, _interned(span), report=report))
            case StageReplanned(_, stage, decision, parents):
                self.adaptations += decision.notes
                self._replanned(stage, decision, dict(parents))
            case JobCancelling(_, at):
                self.cancelling_at = at
            case JobCommitting(_, at):
                self.committing_at = at
            case JobLate(_, at):
                self.late_at = at
            case JobEnded():
                self.ended = fact
                for view in fact.outcome.view.stages:
                    self._stage(view.id).tasks = view.tasks

    def attempts_of(self, stage: int, index: int) -> list[AttemptRow]:
        """The attempts at one task that are over, in the order of their ends."""
        found = self._of_task.get((stage, index), [])
        return [found] if isinstance(found, AttemptRow) else list(found)

    def _is_accepted(self, accepted: JobAccepted) -> None:
        self.accepted = accepted
        if not accepted.queued and self.begun_at is None:
            self.begun_at = accepted.at
        names = [str(stage.get("name", "")) for stage in accepted.prepared.get("plan", ())]
        self._stages_are(dict(enumerate(accepted.parents)), names)

    def _over(self, row: AttemptRow) -> None:
        self.attempts.append(row)
        task = row.stage, row.index
        match self._of_task.setdefault(task, row):
            case list() as rows:
                rows.append(row)
            case other if other is not row:  # most tasks have one, which needs no list
                self._of_task[task] = [other, row]

    def _task_done(self, fact: TaskDone) -> None:
        result = fact.result
        self._over(
            AttemptRow(
                fact.stage,
                fact.index,
                fact.number,
                fact.epoch,
                "done",
                _interned(fact.span),
                result.seconds,
                result.records_in,
                result.bytes_in,
                result.records_out,
                result.bytes_out,
                result.spilled_bytes,
                result.bad_records,
            )
        )
        segments = result.block.segments if result.block is not None else ()
        self._stage(fact.stage).task_done(fact.index, segments, result.hot_keys)

    def _replanned(self, stage: int, decision: Decision, parents: Mapping[int, tuple[int, ...]]) -> None:
        known = len(self.stages)
        names: dict[int, str] = {}
        with suppress(KeyError, TypeError, ValueError, IndexError):  # for people: a stage without its name will do
            prepared = {} if self.accepted is None else self.accepted.prepared
            before = self._plan or plan_from_json(prepared["plan"])
            self._plan = carry_out(before, stage, decision)
            names = {one.id: one.name for one in self._plan.stages}
            for one in self._plan.stages[:known]:
                self._stage(one.id).skipped = one.skipped
        self._stages_are(parents, [names.get(id, "") for id in range(max((known, *(id + 1 for id in parents))))])
        for added in self.stages[known:]:
            added.added = True

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


def _interned(span: Span | None) -> Span | None:
    """The same with one string for each slot: there are many attempts and few slots."""
    return None if span is None else span._replace(slot=intern(span.slot))


def replay(facts: Iterable[Fact]) -> dict[str, JobHistory]:
    """All jobs that begin among these facts."""
    found: dict[str, JobHistory] = {}
    for fact in facts:
        if (history := found.get(fact.job)) is not None:
            history.add(fact)
        elif isinstance(fact, JobAccepted | JobRequested):
            found[fact.job] = JobHistory(fact)
    return found
