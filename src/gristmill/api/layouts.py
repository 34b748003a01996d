"""Into how many partitions a session's jobs cut what is kept: the next job must do as the first one did.

Otherwise a job with another input, and thus another number of reducers, could not read what is kept, and would make it
again.
"""

from __future__ import annotations

from gristmill.plan.stages import RowsSink, ShuffleSink, StagePlan


class Layouts:
    """What one session knows of the partitions of what it keeps."""

    def __init__(self) -> None:
        self._reducers: dict[str, int] = {}  # by the name of what is kept

    def wanted(self, plan: StagePlan) -> int:
        """The number of reducers that fits what a plan will find kept; 0 if any number does."""
        return next((self._reducers[kept] for kept in _kept(plan) if kept in self._reducers), 0)

    def note(self, asked: StagePlan, made: StagePlan) -> None:
        """Remember how a job was cut.

        Args:
            asked: its plan, with open numbers of partitions.
            made: the same with all numbers.
        """
        pairs = zip(asked.stages, made.stages, strict=True)
        chosen = [
            after.sink.partitions
            for before, after in pairs
            if isinstance(before.sink, ShuffleSink)
            and isinstance(after.sink, ShuffleSink)
            and not before.sink.partitions
        ]
        for kept in _kept(asked) if chosen else ():
            self._reducers.setdefault(kept, chosen[0])


def _kept(plan: StagePlan) -> list[str]:
    """What later jobs may read; the elements that an action brings back are of the last stage, and read once."""
    return [stage.sink.kept for stage in plan.stages[:-1] if isinstance(stage.sink, RowsSink) and stage.sink.kept]
