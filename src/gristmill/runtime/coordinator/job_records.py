"""How jobs stand by the journal: a fold over its facts, from which another coordinator goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gristmill.errors import FailureReport
from gristmill.runtime.coordinator.tally import FAILURES_SHOWN, digest_of
from gristmill.runtime.journal.facts import (
    AttemptOver,
    Fact,
    JobAccepted,
    JobBegun,
    JobCancelling,
    JobCommitting,
    JobEnded,
    JobLate,
    JobTakenUp,
    StageReplanned,
    TaskDone,
)
from gristmill.scheduling.events import TaskId


@dataclass
class JobRecord:
    """How a job stands by the journal.

    Attributes:
        accepted: how it began.
        begun: it waits for its turn no more.
        begun_at: when it began; None as long as it waits.
        epoch: of the coordinator that had it last.
        boots: the run of the system in which each epoch was.
        done: what each finished task made. A task is not in it if it read what was made otherwise later.
        attempts: how many attempts are over, as far as facts tell.
        failed_attempts: how many of them have failed, or were lost.
        failures: why, of the last few.
        replanned: how stages were cut after others were whole, in that order.
        cancelled: somebody wanted it to end.
        committing: its output was, or is, being put in place.
        ended: how it ended.
        late: whoever wanted to know has been told that it has outlived its deadline.
    """

    accepted: JobAccepted
    epoch: int = 0
    boots: dict[int, str] = field(default_factory=dict)
    done: dict[TaskId, TaskDone] = field(default_factory=dict)
    attempts: int = 0
    failed_attempts: int = 0
    failures: deque[FailureReport] = field(default_factory=lambda: deque(maxlen=FAILURES_SHOWN))
    replanned: list[StageReplanned] = field(default_factory=list)
    cancelled: bool = False
    committing: JobCommitting | None = None
    ended: JobEnded | None = None
    begun: bool = False
    begun_at: float | None = None
    late: bool = False
    _digests: dict[TaskId, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.accepted.queued:
            self.begun, self.begun_at = True, self.accepted.at

    @property
    def next_epoch(self) -> int:
        """Of what is launched next: as long as a job waits for its turn, nothing of its epoch was."""
        return self.epoch + 1 if self.begun else self.epoch

    @property
    def job(self) -> str:
        """The job's id."""
        return self.accepted.job

    @property
    def parents(self) -> Sequence[tuple[int, ...]]:
        """The parents of each stage, as they are now."""
        if not self.replanned:
            return self.accepted.parents
        changed = {id: parents for fact in self.replanned for id, parents in fact.parents}
        known = dict(enumerate(self.accepted.parents)) | changed
        return [known[stage] for stage in range(len(known))]

    def add(self, fact: Fact) -> None:
        """Take in the next fact."""
        match fact:
            case JobBegun(_, at):
                self.begun, self.begun_at = True, at
            case JobLate():
                self.late = True
            case JobTakenUp(_, epoch, _, boot, queued):
                self.epoch, self.boots[epoch] = epoch, boot
                self.ended = None  # it may have failed before
                if queued:
                    self.cancelled, self.committing, self.begun_at, self.late = False, None, None, False
                self.begun = not queued
            case TaskDone():
                self._task_done(fact)
            case AttemptOver():
                self.attempts += 1
                self.failed_attempts += fact.how in ("failed", "lost")
                if fact.report is not None:
                    self.failures.append(fact.report)
            case StageReplanned():
                self.replanned.append(fact)
            case JobCancelling():
                self.cancelled = True
            case JobCommitting():
                self.committing = fact
            case JobEnded():
                self.ended = fact

    def _task_done(self, fact: TaskDone) -> None:
        task = fact.attempt.task
        self.attempts += 1
        self.done[task] = fact
        if fact.result.block is None:
            return
        digest = digest_of(fact.result.block)
        if self._digests.setdefault(task, digest) != digest:
            # It ran again and made other data: what has read the old data does not count. What follows from that
            # is found in the same way, when those tasks have run again.
            self._digests[task] = digest
            readers = {stage for stage, parents in enumerate(self.parents) if task.stage in parents}
            self.done = {other: done for other, done in self.done.items() if other.stage not in readers}


def fold(facts: Iterable[Fact]) -> dict[str, JobRecord]:
    """How all jobs stand. Facts of jobs whose beginning is not among them are left out."""
    records: dict[str, JobRecord] = {}
    begun: dict[str, float] = {}  # when the turn of jobs came whose code had to be loaded then
    for fact in facts:
        if isinstance(fact, JobAccepted):
            record = records[fact.job] = JobRecord(fact, boots={0: fact.boot})
            if record.begun:
                record.begun_at = begun.pop(fact.job, fact.at)
        elif found := records.get(fact.job):
            found.add(fact)
        elif isinstance(fact, JobBegun):
            begun[fact.job] = fact.at
    return records
