"""Answers that no executor of ours gives: each costs its attempt, by name, and nothing else."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from coordinator_kit import Server, begun, ended

from gristmill.errors import FailureReport, Frame
from gristmill.runtime.answers import MAX_FIGURE, failure_of, hello_of, progress_of, report_of, result_of
from gristmill.runtime.contracts import AttemptDone, TaskResult
from gristmill.runtime.coordinator.registry import RunningJob
from gristmill.runtime.journal.facts import result_to_json
from gristmill.runtime.protocol.convert import json_bytes
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.storage.contracts import PartFile

REPORT = FailureReport(
    "UserCodeError", "it raised", (Frame("job.py", 7, "mapper", "1 / 0"),), details={"seconds": 1.5}, offset=12
)
SEGMENTS = (SegmentInfo(0, 10, 1, 7), SegmentInfo(10, 0, 0, 0), SegmentInfo(10, 20, 2, 9))
RESULT = TaskResult(
    records_in=5, bytes_in=50, records_out=3, bytes_out=30, spilled_bytes=1, bad_records=1, last_bad=REPORT,
    counters={"words": {"seen": 3}}, block=BlockInfo("/data/jobs/j/blocks/a.block", SEGMENTS, "w"),
    parts=(PartFile("attempts/a-bad.jsonl", "_bad_records/m0-00000.jsonl", 1, 6),), seconds=0.5,
    hot_keys=(("the", 2000),), accumulated={"1": 2, "2": float("inf")},
)  # fmt: skip

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 10**30, 10**400, 1 << 64, 0.5, -0.5, float("inf"), float("nan"), "", "x", "\x00",
    "nan", "1e999", [], [[]], {}, {"x": 1}, [None], ["x"], [0, 0, 0], [[0, 1, 1, 1]] * 5, {"error": "x", "message": 1},
)  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All containers below a value, and the keys or indexes in them."""
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


def mutant(value: Any, chance: random.Random) -> Any:
    """The same with one or two odd things in it."""
    found = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 2))):
        container, key = chance.choice(list(places(found)))
        if chance.random() < 0.2:
            del container[key]
        else:
            container[key] = copy.deepcopy(chance.choice(ODD))
        if not found:
            break
    return found


@pytest.mark.parametrize(
    "text", [json_bytes(RESULT), json.dumps(RESULT.to_json()).encode()], ids=["worker", "executor"]
)
def test_a_result_is_read_as_it_was_said(text: bytes) -> None:
    assert result_of(json.loads(text)) == RESULT


def test_an_odd_result_is_refused_or_can_be_added_up_and_written() -> None:
    chance, refused = random.Random(1), 0
    for _ in range(1500):
        data = mutant(RESULT.to_json(), chance)
        try:
            found = result_of(data)
        except ValueError:
            refused += 1
            continue
        json.dumps(result_to_json(found))
        json.dumps([n * 10**6 for names in found.counters.values() for n in names.values()])
        assert sum([*found.accumulated.values(), 0.5]) != 0.25
        figures = found.records_in, found.bytes_in, found.records_out, found.bytes_out, found.spilled_bytes
        assert 0 <= min(figures) <= max(figures) <= MAX_FIGURE
        assert 0 <= found.seconds < 1e10
        found.packed()
        str(found.last_bad and found.last_bad.what)
    assert 500 < refused < 1499


def test_an_odd_report_is_refused_or_can_be_written() -> None:
    chance, refused = random.Random(2), 0
    for _ in range(500):
        try:
            json.dumps(report_of(mutant(REPORT.to_json(), chance)).to_json())
        except ValueError:
            refused += 1
    assert 150 < refused < 499
    long = report_of({**REPORT.to_json(), "message": "x" * 10**6, "frames": [vars(REPORT.frames[0])] * 5000})
    assert len(long.message) == 1 << 18 and len(long.frames) == 1000


@pytest.mark.parametrize("odd", [None, "x", -1, 1.5, True, 1 << 60, [1], ["a", 1, 1], [1, 2, -3]])
def test_what_is_said_besides_is_numbers(odd: object) -> None:
    assert hello_of({"pid": 7, "idle_bytes": 9}) == (7, 9)
    assert progress_of({"progress": [1, 2, 3], "printed": 4}) == ((1, 2, 3), 4)
    for say in ({"pid": odd, "idle_bytes": 9}, {"pid": 7, "idle_bytes": odd}, {}):
        with pytest.raises(ValueError):
            hello_of(say)
    for say in ({"progress": odd, "printed": 4}, {"progress": [1, 2, 3], "printed": odd}, {}):
        with pytest.raises(ValueError):
            progress_of(say)


