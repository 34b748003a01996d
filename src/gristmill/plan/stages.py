"""Stages: what is left of a plan once it is cut at every shuffle. A stage is source → operators → sink.

All of it is plain data. Functions are named by the number of their step in :class:`~gristmill.plan.functions.JobCode`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SplitSource:
    """Records of input splits; the task's splits stand in its TaskSpec."""


@dataclass(frozen=True)
class ShuffleSource:
    """Sorted groups of one partition of a parent stage's blocks."""

    parent: int  # stage id
    step: int
    combine: bool = True  # step's combiner, if it has one, is used when blocks are merged before they are reduced


@dataclass(frozen=True)
class MapOp:
    """Call step's mapper (identity if it has none) on each record."""

    step: int


@dataclass(frozen=True)
class ReduceOp:
    """Call step's reducer on each group. Only the first operator of a stage whose source is a shuffle."""

    step: int


@dataclass(frozen=True)
class ShuffleSink:
    """Write a block: sorted by (partition, key), combined by step's combiner if ``combine``."""

    step: int
    partitions: int
    combine: bool


@dataclass(frozen=True)
class OutputSink:
    """Write a part of the job's output: ``part-r-00000`` or ``part-m-00000`` by ``letter``."""

    format: str  # text, csv, jsonl, parquet, or "pickle" for results that only this job's owner reads
    letter: str  # "m" or "r"


@dataclass(frozen=True)
class Stage:
    """One stage. Its id is its place in ``StagePlan.stages``."""

    id: int
    source: SplitSource | ShuffleSource
    ops: tuple[MapOp | ReduceOp, ...]
    sink: ShuffleSink | OutputSink
    name: str  # for people: "map", "reduce", "reduce 1 + map 2"

    @property
    def parents(self) -> tuple[int, ...]:
        """Ids of the stages whose blocks this one reads."""
        return (self.source.parent,) if isinstance(self.source, ShuffleSource) else ()


@dataclass(frozen=True)
class StagePlan:
    """A job's stages, parents before children; the last one writes the output."""

    stages: tuple[Stage, ...]
