"""What tasks and attempts are called. Executors know these and nothing else of the scheduler, and so start sooner."""

from __future__ import annotations

from typing import NamedTuple


class TaskId(NamedTuple):
    """A task of a stage of a job."""

    job: str
    stage: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of an id


class AttemptId(NamedTuple):
    """One try at a task. ``number`` counts from 1 and never repeats for a task, so a late result is known as such."""

    job: str
    stage: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of an id
    number: int

    @property
    def task(self) -> TaskId:
        """The task this is an attempt at."""
        return TaskId(self.job, self.stage, self.index)

    def __str__(self) -> str:
        return f"{self.job}-s{self.stage}-t{self.index:05d}-a{self.number}"
