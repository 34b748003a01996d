"""Stages: what is left of a plan once it is cut at every exchange. A stage is branches → sink.

All of it is plain data. Functions are named by their places in :class:`~gristmill.plan.functions.JobCode`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Reads(StrEnum):
    """Which of a parent stage's blocks one task reads."""

    PARTITION = "partition"  # one partition of the blocks of all its tasks, merged by key
    TASK = "task"  # the block of the task of the same number, in its own order
    ALL = "all"  # the blocks of all its tasks, one after another: a broadcast


@dataclass(frozen=True)
class InputSpec:
    """One input of a job, as its user named it.

    Attributes:
        paths: files, directories, globs and URIs. Empty if the input is ``made``.
        format: one of ``config.INPUT_FORMATS``; empty: by suffix, else text.
        options: further wishes of the format, by name: plain values.
        made: so many tasks make it, by ``JobCode.makers``; 0 if it is read from files.
    """

    paths: tuple[str, ...] = ()
    format: str = ""
    options: tuple[tuple[str, str], ...] = ()
    made: int = 0


@dataclass(frozen=True)
class SplitSource:
    """Records of splits of one of the job's inputs; the task's splits stand in its TaskSpec."""

    input: int = 0


@dataclass(frozen=True)
class ShuffleSource:
    """Blocks of a parent stage: by default the sorted groups of one partition."""

    parent: int  # stage id
    step: int = -1
    combine: bool = True  # step's combiner, if it has one, is used when blocks are merged before they are reduced
    reads: Reads = Reads.PARTITION


Source = SplitSource | ShuffleSource


@dataclass(frozen=True)
class MapOp:
    """Call step's mapper (identity if it has none) on each record."""

    step: int


@dataclass(frozen=True)
class ReduceOp:
    """Call step's reducer on each group. Only the first operator of a branch whose source is a shuffle."""

    step: int


@dataclass(frozen=True)
class ProgramOp:
    """Run a program of a dataset on the branch's sources. Alone in its branch."""

    program: int


@dataclass(frozen=True)
class MergeOp:
    """Merge blocks of one partition to one block, with step's combiner or fold. Alone in a branch of one source.

    For a stage that ``plan.adapt`` puts in between.
    """

    step: int


Op = MapOp | ReduceOp | ProgramOp | MergeOp


@dataclass(frozen=True)
class ShuffleSink:
    """Write a block: sorted by (partition, key), combined by step's combiner if ``combine``.

    ``partitions`` is 0 until the job's input is known, when their number is to follow from it. They are ``free`` if the
    user did not choose their number: then their readers may read several each.
    """

    step: int
    partitions: int
    combine: bool
    free: bool = False


@dataclass(frozen=True)
class RowsSink:
    """Write a block of one partition that holds the records in their order.

    ``kept`` names what the session keeps, and later jobs may read; empty: the block is for this job's stages alone.
    ``first``: so many of the stage's tasks are enough, and others do not run; 0: all. Only of the last stage.
    """

    kept: str = ""
    first: int = 0


@dataclass(frozen=True)
class OutputSink:
    """Write a part of the job's output: ``part-r-00000`` or ``part-m-00000`` by ``letter``.

    ``options`` are those of ``storage.writers.options.WriteOptions``; none: pairs of key and value, in one file.
    """

    format: str  # text, csv, jsonl, parquet, …, or "pickle" for results that only this job's owner reads
    letter: str  # "m" or "r"
    options: tuple[tuple[str, str], ...] = ()


Sink = ShuffleSink | RowsSink | OutputSink


@dataclass(frozen=True)
class Slice:
    """What stands for a source's part: one partition of the blocks of some tasks.

    Attributes:
        source: its place in the branch.
        stage: whose blocks: the source's parent, or a stage that has merged blocks of it.
        begin: the first of the tasks.
        end: the one after the last.
        partition: of their blocks.
    """

    source: int
    stage: int
    begin: int
    end: int
    partition: int


@dataclass(frozen=True)
class Turn:
    """One run of a branch's operators, on the sources' parts of one number.

    Attributes:
        part: the number: of partitions, or of the parents' tasks.
        slices: for the sources of which something else is read.
    """

    part: int
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True)
class Branch:
    """Tasks of a stage that read the same sources and do the same.

    The first source that is not read as a whole (``Reads.ALL``) says how many tasks there are: one for each task's
    splits, each partition, or each task of the parent. If there is none there is one task. All such sources of a branch
    have the same number of parts, and a task reads of each what has its own number.

    Attributes:
        sources: what is read.
        ops: what is done with it.
        splits: sources whose parts may be divided among several tasks by the tasks that made them.
        turns: of each task, if they are not one for each part: ``plan.adapt`` has cut them otherwise.
    """

    sources: tuple[Source, ...]
    ops: tuple[Op, ...]
    splits: tuple[int, ...] = ()
    turns: tuple[tuple[Turn, ...], ...] = ()

    @property
    def reads_shuffle(self) -> bool:
        """Whether the tasks read what other tasks made."""
        return not any(isinstance(source, SplitSource) for source in self.sources)


