"""What executors answer, read as if an enemy had written it: user code lives there, and can write into their channel.

What passes here can be added up, written into the journal and shown, and fits the task: nothing that follows need ask
again. What does not is a ``ValueError`` that says why; whoever hears of it lets the attempt fail by that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from gristmill.config import KIB
from gristmill.errors import AttemptNotBegun, FailureReport
from gristmill.plan.stages import OutputSink, Stage
from gristmill.runtime.contracts import TaskResult, numbers_from_json
from gristmill.shuffle.contracts import BlockInfo
from gristmill.storage.contracts import PartFile, is_written

MAX_FIGURE = 1 << 48
"""Records and bytes of one attempt are so many at most: even sums over all tasks of a job can be kept anywhere."""

_MAX_COUNTER = 10**100  # what users count: sums of it are numbers that JSON, and floats, can hold
_MAX_SUM = 10**300  # what users accumulate: likewise, but barely
_MAX_SECONDS = 1e9
_MAX_TEXT_CHARS = 256 * KIB
_MAX_FRAMES = 1000
_MAX_DETAILS = 1000
_MAX_HOT_KEYS = 1000

_FIGURES = ("records_in", "bytes_in", "records_out", "bytes_out", "spilled_bytes", "bad_records")
_FIELDS = frozenset(TaskResult.__match_args__)
_TEXTS = ("error", "message", "exception", "record", "source", "function", "log_tail", "advice")
_WRONG = (AttributeError, KeyError, TypeError, ValueError, OverflowError, IndexError)


class Moved(NamedTuple):
    """How far an attempt says that it is."""

    seen: tuple[int, ...]  # records and bytes, and what is left of the block in work
    printed: int


def hello_of(note: Mapping[str, Any]) -> tuple[int, int]:
    """An executor's process id, and its size before its first task.

    Raises:
        ValueError: it says something else.
    """
    return _figure(note.get("pid"), "its process"), _figure(note.get("idle_bytes"), "its size")


def progress_of(note: Mapping[str, Any]) -> Moved:
    """How far an attempt is.

    Raises:
        ValueError: it says something else.
    """
    seen = note.get("progress")
    if not isinstance(seen, list) or len(seen) != 3:
        raise ValueError("its progress is not three numbers")
    return Moved(tuple(_figure(n, "its progress") for n in seen), _figure(note.get("printed"), "its log"))


def result_of(data: Any) -> TaskResult:
    """The inverse of :meth:`TaskResult.to_json`.

    Raises:
        ValueError: it is no result, or none that can be.
    """
    fields = _mapping(data, "the result")
    if not fields.keys() <= _FIELDS:
        raise ValueError("it holds what no result has")
    made: dict[str, Any] = {name: _figure(fields[name], name) for name in _FIGURES if name in fields}
    if "seconds" in fields:
        made["seconds"] = _seconds(fields["seconds"])
    if counters := fields.get("counters"):
        made["counters"] = _counters(counters)
    if accumulated := fields.get("accumulated"):
        made["accumulated"] = _accumulated(accumulated)
    if hot_keys := fields.get("hot_keys"):
        made["hot_keys"] = tuple(_hot_keys(hot_keys))
    if (block := fields.get("block")) is not None:
        made["block"] = _block(block)
    if (parcel := fields.get("parcel")) is not None:
        made["parcel"] = _block(parcel)
    if parts := fields.get("parts"):
        made["parts"] = tuple(_parts(parts))
    if (last_bad := fields.get("last_bad")) is not None:
        made["last_bad"] = report_of(last_bad)
    return TaskResult(**made)


def failure_of(data: Any) -> FailureReport:
    """Why an attempt failed, as its executor says. What only others can know it cannot say.

    Raises:
        ValueError: it is no report.
    """
    report = report_of(data)
    if report.error == AttemptNotBegun.__name__:
        raise ValueError("it has begun, and says that it has not")
    return report


def report_of(data: Any) -> FailureReport:
    """The inverse of :meth:`FailureReport.to_json`, :func:`bounded`.

    Raises:
        ValueError: it is no report.
    """
    fields = _mapping(data, "the report")
    details = _mapping(fields.get("details", {}), "the report's details")
    if not all(isinstance(n, (str, int, float)) and not _is_huge(n) for n in details.values()):
        raise ValueError("a detail of its report is neither a text nor a number")
    try:
        report = FailureReport.from_json(fields)
    except _WRONG as error:
        raise ValueError(f"its report is none: {error}") from error
    if not all(type(n) is int and abs(n) < 1 << 63 for n in (report.offset, *(frame.line for frame in report.frames))):
        raise ValueError("its report names a place that is none")
    return bounded(report)


def bounded(report: FailureReport) -> FailureReport:
    """A report with the first part of texts without end, and of frames without end the last."""
    texts: dict[str, Any] = {name: getattr(report, name) for name in _TEXTS}
    long = {name: text[:_MAX_TEXT_CHARS] for name, text in texts.items() if len(text) > _MAX_TEXT_CHARS}
    if len(report.frames) > _MAX_FRAMES:
        long["frames"] = report.frames[-_MAX_FRAMES:]
    if report.details:
        long["details"] = {name: _short(n) for name, n in islice(report.details.items(), _MAX_DETAILS)}
    return replace(report, **long) if long else report


def _short(value: int | float | str) -> int | float | str:
    return value[:_MAX_TEXT_CHARS] if isinstance(value, str) else value


def misfit(result: TaskResult, stage: Stage, index: int, partitions: int) -> str:
    """Why a result cannot be that of a task; empty if it can.

    Args:
        result: what was answered.
        stage: the task's.
        index: which task of the stage it is.
        partitions: how many the blocks of the stage have.
    """
    block, sink = result.block, stage.sink
    if isinstance(sink, OutputSink):
        if block is not None:
            return "it has made a block, and its stage writes the output"
        own = f"part-{sink.letter}-{index:05d}"
    else:
        if block is None:
            return "it has made no block, and others are to read one"
        if len(block.segments) != (partitions if block.path else 0):
            return f"its block has {len(block.segments)} segments, and its stage has {partitions} partitions"
        own = ""
    if result.parts and (strange := _strange_part(result.parts, own, f"{stage.id}-{index:05d}.jsonl")):
        return f"{strange[:200]!r} is not a file of its output"
    return ""


def _strange_part(parts: tuple[PartFile, ...], own: str, bad: str) -> str:
    """The name of a part that is not the task's, or not the only one of its name; empty if all are well."""
    names: set[str] = set()
    for part in parts:
        name = part.final.rpartition("/")[2]
        is_bad = part.final in (f"_bad_records/m{bad}", f"_bad_records/r{bad}")
        is_own = own and name.startswith(own) and not name[len(own) : len(own) + 1].isdigit()
        if not (is_bad or is_own) or part.final in names or not is_written(part):
            return part.final
        names.add(part.final)
    return ""


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is none")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is no text")
    return value


