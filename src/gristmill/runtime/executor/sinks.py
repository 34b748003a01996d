"""Where an attempt's pairs go: into the block of a shuffle, or into a part of the output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from gristmill.compute.collect import Collector
from gristmill.compute.culprit import check_pair
from gristmill.compute.fuse import Grouping
from gristmill.compute.group import decode_in_parts
from gristmill.compute.mapping import Pair
from gristmill.compute.streams import Columns
from gristmill.plan.functions import ExchangeFunctions, JobCode, StepFunctions
from gristmill.plan.stages import Branch, MergeOp, OutputSink, ProgramOp, ReduceOp, RowsSink, ShuffleSink
from gristmill.runtime.contracts import TaskEnvironment, TaskResult, TaskSpec
from gristmill.runtime.executor.reading import BlockInputs
from gristmill.shuffle import store
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.shelf import Shelf
from gristmill.storage.writers.parts import Parts, open_parts

_CHUNK = 1024
_COMPRESSED = "_COMPRESSED"
_MOST_SORTED = 96 * 1024 * 1024  # as columns: what is in a split becomes one run, and need not be merged
_SORTED_SHARE = 4  # of an executor's memory, so much is columns that wait; sorting takes as much again


class Sink(Protocol):
    """Where an attempt's pairs go."""

    def consume(self, pairs: Iterator[Pair]) -> None:
        """Take pairs."""
        ...

    def finish(self) -> TaskResult:
        """All were given: what came of them."""
        ...


def open_sink(
    code: JobCode,
    spec: TaskSpec,
    env: TaskEnvironment,
    stack: ExitStack,
    blocks: BlockInputs,
    grouping: Grouping | None = None,
) -> Sink:
    """What a stage writes to, for one attempt. If the attempt fails, ``stack`` takes what it wrote away.

    With ``grouping``, elements go into the groups of a fold by it: see :meth:`BlockSink.group`.
    """
    sink = spec.stage.sink
    branch = spec.stage.branches[spec.branch]
    if not isinstance(sink, OutputSink):
        shared = store.job_folder(env.job.shuffle_dir, env.job.job) if env.job.shuffle_dir else ""
        target = _block_target(env, shared)
        if isinstance(sink, RowsSink):
            if sink.kept and env.job.session:
                return _KeptSink(sink.kept, spec, env, Path(target), stack)
            return BlockSink(_rows_writer(Path(target), stack), shared)
        if isinstance(branch.ops[0], MergeOp):
            return BlockSink(_Merging(blocks, Path(target)), shared)
        return BlockSink(_collector(code.steps[sink.step], sink, branch, env, target, blocks, grouping), shared)
    index = spec.attempt.index
    writer = open_parts(env.job.staging, env.name, index, sink.letter, sink.format, sink.options, env.scratch)
    stack.callback(writer.discard)
    last = branch.ops[-1] if branch.ops else None
    if isinstance(last, ProgramOp):
        return _ElementSink(writer)
    step = code.steps[last.step] if last else StepFunctions()
    role = "reducer" if isinstance(last, ReduceOp) else "mapper"
    return _PartSink(writer, getattr(step, role), role)


