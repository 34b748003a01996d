"""A dataset's program, run by one attempt: a machine with a stack of lazy streams.

Nothing is computed while the streams are put together. Whoever takes from the last one makes one record at a time go
all the way, so that the record in work is known when user code fails.
"""

from __future__ import annotations

import linecache
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from operator import length_hint
from pathlib import Path
from typing import Any, TypeVar

from gristmill.compute import pipes
from gristmill.compute.guard import locate, user_error, user_frames
from gristmill.compute.pipes import PIPES
from gristmill.compute.pipes.context import Context
from gristmill.compute.pipes.tables import BatchStream
from gristmill.errors import Frame, TaskError
from gristmill.plan.functions import Call, JobCode, Maker, Open
from gristmill.plan.stages import ShuffleSource, SplitSource
from gristmill.records.block import MalformedRecord, RecordBlock
from gristmill.runtime.contracts import Progress, TaskEnvironment, TaskSpec
from gristmill.runtime.fusing import Fused, ProgramPlan
from gristmill.runtime.reading import BlockInputs
from gristmill.storage.contracts import Split
from gristmill.storage.formats import has_batches, open_batches, open_split

T = TypeVar("T")

_OPERATORS = str(Path(pipes.__file__).parent)
_MADE_CHUNK = 1024
_WHOLE_SHARE = 4  # of an executor's memory, so much may be kept of what tasks read as a whole …
_DECODED = 8  # … when a byte of a block becomes so many as Python objects


@dataclass
class _At:
    """The records of which one is in work."""

    block: RecordBlock | None
    values: Sequence[Any]
    records: Iterator[Any]
    source: str

    def record(self) -> tuple[int, Any]:
        """The one that was taken last, and its place."""
        index = len(self.values) - length_hint(self.records) - 1
        return index, self.values[max(index, 0)]