def _figure(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_FIGURE:
        raise ValueError(f"{what} is not a number that can be")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _MAX_SECONDS:
        raise ValueError("the time that it took is none")
    return float(value)


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > _MAX_COUNTER


def _counters(value: Any) -> Mapping[str, Mapping[str, int]]:
    groups = _mapping(value, "what it counts")
    for names in groups.values():
        for n in _mapping(names, "a group of counters").values():
            if type(n) is not int or _is_huge(n):
                raise ValueError("a counter is not a number that can be added up")
    return groups


def _accumulated(value: Any) -> Mapping[str, int | float]:
    numbers = _mapping(value, "what it accumulates")
    try:
        found = numbers_from_json(numbers)
    except _WRONG as error:
        raise ValueError(f"what it accumulates is no number: {error}") from error
    for n in found.values():
        if type(n) is not float and (type(n) is not int or abs(n) > _MAX_SUM):
            raise ValueError("what it accumulates is not a number that can be added up")
    return found


def _hot_keys(value: Any) -> Iterator[tuple[str, int]]:
    if not isinstance(value, (list, tuple)) or len(value) > _MAX_HOT_KEYS:
        raise ValueError("its hot keys are not some keys")
    for pair in value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError("a hot key is not a key and a number")
        yield _text(pair[0], "a hot key")[:_MAX_TEXT_CHARS], _figure(pair[1], "the rows of a hot key")


def _parts(value: Any) -> Iterator[PartFile]:
    if not isinstance(value, list):
        raise ValueError("its files are none")
    for part in value:
        fields = _mapping(part, "a file")
        if fields.keys() != {"staged", "final", "rows", "size_bytes"}:
            raise ValueError("a file is none")
        yield PartFile(
            _text(fields["staged"], "a file's name"),
            _text(fields["final"], "a file's name"),
            _figure(fields["rows"], "a file's rows"),
            _figure(fields["size_bytes"], "a file's size"),
        )


def _block(value: Any) -> BlockInfo:
    fields = _mapping(value, "the block")
    path, worker = _text(fields.get("path"), "the block's path"), _text(fields.get("worker", ""), "the block's worker")
    if not isinstance(fields.get("segments"), list):
        raise ValueError("not the segments of a block: no list")
    if not fields["segments"]:
        return BlockInfo(path, (), worker)
    block = BlockInfo.from_json({"path": path, "segments": fields["segments"], "worker": worker})
    if block.segments:
        last = block.segments[-1]
        if max(last.offset + last.length, sum(segment.rows for segment in block.segments)) > MAX_FIGURE:
            raise ValueError("not the segments of a block: they are too large")
    return block
