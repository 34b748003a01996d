"""What is known of one stage: sums over the attempts that were accepted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from gristmill.plan.stages import ProgramOp, SplitSource, Stage
from gristmill.runtime.contracts import Progress, TaskResult
from gristmill.runtime.views import StageView

_HOT_TIMES = 4
_HOT_ROWS = 10_000


@dataclass
class StageTally:
    """One stage's sums over accepted attempts."""

    stage: Stage
    branches: tuple[int, ...]  # how many tasks each has
    parts: tuple[int, ...]  # and how many parts its sources have
    done: int = 0
    running: int = 0
    records_in: int = 0
    records_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    bytes_total: int = 0
    made: tuple[int, ...] | None = None  # once it was whole: the bytes of each partition; empty if that is not known
    hot_keys: dict[str, int] = field(default_factory=dict)  # that tasks named → rows
    results: dict[int, TaskResult] = field(default_factory=dict)  # that count, by the numbers of their tasks

    @property
    def tasks(self) -> int:
        """How many tasks it has."""
        return sum(self.branches)

    @cached_property
    def only_input(self) -> int | None:
        """The one input of the job whose splits its tasks read, and nothing else; None if it is not as simple."""
        stage = self.stage
        if len(stage.branches) != 1 or stage.branches[0].turns:
            return None
        (branch,) = stage.branches
        if len(branch.sources) != 1 or (branch.ops and isinstance(branch.ops[0], ProgramOp)):
            return None
        (source,) = branch.sources
        return source.input if isinstance(source, SplitSource) else None

    def place_of(self, index: int) -> tuple[int, int]:
        """The branch of a task, and the task's number within it."""
        for branch, count in enumerate(self.branches):
            if index < count:
                return branch, index
            index -= count
        raise IndexError(index)

    def add(self, result: TaskResult, sign: int) -> None:
        """A result counts (1), or counts no more (-1)."""
        self.done += sign
        self.records_in += sign * result.records_in
        self.records_out += sign * result.records_out
        self.bytes_in += sign * result.bytes_in
        self.bytes_out += sign * result.bytes_out
        for key, rows in result.hot_keys:
            self.hot_keys[key] = self.hot_keys.get(key, 0) + sign * rows

    def hot(self) -> Iterator[tuple[str, int]]:
        """Keys with so many rows that their task has several times what it should have."""
        parts = sum(self.parts)
        if parts > 1:
            least = min(_HOT_TIMES * self.records_in // parts, self.records_in // 2)
            yield from ((key, rows) for key, rows in self.hot_keys.items() if rows >= max(_HOT_ROWS, least))


def stage_view(tally: StageTally, running: Progress) -> StageView:
    """How a stage stands; ``running`` is the sum over its attempts that run."""
    return StageView(
        id=tally.stage.id,
        name=tally.stage.name,
        reads_shuffle=tally.stage.reads_shuffle,
        tasks=tally.tasks,
        done=tally.done,
        running=tally.running,
        records_in=tally.records_in + running.records_in,
        bytes_in=tally.bytes_in + running.bytes_in,
        bytes_total=tally.bytes_total,
    )
