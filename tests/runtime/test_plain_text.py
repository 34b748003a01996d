"""Text that UTF-8 has not, in whatever executors can send: it becomes what can be written anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gristmill.errors import FailureReport, Frame, JobFailed, JournalFailed
from gristmill.runtime.answers import result_of
from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.journal.facts import JobAccepted, JobEnded, from_row, to_rows
from gristmill.runtime.journal.journal import JOURNAL, Journal
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.process.plain import read_json
from gristmill.runtime.process.wire import ChannelClosed, note_frame, parse_note
from gristmill.runtime.views import JobView
from gristmill.scheduling.commands import JobState

HALF = "\ud800"
ESCAPED = "\\ud800"


def report() -> FailureReport:
    texts = ("error", "message", "exception", "record", "source", "function", "log_tail", "advice")
    frames = (Frame(HALF, 1, HALF, HALF),)
    return FailureReport(**dict.fromkeys(texts, HALF), frames=frames, details={HALF: HALF})  # type: ignore[arg-type]


def result() -> TaskResult:
    return TaskResult(
        last_bad=report(), counters={HALF: {HALF: 1}}, hot_keys=((HALF, 5),), accumulated={HALF: 1.0}, records_in=3
    )


def test_reports_hold_only_what_can_be_written() -> None:
    found = report()
    assert ESCAPED == found.message == found.frames[0].source == found.details[ESCAPED]
    json.dumps(found.to_json(), ensure_ascii=False).encode()
    with pytest.raises(TypeError):
        FailureReport.from_json({"error": "TaskError", "message": ["no", "text"]})


def test_all_that_an_executor_sends_can_be_written() -> None:
    note = parse_note(note_frame({"type": "done", HALF: [HALF]}, result().to_json())[4:])
    found = result_of(note["result"])
    assert found == result_of(read_json(note["said"])) and note[ESCAPED] == [ESCAPED]
    json.dumps(found.to_json(), ensure_ascii=False).encode()
    assert found.hot_keys == ((ESCAPED, 5),)
    assert found.counters == {ESCAPED: {ESCAPED: 1}}
    assert parse_note(note_frame({"a": "\U0001f33e"})[4:])["a"] == "\U0001f33e"


@pytest.mark.parametrize("text", [b'{"a": 1} ', b'"\xff"', b"[" * 100_000, b"[" * 900 + b'"\\ud800"' + b"]" * 900])
def test_what_makes_no_sense_is_said_by_name(text: bytes) -> None:
    try:
        read_json(text)
    except ValueError:
        with pytest.raises(ChannelClosed):
            parse_note(text)


def ended(job: str) -> JobEnded:
    error = JobFailed(f"{HALF}: it failed", report())
    return JobEnded(job, 2.0, Outcome(JobView(job, HALF, JobState.FAILED, 1.0, ()), error))


def test_the_journal_takes_any_text(tmp_path: Path) -> None:
    journal = Journal(tmp_path / JOURNAL)
    accepted = JobAccepted("j", HALF, 1.0, "", "boot", ((),), {"spec": {}, "plan": [], "output_path": HALF}, user=HALF)
    journal.add(accepted)
    journal.durable(journal.add(ended("j")))
    journal.close()
    summary = Journal(tmp_path / JOURNAL).summary("j")
    assert summary is not None
    assert summary.name == summary.output == summary.user == ESCAPED
    assert summary.error.startswith(ESCAPED)
    [(job, kind, version, data)] = to_rows([ended("j")])
    [found] = from_row(job, kind, version, data)
    assert isinstance(found, JobEnded)
    str(found.outcome.error).encode()


def test_a_fact_that_cannot_be_written_fails_the_journal_by_name(tmp_path: Path) -> None:
    journal = Journal(tmp_path / JOURNAL)
    told: list[JournalFailed] = []
    journal.when_failed(told.append)
    number = journal.add(ended(HALF))  # no job has such an id
    with pytest.raises(JournalFailed, match="cannot be written"):
        journal.durable(number, 20)
    assert told and journal.failure is not None
    journal.close()


@pytest.mark.parametrize(
    "forged", [{"records_in": "3"}, {"counters": {"a": {"b": "c"}}}, {"counters": {"a": 1}}, {"bytes_out": None}]
)
def test_what_is_counted_is_a_number(forged: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"number|none"):
        result_of(forged)


@pytest.mark.parametrize("segments", [[[0, -1, 1, 1]], [["a", 1, 1, 1]], [[0, 1 << 64, 1, 1]], [[0, 1.5, 1, 1]]])
def test_segments_are_numbers_that_can_be(segments: list[object]) -> None:
    with pytest.raises(ValueError, match="not the segments"):
        result_of({"block": {"path": "/x", "segments": segments}})
