"""Which step of a dataset failed, and with which record or key. It is looked for only once something has failed.

Nothing is noted for it while a program runs but the streams of its calls: what is needed stands in the traceback and in
the streams that wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from operator import length_hint
from pathlib import Path
from types import CodeType, FrameType, FunctionType, GeneratorType
from typing import Any

from gristmill.compute import pipes
from gristmill.compute.culprit import NotAPair, check_pair, in_exchange, no_pair
from gristmill.compute.guard import in_step, locate, user_error
from gristmill.compute.pipes import PIPES
from gristmill.compute.pipes.context import Context
from gristmill.errors import KeyTypeRefused, LengthsDiffer, TaskError, UserCodeError
from gristmill.plan.functions import Call, ExchangeFunctions
from gristmill.records.block import RecordBlock

OF_A_STEP = (UserCodeError, KeyTypeRefused, LengthsDiffer)
"""Failures that a step of the user's has to answer for."""

_OPERATORS = str(Path(pipes.__file__).parent)
_ONE_BY_ONE = frozenset(
    (
        *("map", "filter", "flat_map", "map_values", "flat_map_values", "key_by", "keys", "values"),
        *("alone", "with_itself", "sort_pairs", "sort_key_pairs"),
    )
)
_TAKES_AHEAD = frozenset(("map_batches", "to_arrow", "map_partitions", "for_each_partition", "glom", "command"))
_MOST_ADVICE = 500
_NEVER_TRIED = frozenset(("foreach", "for_each_partition", "command"))  # they do something


@dataclass
class At:
    """The records of which one is in work."""

    block: RecordBlock | None
    values: Sequence[Any]
    records: Iterator[Any]
    source: str

    @property
    def index(self) -> int:
        """The place of the one that was taken last."""
        return max(0, len(self.values) - length_hint(self.records) - 1)

    def offset_of(self, index: int) -> int:
        """Where a record stands in its file; -1 if that is not known."""
        return -1 if self.block is None else self.block.offset_of(index)


@dataclass
class Scene:
    """What is known when something fails.

    Attributes:
        context: what operators are given.
        calls: those of the program, each with its stream, in their order.
        last: the program's last call, if it has any.
        step: the exchange that takes what the program gives, if that goes to one.
        at: the records in work, if the program reads splits.
        group: the group in work, as (key, values), if the program reads groups.
        partitions: how many sources it reads partition by partition.
    """

    context: Context
    calls: Sequence[tuple[Call, Iterator[Any]]]
    last: Call | None
    step: ExchangeFunctions | None
    at: At | None
    group: Any
    partitions: int

    def blame(self, error: Exception) -> TaskError:
        """The failure with the step and the user's line that built it, and the record or key in work."""
        frames = _frames(error)
        if isinstance(error, TaskError) and "built" in error.report.details:
            return self._from_partition(error)  # the step was named where blocks were merged
        if not any(map(_is_operator, frames)):
            return self._of_sink(error)
        call = self._culprit(frames)
        if call is None:
            return self._in_work(user_error(error, "program"), frames)
        found = self._no_pairs(error, frames[-1], call) or user_error(error, call.name)
        if call.how == "map_batches":
            found.report = replace(found.report, advice=found.report.advice or _columns_of_batch(frames))
        ahead = any(each.how in _TAKES_AHEAD for each in self._until(call))
        return self._in_work(in_step(found, call.name, call.where), frames, ahead=ahead)

    def _until(self, call: Call) -> list[Call]:
        """The calls up to one of them."""
        calls = [each for each, _ in self.calls]
        return calls[: next(place for place, each in enumerate(calls) if each is call) + 1]

    # With which record?

    def _of_sink(self, error: Exception) -> TaskError:
        """A failure of what takes the elements: they were taken some at a time, so the one in work tells nothing."""
        if self.step is None:
            found = user_error(error, self.last.name if self.last else "program")
            return in_step(found, self.last.name, self.last.where) if self.last else found
        found = in_exchange(user_error(error, self.step.name), self.step)
        if self.at is None:
            return self._from_partition(found)
        index = self._place_of_bad_pair(error)
        if index is None:
            found.report = replace(found.report, source=found.report.source or self.at.source)
            return found
        found.report = replace(found.report, record="")  # the one it was made of says more
        return locate(found, record=self.at.values[index], source=self.at.source, offset=self.at.offset_of(index))

    def _in_work(self, found: TaskError, frames: Sequence[FrameType], *, ahead: bool = False) -> TaskError:
        """With the record in work; or with the key, if groups are read.

        Args:
            found: the failure.
            frames: of the traceback.
            ahead: an operator has taken many records, so the last one need not be the one.
        """
        if self.at is not None:
            index = self.at.index
            if ahead and not found.report.record:
                found.report = replace(found.report, details={**found.report.details, "unit": "last record read"})
            located = locate(
                found, record=self.at.values[index], source=self.at.source, offset=self.at.offset_of(index)
            )
            return self._from_partition(located)
        if not found.report.record and (key := self._key_in_work(frames)):
            found.report = replace(found.report, details={**found.report.details, "unit": "key"})
            locate(found, record=key[0], source="")
        return self._from_partition(found)

    def _from_partition(self, found: TaskError) -> TaskError:
        if found.report.record and not found.report.source and self.partitions:
            place = f"partition {self.context.part}"
            if self.partitions > 1:
                place += " of both sides" if self.partitions == 2 else f" of all {self.partitions} sides"
            found.report = replace(found.report, source=place)
        return found

    def _place_of_bad_pair(self, error: Exception) -> int | None:
        """The place of the record of which something was made that cannot be grouped; the first there is."""
        calls = [call for call, _ in self.calls]
        if self.at is None or not isinstance(error, (NotAPair, KeyTypeRefused)) or not _one_by_one(calls):
            return None
        for index, value in enumerate(self.at.values[: self.at.index + 1]):
            try:
                for pair in self._tried(calls, [value]):
                    check_pair(pair, None, "", shuffled=True)
            except TaskError as found:
                return index if type(found) is type(error) else None
            except Exception:  # whatever user code raises: not this time, then
                return None
        return None

    def _key_in_work(self, frames: Sequence[FrameType]) -> tuple[Any] | None:
        """The key of the group in work, as the operators that wait for their next one have it."""
        first = next((place for place, (call, _) in enumerate(self.calls) if call.inputs > 1), 0)
        for _, stream in self.calls[first:]:
            if not isinstance(stream, GeneratorType):
                continue
            ended = (frame for frame in frames if frame.f_code is stream.gi_code)
            frame = stream.gi_frame or next(ended, None)
            if frame is not None and "key" in frame.f_locals:
                return (frame.f_locals["key"],)
        return None if self.group is None else (self.group[0],)

    # Which call?

    def _culprit(self, frames: Sequence[FrameType]) -> Call | None:
        """The call whose function was called last by an operator; or else the one whose operator was at work."""
        calls = [call for call, _ in self.calls]
        last = max(place for place, frame in enumerate(frames) if _is_operator(frame))
        for frame in frames[last + 1 :]:
            if found := [call for call in calls if frame.f_code in map(_code_of, call.arguments)]:
                return self._one_of(found)
        for frame in reversed(frames[: last + 1]):
            if found := [call for call in calls if frame.f_code in _codes_of(call.how)]:
                return self._one_of(found)
        return self._by_trial(calls)

    def _one_of(self, found: list[Call]) -> Call:
        if len(found) == 1:
            return found[0]
        # An exception has ended the streams that it came through. Those before the first of them wait.
        streams = [(call, stream) for call, stream in self.calls if any(call is each for each in found)]
        if all(isinstance(stream, GeneratorType) for _, stream in streams):
            ended = [call for call, stream in streams if stream.gi_frame is None]  # type: ignore[attr-defined]
            if ended:
                return ended[0]
        return self._by_trial([call for call, _ in self.calls]) or found[-1]

    def _by_trial(self, calls: Sequence[Call]) -> Call | None:
        """The call that fails when the record in work goes through one call after the other."""
        if self.at is None or any(call.inputs != 1 or call.sides or call.how in _NEVER_TRIED for call in calls):
            return None
        values = [self.at.values[self.at.index]]
        for call in calls:
            try:
                values = self._tried([call], values)
            except Exception:  # whatever user code raises
                return call
        return None

    def _tried(self, calls: Sequence[Call], values: list[Any]) -> list[Any]:
        for call in calls:
            values = list(PIPES[call.how](self.context, call, (iter(values),)))
        return values

    def _no_pairs(self, error: Exception, frame: FrameType, call: Call) -> TaskError | None:
        """In words for people, if an operator found no pair where one should be."""
        if not isinstance(error, (TypeError, ValueError)) or not _is_operator(frame):
            return None
        takes_keys = call.name == "sort_by_key" or call.how == "broadcast_subtract"
        if "unpack" not in str(error) and not (takes_keys and "subscript" in str(error)):
            return None
        before = self._until(call)[:-1]
        elements: list[Any] = []
        if self.at is not None and _one_by_one(before):
            elements = self._tried(before, [self.at.values[self.at.index]])
        found = no_pair(call.name, *[element for element in elements if not _is_pair(element)][:1])
        if self.at is not None:
            found.report = replace(found.report, record="")  # the one it was made of says more
        return found