def test_no_executor_says_that_an_attempt_has_not_begun() -> None:
    assert failure_of(REPORT.to_json()) == REPORT
    with pytest.raises(ValueError, match="has begun"):
        failure_of(FailureReport("AttemptNotBegun", "Again, please.").to_json())


def block(*lengths: int, path: str = "/w/b") -> BlockInfo:
    at = [sum(lengths[:place]) for place in range(len(lengths))]
    return BlockInfo(path, tuple(SegmentInfo(start, n, 1, 1) for start, n in zip(at, lengths, strict=True)), "w#1")


BAD = PartFile("attempts/x-bad.jsonl", "_bad_records/m0-00000.jsonl", 1, 6)
FORGED_MAPS = {
    "no block": TaskResult(),
    "no segments": TaskResult(block=block()),
    "one too few": TaskResult(block=block(10)),
    "one too many": TaskResult(block=block(10, 10, 10)),
    "without a file": TaskResult(block=block(10, 10, path="")),
    "a part": TaskResult(block=block(10, 10), parts=(PartFile("attempts/x", "part-r-00000", 1, 6),)),
    "bad records of others": TaskResult(block=block(10, 10), parts=(replace(BAD, final="_bad_records/m0-1.jsonl"),)),
    "bad records twice": TaskResult(block=block(10, 10), parts=(BAD, BAD)),
}  # fmt: skip
PART = PartFile("attempts/x", "part-r-00000", 1, 6)
FORGED_REDUCES = {
    "a block": TaskResult(block=block(10, 10)),
    "a part of another": TaskResult(parts=(replace(PART, final="part-r-00001"),)),
    "a part of another stage": TaskResult(parts=(replace(PART, final="part-m-00000"),)),
    "a part of none": TaskResult(parts=(replace(PART, final="part-r-000000"),)),
    "a part twice": TaskResult(parts=(PART, PART)),
    "a file of others": TaskResult(parts=(replace(PART, staged="../../other"),)),
}


def finish(server: Server, job: RunningJob, forged: AttemptId, result: TaskResult) -> None:
    """The forged answer costs its attempt; the task is tried again, and the job comes to its end."""
    server.turn(AttemptDone(forged, result))
    server.turn(seconds=5.0)
    assert server.coordinator.crash is None
    [failure] = job.view().failures
    assert failure.error == "AnswerInvalid" and "cannot be" in failure.message
    assert forged._replace(number=2) in server.fleet.launched


@pytest.mark.parametrize("result", FORGED_MAPS.values(), ids=FORGED_MAPS)
def test_an_answer_that_does_not_fit_a_map_task(tmp_path: Path, result: TaskResult) -> None:
    server, job = begun(tmp_path)
    finish(server, job, AttemptId(job.job, 0, 0, 1), result)
    server.map(job, 0, number=2)
    server.map(job, 1)
    server.reduce(job, 0)
    server.reduce(job, 1)
    assert ended(job).error is None


@pytest.mark.parametrize("result", FORGED_REDUCES.values(), ids=FORGED_REDUCES)
def test_an_answer_that_does_not_fit_a_reduce_task(tmp_path: Path, result: TaskResult) -> None:
    server, job = begun(tmp_path, maps=2)
    finish(server, job, AttemptId(job.job, 1, 0, 1), result)
    server.reduce(job, 0, number=2)
    server.reduce(job, 1)
    assert ended(job).error is None


def test_who_always_forges_fails_by_that(tmp_path: Path) -> None:
    server, job = begun(tmp_path)
    for number in (1, 2):
        server.turn(AttemptDone(AttemptId(job.job, 0, 0, number), TaskResult()))
        server.turn(seconds=5.0)
    error = ended(job).error
    assert error is not None and "it has made no block" in str(error)


def test_forged_figures_that_add_up_to_much_can_be_kept(tmp_path: Path) -> None:
    server, job = begun(tmp_path)
    huge = TaskResult(records_in=1 << 63, bytes_in=1 << 63, block=block(10, 10))
    for index in range(2):
        server.turn(AttemptDone(AttemptId(job.job, 0, index, 1), huge))
    for index in range(2):
        server.reduce(job, index)
    assert ended(job).error is None
    found = server.journal.summary(job.job)
    assert found is not None and found.records_in == (1 << 63) - 1
