"""What the coordinator knows of one job beyond the scheduler: results, failures, totals; and the view of it all.

Plain bookkeeping on values: no clock, no fleet, no files.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from enum import Enum
from hashlib import blake2b
from typing import Any

from gristmill.errors import FailureReport
from gristmill.plan.adapt import Sizes
from gristmill.plan.functions import Counters
from gristmill.plan.stages import (
    OutputSink,
    ProgramOp,
    Reads,
    ShuffleSource,
    Slice,
    SplitSource,
    Stage,
    StagePlan,
    Turn,
    branch_counts,
    part_counts,
    partitions_of,
)
from gristmill.runtime.answers import misfit
from gristmill.runtime.contracts import Progress, TaskResult, TaskSpec
from gristmill.runtime.coordinator.stage_tally import StageTally, stage_view
from gristmill.runtime.journal.facts import Span
from gristmill.runtime.views import JobView, RunningView
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.events import AttemptId, TaskId
from gristmill.shuffle.contracts import BlockInfo
from gristmill.storage.contracts import PartFile, Split, Splits

FAILURES_SHOWN = 5
"""Of a job: the last few."""
_HOT_KEYS_SHOWN = 5
_NOT_MOVED = Progress()  # of attempts that have just begun; a further one stands in its place when they move
_NO_ROWS = 1 + (1 << 56)  # the digest of a block without rows: no other is as large, and 0 means that none is known


def digest_of(block: BlockInfo) -> int:
    """What tells a block's content: the rows and the checksum of each partition."""
    if not block.segments:
        return _NO_ROWS
    numbers = array("Q", [number for _, _, rows, crc32, *_ in block.segments for number in (rows, crc32)])
    return int.from_bytes(blake2b(numbers, digest_size=7).digest(), "little") + 1  # 0 means that none is known


class Fate(Enum):
    """What is taken to be true of an attempt that is over without an answer, until one comes after all."""

    CANCELLED = "cancelled"  # it was the first in its slot, so it had begun
    LOST = "lost"  # likewise; its slot went away with it
    WAITED = "waited"  # behind another in its slot, or for a launch that could not arrive: it never began


