"""One attempt from end to end: opens what the stage reads, runs the user's functions, closes what it writes.

This is where the rooms meet: ``storage`` for splits and parts, ``shuffle`` for blocks, ``compute`` between them.
"""

from __future__ import annotations

from bdb import BdbQuit
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from operator import length_hint
from typing import Any, TypeGuard

from gristmill.compute.collect import Collector
from gristmill.compute.combine import fan_in
from gristmill.compute.culprit import find_culprit
from gristmill.compute.group import Group, groups
from gristmill.compute.guard import cut, is_users, locate, user_error
from gristmill.compute.inline import Inlined, inline_mapper
from gristmill.compute.mapping import MapChain, Pair, reduce_groups
from gristmill.errors import (
    BadRecordLimit,
    BlockCorrupt,
    BlockMissing,
    BlockUnreachable,
    FailureReport,
    KeyTypeRefused,
    TaskError,
    UserCodeError,
)
from gristmill.plan.functions import Counters, JobCode, StepFunctions, activate_counters
from gristmill.plan.stages import MapOp, ShuffleSink, ShuffleSource
from gristmill.records.block import MalformedRecord, RecordBlock
from gristmill.runtime import disks
from gristmill.runtime.contracts import Progress, TaskEnvironment, TaskResult, TaskSpec
from gristmill.runtime.sinks import BlockSink, Sink, open_sink
from gristmill.shuffle.blocks import damaged_blocks, read_segment
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.merge import merge
from gristmill.storage.bad_records import BadRecords
from gristmill.storage.formats import open_split

_FETCH_SHARE = 8  # of an executor's memory, so much may be in flight at once


def run_task(code: JobCode, spec: TaskSpec, env: TaskEnvironment, progress: Progress) -> TaskResult:
    """Run one attempt in this process.

    Args:
        code: the job's functions.
        spec: what to do.
        env: where to write.
        progress: is kept up to date; another thread may read it.

    Raises:
        TaskError: anything foreseen that went wrong. Nothing the attempt wrote counts then.
    """
    counters = Counters()
    activate_counters(counters)
    try:
        with ExitStack() as stack:
            return _Attempt(code, spec, env, progress, stack).run(counters)
    except (BlockCorrupt, BlockMissing) as error:
        if not disks.is_own(path := str(error.report.details.get("block", "")), env):
            raise
        raise disks.data_dir_failed(path, error.report.message, spec) from error
    except OSError as error:
        if (failure := disks.failure_of(error, spec, env)) is None:
            raise
        raise failure from error
    finally:
        activate_counters(None)