def _one_by_one(calls: Sequence[Call]) -> bool:
    return all(call.how in _ONE_BY_ONE for call in calls)


def _frames(error: Exception) -> list[FrameType]:
    frames = []
    tb = error.__traceback__
    while tb is not None:
        frames.append(tb.tb_frame)
        tb = tb.tb_next
    return frames


def _is_operator(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_OPERATORS)


def is_of_operator(error: Exception) -> bool:
    """Whether an operator raised it: an operator calls what the user gave it, be that of Python or of C."""
    frames = _frames(error)
    return not isinstance(error, (MemoryError, OSError, TaskError)) and bool(frames) and _is_operator(frames[-1])


def _code_of(function: Any) -> CodeType | None:
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not hasattr(function, "__code__") and not isinstance(function, type):
        function = getattr(type(function), "__call__", None)  # noqa: B004 - the code of an object that can be called
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None


@cache
def _codes_of(how: str) -> frozenset[CodeType]:
    """The code of an operator, and of the functions beside it that it uses."""
    found: set[CodeType] = set()
    pending: list[Any] = [PIPES[how]]
    while pending:
        function = pending.pop()
        codes = [function.__code__]
        while codes:
            code = codes.pop()
            if code in found:
                continue
            found.add(code)
            codes.extend(each for each in code.co_consts if isinstance(each, CodeType))
            used = (function.__globals__.get(name) for name in code.co_names)
            pending.extend(
                each
                for each in used
                if isinstance(each, FunctionType) and each.__code__.co_filename.startswith(_OPERATORS)
            )
    return frozenset(found)


def _columns_of_batch(frames: Sequence[FrameType]) -> str:
    """What the user's function was given: a wrong column is its commonest mistake."""
    for frame in frames:
        batch = frame.f_locals.get("batch") if _is_operator(frame) else None
        if batch is not None:
            return f"The columns of the batch: {', '.join(map(str, batch.schema.names))}."[:_MOST_ADVICE]
    return ""


def _is_pair(element: Any) -> bool:
    try:
        _, _ = element
    except (TypeError, ValueError):
        return False
    return True
