"""What progress and the summary look like: views in, text out."""

import os
import select
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from gristmill.cli.display import ProgressDisplay, can_draw, render
from gristmill.cli.progress import (
    Clock,
    bars,
    format_count,
    format_rate,
    fraction_done,
    plain_line,
    summary_lines,
    summary_title,
    trouble,
)
from gristmill.errors import FailureReport, Frame
from gristmill.runtime.views import JobView, StageView
from gristmill.scheduling.commands import JobState

MIB = 1 << 20
MAP = StageView(
    0, "map", False, tasks=8, done=0, running=0, records_in=0, bytes_in=0, bytes_total=64 * MIB
)  # fmt: skip
REDUCE = StageView(1, "reduce", True, tasks=2, done=0, running=0, records_in=0, bytes_in=0, bytes_total=0)


def view_of(*stages: StageView, seconds: float = 0.0, state: JobState = JobState.RUNNING, **more: Any) -> JobView:
    return JobView("20261120-132501-a3f9", "WordCount", state, seconds, stages, **more)


def labels(view: JobView, output: str | None = None) -> dict[str, str]:
    return {line.label: line.text for line in summary_lines(view, output)}


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0"), (99_999, "99,999"), (100_000, "100 k"), (999_499, "999 k"), (999_500, "1.00 M"), (12_345_678, "12.3 M"),
     (4_100_000_000, "4.10 G"), (7_000_000_000_000, "7.00 T")],
)  # fmt: skip
def test_counts_are_short(n: int, text: str) -> None:
    assert format_count(n) == text


def test_no_rate_before_it_can_be_told() -> None:
    assert format_rate(100, 0.0) == ""
    assert format_rate(0, 10.0) == ""
    assert format_rate(1_000_000, 2.0) == "500 k/s"


def test_a_fresh_job_shows_map_shuffle_and_reduce() -> None:
    lines = bars(view_of(MAP, REDUCE), Clock())
    assert [line.name for line in lines] == ["map", "shuffle", "reduce"]
    assert {line.state for line in lines} == {"waiting"}
    assert all(line.fraction == 0 for line in lines)


def test_a_map_only_job_has_no_shuffle() -> None:
    assert [line.name for line in bars(view_of(MAP), Clock())] == ["map"]


def test_the_middle_of_map() -> None:
    stage = replace(MAP, done=2, running=2, records_in=1_000_000, bytes_in=32 * MIB)
    clock = Clock().after(view_of(replace(MAP, running=2), REDUCE, seconds=1.0))
    view = view_of(stage, REDUCE, seconds=6.0, shuffle_bytes=MIB)
    map_bar, shuffle_bar, reduce_bar = bars(view, clock.after(view))
    assert (map_bar.fraction, map_bar.tasks, map_bar.state) == (0.5, "2/8", "running")
    assert (map_bar.records, map_bar.rate) == ("1.00 M records", "200 k/s")
    assert map_bar.size == "32.0 MiB of 64.0 MiB"
    assert map_bar.left == "about 5.0 s left"
    assert (shuffle_bar.fraction, shuffle_bar.size) == (0.25, "1.0 MiB")
    assert reduce_bar.state == "waiting"


def test_a_finished_stage_keeps_its_rate() -> None:
    running = view_of(replace(MAP, running=2), seconds=1.0)
    done = view_of(replace(MAP, done=8, records_in=1000, bytes_in=60 * MIB), seconds=3.0)
    clock = Clock().after(running).after(done)
    later = replace(done, seconds=100.0)
    (bar,) = bars(later, clock.after(later))
    assert (bar.rate, bar.fraction, bar.size, bar.state) == ("500/s", 1.0, "60.0 MiB", "done")


def test_a_stage_that_goes_back_to_work_is_timed_on() -> None:
    clock = Clock().after(view_of(replace(MAP, done=8), seconds=1.0))
    clock = clock.after(view_of(replace(MAP, done=7, running=1), seconds=5.0))
    assert clock.seconds_of(MAP, view_of(MAP, seconds=9.0)) == 8.0


def test_a_stage_is_not_full_before_its_last_task() -> None:
    assert fraction_done(replace(MAP, done=7, running=1, bytes_in=70 * MIB)) == 0.99
    assert fraction_done(replace(REDUCE, done=1)) == 0.5


def test_a_job_without_input_is_full_when_it_succeeds() -> None:
    empty = replace(MAP, tasks=0, bytes_total=0)
    assert bars(view_of(empty), Clock())[0].fraction == 0
    assert bars(view_of(empty, state=JobState.SUCCEEDED), Clock())[0].fraction == 1


def test_each_shuffle_of_several_steps_has_its_own_size() -> None:
    stages = (
        replace(MAP, done=8),
        replace(REDUCE, name="reduce 1 + map 2", done=1, bytes_total=10 * MIB),
        replace(REDUCE, id=2, name="reduce 2"),
    )
    lines = bars(view_of(*stages, shuffle_bytes=12 * MIB), Clock())
    assert [line.name for line in lines] == ["map", "shuffle", "reduce 1 + map 2", "shuffle", "reduce 2"]
    assert [line.size for line in lines if line.name == "shuffle"] == ["10.0 MiB", "2.0 MiB"]