def _collector(
    step: StepFunctions,
    sink: ShuffleSink,
    branch: Branch,
    env: TaskEnvironment,
    target: str,
    blocks: BlockInputs,
    grouping: Grouping | None,
) -> BlockMaker:
    """What sorts and groups the pairs of a shuffle."""
    if not isinstance(step, ExchangeFunctions):
        combiner = step.combiner if sink.combine else None
        return Collector(sink.partitions, env.scratch_folder, target, combiner, step.partitioner)
    partitioner = step.partitioner
    if step.ranges:
        from gristmill.compute.ranges import bounds_of

        samples = [key for some in blocks.rows(len(branch.sources) - 1, lambda _: None) for key in some]
        partitioner = bounds_of(samples, sink.partitions, step.descending)
    elif grouping is not None and step.fold is not None:
        from gristmill.compute.fused import FusedCollector

        return FusedCollector(sink.partitions, env.scratch_folder, target, partitioner, step.fold, grouping)
    from gristmill.compute.columns import ColumnCollector

    return ColumnCollector(
        sink.partitions,
        env.scratch_folder,
        target,
        step.combiner if step.fold is None else None,
        partitioner,
        fold=step.fold,
        descending=step.descending,
        run_bytes=min(_MOST_SORTED, env.job.memory_bytes // _SORTED_SHARE),
    )


class BlockMaker(Protocol):
    """Makes a block of what is given to it."""

    def consume(self, pairs: Iterator[Any]) -> None:
        """Take records."""
        ...

    def finish(self) -> BlockInfo:
        """All were given: write the block."""
        ...

    spilled_bytes: int  # what was written on the way


class _Merging:
    """Makes a block of the blocks that the attempt reads."""

    spilled_bytes = 0  # whoever reads them counts

    def __init__(self, blocks: BlockInputs, target: Path) -> None:
        self._blocks, self._target = blocks, target

    def consume(self, pairs: Iterator[Any]) -> None:
        """Nothing: no pair is made."""

    def finish(self) -> BlockInfo:
        return self._blocks.merged(0, self._target)


class BlockSink:
    """A block that other tasks will read."""

    def __init__(self, collector: BlockMaker, shared: str) -> None:
        self.collector = collector
        self.consume = collector.consume
        self._shared = shared  # where the block is copied to, if that is a URI

    def group(self, elements: Iterator[Any], pairs_of: Callable[[Iterator[Any]], Iterator[Pair]]) -> None:
        """Take what a fused function makes pairs of, right into the groups of a fold."""
        from gristmill.compute.fused import FusedCollector

        assert isinstance(self.collector, FusedCollector), "it was made for that"
        self.collector.group(elements, pairs_of)

    def finish(self) -> TaskResult:
        """The block is whole."""
        block = self.collector.finish()
        if store.is_uri(self._shared) and block.path:
            block = replace(block, path=store.put(Path(block.path), self._shared))
        rows = size = 0
        for segment in block.segments:
            rows += segment.rows
            size += segment.length
        return TaskResult(records_out=rows, bytes_out=size, spilled_bytes=self.collector.spilled_bytes, block=block)


class _KeptSink(BlockSink):
    """A block that the session keeps, in memory or on disk. The session has a folder beside the job's."""

    def __init__(self, kept: str, spec: TaskSpec, env: TaskEnvironment, own: Path, stack: ExitStack) -> None:
        job = env.job
        folder = Path(spec.folder or job.folder).parent / job.session
        self._shelf = Shelf(folder, job.keep_bytes, job.begun)
        self._own = own  # where the block goes if it cannot be kept
        level = kept.partition(":")[0]
        compressed = level.endswith(_COMPRESSED)
        level = level.removesuffix(_COMPRESSED)
        if level.startswith("MEMORY"):
            self._target = self._shelf.place_for(own.name, droppable=level == "MEMORY")
        else:
            self._target = folder / "blocks" / own.name
            self._target.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(_rows_writer(self._target, stack, compressed), "")

    def finish(self) -> TaskResult:
        made = super().finish()
        if made.block is not None and made.block.path:
            made.block = replace(made.block, path=self._shelf.settle(self._target, self._own))
        return made


def _rows_writer(target: Path, stack: ExitStack, compressed: bool = False) -> BlockMaker:
    from gristmill.compute.rows import RowsWriter

    rows = RowsWriter(target, compressed)
    stack.callback(rows.discard)
    return rows


class _ElementSink:
    """A part of the output, of a dataset's elements."""

    def __init__(self, writer: Parts) -> None:
        self._writer = writer
        self._rows = 0

    def consume(self, pairs: Iterator[Any]) -> None:
        if isinstance(pairs, Columns):
            for column in pairs.columns:
                self._write(column)
        else:
            while chunk := list(islice(pairs, _CHUNK)):
                self._write(chunk)

    def _write(self, column: Any) -> None:
        """Write elements, or an array of them."""
        self._rows += len(column)
        if isinstance(column, list):
            self._writer.write([None] * len(column), column)
        elif not self._writer.write_column(column):
            for chunk in decode_in_parts(column):
                self._writer.write([None] * len(chunk), chunk)

    def finish(self) -> TaskResult:
        parts = self._writer.close()
        return TaskResult(records_out=self._rows, bytes_out=sum(part.size_bytes for part in parts), parts=parts)


class _PartSink:
    """A part of the output."""

    def __init__(self, writer: Parts, function: Any, role: str) -> None:
        self._writer = writer
        self._function, self._role = function, role
        self._rows = 0

    def consume(self, pairs: Iterator[Pair]) -> None:
        while chunk := list(islice(pairs, _CHUNK)):
            try:
                keys, values = [key for key, _ in chunk], [value for _, value in chunk]
            except (TypeError, ValueError):
                for pair in chunk:
                    check_pair(pair, self._function, self._role, shuffled=False)
                raise
            self._writer.write(keys, values)
            self._rows += len(chunk)

    def finish(self) -> TaskResult:
        parts = self._writer.close()
        return TaskResult(records_out=self._rows, bytes_out=sum(part.size_bytes for part in parts), parts=parts)


def _block_target(env: TaskEnvironment, shared: str) -> str:
    """Where the block appears; the job's folder on shared storage, if it has one that is a folder."""
    if not shared:
        return f"{env.blocks_folder}/{env.name}.block"
    folder = env.scratch if store.is_uri(shared) else Path(shared)
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / f"{env.name}.block")
