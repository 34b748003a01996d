"""Every way in which a job can fail, as a Python program sees it: which exception, with which cause and words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gristmill import JobFailed, MapReduce
from gristmill.errors import (
    BadRecordLimit,
    ExecutorDied,
    KeyTypeRefused,
    MemoryLimitExceeded,
    OutputUnencodable,
    RecordMalformed,
    RecordTooLong,
    TaskError,
    TaskTimeout,
    TooManyBadRecords,
    UserCodeError,
)

Pairs = Iterator[tuple[Any, Any]]
ON = pytest.mark.parametrize("on", ["inline", "local"])


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.txt"
    path.write_text("".join(f"{n}\n" for n in range(1, 11)))
    return path


def failure(job: type[MapReduce], source: Path, on: str = "local", **options: Any) -> tuple[JobFailed, Any]:
    """How a job with one executor fails, and the cause of that."""
    options = {"data_dir": source.parent / "data", "executors": 1, "max_attempts": 2, **options}
    out = source.parent / f"out.{options.pop('output_format', 'text')}"
    with pytest.raises(JobFailed) as caught:
        job.run(source, out, on=on, **options)
    assert not list(source.parent.glob("*out*")), "something of the output is left"
    error = caught.value
    assert isinstance(error.__cause__, TaskError)
    assert error.report == error.__cause__.report
    assert str(source.parent / "data") in str(error)
    return error, error.__cause__


class Raising(MapReduce):
    def mapper(self, key: Any, line: str) -> Pairs:
        yield parsed(line), 1

    def reducer(self, key: Any, values: Iterator[int]) -> Pairs:
        yield key, sum(values)


def parsed(line: str) -> int:
    return converted(line)


def converted(line: str) -> int:
    return {"1": 1}[line]


@ON
def test_a_user_exception_three_calls_deep(on: str, numbers: Path) -> None:
    error, cause = failure(Raising, numbers, on)
    assert isinstance(cause, UserCodeError)
    report = cause.report
    assert [frame.function for frame in report.frames] == ["mapper", "parsed", "converted"]
    assert (report.record, report.source, report.offset) == ("'2'", str(numbers), 2)
    assert report.details["attempts"] == 2
    lines = str(error).splitlines()
    assert lines[1] == f"{__file__}:{report.frames[-1].line}, in converted"
    assert lines[2:4] == ['    return {"1": 1}[line]', "KeyError: '2'"]
    assert f"{os.sep}gristmill{os.sep}runtime" not in str(error)


class Ended(Raising):
    """A mapper that is no generator, and lets a StopIteration out."""

    def mapper(self, key: Any, line: str) -> Any:
        return [(line, next(iter(line[1:])))]


class EndedGenerator(Raising):
    def mapper(self, key: Any, line: str) -> Pairs:
        yield line, next(iter(line[1:]))


@ON
@pytest.mark.parametrize("job", [Ended, EndedGenerator])
def test_a_stop_iteration_is_no_end_of_the_input(job: type[MapReduce], on: str, numbers: Path) -> None:
    _, cause = failure(job, numbers, on)
    assert isinstance(cause, UserCodeError)
    assert "raised StopIteration" in cause.report.message
    assert cause.report.frames[-1].file == __file__
    assert cause.report.record == "'1'"


class Hoarding(Raising):
    def mapper(self, key: Any, line: str) -> Pairs:
        yield len(bytearray(1 << 60)), 1


@ON
def test_no_memory_is_to_be_had(on: str, numbers: Path) -> None:
    began = time.monotonic()
    _, cause = failure(Hoarding, numbers, on)
    assert isinstance(cause, MemoryLimitExceeded)
    assert "asked for more memory than there is" in cause.report.message
    assert cause.report.details["task"] == "map task 0"
    assert time.monotonic() - began < 30, "the process lives: its slot is free at once"


class Large(Raising):
    def mapper(self, key: Any, line: str) -> Pairs:
        hoard = []
        while True:
            hoard.append(b"x" * (1 << 24))
            time.sleep(0.01)
        yield line, len(hoard)


class LargeChild(Raising):
    """It is not the mapper that is large, but what it has started."""

    def mapper(self, key: Any, line: str) -> Pairs:
        code = "import time; hoard = [b'x' * (1 << 24) for _ in range(30)]; time.sleep(60)"
        subprocess.run([sys.executable, "-c", code], check=True)
        yield line, 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("job", [Large, LargeChild])
def test_the_memory_limit_names_task_peak_and_limit(job: type[MapReduce], numbers: Path) -> None:
    error, cause = failure(job, numbers, memory="64MiB")
    assert isinstance(cause, MemoryLimitExceeded)
    details = cause.report.details
    assert details["peak_bytes"] > details["limit_bytes"] > 64 << 20
    assert details["task"] == "map task 0"
    assert "of memory; its limit is" in str(error)


class Sleeping(Raising):
    def mapper(self, key: Any, line: str) -> Pairs:
        time.sleep(60)
        yield line, 1


def test_a_time_out(numbers: Path) -> None:
    error, cause = failure(Sleeping, numbers, max_attempts=1, task_timeout="500ms")
    assert isinstance(cause, TaskTimeout)
    assert "ran longer than the task time-out of 0.5 s" in str(error)


class Listed(Raising):
    def mapper(self, key: Any, line: str) -> Any:
        yield [line], 1


@ON
def test_a_key_type_is_refused_at_once(on: str, numbers: Path) -> None:
    error, cause = failure(Listed, numbers, on)
    assert isinstance(cause, KeyTypeRefused)
    assert cause.report.details["attempts"] == 1
    assert "\nA key of type list has no stable order and hash: ['1']\n" in str(error)


class Same(MapReduce):
    def mapper(self, key: Any, line: Any) -> Pairs:
        yield None, line


@ON
def test_a_record_longer_than_the_limit(on: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("short\n" + "long" * 1000 + "\n")
    _, cause = failure(Same, tmp_path / "in.txt", on, max_record_size="1000B")
    assert isinstance(cause, RecordTooLong)
    assert (cause.report.source, cause.report.offset) == (str(tmp_path / "in.txt"), 6)


@ON
def test_a_malformed_record(on: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"a": 1}\n{"a": \n')
    _, cause = failure(Same, tmp_path / "in.jsonl", on)
    assert isinstance(cause, RecordMalformed)
    assert cause.report.offset == 9


class Odd(MapReduce):
    def mapper(self, key: Any, line: str) -> Pairs:
        yield line, {line}


@ON
def test_an_output_that_cannot_be_written_as_its_format(on: str, numbers: Path) -> None:
    _, cause = failure(Odd, numbers, on, output_format="jsonl")
    assert isinstance(cause, OutputUnencodable)


@ON
def test_too_many_bad_records(on: str, numbers: Path) -> None:
    error, cause = failure(Raising, numbers, on, max_bad_records=8)
    assert isinstance(error, TooManyBadRecords)
    assert isinstance(cause, BadRecordLimit)
    assert "more records failed than the 8 that --max-bad-records allows" in str(error)
    assert cause.report.record == "'10'"


@pytest.mark.parametrize("split_size", ["4B", "1MiB"])
def test_too_many_bad_records_in_all(split_size: str, numbers: Path) -> None:
    """Whether one attempt meets them or many: the last one is shown."""
    error, cause = failure(Raising, numbers, "inline", max_bad_records=8, split_size=split_size)
    assert isinstance(error, TooManyBadRecords)
    assert isinstance(cause, BadRecordLimit)
    assert cause.report.record == "'10'"
    assert "KeyError: '10'" in str(error)


class DyingOnce(MapReduce):
    """Sets records aside and counts, dies of it the first time, and again in the reducer."""

    def mapper(self, key: Any, line: str) -> Pairs:
        self.counter("lines", "seen")
        yield "all", 1
        if int(line) % 5 == 0:
            raise ValueError(line)
        self._die_once(f"map-{line}")
        yield line, 1

    def reducer(self, key: Any, values: Iterator[int]) -> Pairs:
        self.counter("keys", "seen")
        self._die_once(f"reduce-{key}")
        if key == "3":
            raise ValueError(key)
        yield key, sum(values)

    def _die_once(self, name: str) -> None:
        mark = Path(self.params["marks"]) / name
        if name in ("map-6", "reduce-all") and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def test_only_committed_attempts_count(numbers: Path, tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    options: Any = {"params": {"marks": str(tmp_path / "marks")}, "max_bad_records": 3, "executors": 2}
    result = DyingOnce.run(numbers, tmp_path / "out", on="local", data_dir=tmp_path / "data", reducers=1, **options)
    assert sorted(path.name for path in (tmp_path / "marks").iterdir()) == ["map-6", "reduce-all"]
    assert result.summary() | {"seconds": 0, "shuffle_bytes": 0} == {
        "job_id": result.job_id,
        "state": "succeeded",
        "output": str(tmp_path / "out"),
        "map_tasks": 1,
        "reduce_tasks": 1,
        "attempts": 4,
        "failed_attempts": 2,
        "records_in": 10,
        "records_out": 8,
        "shuffle_bytes": 0,
        "seconds": 0,
        "counters": {"lines": {"seen": 10}, "keys": {"seen": 9}},
    }
    lines = [line for file in (tmp_path / "out" / "_bad_records").iterdir() for line in file.read_text().splitlines()]
    bad = [(entry["record"], entry["offset"]) for entry in map(json.loads, lines)]
    assert sorted(bad) == [("10", 18), ("3", -1), ("5", 8)]
    assert dict(result)["all"] == "8", "what a bad record had yielded is dropped"


class Dying(Raising):
    def mapper(self, key: Any, line: str) -> Pairs:
        os.kill(os.getpid(), signal.SIGKILL)
        yield line, 1


@pytest.mark.soak  # twenty deaths, with pauses between
def test_an_executor_that_always_dies(numbers: Path) -> None:
    began = time.monotonic()
    error, cause = failure(Dying, numbers)
    assert isinstance(cause, ExecutorDied)
    assert cause.report.details["signal_name"] == "SIGKILL"
    assert "was killed by SIGKILL (signal 9)" in str(error)
    assert time.monotonic() - began < 60
