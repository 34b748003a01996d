"""What lists look like: tables for terminals and pipes, jobs and workers as rows, a watched job."""

from __future__ import annotations

import io
import time
from typing import Any

import click
import pytest
from rich.console import Console

from gristmill.api.messages import JobStatus
from gristmill.cli.listing import HISTORY, JOBS, headline, job_cells, moment, past_cells
from gristmill.cli.progress import Clock, plain_line, summary_lines
from gristmill.cli.retry import kept_text
from gristmill.cli.tables import Cell, Column, printable, table
from gristmill.cli.watching import frame
from gristmill.cli.workers import _COLUMNS as WORKERS
from gristmill.cli.workers import _cells as worker_cells
from gristmill.runtime.views import JobView, StageView
from gristmill.scheduling.commands import JobState

NOW = time.mktime((2026, 11, 21, 18, 0, 0, 0, 0, -1))
JOB = {
    "id": "20261121-180000-abcd", "name": "WordCount", "user": "ada", "state": "running", "output": "/shared/counts",
    "submitted": NOW - 75, "ended": None, "seconds": 75.0, "percent": 41.6, "late": False, "error": "",
}  # fmt: skip


def plain(columns: Any, rows: Any, width: int | None = None) -> list[str]:
    return [click.unstyle(line) for line in table(columns, rows, width)]


def test_a_table_is_set_in_columns() -> None:
    columns = (Column("NAME"), Column("SIZE", right=True), Column("NOTE"), Column("EMPTY"))
    assert plain(columns, [("a", "1", "x", ""), ("long name", "1,000", "", "")]) == [
        "NAME        SIZE  NOTE",
        "a              1  x",
        "long name  1,000",
    ]


def test_what_does_not_fit_is_cut_and_then_left_out() -> None:
    columns = (Column("ID"), Column("NAME", cut=True), Column("WHO", cut=True, wide=1), Column("WHERE", wide=2))
    row = ("0123456789", "a name that is rather long", "somebody", "/somewhere/far/away")
    assert plain(columns, [row], None)[1] == "0123456789  a name that is rather long  somebody  /somewhere/far/away"
    assert plain(columns, [row], 60)[1] == "0123456789  a name that is r…  somebody  /somewhere/far/away"
    assert plain(columns, [row], 48)[1] == "0123456789  a name that is rather long  somebody"
    assert plain(columns, [row], 30)[1] == "0123456789  a name …  somebody"
    assert plain(columns, [row], 24)[1] == "0123456789  a name that…"
    assert plain(columns, [row], 5)[1] == "0123456789  a name …"  # there is no sense in less


def test_of_a_path_the_end_is_what_stays() -> None:
    columns = (Column("ID"), Column("WHERE", cut=True))
    assert plain(columns, [("1", Cell("/somewhere/far/away", tail=True))], 14)[1] == "1   …/far/away"


def test_wide_letters_take_two_columns() -> None:
    columns = (Column("NAME", cut=True), Column("N", right=True))
    assert plain(columns, [("日本語のなまえ", "1"), ("e\u0301te\u0301", "2")]) == [
        "NAME            N", "日本語のなまえ  1", "e\u0301te\u0301             2",
    ]  # fmt: skip
    assert plain(columns, [("日本語のなまえ", "1")], 13)[1] == "日本語の…   1"


