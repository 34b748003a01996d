"""One attempt from end to end: opens what the stage reads, runs the user's functions, closes what it writes.

This is where the rooms meet: ``storage`` for splits and parts, ``shuffle`` for blocks, ``compute`` between them.
"""

from __future__ import annotations

from bdb import BdbQuit
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from operator import length_hint
from typing import TYPE_CHECKING, Any, TypeGuard

from gristmill.compute.collect import Collector
from gristmill.compute.culprit import find_culprit
from gristmill.compute.group import Group
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
from gristmill.plan.stages import MapOp, MergeOp, ProgramOp, ShuffleSink, ShuffleSource
from gristmill.records.block import MalformedRecord, RecordBlock
from gristmill.runtime.contracts import Progress, TaskEnvironment, TaskResult, TaskSpec
from gristmill.runtime.executor import disks
from gristmill.runtime.executor.fusing import FusedFailed, ProgramPlan, plan_of
from gristmill.runtime.executor.reading import BlockInputs
from gristmill.runtime.executor.sinks import BlockSink, Sink, open_sink
from gristmill.storage.bad_records import BadRecords
from gristmill.storage.formats import open_split

if TYPE_CHECKING:
    from gristmill.runtime.executor.programs import ProgramRun


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
    try:
        try:
            return _run(code, spec, env, progress, fusing=True)
        except FusedFailed:  # once more without, for the true error, if there is one
            progress.records_in = progress.bytes_in = 0
            return _run(code, spec, env, progress, fusing=False)
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


def _run(code: JobCode, spec: TaskSpec, env: TaskEnvironment, progress: Progress, *, fusing: bool) -> TaskResult:
    counters = Counters()
    activate_counters(counters)
    with ExitStack() as stack:
        return _Attempt(code, spec, env, progress, stack, fusing).run(counters)