class ProgramRun(Context):
    """One program in one attempt."""

    def __init__(
        self,
        code: JobCode,
        plan: ProgramPlan,
        spec: TaskSpec,
        env: TaskEnvironment,
        blocks: BlockInputs,
        progress: Progress,
    ) -> None:
        self.task, self.tasks, self.part = spec.before + spec.part, spec.tasks, spec.part
        self.scratch = env.scratch
        self._code, self._plan, self._program, self._spec, self._env = code, plan, plan.program, spec, env
        self._blocks, self._progress = blocks, progress
        self._sources = spec.stage.branches[spec.branch].sources
        self._at: _At | None = None
        self._group: Any = None

    def stream(self, side: int) -> Iterator[Any]:
        """All records of a source that is read as a whole, anew at each call."""
        return chain.from_iterable(self._blocks.rows(side, lambda _: None))

    def whole(self, side: int, build: Callable[[Iterator[Any]], T]) -> T:
        """What ``build`` makes of all records of a source; kept by this process for other tasks, while it fits."""
        identity = (*self._blocks.identity_of(side), build.__module__, build.__qualname__)
        size = _DECODED * self._blocks.size_of(side)[1]
        limit = self._env.job.memory_bytes // _WHOLE_SHARE
        found: T = _wholes.get(identity, size, limit, lambda: build(self.stream(side)))
        return found

    def result(self) -> Iterator[Any]:
        """The stream that the program leaves, but for what goes right into groups; of all turns one after the other."""
        turns = self._spec.turns
        return chain.from_iterable(map(self._turn, range(len(turns)), turns)) if turns else self._stream()

    def _turn(self, turn: int, part: int) -> Iterator[Any]:
        """The stream of one turn: as if it were that of a task of its own."""
        self._blocks.turn = turn
        self.part, self.task = part, self._spec.before + part
        self._at = self._group = None
        return self._stream()

    def _stream(self) -> Iterator[Any]:
        stack: list[Iterator[Any]] = []
        for place, op in enumerate(self._plan.ops):
            if isinstance(op, Open):
                stream = self._open(op.source)
                following = self._plan.ops[place + 1 : place + 2]
                stack.append(self._batched(op.source, stream) if following and _takes_batches(*following) else stream)
            elif isinstance(op, Fused):
                stack.append(op.function(stack.pop()))
            else:
                streams = tuple(stack[len(stack) - op.inputs :])
                del stack[len(stack) - op.inputs :]
                stack.append(PIPES[op.how](self, op, streams))
        [stream] = stack
        return stream

    def pairs_of(self, stream: Iterator[Any]) -> Iterator[Any]:
        """What would go into groups, of what :meth:`result` gives."""
        for call in self._plan.last:
            stream = PIPES[call.how](self, call, (stream,))
        return stream

    def failed(self, error: Exception) -> TaskError:
        """The user's exception with the call that failed, the line that built it, and the record in work."""
        call = self._culprit(error)
        report = user_error(error, call.name if call is not None else "program")
        if call is not None and call.where:
            frames = report.report.frames or (_frame_at(call.where),)  # a function in C has no line of its own
            details = {**report.report.details, "built": call.where}
            report.report = replace(report.report, frames=frames, details=details)
        if self._at is not None:
            index, record = self._at.record()
            block = self._at.block
            offset = -1 if block is None else block.offset_of(max(index, 0))
            return locate(report, record=record, source=self._at.source, offset=offset)
        if self._group is not None:
            return locate(report, record=self._group[0], source=f"partition {self.task}")
        return report

    def _open(self, number: int) -> Iterator[Any]:
        source = self._sources[number]
        if isinstance(source, SplitSource):
            return chain.from_iterable(self._lists(source.input))
        if isinstance(source, ShuffleSource) and source.step >= 0:
            return self._groups(number)
        rows, size = self._blocks.size_of(number)
        return chain.from_iterable(self._blocks.rows(number, self._advance(rows, size)))

    def _groups(self, number: int) -> Iterator[Any]:
        for group in self._blocks.groups(number, self._advance(*self._blocks.size_of(number))):
            self._group = group
            yield group

    def _advance(self, rows: int, size: int) -> Callable[[int], None]:
        return lambda count: self._progress.advance(count, count * size // rows)

    def _lists(self, number: int) -> Iterator[Iterator[Any]]:
        for split in self._spec.splits:
            if maker := self._code.makers.get(number):
                yield from self._made(maker, split)
            else:
                yield from self._read(split)
        self._at = None

    def _read(self, split: Split) -> Iterator[Iterator[Any]]:
        for block in open_split(split, self._env.job.max_record_bytes):
            values = block.values
            if block.malformed:
                raise next(value.error for value in values if isinstance(value, MalformedRecord))
            elements = values if block.key is None else [(block.key, value) for value in values]
            yield self._taken(_At(block, elements, iter(elements), block.source))
            self._progress.advance(len(elements), block.nbytes)

    def _batched(self, number: int, rows: Iterator[Any]) -> Iterator[Any]:
        """The same rows, also as the batches that their files hold, if they hold any."""
        source = self._sources[number]
        if not isinstance(source, SplitSource) or not all(has_batches(split.format) for split in self._spec.splits):
            return rows
        return BatchStream(rows, self._batches)

    def _batches(self) -> Iterator[Any]:
        for split in self._spec.splits:
            for batch in open_batches(split):
                yield batch
                self._progress.advance(batch.num_rows, 0)
            self._progress.advance(0, split.size_bytes)

    def _made(self, maker: Maker, split: Split) -> Iterator[Iterator[Any]]:
        records = maker.make(split.start)
        while values := list(islice(records, _MADE_CHUNK)):
            yield self._taken(_At(None, values, iter(values), ""))
            self._progress.advance(len(values), 0)

    def _taken(self, at: _At) -> Iterator[Any]:
        self._at = at
        self._progress.current = at.records
        return at.records

    # Which call failed?

    def _culprit(self, error: Exception) -> Call | None:
        calls = [op for op in self._program if isinstance(op, Call)]
        places = {(frame.file, frame.function) for frame in user_frames(error.__traceback__)}
        for call in reversed(calls):
            for code in filter(None, map(_code_of, call.arguments)):
                if (code.co_filename, code.co_name) in places and _has_line(code, error):
                    return call
        return self._by_trial(calls)

    def _by_trial(self, calls: Sequence[Call]) -> Call | None:
        """The call that fails when the record in work goes through one call after the other."""
        if self._at is None or any(call.inputs != 1 or call.sides for call in calls):
            return None
        values: list[Any] = [self._at.record()[1]]
        self._at, at = None, self._at
        try:
            for call in calls:
                try:
                    values = list(PIPES[call.how](self, call, (iter(values),)))
                except Exception:  # whatever user code raises
                    return call
        finally:
            self._at = at
        return None


def is_of_operator(error: Exception) -> bool:
    """Whether an operator raised it: an operator calls what the user gave it, be that of Python or of C."""
    if isinstance(error, (MemoryError, OSError, TaskError)):
        return False
    file = ""
    tb = error.__traceback__
    while tb is not None:
        file = tb.tb_frame.f_code.co_filename
        tb = tb.tb_next
    return file.startswith(_OPERATORS)


def _frame_at(where: str) -> Frame:
    file, _, line = where.rpartition(":")
    return Frame(file, int(line), "<dataset>", linecache.getline(file, int(line)).strip())


def _takes_batches(op: Any) -> bool:
    return isinstance(op, Call) and op.how == "map_batches" and op.inputs == 1


def _code_of(function: Any) -> Any:
    return getattr(function, "__code__", None) or getattr(getattr(function, "__func__", None), "__code__", None)


def _has_line(code: Any, error: Exception) -> bool:
    """Whether that very code is in the traceback: two lambdas on one line have one name."""
    tb = error.__traceback__
    while tb is not None:
        if tb.tb_frame.f_code == code:
            return True
        tb = tb.tb_next
    return False


class _Wholes:
    """What tasks of this process have made of whole sources; the least recently used goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, ...], tuple[int, Any]] = OrderedDict()

    def get(self, identity: tuple[str, ...], size: int, limit: int, make: Callable[[], Any]) -> Any:
        if identity in self._kept:
            self._kept.move_to_end(identity)
            return self._kept[identity][1]
        made = make()
        if size <= limit:
            self._kept[identity] = size, made
            while sum(size for size, _ in self._kept.values()) > limit:
                self._kept.popitem(last=False)
        return made


_wholes = _Wholes()
