"""A dataset's program, run by one attempt: a machine with a stack of lazy streams.

Nothing is computed while the streams are put together. Whoever takes from the last one makes one record at a time go
all the way, so that the record in work is known when user code fails.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any, TypeVar

from gristmill.compute.pipes import PIPES
from gristmill.compute.pipes.context import Context
from gristmill.compute.pipes.tables import BatchStream
from gristmill.compute.streams import Groups, Records
from gristmill.errors import TaskError
from gristmill.plan.functions import Call, ExchangeFunctions, JobCode, Maker, Open
from gristmill.plan.stages import Reads, ShuffleSink, ShuffleSource, SplitSource
from gristmill.records.block import MalformedRecord, RecordBlock
from gristmill.runtime.contracts import Progress, TaskEnvironment, TaskSpec
from gristmill.runtime.executor.blame import At, Scene
from gristmill.runtime.executor.decoded import Decoded, rows_to_share
from gristmill.runtime.executor.fusing import Fused, ProgramPlan
from gristmill.runtime.executor.reading import BlockInputs, OnRows
from gristmill.storage.contracts import Split
from gristmill.storage.formats import has_batches, open_batches, open_split

T = TypeVar("T")

_MADE_CHUNK = 1024
_FRAMES_LEFT = 1000  # as Python has them by default, for the user's functions
_FRAMES_A_CALL = 3
_MOST_CALLS = 4000  # more would not fit in the stack of a thread
_DECODED_SHARE = 4  # of an executor's memory, so much may be held of what tasks have decoded …
_DECODED = 8  # … when a byte of a block becomes so many as Python objects


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
        self._code, self._plan, self._spec, self._env = code, plan, spec, env
        self._blocks, self._progress = blocks, progress
        self._sources = spec.stage.branches[spec.branch].sources
        self._at: At | None = None
        self._group: Any = None
        self._calls: list[tuple[Call, Iterator[Any]]] = []  # with the streams that they give
        self.took_ahead = False

    def may_take_ahead(self) -> bool:
        """See :class:`Context`."""
        if self._plan.may_fuse:
            self.took_ahead = True
        return self._plan.may_fuse

    def stream(self, side: int) -> Iterator[Any]:
        """All records of a source that is read as a whole, anew at each call."""
        return chain.from_iterable(self._blocks.rows(side, lambda _: None))

    def whole(self, side: int, build: Callable[[Iterator[Any]], T]) -> T:
        """What ``build`` makes of all records of a source; kept by this process for other tasks, while it fits."""
        identity = (*self._blocks.identity_of(side), build.__module__, build.__qualname__)
        size = _DECODED * self._blocks.size_of(side)[1]
        limit = self._decoded_limit
        found: T = _decoded.get(identity, size, limit, lambda: build(self.stream(side)))
        return found

    def results(self) -> Iterator[Iterator[Any]]:
        """The streams that the program leaves, but for what goes right into groups: one for each turn."""
        turns = self._spec.turns
        return map(self._turn, range(len(turns)), turns) if turns else iter((self._stream(),))

    def _turn(self, turn: int, part: int) -> Iterator[Any]:
        """The stream of one turn: as if it were that of a task of its own."""
        self._blocks.turn = turn
        self.part, self.task = part, self._spec.before + part
        self._at = self._group = None
        self._calls.clear()
        return self._stream()

    def _stream(self) -> Iterator[Any]:
        # A stream of a stream of a stream: each waits within the next one.
        deepest = _FRAMES_LEFT + _FRAMES_A_CALL * min(len(self._plan.ops), _MOST_CALLS)
        sys.setrecursionlimit(max(sys.getrecursionlimit(), deepest))
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
                self._calls.append((op, stack[-1]))
        [stream] = stack
        return stream

    def pairs_of(self, stream: Iterator[Any]) -> Iterator[Any]:
        """What would go into groups, of what one of :meth:`results` gives."""
        for call in self._plan.last:
            stream = PIPES[call.how](self, call, (stream,))
        return stream

    def failed(self, error: Exception) -> TaskError:
        """The user's exception with the call that failed, the line that built it, and the record in work."""
        sink = self._spec.stage.sink
        step = self._code.steps[sink.step] if isinstance(sink, ShuffleSink) else None
        partitions = [each for each in self._sources if isinstance(each, ShuffleSource) and each.reads is not Reads.ALL]
        scene = Scene(
            context=self,
            calls=self._calls,
            last=last if isinstance(last := self._plan.program[-1], Call) else None,
            step=step if isinstance(step, ExchangeFunctions) else None,
            at=self._at,
            group=self._group,
            partitions=len(partitions),
        )
        return scene.blame(error)

    def _open(self, number: int) -> Iterator[Any]:
        source = self._sources[number]
        if isinstance(source, SplitSource):
            return self._records(source.input)
        if isinstance(source, ShuffleSource) and source.step >= 0:
            return self._groups(number)
        rows, size = self._blocks.size_of(number)
        advance = self._advance(rows, size)
        if self._blocks.are_kept(number) and _DECODED * size <= (limit := self._decoded_limit):
            identity = (*self._blocks.identity_of(number), "rows")
            shared = _decoded.get(identity, _DECODED * size, limit, lambda: rows_to_share(self.stream(number)))
            if shared is not None:
                advance(rows)
                if shared.has_lists:  # copied one by one: which one is in work is not known
                    return iter(shared)
                return self._noted(iter((shared.elements,)))
        return self._noted(self._blocks.rows(number, advance))

    def _noted(self, lists: Iterator[list[Any]]) -> Iterator[Any]:
        """The records of some lists. If there is no other source, the last one that was taken is the one in work."""
        is_alone = sum(isinstance(op, Open) for op in self._plan.ops) == 1
        return chain.from_iterable(self._each_noted(lists) if is_alone else lists)

    def _each_noted(self, lists: Iterator[list[Any]]) -> Iterator[Iterator[Any]]:
        for values in lists:
            self._at = At(None, values, iter(values), "")
            yield self._at.records
        self._at = None

    @property
    def _decoded_limit(self) -> int:
        return self._env.job.memory_bytes // _DECODED_SHARE

    def _records(self, number: int) -> Iterator[Any]:
        if number in self._code.makers:
            return chain.from_iterable(self._lists(number))
        return Records(self._blocks_of_splits(), lambda: self._lists(number), self._progress.advance)

    def _blocks_of_splits(self) -> Iterator[RecordBlock]:
        return chain.from_iterable(map(self._open_split, self._spec.splits))

    def _open_split(self, split: Split) -> Iterator[RecordBlock]:
        for block in open_split(split, self._env.job.max_record_bytes):
            if block.malformed:
                raise next(value.error for value in block.values if isinstance(value, MalformedRecord))
            yield block

    def _groups(self, number: int) -> Iterator[Any]:
        advance = self._advance(*self._blocks.size_of(number))
        if self.may_take_ahead():  # nobody tells which group is in work
            return Groups(self._blocks.pieces(number), advance)
        return self._groups_one_by_one(number, advance)

    def _groups_one_by_one(self, number: int, advance: OnRows) -> Iterator[Any]:
        for group in self._blocks.groups(number, advance):
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
        for block in self._open_split(split):
            values = block.values
            elements = values if block.key is None else [(block.key, value) for value in values]
            yield self._taken(At(block, elements, iter(elements), block.source))
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
            yield self._taken(At(None, values, iter(values), ""))
            self._progress.advance(len(values), 0)

    def _taken(self, at: At) -> Iterator[Any]:
        self._at = at
        self._progress.current = at.records
        return at.records


def _takes_batches(op: Any) -> bool:
    return isinstance(op, Call) and op.how == "map_batches" and op.inputs == 1


_decoded = Decoded()