def test_one_line_for_logs() -> None:
    stage = replace(MAP, done=2, running=2, records_in=1_000_000, bytes_in=32 * MIB)
    view = view_of(stage, REDUCE, seconds=30.0)
    clock = Clock().after(view_of(replace(MAP, running=2), seconds=10.0))
    assert plain_line(view, clock) == (
        "WordCount, 30 s: map 2/8 (32.0 MiB of 64.0 MiB, 1.00 M records, 50,000/s), reduce 0/2"
    )
    troubled = replace(view, failed_attempts=3, failures=(FailureReport("ExecutorDied", "It died."),))
    assert plain_line(troubled, clock).endswith(
        ", reduce 0/2; 3 attempts have failed and will be tried again; the last: It died"
    )


def test_trouble_names_the_last_failure_while_the_job_goes_on() -> None:
    report = FailureReport("UserCodeError", "bad thing\nmore", frames=(Frame("/home/a/job.py", 7, "mapper", "x"),))
    view = view_of(MAP, failed_attempts=2, failures=(report,))
    assert trouble(view) == "2 attempts have failed and will be tried again; the last: bad thing at job.py:7"
    assert trouble(view_of(MAP)) == ""
    assert trouble(replace(view, state=JobState.SUCCEEDED)) == ""


def test_the_summary_of_a_job_that_went_well() -> None:
    view = view_of(
        replace(MAP, done=8), replace(REDUCE, done=2), seconds=2.0, state=JobState.SUCCEEDED, attempts=10,
        records_in=1000, records_out=50, bytes_in=64 * MIB, shuffle_bytes=MIB, counters={"words": {"odd": 1234}},
    )  # fmt: skip
    assert summary_title(view) == "Done in 2.0 s: 1,000 records in, 50 out"
    assert labels(view, "out") == {
        "output": "out",
        "input": "64.0 MiB, 32.0 MiB/s",
        "tasks": "8 map, 2 reduce",
        "shuffle": "1.0 MiB",
        "words.odd": "1,234",
    }
    assert not any(line.alarm for line in summary_lines(view, "out"))


def test_the_summary_of_a_resumed_job_says_whose_time_it_tells() -> None:
    view = view_of(
        replace(MAP, done=8), seconds=2.0, state=JobState.SUCCEEDED, bytes_in=64 * MIB, resumed_after_seconds=90.0
    )
    text = labels(view)
    assert text["resumed"] == "the time is this run's; the job was first started 1m 30s before it"
    assert text["input"] == "64.0 MiB", "some of it was read by an earlier run: a speed would be a lie"


def test_the_summary_warns_of_failures_and_bad_records() -> None:
    view = view_of(MAP, attempts=10, failed_attempts=1, bad_records=3, spilled_bytes=MIB, shuffle_bytes=2 * MIB)
    text = labels(view, "out/")
    assert text["tasks"] == "8 map; 10 attempts, one of which failed"
    assert text["bad records"] == "3 records were set aside in out/_bad_records/"
    assert text["shuffle"] == "2.0 MiB, and 1.0 MiB spilled to disk"
    assert {line.label for line in summary_lines(view) if line.alarm} == {"tasks", "bad records"}


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_bars_fit_every_terminal(width: int) -> None:
    from rich.console import Console

    stage = replace(MAP, done=2, running=2, records_in=1_000_000, bytes_in=32 * MIB)
    stream = StringIO()
    console = Console(file=stream, width=width, force_terminal=False)
    console.print(render(bars(view_of(stage, REDUCE, seconds=6.0), Clock()), "a note " * 40, width))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("map") and "50%" in lines[0]


def test_a_short_job_prints_nothing_while_it_runs() -> None:
    stream = StringIO()
    with ProgressDisplay(stream, live=False) as display:
        display(view_of(MAP))
    assert stream.getvalue() == ""
    assert display.view == view_of(MAP)


def test_bars_are_drawn_on_terminals_only() -> None:
    assert not can_draw(StringIO())


def test_what_is_begun_is_shown_until_there_is_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while a library keeps all that is written to stderr's descriptor to itself."""
    monkeypatch.setenv("TERM", "xterm")
    screen, terminal = os.openpty()
    shown = b""
    with os.fdopen(terminal, "w", encoding="utf-8") as stream, Path(os.devnull).open("w") as nowhere:
        with ProgressDisplay(stream, live=True, first="Connecting …"):
            os.dup2(nowhere.fileno(), stream.fileno())
            while "Connecting …".encode() not in shown:
                assert select.select([screen], [], [], 60.0)[0], shown
                shown += os.read(screen, 4096)
    os.close(screen)