def test_names_of_others_do_not_command_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\u202ed") == "a\ufffd[2Jb\ufffdc\ufffdd"
    [_, line] = table((Column("NAME"),), [("\x1b]0;title\x07",)])
    assert "\x1b" not in line and "\x07" not in line


def test_colours_are_around_words_alone() -> None:
    [_, line] = table((Column("A"), Column("B")), [(Cell("ok", "green"), "x")])
    assert line == "\x1b[32mok\x1b[0m  x"


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_lists_fit_the_terminal(width: int) -> None:
    long = {**JOB, "name": "a_job_with_a_name_that_never_ends" * 2, "output": "s3://bucket/" + "folder/" * 20}
    rows = [JOB, long, {**long, "state": "failed", "error": "ZeroDivisionError: division by zero", "ended": NOW}]
    for columns, cells in ((JOBS, [job_cells(row) for row in rows]), (HISTORY, [past_cells(row, NOW) for row in rows])):
        for line in plain(columns, cells, width):
            assert len(line) <= max(width, 60), line
    worker = {
        "worker": "mill-17.example#1", "state": "up", "busy": 3, "slots": 64, "cpu_percent": 87.5, "beat": NOW - 1,
        "used_bytes": 30 << 30, "memory_bytes": 64 << 30, "free_bytes": 1 << 40, "host": "mill-17.example.org",
        "rack": "r17",
    }  # fmt: skip
    for line in plain(WORKERS, [worker_cells(worker, NOW)], width):
        assert len(line) <= max(width, 84), line


def test_rows_of_jobs_and_workers() -> None:
    assert (
        plain(JOBS, [job_cells(JOB)])[1]
        == "20261121-180000-abcd  running  42 %  1m 15s  ada   WordCount  /shared/counts"
    )
    queued = {**JOB, "state": "queued", "seconds": 0.0}
    assert plain(JOBS, [job_cells(queued)])[1] == "20261121-180000-abcd  queued  ada   WordCount  /shared/counts"
    failed = {**JOB, "state": "failed", "ended": NOW - 5, "error": "ZeroDivisionError: division by zero"}
    assert plain(HISTORY, [past_cells(failed, NOW)])[1] == (
        "20261121-180000-abcd  failed  17:59:55  1m 15s  ada   WordCount  ZeroDivisionError: division by zero"
    )
    late = table(JOBS, [job_cells({**JOB, "late": True})])[1]
    assert "\x1b[31mlate, 1m 15s\x1b[0m" in late
    silent = {"worker": "a#1", "state": "suspect", "busy": 0, "slots": 2, "beat": NOW - 9, "host": "a"}
    assert plain(WORKERS, [worker_cells(silent, NOW)])[1] == "a#1     suspect   0/2  9.0 s ago  a"


@pytest.mark.parametrize(
    ("ago", "text"), [(10, "17:59:50"), (86400 * 3, "Nov 18 18:00"), (86400 * 365, "2025-11-21"), (None, "")]
)
def test_a_moment_is_as_exact_as_it_is_near(ago: int | None, text: str) -> None:
    assert moment(None if ago is None else NOW - ago, NOW) == text


def view(state: JobState = JobState.RUNNING, note: str = "") -> JobView:
    stages = (
        StageView(0, "map", False, 5000, 1200, 2, 3_000_000, 600 << 20, 2000 << 20),
        StageView(1, "reduce", True, 8, 0, 0, 0, 0, 0),
    )
    return JobView("20261121-180000-abcd", "WordCount", state, 75.0, stages, note=note)


def drawn(status: JobStatus, running: Any, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(frame(status, Clock().after(status.view), running, width, NOW))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in click.unstyle(console.file.getvalue()).splitlines()]


def test_the_frame_of_a_job_that_is_watched() -> None:
    tasks = [
        {"id": f"0-{index}", "stage_name": "map", "attempts": 1, "began": NOW - index, "bytes_in": index << 20,
         "worker": "mill#1"}
        for index in (17, 9)
    ]  # fmt: skip
    status = JobStatus(view(), "/shared/counts", submitted=NOW - 80, user="ada", deadline=NOW + 300)
    lines = drawn(status, {"tasks": tasks, "total": 40})
    assert lines[0] == "WordCount  20261121-180000-abcd  running  for 1m 15s  by ada  due in 5m 00s"
    assert lines[2].startswith("map") and "30%" in lines[2]
    assert lines[-4:] == [
        "TASK  STAGE  TRY   TIME      READ  WORKER",
        "0-17  map      1   17 s  17.0 MiB  mill#1",
        "0-9   map      1  9.0 s   9.0 MiB  mill#1",
        "and 38 more",
    ]
    assert all(len(line) <= 80 for line in lines)
    assert all(len(line) <= 60 for line in drawn(JobStatus(view(), "x"), {"tasks": tasks, "total": 2}, 60))


def test_the_frame_of_a_job_that_waits() -> None:
    note = "Waiting for its turn: 3 jobs are before it."
    status = JobStatus(view(JobState.QUEUED, note), "/x", submitted=NOW - 80, user="ada")
    assert drawn(status, {"tasks": [], "total": 0}) == [
        "WordCount  20261121-180000-abcd  queued  for 1m 20s  by ada",
        note,
    ]


def test_a_job_that_waits_says_why_where_nothing_is_drawn() -> None:
    waiting = JobView("j", "WordCount", JobState.QUEUED, 30.0, (), note="Waiting for its turn: it is the next.")
    assert plain_line(waiting, Clock()) == "WordCount, 30 s: queued; Waiting for its turn: it is the next."
    ended = JobView("j", "WordCount", JobState.CANCELLED, 30.0, ())
    assert summary_lines(ended) == []


def test_a_late_job_is_called_late() -> None:
    status = JobStatus(view(), "/x", submitted=NOW - 80, deadline=NOW - 1, late=True)
    assert click.unstyle(headline(status, NOW)).endswith("for 1m 15s  late")


def test_what_a_retry_keeps_is_said() -> None:
    assert kept_text(view()) == "Kept: 1,200 of 5,000 map tasks."
    assert kept_text(JobView("j", "n", JobState.FAILED, 1.0, ())) == "Nothing of it was done."
