"""A job as the coordinator holds it: what it was given, and its notes on it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gristmill.errors import FailureReport
from gristmill.plan.stages import StagePlan
from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.tally import JobTally
from gristmill.runtime.views import JobView, Observer
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.events import AttemptId
from gristmill.storage.contracts import PartFile, Split


class JobOutput(Protocol):
    """Where a job's parts come together (``storage.commit.OutputCommit``)."""

    def commit(self, parts: Sequence[PartFile], summary: Mapping[str, Any]) -> None:
        """Put the output in its place, whole, in one step."""
        ...

    def abort(self) -> None:
        """Leave nothing of it."""
        ...


@dataclass(frozen=True)
class PreparedJob:
    """Everything that a coordinator needs to run a job.

    Attributes:
        spec: what executors get.
        name: for people.
        plan: the stages.
        splits: the input of each task of the first stage.
        output: where its parts come together.
        output_path: named in the summary; None if the result has no place of its own.
        max_attempts: of a task, when the user's code fails.
    """

    spec: JobSpec
    name: str
    plan: StagePlan
    splits: tuple[tuple[Split, ...], ...]
    output: JobOutput
    output_path: str | None = None
    max_attempts: int = 4


@dataclass
class Job:
    """A job from its submission to its end: the coordinator's own notes, which only its loop changes."""

    prepared: PreparedJob
    tally: JobTally
    observer: Observer | None
    began: float
    view: JobView
    state: JobState = JobState.RUNNING
    cause: AttemptId | None = None
    last_failure: tuple[AttemptId, FailureReport] | None = None
    bad_records: int = 0  # of accepted attempts and of the one that was one too many …
    last_bad: FailureReport | None = None  # … and the last of them
    draining: set[str] = field(default_factory=set)  # slots whose cancelled attempt may still write
    drain_until: float = 0.0
    outcome: Outcome | None = None
    over: threading.Event = field(default_factory=threading.Event)