@dataclass(frozen=True)
class Instead:
    """What a stage could do that joins two others.

    Attributes:
        streamed: the parent that would not be needed: its input is read here.
        whole: the parent that each task would read as a whole.
        branches: in the place of the stage's own.
    """

    streamed: int
    whole: int
    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class Stage:
    """One stage. Its id is its place in ``StagePlan.stages``; its tasks are numbered through its branches.

    Attributes:
        name: for people: "map", "reduce", "reduce 1 + map 2".
        instead: what it could do; see ``plan.adapt``.
        settled: it was decided how it is cut.
        skipped: it was decided that it is not needed: it has no tasks.
    """

    id: int
    branches: tuple[Branch, ...]
    sink: Sink
    name: str
    instead: tuple[Instead, ...] = ()
    settled: bool = False
    skipped: bool = False

    @property
    def parents(self) -> tuple[int, ...]:
        """Ids of the stages whose blocks this one reads."""
        found = [source.parent for source in self.sources if isinstance(source, ShuffleSource)]
        turns = (turn for branch in self.branches for task in branch.turns for turn in task)
        return tuple(dict.fromkeys([*found, *(slice.stage for turn in turns for slice in turn.slices)]))

    @property
    def sources(self) -> tuple[Source, ...]:
        """Those of all branches."""
        return tuple(source for branch in self.branches for source in branch.sources)

    @property
    def reads_shuffle(self) -> bool:
        """Whether all its tasks read what other tasks made."""
        return all(branch.reads_shuffle for branch in self.branches)


@dataclass(frozen=True)
class StagePlan:
    """A job's stages, parents before children; the last one writes the output, or rows for whoever has asked.

    The ``added`` ones behind it were put in between later. ``notes`` say how stages were cut by what was measured.
    """

    stages: tuple[Stage, ...]
    added: int = 0
    notes: tuple[str, ...] = ()

    @property
    def last(self) -> Stage:
        """The stage whose output is the job's."""
        return self.stages[-1 - self.added]

    @property
    def in_order(self) -> tuple[Stage, ...]:
        """The stages, parents before children."""
        if not self.added:
            return self.stages
        ordered: dict[int, Stage] = {}

        def put(stage: Stage) -> None:
            for parent in stage.parents:
                if parent not in ordered:
                    put(self.stages[parent])
            ordered[stage.id] = stage

        for stage in self.stages:
            if stage.id not in ordered:
                put(stage)
        return tuple(ordered.values())

    def with_reducers(self, reducers: int) -> StagePlan:
        """The same, with the number of partitions filled in where it was left open."""
        return replace(self, stages=tuple(_with_reducers(stage, reducers) for stage in self.stages))


def _with_reducers(stage: Stage, reducers: int) -> Stage:
    sink = stage.sink
    if isinstance(sink, ShuffleSink) and not sink.partitions:
        return replace(stage, sink=replace(sink, partitions=reducers))
    return stage


def partitions_of(plan: StagePlan, stage: int) -> int:
    """How many partitions the blocks of a stage have."""
    sink = plan.stages[stage].sink
    return sink.partitions if isinstance(sink, ShuffleSink) else 1


def branch_counts(plan: StagePlan, inputs: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """How many tasks each branch of each stage has.

    Args:
        plan: the stages, with all partitions known.
        inputs: how many tasks read each of the job's inputs.
    """
    counts = []
    for stage, parts in zip(plan.stages, part_counts(plan, inputs), strict=True):
        tasks = tuple(len(branch.turns) or count for branch, count in zip(stage.branches, parts, strict=True))
        first = stage.sink.first if isinstance(stage.sink, RowsSink) else 0
        if stage.skipped:
            tasks = (0,) * len(tasks)
        counts.append(_first_tasks(tasks, first) if first else tasks)
    return tuple(counts)


def part_counts(plan: StagePlan, inputs: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """How many parts the sources of each branch of each stage have. There are as many tasks, unless they were cut
    otherwise, or not all are wanted.

    The arguments are those of :func:`branch_counts`.
    """
    counts: dict[int, tuple[int, ...]] = {}

    def of_source(source: Source) -> int | None:
        if isinstance(source, SplitSource):
            return inputs[source.input]
        if source.reads is Reads.ALL:
            return None
        # What is read task by task is never cut otherwise.
        return partitions_of(plan, source.parent) if source.reads is Reads.PARTITION else sum(counts[source.parent])

    for stage in plan.stages:
        found = [[n for source in branch.sources if (n := of_source(source)) is not None] for branch in stage.branches]
        assert all(len(set(numbers)) <= 1 for numbers in found), "what a task reads together is cut alike"
        counts[stage.id] = tuple(numbers[0] if numbers else 1 for numbers in found)
    return tuple(counts.values())


def _first_tasks(branches: tuple[int, ...], first: int) -> tuple[int, ...]:
    before = 0
    cut = []
    for tasks in branches:
        cut.append(max(0, min(tasks, first - before)))
        before += tasks
    return tuple(cut)