class _Attempt:
    def __init__(
        self, code: JobCode, spec: TaskSpec, env: TaskEnvironment, progress: Progress, stack: ExitStack
    ) -> None:
        self._code, self._spec, self._env, self._progress = code, spec, env, progress
        stage = spec.stage
        self._chain = MapChain([code.steps[op.step] for op in stage.ops if isinstance(op, MapOp)])
        self._sink = open_sink(code, spec, env, stack)
        self._inlined = _inlined(self._chain, self._sink)
        self._tolerant = env.job.max_bad_records > 0
        letter = "r" if isinstance(stage.source, ShuffleSource) else "m"
        name = f"{letter}{stage.id}-{spec.attempt.index:05d}.jsonl"
        self._bad = BadRecords(
            env.job.staging, f"attempts/{env.job.file_name(spec.attempt)}-bad.jsonl", f"_bad_records/{name}"
        )
        self._last_bad: FailureReport | None = None
        self._far: Sequence[int] = ()  # places of the blocks that had to be brought here
        stack.callback(self._bad.discard)

    def run(self, counters: Counters) -> TaskResult:
        source, spilled = self._spec.stage.source, 0
        self._hook(self._chain.begin(), "mapper_init")
        if isinstance(source, ShuffleSource):
            try:
                spilled = self._reduce(source)
            except (BlockMissing, BlockCorrupt, BlockUnreachable) as error:
                raise self._all_damaged(error) from error
        else:
            for split in self._spec.splits:
                for block in open_split(split, self._env.job.max_record_bytes):
                    self._map_block(block)
        self._hook(self._chain.end(), "mapper_final")
        made = self._sink.finish()
        bad = self._bad.close()
        return TaskResult(
            records_in=self._progress.records_in,
            bytes_in=self._progress.bytes_in,
            records_out=made.records_out,
            bytes_out=made.bytes_out,
            spilled_bytes=made.spilled_bytes + spilled,
            bad_records=self._bad.count,
            last_bad=self._last_bad,
            counters=counters.groups,
            block=made.block,
            parts=made.parts + ((bad,) if bad else ()),
        )

    # Map

    def _map_block(self, block: RecordBlock) -> None:
        if self._tolerant:
            self._sink.consume(self._map_one_by_one(block))
        else:
            self._map_all(block)
        self._progress.advance(len(block.values), block.nbytes)

    def _map_all(self, block: RecordBlock) -> None:
        values = block.values
        if block.malformed:
            raise next(value.error for value in values if isinstance(value, MalformedRecord))
        records = iter(values)
        self._progress.current = records
        try:
            if self._inlined is not None:
                self._group_inlined(block.key, values, records)
            else:
                self._sink.consume(self._chain.apply(block.key, records))
        except Exception as error:  # whatever user code raises
            if _is_bad_pair(error):
                raise self._culprit(error, block) from error
            if _is_ours(error):
                raise
            index = _place(values, records)
            raise self._located(error, block, index, values[index]) from error

    def _culprit(self, error: TaskError, block: RecordBlock) -> TaskError:
        """The same error with its record: pairs are taken ahead, so the record in work need not be the one."""
        mapper = self._chain.only_mapper
        shuffled = isinstance(self._spec.stage.sink, ShuffleSink)
        found = mapper and find_culprit(mapper, block.key, block.values, shuffled=shuffled)
        if not found:
            return error
        index, culprit, frame = found
        if frame is not None:
            culprit.report = replace(culprit.report, frames=(frame,), function="mapper")
        return self._located(culprit, block, index, block.values[index])

    def _group_inlined(self, key: Any, values: Sequence[Any], records: Iterator[Any]) -> None:
        collector, mapper, yields = self._inlined  # type: ignore[misc]
        try:
            collector.group_inlined(mapper, yields, key, records)
        except BdbQuit:
            raise
        except Exception:  # whatever user code raises: once more as a generator, which fails as the user would expect
            failed = values[_place(values, records)]
            self._sink.consume(self._chain.apply(key, (failed,)))
            raise

    def _map_one_by_one(self, block: RecordBlock) -> Iterator[Pair]:
        """The pairs of the records that do not fail: a record's pairs count only if its mapper comes to its end."""
        for index, value in enumerate(block.values):
            if isinstance(value, MalformedRecord):
                self._set_aside(value.error, value.error.report.record)
                continue
            try:
                pairs = list(self._chain.apply(block.key, (value,)))
            except Exception as error:  # whatever user code raises
                if _is_ours(error):
                    raise
                self._set_aside(self._located(error, block, index, value), value)
            else:
                yield from pairs

    def _located(self, error: Exception, block: RecordBlock, index: int, value: Any) -> TaskError:
        return locate(user_error(error, "mapper"), record=value, source=block.source, offset=block.offset_of(index))

    # Reduce

    def _reduce(self, source: ShuffleSource) -> int:
        step = self._code.steps[source.step]
        blocks, partition, spilled = self._inputs(step, source)
        sent = sum(block.segment(partition).rows for block in blocks)
        pieces = merge([read_segment(block, partition) for block in blocks], sent)
        segments = [block.segment(self._spec.partition) for block in self._spec.blocks]
        rows_in, bytes_in = sum(segment.rows for segment in segments), sum(segment.length for segment in segments)
        # Bytes are counted as if all rows were of one size: close enough to see how far the task is.
        grouped = groups(pieces, lambda rows: self._progress.advance(rows, rows * bytes_in // rows_in))
        assert step.reducer is not None, "a stage that reads a shuffle begins with a reducer"
        self._hook(self._chain.apply_pairs(_call(step.reducer_init)), "reducer_init")
        if self._tolerant:
            self._sink.consume(self._reduce_one_by_one(step, grouped))
        else:
            self._reduce_all(step, grouped)
        self._hook(self._chain.apply_pairs(_call(step.reducer_final)), "reducer_final")
        self._progress.records_in, self._progress.bytes_in = rows_in, bytes_in
        return spilled

    def _inputs(self, step: StepFunctions, source: ShuffleSource) -> tuple[Sequence[BlockInfo], int, int]:
        combiner = step.combiner if source.combine else None
        partition = self._spec.partition
        blocks = [block for block in self._readable() if block.segment(partition).length]
        merged, numbers, written = fan_in(blocks, [partition], self._env.scratch, combiner)
        return merged, numbers[0], written

    def _readable(self) -> Sequence[BlockInfo]:
        """The blocks, those of other machines brought here."""
        spec, job = self._spec, self._env.job
        if not spec.sources and not job.shuffle_dir:
            return spec.blocks
        from gristmill.shuffle.fetch import fetch_blocks, to_fetch
        from gristmill.shuffle.transfer import FetchSettings

        blocks = list(spec.blocks)
        far = self._far = to_fetch(blocks, spec.sources, spec.machine)
        if far:
            budget = min(FetchSettings.budget_bytes, job.memory_bytes // _FETCH_SHARE)
            fetched = fetch_blocks(
                [blocks[place] for place in far],
                spec.partition,
                spec.sources,
                self._env.scratch,
                job=job.job,
                ticket=job.ticket,
                settings=FetchSettings(budget_bytes=budget),
            )
            for place, block in zip(far, fetched, strict=True):
                blocks[place] = block
        return blocks

    def _all_damaged(self, error: TaskError) -> TaskError:
        """The same error, naming every block that is damaged: each alone would cost one attempt."""
        if isinstance(error, BlockUnreachable):
            return error  # it names them; to read all others would only take time
        far = set(self._far)
        near = [block for place, block in enumerate(self._spec.blocks) if place not in far]
        named = str(error.report.details.get("blocks", "")).split("\n")
        paths = dict.fromkeys([*filter(None, named), *damaged_blocks(near, self._spec.partition)])
        details = {**error.report.details, "blocks": "\n".join(paths)}
        return type(error)(replace(error.report, details=details))

    def _reduce_all(self, step: StepFunctions, grouped: Iterator[Group]) -> None:
        assert step.reducer is not None
        at: list[Any] = []

        def on_group(key: Any) -> None:
            at[:] = (key,)

        try:
            self._sink.consume(self._chain.apply_pairs(reduce_groups(grouped, step.reducer, on_group)))
        except Exception as error:  # whatever user code raises
            if _is_bad_pair(error) or _is_ours(error):
                raise
            raise self._in_group(error, at[0] if at else None) from error

    def _reduce_one_by_one(self, step: StepFunctions, grouped: Iterator[Group]) -> Iterator[Pair]:
        assert step.reducer is not None
        for key, values in grouped:
            try:
                one = reduce_groups([(key, values)], step.reducer, lambda _: None)
                pairs = list(self._chain.apply_pairs(one))
            except Exception as error:  # whatever user code raises
                if _is_ours(error):
                    raise
                self._set_aside(self._in_group(error, key), key)
            else:
                yield from pairs

    def _in_group(self, error: Exception, key: Any) -> TaskError:
        return locate(user_error(error, "reducer"), record=key, source=f"partition {self._spec.attempt.index}")

    # Both

    def _hook(self, pairs: Iterator[Pair], role: str) -> None:
        try:
            self._sink.consume(pairs)
        except Exception as error:  # whatever user code raises
            if _is_ours(error):
                raise
            raise user_error(error, role) from error

    def _set_aside(self, error: TaskError, record: Any) -> None:
        self._bad.add(error.report, record if isinstance(record, str) else cut(record))
        self._last_bad = replace(error.report, error="BadRecordLimit")
        if self._bad.count > self._env.job.max_bad_records:
            raise BadRecordLimit(self._last_bad)


def _inlined(chain: MapChain, sink: Sink) -> tuple[Collector, Inlined, int] | None:
    """How a block's records are grouped without a generator between; None if they cannot be."""
    if not isinstance(sink, BlockSink):
        return None
    inlined = inline_mapper(chain.only_mapper, sink.collector.sums)
    return inlined and (sink.collector, *inlined)


def _is_ours(error: Exception) -> bool:
    """Whether an error is not the user's: the engine's own, a damaged block, a full disk, a debugger that was left."""
    if isinstance(error, (MemoryError, BdbQuit)) or (isinstance(error, OSError) and disks.is_full(error)):
        return True
    return not isinstance(error, UserCodeError) if isinstance(error, TaskError) else not is_users(error)


def _is_bad_pair(error: Exception) -> TypeGuard[TaskError]:
    """Whether user code did not raise, but gave what cannot be taken."""
    return isinstance(error, KeyTypeRefused) or (isinstance(error, UserCodeError) and not error.report.exception)


def _place(values: Sequence[Any], records: Iterator[Any]) -> int:
    """The place in ``values`` of the record that was last taken from ``records``."""
    return len(values) - length_hint(records) - 1


def _call(hook: Any) -> Iterator[Pair]:
    if hook:
        yield from hook() or ()
