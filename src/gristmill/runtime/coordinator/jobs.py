"""A job as the coordinator holds it: what it was given, and its notes on it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gristmill.errors import FailureReport, GristmillError, JobCancelled
from gristmill.plan.stages import OutputSink, StagePlan
from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.coordinator.tally import JobTally
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import JobView, Observer
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo
from gristmill.storage.contracts import PartFile, Splits

if TYPE_CHECKING:
    from gristmill.runtime.coordinator.resumption import Resumption
    from gristmill.runtime.files.jobfolder import JobFolder
    from gristmill.runtime.journal.facts import Fact
    from gristmill.runtime.journal.journal import Journal


class JobOutput(Protocol):
    """Where a job's parts come together (``storage.commit.OutputCommit``)."""

    def commit(self, parts: Sequence[PartFile], summary: Mapping[str, Any]) -> None:
        """Put the output in its place, whole, in one step."""
        ...

    def abort(self, keep: Path | None = None) -> None:
        """Leave nothing of it there. What was staged is moved to ``keep``, if that can be done at once."""
        ...


class NoOutput:
    """The output of a job whose last stage leaves blocks: there is nothing to put anywhere."""

    def commit(self, parts: Sequence[PartFile], summary: Mapping[str, Any]) -> None:
        """Nothing."""

    def abort(self, keep: Path | None = None) -> None:
        """Nothing."""


@dataclass(frozen=True)
class PreparedJob:
    """Everything that a coordinator needs to run a job.

    Attributes:
        spec: what executors get.
        name: for people.
        plan: the stages, cut as is known by now.
        splits: of each input, what each task reads.
        output: where its parts come together.
        output_path: named in the summary; None if the result has no place of its own.
        max_attempts: of a task, when the user's code fails.
        place: the folder that the output becomes, be it named by the user or not; empty if there is none.
        mode: what becomes of an output that is there: ``error``, ``overwrite`` or ``append``.
        priority: over other jobs'.
        task_cpus: what each task takes of its worker.
        task_memory_bytes: likewise.
        speculation: whether stragglers run twice.
        deaths_expected: processes may die, and attempts run too long, without limit.
        stage_keys: what each stage's output follows from; see ``plan.keys``.
        ingredients: what the keys were made of, by name.
        replay: the command that runs a task again, but for the task's name; empty when there is none.
        origins: tells each stage from all others of the job's session, but for those that do the same.
        asked: what its user asked for, for people: see ``api.asked``.
        reads: the files and folders that its user named as inputs; of a glob the folder that it begins in.
    """

    spec: JobSpec
    name: str
    plan: StagePlan
    splits: Splits
    output: JobOutput
    output_path: str | None
    max_attempts: int = 4
    place: str = ""
    mode: str = "error"
    priority: int = 0
    task_cpus: float = 1.0
    task_memory_bytes: int = 0
    speculation: bool = True
    deaths_expected: bool = False
    stage_keys: tuple[str, ...] = ()
    ingredients: Mapping[str, str] = field(default_factory=dict)
    replay: str = ""
    origins: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Job:
    """A job and the coordinator's notes on it.

    Attributes:
        prepared: what is to be run.
        tally: its results so far.
        observer: who is told how it stands.
        began: when, on the coordinator's clock.
        view: how it stands, made now and then.
        journal: where its facts go.
        folder: its folder, if that is the coordinator's to end; else its owner sees to it.
        submitted: when, in seconds since the epoch.
        user: whose it is; empty when that is not known.
        deadline_seconds: so long after its submission it is late.
        state: RUNNING until the scheduler has said how it ends.
        begun: the scheduler knows of it.
        announced: the scheduler knows all its stages.
        ending: its output is being put in place, or removed, in another thread.
        resumption: what an earlier coordinator had done, until that is made known to the scheduler.
        awaited: what cannot be seen yet of what it needs; it is waited for until ``await_until``.
        refused: why it cannot even begin.
        cause: the attempt that made it fail.
        bad_records: of accepted attempts and of the one that was one too many, with the last of them.
        draining: cancelled attempts that may still write, and their slots; waited for until ``drain_until`` at most.
        frees: blocks that can go once the fact of that number is durable.
        outcome: how it ended; ``over`` is set with it.
    """

    prepared: PreparedJob
    tally: JobTally
    observer: Observer | None
    began: float
    view: JobView
    journal: Journal | None = None
    folder: JobFolder | None = None
    submitted: float = 0.0
    user: str = ""
    deadline_seconds: float | None = None
    state: JobState = JobState.RUNNING
    begun: bool = False
    announced: bool = False
    ending: bool = False
    resumption: Resumption | None = None
    awaited: str = ""
    await_until: float = 0.0
    refused: GristmillError | None = None
    cause: AttemptId | None = None
    last_failure: tuple[AttemptId, FailureReport] | None = None
    bad_records: int = 0
    last_bad: FailureReport | None = None
    draining: dict[AttemptId, str] = field(default_factory=dict)
    drain_until: float = 0.0
    accepted: int = 0  # the number of its first fact
    noted: int = 0  # the number of its last fact
    frees: deque[tuple[int, BlockInfo]] = field(default_factory=deque)
    outcome: Outcome | None = None
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def id(self) -> str:
        """The job's id."""
        return self.prepared.spec.job

    @property
    def format(self) -> str:
        """What its output holds."""
        sink = self.prepared.plan.last.sink
        return sink.format if isinstance(sink, OutputSink) else ""

    def stage_name(self, attempt: AttemptId) -> str:
        """What the stage of an attempt is called."""
        return self.prepared.plan.stages[attempt.stage].name

    def refuse(self, error: GristmillError) -> None:
        """It ends before it has begun."""
        self.state = JobState.CANCELLED if isinstance(error, JobCancelled) else JobState.FAILED
        self.refused = error

    def note(self, fact: Fact, blobs: Mapping[str, bytes] | None = None) -> None:
        """Add a fact to the journal, if there is one."""
        if self.journal is not None:
            self.noted = self.journal.add(fact, blobs)
            self.accepted = self.accepted or self.noted
