"""From exceptions to reports."""

from __future__ import annotations

import json
import pathlib
from pathlib import Path
from typing import Any

import pytest

from gristmill.compute.guard import cut, is_users, locate, user_error
from gristmill.errors import FailureReport, UserCodeError, task_error
from gristmill.records.keys import encode_key


def first(value: str) -> int:
    return second(value)


def second(value: str) -> int:
    return int(value)


def caught(function: Any, *arguments: Any) -> Exception:
    with pytest.raises(Exception) as info:
        function(*arguments)
    return info.value


def test_a_report_has_the_users_frames_and_source() -> None:
    error = user_error(caught(first, "x"), "mapper")
    report = error.report
    assert report.exception == "ValueError"
    assert report.message == "ValueError: invalid literal for int() with base 10: 'x'"
    assert [frame.function for frame in report.frames][-2:] == ["first", "second"]
    assert report.frames[-1].source == "return int(value)"
    assert report.frames[-1].file == __file__


def test_frames_of_libraries_are_left_out() -> None:
    error = user_error(caught(lambda: json.loads("{")), "mapper")
    assert [Path(frame.file).name for frame in error.report.frames] == [Path(__file__).name] * 2


def test_the_record_in_work_is_added_once() -> None:
    error = locate(user_error(caught(first, "x"), "mapper"), record="line", source="a.txt", offset=7)
    locate(error, record="other", source="b.txt", offset=8)
    assert (error.report.record, error.report.source, error.report.offset) == ("'line'", "a.txt", 7)


def test_a_long_record_is_cut() -> None:
    assert len(cut("x" * 10_000_000)) <= 502
    assert len(cut(list(range(10_000)))) <= 500


def test_errors_of_the_engine_and_of_what_it_calls_are_not_the_users() -> None:
    assert is_users(caught(first, "x"))
    error = caught(encode_key, object())
    error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
    error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
    assert not is_users(error)
    error = caught(pathlib.Path("/nowhere").stat)
    assert error.__traceback__ is not None


def test_a_report_survives_json() -> None:
    report = user_error(caught(first, "x"), "mapper").report
    again = FailureReport.from_json(json.loads(json.dumps(report.to_json())))
    assert again == report
    assert isinstance(task_error(again), UserCodeError)
