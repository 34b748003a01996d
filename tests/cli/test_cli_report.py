"""Errors as people read them."""

import os
import re
from pathlib import Path

import click
import pytest

from gristmill.cli.logs import _Printer
from gristmill.cli.report import error_text
from gristmill.errors import (
    TASK_ERRORS,
    FailureReport,
    Frame,
    GristmillError,
    JobCancelled,
    JobFailed,
    OutputExists,
    TooManyBadRecords,
    UsageError,
)

EVIL = "here\x1b]52;c;eA==\x07\x1b[2K\x9b1A\r\u202egone\u2066"


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports fit the terminal, whatever the tests run in."""
    monkeypatch.setenv("COLUMNS", "100")


def text_of(report: FailureReport, folder: str = "") -> str:
    return click.unstyle(error_text(JobFailed("task map 3 failed", report, folder)))


def test_a_users_mistake_reads_from_its_own_line_outwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = str(tmp_path / "job.py")
    report = FailureReport(
        error="UserCodeError",
        message="invalid literal for int() with base 10: 'abc'",
        exception="ValueError",
        frames=(
            Frame(job, 20, "mapper", "for n in numbers_of(line):"),
            Frame(job, 9, "numbers_of", "return parse(line)"),
            Frame("/elsewhere/lib.py", 5, "parse", "return int(text)"),
        ),
        record="'abc def'",
        source=str(tmp_path / "data" / "x.txt"),
        offset=1234567,
        function="mapper",
        details={"attempts": 4, "task": "map 3"},
        log_tail="printed by the mapper",
    )
    assert text_of(report, "/var/jobs/1").splitlines() == [
        "/elsewhere/lib.py:5, in parse",
        "    return int(text)",
        "ValueError: invalid literal for int() with base 10: 'abc'",
        "",
        "called from",
        "  job.py:9, in numbers_of",
        "      return parse(line)",
        "  job.py:20, in mapper",
        "      for n in numbers_of(line):",
        "",
        "Record   'abc def'",
        f"In       data{os.sep}x.txt, at byte 1234567",
        "Task     map 3, in the mapper, tried 4 times",
        "Advice   Correct the function, or set such records aside with --max-bad-records N.",
        "",
        "The job failed. No output was written.",
        "Kept     /var/jobs/1 (logs of all tasks)",
    ]


def test_a_dead_process_shows_its_last_words() -> None:
    report = FailureReport(
        error="ExecutorDied",
        message="The process of task map 3 was ended by signal 11 (SIGSEGV).",
        details={"peak_bytes": 5 << 20},
        log_tail="".join(f"line {n}\n" for n in range(100)),
    )
    lines = text_of(report).splitlines()
    assert lines[:2] == [
        "The process that ran a task died.",
        "The process of task map 3 was ended by signal 11 (SIGSEGV).",
    ]
    assert "Memory   5.0 MiB at the peak" in lines
    assert "  | line 99" in lines
    assert "  | line 79" not in lines


def test_a_failing_reducer_names_its_key() -> None:
    report = FailureReport("UserCodeError", "no", record="'k'", source="partition 3", function="reducer")
    assert {"Key      'k'", "In       partition 3"} <= set(text_of(report).splitlines())


def test_a_comprehension_is_no_call_of_its_own() -> None:
    frames = (
        Frame("/a/j.py", 1, "mapper", "[f(x) for x in y]"),
        Frame("/a/j.py", 1, "<listcomp>", "[f(x) for x in y]"),
    )
    text = text_of(FailureReport("UserCodeError", "no", frames=frames))
    assert text.startswith("/a/j.py:1, in mapper") and "listcomp" not in text


def test_an_endless_recursion_is_shown_in_part() -> None:
    frames = (Frame("/a/j.py", 1, "mapper", "f(x)"), *(Frame("/a/j.py", 5, "f", "f(x)") for _ in range(1000)))
    lines = text_of(FailureReport("UserCodeError", "too deep", frames=frames)).splitlines()
    assert len(lines) < 40
    assert "  … 991 more calls …" in lines
    assert "  /a/j.py:1, in mapper" in lines


def test_the_exceptions_name_stands_once() -> None:
    said = "json.decoder.JSONDecodeError: Extra data"
    report = FailureReport("UserCodeError", said, frames=(Frame("/a", 1, "f", "x"),), exception="JSONDecodeError")
    assert said in text_of(report).splitlines()


def test_only_records_and_groups_can_be_set_aside() -> None:
    assert "--max-bad-records" in text_of(FailureReport("UserCodeError", "no", function="reducer"))
    assert "--max-bad-records" not in text_of(FailureReport("UserCodeError", "no", function="mapper_init"))


@pytest.mark.parametrize("name", sorted(TASK_ERRORS))
def test_every_failure_comes_with_advice(name: str) -> None:
    text = text_of(FailureReport(error=name, message="This happened."))
    assert "This happened." in text
    assert "Advice   " in text


def test_the_reports_own_advice_wins() -> None:
    text = text_of(FailureReport(error="DiskFull", message="Full.", advice="Buy a disk."))
    assert "Buy a disk." in text and "--data-dir" not in text


def test_a_module_that_is_not_where_tasks_run() -> None:
    missing = FailureReport(
        error="UserCodeError", message="No module named 'yaml'", exception="ModuleNotFoundError", function="mapper"
    )
    assert "--py-files, and install others on every machine" in " ".join(text_of(missing).split())


def test_long_records_are_cut_and_long_lines_wrapped() -> None:
    text = text_of(FailureReport(error="UserCodeError", message="no", record="word " * 1000))
    assert len(text) < 1000
    assert max(map(len, text.splitlines())) <= 100


def test_too_many_bad_records_says_so() -> None:
    message = "Job 1 failed: 4 records failed, and --max-bad-records allows 3. The last one:\nonce more the report"
    text = click.unstyle(error_text(TooManyBadRecords(message, FailureReport("UserCodeError", "no"))))
    assert text.endswith("\nJob 1 failed: 4 records failed, and --max-bad-records allows 3.")


def test_wrong_use_and_cancelling_are_one_line() -> None:
    assert click.unstyle(error_text(OutputExists("out exists."))) == "Error: out exists."
    assert click.unstyle(error_text(JobCancelled("Job 1 was cancelled."))) == "Cancelled. Job 1 was cancelled."
    assert click.unstyle(error_text(JobFailed("It broke."))) == "It broke."
    at_a_place = "job.py:2\n    yield line 1\nSyntaxError: invalid syntax"
    assert click.unstyle(error_text(UsageError(at_a_place))) == at_a_place


@pytest.mark.parametrize("columns", [60, 80, 300])
def test_lines_fit_the_terminal_and_the_command_to_copy_stays_whole(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    command = f"gristmill replay --data-dir /{'d' * 70} 20261120-132501-a3f9 map/0"
    report = FailureReport(error="UserCodeError", message="no", record="word " * 100, details={"replay": command})
    lines = text_of(report).splitlines()
    assert f"Replay   {command}" in lines
    assert max(len(line) for line in lines if command not in line) <= min(columns, 100)


def test_a_workers_full_disk_is_called_full() -> None:
    report = FailureReport("DataDirFailed", "No space is left for /d/x.", details={"full": 1})
    assert text_of(report).startswith("The disk is full.\nNo space is left for /d/x.\n")
    assert "cannot be used any more" in text_of(
        FailureReport("DataDirFailed", "/d/x cannot be read.", details={"full": 0})
    )


@pytest.mark.parametrize(
    "error",
    [
        JobFailed(
            f"{EVIL}", FailureReport(
                f"UserCodeError{EVIL}", EVIL, (Frame(EVIL, 1, EVIL, EVIL),), EVIL, EVIL, EVIL, 1, EVIL,
                {"task": EVIL, "replay": EVIL, "built": EVIL, "role": EVIL}, EVIL, EVIL,
            ), EVIL,
        ),
        JobFailed("x", FailureReport("ExecutorDied", EVIL, log_tail=f"a\tb{EVIL}")),
        JobFailed(EVIL),
        JobCancelled(EVIL),
        UsageError(f"{EVIL}\n{EVIL}"),
        OutputExists(EVIL),
    ],
)  # fmt: skip
def test_nothing_that_others_have_written_commands_the_terminal(error: GristmillError) -> None:
    text = click.unstyle(error_text(error))
    assert "here" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066]", text)


def test_logs_for_a_terminal_are_plain_text_and_for_pipes_as_they_are() -> None:
    for for_people, expected in (
        (True, "a\tb \ufffd]52;c;x\ufffd é\nnext\n"),
        (False, "a\tb \x1b]52;c;x\x07 é\r\nnext\n"),
    ):
        written: list[str] = []
        printer = _Printer(written.append, as_json=False, for_people=for_people)
        printer.add("j-a1", "a\tb \x1b]52;c;x\x07 é\r\nnext\n")
        assert "".join(written) == f"==> j-a1 <==\n{expected}"