class JobTally:
    """The results of one job's tasks. Sums follow the accepted attempts, whatever is accepted or lost in between."""

    def __init__(self, job: str, name: str, plan: StagePlan, splits: Splits) -> None:
        self.job = job
        self.plan = plan
        self._name = name
        self._splits = splits
        self._stages = self._tallies(plan)
        for stage in self._stages:
            read = (source.input for source in stage.stage.sources if isinstance(source, SplitSource))
            stage.bytes_total = sum(split.size_bytes for input in read for task in splits[input] for split in task)
        self._block_makers: dict[str, TaskId] = {}
        self._replaced: dict[TaskId, list[BlockInfo]] = {}  # blocks that some could not read, and others still may
        self._running: dict[AttemptId, Progress] = {}
        self._input_bytes: dict[AttemptId, int] = {}  # of the attempts that run
        self._counters = Counters()
        self._accumulated: dict[TaskId, Mapping[str, int | float]] = {}  # stays, though a result is revoked
        self._done_before: set[TaskId] = set()  # in earlier jobs, which have told what these tasks accumulate
        self._spilled_bytes = 0
        self._bad_records = 0
        self._attempts = 0
        self._failed_attempts = 0
        self._failures: deque[FailureReport] = deque(maxlen=FAILURES_SHOWN)
        self.resumed_after_seconds = 0.0  # see JobView
        # Of attempts that are over, and have not answered; with where they were, of those that waited.
        self._fates: dict[AttemptId, tuple[Fate, Span | None]] = {}

    def _tallies(self, plan: StagePlan) -> list[StageTally]:
        inputs = tuple(map(len, self._splits))
        counts = zip(plan.stages, branch_counts(plan, inputs), part_counts(plan, inputs), strict=True)
        return [StageTally(stage, tasks, parts) for stage, tasks, parts in counts]

    def replanned(self, plan: StagePlan) -> None:
        """Stages are cut otherwise than before, and others were added. No task of them was launched."""
        self.plan = plan
        for tally in self._tallies(plan):
            id = tally.stage.id
            if id >= len(self._stages):
                tally.bytes_total = self._bytes_of_slices(tally.stage)
                self._stages.append(tally)
                for child in self._stages:  # reads what this one makes instead
                    if id in child.stage.parents:
                        child.bytes_total -= tally.bytes_total
            elif self._stages[id].stage != tally.stage:
                assert not self._stages[id].done and not self._stages[id].running, "none of its tasks was launched"
                tally.bytes_total = self._stages[id].bytes_total
                self._stages[id] = tally

    def _bytes_of_slices(self, stage: Stage) -> int:
        turns = (turn for branch in stage.branches for task in branch.turns for turn in task)
        slices = (slice for turn in turns for slice in turn.slices)
        return sum(sum(self._block_sizes(one.stage, one.partition)[one.begin : one.end]) for one in slices)

    def are_whole(self, stages: Iterable[int]) -> bool:
        """Whether all tasks of these stages were done at one time."""
        return all(self._stages[stage].made is not None for stage in stages)

    @property
    def sizes(self) -> Sizes:
        """What stages that are whole have made."""
        return Sizes(lambda stage: self._stages[stage].made or (), self._block_sizes)

    def input_bytes(self, input: int) -> int:
        """How large one of the job's inputs is; 0 if that is not known."""
        return sum(split.size_bytes for task in self._splits[input] for split in task)

    def segment_count(self, stage: int) -> int:
        """How many segments the blocks of a stage have."""
        results = self._stages[stage].results.values()
        return sum(len(result.block.segments) for result in results if result.block is not None)

    def _block_sizes(self, stage: int, partition: int) -> list[int]:
        results = map(self._stages[stage].results.get, range(self._stages[stage].tasks))
        blocks = (None if result is None else result.block for result in results)
        return [0 if block is None else block.segment(partition).length for block in blocks]

    def task_counts(self) -> tuple[int, ...]:
        """The number of tasks of each stage."""
        return tuple(stage.tasks for stage in self._stages)

    def hosts(self, stage: int) -> tuple[tuple[str, ...], ...]:
        """The machines near each of a stage's tasks' splits; empty if no split names any."""
        named: list[tuple[str, ...]] = []
        tally = self._stages[stage]
        for branch, tasks in zip(tally.stage.branches, tally.branches, strict=True):
            inputs = [source.input for source in branch.sources if isinstance(source, SplitSource)]
            near = self._splits[inputs[0]][:tasks] if inputs else ((),) * tasks
            named += (splits[0].hosts if splits else () for splits in near)
        return tuple(named) if any(named) else ()

    def spec_for(self, attempt: AttemptId) -> TaskSpec:
        """What an attempt works on. All its parents' tasks have been accepted."""
        tally = self._stages[attempt.stage]
        if tally.only_input is not None:
            read = self._splits[tally.only_input][attempt.index]
            self._input_bytes[attempt] = sum([split.size_bytes for split in read])
            return TaskSpec(attempt, tally.stage, read)
        number, index = tally.place_of(attempt.index) if len(tally.branches) > 1 else (0, attempt.index)
        branch = tally.stage.branches[number]
        turns = branch.turns[index] if branch.turns else (Turn(index),)
        splits: tuple[Split, ...] = ()
        blocks: list[BlockInfo] = []
        counts = []
        for turn in turns:
            for place, source in enumerate(branch.sources):
                before = len(blocks)
                if isinstance(source, SplitSource):
                    splits = self._splits[source.input][turn.part]
                elif source.reads is not Reads.ALL or turn is turns[0]:
                    blocks += self._segments(self._slice_of(turn, place, source))
                counts.append(len(blocks) - before)
        input_bytes = sum([split.size_bytes for split in splits]) + sum([block.segments[0].length for block in blocks])
        self._input_bytes[attempt] = input_bytes
        programs = isinstance(branch.ops[0], ProgramOp) if branch.ops else False
        return TaskSpec(
            attempt,
            tally.stage,
            splits,
            tuple(blocks),
            branch=number,
            counts=tuple(counts) if len(counts) > 1 else (),
            tasks=sum(tally.parts) if programs else 0,
            part=turns[0].part if programs else 0,
            before=sum(tally.parts[:number]) if programs else 0,
            turns=tuple([turn.part for turn in turns]) if len(turns) > 1 else (),
        )

    def _slice_of(self, turn: Turn, place: int, source: ShuffleSource) -> Slice:
        """The blocks that are read of a source in a turn."""
        for slice in turn.slices:
            if slice.source == place:
                return slice
        if source.reads is Reads.TASK:
            return Slice(place, source.parent, turn.part, turn.part + 1, 0)
        partition = turn.part if source.reads is Reads.PARTITION else -1
        return Slice(place, source.parent, 0, self._stages[source.parent].tasks, partition)

    def _segments(self, slice: Slice) -> Iterator[BlockInfo]:
        """Blocks with one segment each: tasks times partitions of them would be too much for every spec.

        A block that has nothing of the partition is left out. What is read as a whole has all partitions, if there are
        several: it is small then.
        """
        if slice.partition < 0:
            for task in range(slice.begin, slice.end):
                for partition in range(partitions_of(self.plan, slice.stage)):
                    yield from self._segments(replace(slice, begin=task, end=task + 1, partition=partition))
            return
        results = self._stages[slice.stage].results
        for task in range(slice.begin, slice.end):
            block = results[task].block
            assert block is not None, "a stage that is read by another keeps the blocks of its tasks"
            if block.segments and (segment := block.segments[slice.partition]).length:
                yield BlockInfo(block.path, (segment,), block.worker)

    def launched(self, attempt: AttemptId) -> None:
        """An attempt begins. If its task had a result before, that one was lost, at least for those who wanted it."""
        if attempt.number > 1:
            lost = self.revoked(attempt.task)
            if lost is not None and lost.block is not None:
                self._replaced.setdefault(attempt.task, []).append(lost.block)
        self._attempts += 1
        self._stages[attempt.stage].running += 1
        self._running[attempt] = _NOT_MOVED

    def misfit(self, attempt: AttemptId, result: TaskResult) -> str:
        """Why a result cannot be that of an attempt; empty if it can, or nobody waits for it."""
        if attempt not in self._running and attempt not in self._fates:
            return ""
        stage = self._stages[attempt.stage].stage
        return misfit(result, stage, attempt.index, partitions_of(self.plan, stage.id))

    def _stopped(self, attempt: AttemptId) -> bool:
        """An attempt is over; False if it was not known to run."""
        if self._running.pop(attempt, None) is None:
            return False
        self._input_bytes.pop(attempt, None)
        self._stages[attempt.stage].running -= 1
        return True

    def answered(self, attempt: AttemptId, *, begun: bool = True) -> bool:
        """An attempt has answered, be it that it had not even ``begun``. False if it was not known to run.

        It may be over already: what was taken to be true of it is set right. It was counted when it was launched.
        """
        if self._stopped(attempt):
            self._attempts -= not begun
            return True
        if (known := self._fates.pop(attempt, None)) is not None:
            fate, _ = known
            self._attempts += begun - (fate is not Fate.WAITED)
            self._failed_attempts -= fate is Fate.LOST and not begun
        return False

    def ended(self, attempt: AttemptId, fate: Fate, span: Span | None = None) -> bool:
        """An attempt is over without an answer; ``span``: where it was. False if it was not known to run."""
        if not self._stopped(attempt):
            return False
        self._fates[attempt] = fate, span if fate is Fate.WAITED else None
        self._attempts -= fate is Fate.WAITED
        return True

    def outlived(self, attempt: AttemptId) -> None:
        """A cancelled attempt has not answered until its slot ended: it had begun, even if it was recalled."""
        if self.untold(attempt) is not None:
            self._fates[attempt] = Fate.CANCELLED, None
            self._attempts += 1

    def untold(self, attempt: AttemptId) -> Span | None:
        """Where an attempt was that is taken to have waited, so that no fact tells of it; None of all others."""
        known = self._fates.get(attempt)
        return None if known is None else known[1]

    def failed(self, report: FailureReport) -> None:
        """An attempt failed."""
        self._failed_attempts += 1
        self._failures.append(report)

    def progressed(self, attempt: AttemptId, progress: Progress) -> None:
        """A running attempt is this far."""
        if attempt in self._running:
            self._running[attempt] = progress

    def fraction(self, attempt: AttemptId) -> float:
        """How much of its input a running attempt has read, 0 to 1; 0 when that is not known."""
        total = self._input_bytes.get(attempt, 0)
        return min(1.0, self._running[attempt].bytes_in / total) if total and attempt in self._running else 0.0

    def running_view(self, attempt: AttemptId, where: Span) -> RunningView:
        """How a running attempt stands."""
        progress = self._running.get(attempt) or Progress()
        return RunningView(
            attempt.stage,
            attempt.index,
            attempt.number,
            where.slot,
            where.launched,
            where.began,
            where.speculative,
            progress.records_in,
            progress.bytes_in,
            self.fraction(attempt),
        )

    @property
    def is_running(self) -> bool:
        """Whether any attempt runs."""
        return bool(self._running)

    def taken_up(self, attempts: int, failed_attempts: int, failures: Iterable[FailureReport]) -> None:
        """Attempts of earlier coordinators count as well: so many are over, of which so many have failed."""
        self._attempts += attempts
        self._failed_attempts += failed_attempts
        self._failures.extend(failures)

    def restored(self, attempt: AttemptId, result: TaskResult, *, has_block: bool) -> None:
        """An earlier coordinator has accepted this attempt; its block is there, or (if it had one) is not.

        It was counted: see :meth:`taken_up`.
        """
        self._stages[attempt.stage].results[attempt.index] = result.packed()
        self._count(attempt.stage, result, 1)
        self._accumulate(attempt, result)
        if has_block and result.block is not None:
            self._block_makers[result.block.path] = attempt.task

    def kept(self, attempt: AttemptId, result: TaskResult) -> None:
        """The job's session keeps this from an earlier job: it was done, and this job has read nothing for it."""
        made = TaskResult(records_out=result.records_out, bytes_out=result.bytes_out, block=result.block)
        self._stages[attempt.stage].results[attempt.index] = made.packed()
        self._count(attempt.stage, made, 1)
        if made.block is not None:
            self._block_makers[made.block.path] = attempt.task

    def done_before(self, tasks: Iterable[TaskId]) -> None:
        """These were done in earlier jobs of the session. If they run again, what they accumulate counts no more."""
        self._done_before.update(tasks)

    def accepted(self, attempt: AttemptId, result: TaskResult) -> None:
        """This attempt's result is the one that counts for its task."""
        results = self._stages[attempt.stage].results
        if attempt.index in results:
            self.revoked(attempt.task)
        results[attempt.index] = result.packed()
        self._count(attempt.stage, result, 1)
        self._accumulate(attempt, result)
        if result.block is not None and result.block.path:
            self._block_makers[result.block.path] = attempt.task

    def revoked(self, task: TaskId) -> TaskResult | None:
        """What a task made counts no more: its input has changed. Returns it, if there is anything."""
        result = self._stages[task.stage].results.pop(task.index, None)
        if result is not None:
            self._count(task.stage, result, -1)
            if result.block is not None:
                self._block_makers.pop(result.block.path, None)
        return result

    def _count(self, stage: int, result: TaskResult, sign: int) -> None:
        self._stages[stage].add(result, sign)
        self._spilled_bytes += sign * result.spilled_bytes
        self._bad_records += sign * result.bad_records
        for group, names in result.counters.items():
            for name, n in names.items():
                self._counters.add(group, name, sign * n)

    def _accumulate(self, attempt: AttemptId, result: TaskResult) -> None:
        """Take note of what a task accumulates; if it runs again it is the same, and counts once."""
        if result.accumulated and attempt.task not in self._done_before:
            self._accumulated[attempt.task] = result.accumulated

    def _sums(self) -> dict[str, int | float]:
        """What all tasks accumulate, in their order: so sums of floats are the same each time."""
        sums: dict[str, int | float] = {}
        for _, accumulated in sorted(self._accumulated.items()):
            for accumulator, n in accumulated.items():
                sums[accumulator] = sums.get(accumulator, 0) + n
        return sums

    def freed(self, task: TaskId, *, kept: bool = False) -> list[BlockInfo]:
        """The blocks of a task, which nothing will read again: the one that counts, and those that it has replaced.

        One that is ``kept`` for other jobs is not among them, if it counts.
        """
        blocks = self._replaced.pop(task, [])
        results = self._stages[task.stage].results
        result = results.get(task.index)
        if result is not None and result.block is not None:
            results[task.index] = replace(result, block=None)
            self._block_makers.pop(result.block.path, None)
            blocks += () if kept else (result.block,)
        return [block for block in blocks if block.path]

    def stage_is_whole(self, stage: int, made: tuple[int, ...]) -> None:
        """All tasks of a stage are done: what its readers will read is known, as bytes of each partition."""
        self._stages[stage].made = made
        for child in self._stages:
            if stage in child.stage.parents:
                child.bytes_total += self._stages[stage].bytes_out

    def maker_of(self, path: str) -> TaskId | None:
        """The task whose block is at this path."""
        return self._block_makers.get(path)

    def parts(self) -> tuple[PartFile, ...]:
        """The files of the last stage's tasks, in order."""
        last = self._stages[self.plan.last.id]
        results = [last.results[index] for index in range(last.tasks)]
        for stage in self._stages:  # bad records are set aside by any stage's tasks, as further files of the output
            if stage is not last:
                made = sorted(index for index, result in stage.results.items() if result.parts)
                results += [stage.results[index] for index in made]
        return tuple(part for result in results for part in result.parts)

    @property
    def bad_records(self) -> int:
        """Records set aside by accepted attempts."""
        return self._bad_records

    def view(self, state: JobState, seconds: float, note: str = "") -> JobView:
        """How the job stands."""
        running_now = [Progress() for _ in self._stages]
        for attempt, progress in self._running.items():
            total = running_now[attempt.stage]
            total.records_in += progress.records_in
            total.bytes_in += progress.bytes_in
        readers = [stage for stage in self._stages if not stage.stage.reads_shuffle]
        hot = (found for stage in self._stages for found in stage.hot())
        makers = [stage for stage in self._stages if not isinstance(stage.stage.sink, OutputSink)]
        return JobView(
            job=self.job,
            name=self._name,
            state=state,
            seconds=seconds,
            stages=tuple(
                stage_view(self._stages[stage.id], running_now[stage.id])
                for stage in self.plan.in_order
                if not stage.skipped
            ),
            attempts=self._attempts,
            failed_attempts=self._failed_attempts,
            records_in=sum(stage.records_in for stage in readers),
            records_out=self._stages[self.plan.last.id].records_out,
            bytes_in=sum(stage.bytes_in for stage in readers),
            shuffle_bytes=sum(stage.bytes_out for stage in makers),
            spilled_bytes=self._spilled_bytes,
            bad_records=self._bad_records,
            counters={group: dict(names) for group, names in sorted(self._counters.groups.items())},
            failures=tuple(self._failures),
            resumed_after_seconds=self.resumed_after_seconds,
            note=note,
            accumulated={} if state is JobState.RUNNING else self._sums(),
            adaptations=self.plan.notes,
            hot_keys=tuple(sorted(hot, key=lambda one: (-one[1], one[0]))[:_HOT_KEYS_SHOWN]),
        )


def summary_of(view: JobView, output: str | None) -> dict[str, Any]:
    """A job in figures: what ``--json`` prints and what ``_SUCCESS`` holds."""
    counters: Mapping[str, Mapping[str, int]] = view.counters
    resumed = {"resumed_after_seconds": round(view.resumed_after_seconds, 3)} if view.resumed_after_seconds else {}
    return {
        "job_id": view.job,
        "state": view.state.value,
        "output": output,
        "map_tasks": sum(stage.tasks for stage in view.stages if not stage.reads_shuffle),
        "reduce_tasks": sum(stage.tasks for stage in view.stages if stage.reads_shuffle),
        "attempts": view.attempts,
        "failed_attempts": view.failed_attempts,
        "records_in": view.records_in,
        "records_out": view.records_out,
        "shuffle_bytes": view.shuffle_bytes,
        "seconds": round(view.seconds, 3),
        **resumed,
        **({"adaptations": list(view.adaptations)} if view.adaptations else {}),
        **({"hot_keys": [list(key) for key in view.hot_keys]} if view.hot_keys else {}),
        "counters": {group: dict(names) for group, names in counters.items()},
    }