class _Attempt:
    def __init__(
        self, code: JobCode, spec: TaskSpec, env: TaskEnvironment, progress: Progress, stack: ExitStack, fusing: bool
    ) -> None:
        self._code, self._spec, self._env, self._progress, self._stack = code, spec, env, progress, stack
        branch = spec.stage.branches[spec.branch]
        self._source = branch.sources[0]
        self._blocks = BlockInputs(code, spec, env)
        self._chain = MapChain([code.steps[op.step] for op in branch.ops if isinstance(op, MapOp)])
        programs = [op for op in branch.ops if isinstance(op, ProgramOp)]
        self._program = programs[0] if programs else None
        self._merges = isinstance(branch.ops[0], MergeOp) if branch.ops else False
        self._plan: ProgramPlan | None = None
        self._running: ProgramRun | None = None
        if self._program is not None:
            self._plan = plan_of(code, self._program, spec.stage.sink, fusing)
        grouping = None if self._plan is None else self._plan.grouping
        self._sink = open_sink(code, spec, env, stack, self._blocks, grouping)
        self._tolerant = env.job.max_bad_records > 0
        self._bad: BadRecords | None = None  # made with the first of them
        self._last_bad: FailureReport | None = None

    def run(self, counters: Counters) -> TaskResult:
        try:
            if self._plan is not None:
                self._run_program(self._plan)
            elif self._merges:
                self._progress.advance(*self._blocks.size_of(0))  # the sink reads them all
            else:
                self._run_steps()
            made = self._finish()
        except (BlockMissing, BlockCorrupt, BlockUnreachable) as error:
            raise self._blocks.all_damaged(error) from error
        made.records_in, made.bytes_in = self._progress.records_in, self._progress.bytes_in
        made.spilled_bytes += self._blocks.spilled_bytes
        made.counters, made.accumulated = counters.groups, counters.accumulated
        if self._bad is not None and (part := self._bad.close()) is not None:
            made.parts += (part,)
            made.bad_records, made.last_bad = self._bad.count, self._last_bad
        made.hot_keys = self._blocks.hot_keys
        return made

    def _run_program(self, plan: ProgramPlan) -> None:
        from gristmill.runtime.executor.blame import OF_A_STEP, is_of_operator
        from gristmill.runtime.executor.programs import ProgramRun

        run = self._running = ProgramRun(self._code, plan, self._spec, self._env, self._blocks, self._progress)
        try:
            for stream in run.results():
                if plan.grouping is not None and isinstance(self._sink, BlockSink):
                    self._sink.group(stream, run.pairs_of)
                else:
                    self._sink.consume(stream)
        except Exception as error:  # whatever user code raises
            again = plan.is_fused or run.took_ahead
            if again and not isinstance(error, (MemoryError, BdbQuit, OSError, BlockUnreachable)):
                raise FusedFailed from error
            if not isinstance(error, OF_A_STEP) and _is_ours(error) and not is_of_operator(error):
                raise
            failure = run.failed(error)
            if failure is error:
                raise
            raise failure from error

    def _finish(self) -> TaskResult:
        try:
            return self._sink.finish()
        except TaskError as error:
            from gristmill.runtime.executor.blame import OF_A_STEP

            if self._running is not None and isinstance(error, OF_A_STEP):
                self._running.failed(error)  # which puts what it finds into the report
            raise

    def _run_steps(self) -> None:
        if (first := self._chain.begin()) is not None:
            self._hook(first, "mapper_init")
        if isinstance(self._source, ShuffleSource):
            self._reduce(self._source)
        else:
            for split in self._spec.splits:
                for block in open_split(split, self._env.job.max_record_bytes):
                    self._map_block(block)
        if (last := self._chain.end()) is not None:
            self._hook(last, "mapper_final")

    # Map

    @cached_property
    def _inlined(self) -> tuple[Collector, Inlined, int] | None:
        return _inlined(self._chain, self._sink)

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

    def _reduce(self, source: ShuffleSource) -> None:
        step = self._code.steps[source.step]
        rows_in, bytes_in = self._blocks.size_of(0)
        # Bytes are counted as if all rows were of one size: close enough to see how far the task is.
        grouped = self._blocks.groups(0, lambda rows: self._progress.advance(rows, rows * bytes_in // rows_in))
        assert step.reducer is not None, "a stage that reads a shuffle begins with a reducer"
        self._hook(self._chain.apply_pairs(_call(step.reducer_init)), "reducer_init")
        if self._tolerant:
            self._sink.consume(self._reduce_one_by_one(step, grouped))
        else:
            self._reduce_all(step, grouped)
        self._hook(self._chain.apply_pairs(_call(step.reducer_final)), "reducer_final")
        self._progress.records_in, self._progress.bytes_in = rows_in, bytes_in

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
        if self._bad is None:
            self._bad = self._open_bad()
        self._bad.add(error.report, record if isinstance(record, str) else cut(record))
        self._last_bad = replace(error.report, error="BadRecordLimit")
        if self._bad.count > self._env.job.max_bad_records:
            raise BadRecordLimit(self._last_bad)

    def _open_bad(self) -> BadRecords:
        spec, env = self._spec, self._env
        letter = "r" if spec.stage.branches[spec.branch].reads_shuffle else "m"
        name = f"{letter}{spec.stage.id}-{spec.attempt.index:05d}.jsonl"
        bad = BadRecords(env.job.staging, f"attempts/{env.name}-bad.jsonl", f"_bad_records/{name}")
        self._stack.callback(bad.discard)
        return bad


def _inlined(chain: MapChain, sink: Sink) -> tuple[Collector, Inlined, int] | None:
    """How a block's records are grouped without a generator between; None if they cannot be."""
    if not isinstance(sink, BlockSink) or not isinstance(collector := sink.collector, Collector):
        return None
    inlined = inline_mapper(chain.only_mapper, collector.sums)
    return inlined and (collector, *inlined)


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
