"""The plan as a picture, tasks as a table, partitions as bars, failures with the user's line first, and the top."""

from __future__ import annotations

from dataclasses import replace

import pytest
from page_values import BEGUN, JOB, REPORT, done, failed, history, job, running

from gristmill.errors import FailureReport, Frame, JobCancelled, JobFailed, UsageError
from gristmill.runtime.journal.history import StageHistory
from gristmill.runtime.outcome import error_to_json
from gristmill.runtime.views import JobView, StageView
from gristmill.scheduling.commands import JobState
from gristmill.service.looking.models import JobRow
from gristmill.service.page.failure import failure_of, failure_of_job
from gristmill.service.page.graph import graph
from gristmill.service.page.jobview import failures_of, figures_of, fraction_of, head_of, hot_keys_of
from gristmill.service.page.listing import JobFilter
from gristmill.service.page.partitions import spreads
from gristmill.service.page.render import render
from gristmill.service.page.submitting import builtin_jobs, given_in, wish_fields
from gristmill.service.page.tasks import PAGE, TaskFilter, task_page


def view_of(*stages: tuple[int, int, int]) -> JobView:
    """A job with stages of so many tasks, of which so many are done and run."""
    made = [StageView(id, f"stage {id}", id > 0, *counts, 0, 0, 0) for id, counts in enumerate(stages)]
    return JobView(JOB, "job", JobState.RUNNING, 5.0, tuple(made))


# The plan


def test_a_stage_is_to_the_right_of_all_that_it_reads() -> None:
    picture = graph(view_of((4, 4, 0), (4, 1, 1), (2, 0, 0), (2, 0, 0)), {0: (), 1: (), 2: (0, 1), 3: (2, 0)})
    x = {node.id: node.x for node in picture.nodes}
    assert x[0] == x[1] < x[2] < x[3]
    assert {node.id: node.state for node in picture.nodes} == {0: "done", 1: "running", 2: "waiting", 3: "waiting"}
    assert len(picture.edges) == 4
    places = {(node.x, node.y) for node in picture.nodes}
    assert len(places) == 4 and all(0 <= x < picture.width and 0 <= y < picture.height for x, y in places)


def test_without_parents_a_shuffle_reads_the_stage_before() -> None:
    assert len(graph(view_of((1, 0, 0), (1, 0, 0)), {}).edges) == 1


def test_a_plan_that_reads_itself_is_drawn_all_the_same() -> None:
    assert len(graph(view_of((1, 0, 0), (1, 0, 0)), {0: (1,), 1: (0,)}).nodes) == 2


# The tasks


def test_a_page_of_many_tasks() -> None:
    values = job(5000, 3000, [running(3000, "w1-0", 25)])
    page = task_page(values.view.stages, values.history, values.running, TaskFilter(page=121), values.now)
    assert (page.total, page.pages, page.first) == (5002, 201, 3001)
    assert [row.state for row in page.rows[:3]] == ["running", "waiting", "waiting"] and len(page.rows) == PAGE
    assert page.rows[0].seconds == pytest.approx(5)


@pytest.mark.parametrize(
    ("wanted", "total"),
    [
        (TaskFilter(stage=1), 2),
        (TaskFilter(state="done"), 3000),
        (TaskFilter(state="running"), 1),
        (TaskFilter(state="slow"), 1),
        (TaskFilter(0, "waiting"), 1999),
        (TaskFilter(state="retried"), 0),
    ],
)
def test_filters(wanted: TaskFilter, total: int) -> None:
    values = job(5000, 3000, [running(3000, "w1-0", 25)])
    assert task_page(values.view.stages, values.history, values.running, wanted, values.now).total == total


def test_slowest_first() -> None:
    past = history()
    for index, seconds in enumerate((1, 7, 3)):
        past.add(done(index, "w1-0", 0, seconds))
    stages = (StageView(0, "map", False, 3, 3, 0, 0, 0, 0),)
    page = task_page(stages, past, (), TaskFilter(sort="slowest"), BEGUN)
    assert [row.id for row in page.rows] == ["0-1", "0-2", "0-0"]


def test_a_task_that_failed_and_was_tried_again() -> None:
    past = history()
    past.add(failed(0, "w1-0", 0, 1))
    past.add(done(0, "w2-0", 1, 2))
    past.add(failed(1, "w1-0", 1, 2))
    page = task_page((StageView(0, "map", False, 2, 1, 0, 0, 0, 0),), past, (), TaskFilter(), BEGUN)
    assert [(row.state, row.attempts, row.failed, row.worker) for row in page.rows] == [
        ("done", 2, 1, "w2"),
        ("failed", 1, 1, "w1"),
    ]


def test_a_page_beyond_the_last_is_the_last() -> None:
    values = job(30, 0)
    assert task_page(values.view.stages, None, (), TaskFilter(page=99), 0.0).filter.page == 2


# Partitions


def test_an_uneven_spread_is_told_in_words() -> None:
    (spread,) = spreads([StageHistory(0, "map", partition_bytes=[100, 110, 900, 90], partition_rows=[1, 1, 9, 1])])
    assert spread.uneven and "partition 2 has 900 B, 8.6 times as much" in spread.summary
    assert [bar.large for bar in spread.bars] == [False, False, True, False]
    assert max(bar.height for bar in spread.bars) == 100


def test_many_partitions_are_drawn_together_and_the_largest_is_seen() -> None:
    sizes = [10] * 5000
    sizes[4321] = 500
    (spread,) = spreads([StageHistory(0, "map", partition_bytes=sizes, partition_rows=sizes)])
    assert len(spread.bars) < 100
    assert [bar.title for bar in spread.bars if bar.large] == ["Partition 4321: 500 B, 500 rows"]


def test_a_stage_without_partitions_has_no_picture() -> None:
    assert spreads([StageHistory(0, "map"), StageHistory(1, "reduce", partition_bytes=[5], partition_rows=[1])]) == []


# Failures


def test_the_users_own_line_comes_first() -> None:
    failure = failure_of(REPORT)
    assert failure.place == Frame("/jobs/latency.py", 29, "fields", "return [int(part) for part in line.split()]")
    assert failure.what == "ValueError: invalid literal for int() with base 10: 'x'"
    assert [frame.line for frame in failure.callers] == [41]
    assert dict(failure.facts)["In"] == "/data/web.log, at byte 812"
    assert dict(failure.facts)["Task"] == "map 17, tried 4 times"


def test_a_failure_without_a_line_has_a_headline() -> None:
    report = FailureReport("ExecutorDied", "It ended by signal 9.", log_tail="last words\n")
    failure = failure_of(report)
    assert (failure.headline, failure.place, failure.log) == ("The process that ran a task died", None, "last words")


def test_what_ended_the_job_is_not_told_twice() -> None:
    other = replace(REPORT, message="another", exception="KeyError")
    values = job()
    values = replace(
        values,
        view=replace(values.view, state=JobState.FAILED, failures=(other, REPORT, REPORT)),
        error=error_to_json(JobFailed("The job failed.", REPORT)),
    )
    end, before = failures_of(values)
    assert end == failure_of(REPORT) and [one.what for one in before] == ["KeyError: another"]


def test_errors_without_a_report() -> None:
    assert failure_of_job(None) is None and failure_of_job(error_to_json(JobCancelled("by ada"))) is None
    failure = failure_of_job(error_to_json(UsageError("first\nsecond")))
    assert failure is not None and (failure.what, failure.log) == ("first", "second")


# The top


def test_the_top_of_a_job_that_runs() -> None:
    head = head_of(job(10, 5))
    assert head.fraction == pytest.approx(0.25) and dict(head.phases) == {"map": 0.5, "reduce": 0.0}
    assert head.left == "about 1m 30s left" and head.spoken == "Running, 20 %"
    assert head.can_cancel and not head.can_retry


@pytest.mark.parametrize(
    ("state", "retry"), [(JobState.FAILED, True), (JobState.CANCELLED, True), (JobState.SUCCEEDED, False)]
)
def test_the_top_of_a_job_that_is_over(state: JobState, retry: bool) -> None:
    head = head_of(job(state=state))
    assert not head.can_cancel and head.can_retry is retry and not head.left
    assert fraction_of(job(10, 10, state=JobState.SUCCEEDED).view) == 1.0


def test_figures_warn_of_what_went_wrong() -> None:
    values = job()
    values = replace(values, view=replace(values.view, failed_attempts=2, bad_records=1))
    assert [figure.label for figure in figures_of(values) if figure.alarm] == ["Failed attempts", "Bad records"]


def test_a_job_that_is_tried_again_has_no_rate_of_what_it_did_before() -> None:
    values = job(4, 2)
    assert values.history is not None
    assert {one.label: one.text for one in figures_of(values)}["Rate"].endswith("/s")
    values.history.begun_at = BEGUN + 3600
    assert {one.label: one.text for one in figures_of(values)}["Rate"] == "–"


def test_lists_tell_why_a_job_failed_and_which_are_late() -> None:
    row = JobRow(id=JOB, name="n" * 200, user="ann", state="failed", output="/out", submitted=BEGUN, seconds=0.0042,
                 late=True, error="ValueError: <no> " + "x" * 300)  # fmt: skip
    for past in (False, True):
        shown = render("rows.html", jobs=[row], wanted=JobFilter(), past=past, older="", path="/")
        assert "ValueError: &lt;no&gt; xxx" in shown and "x" * 200 not in shown and ">late<" in shown
        assert "/out" not in shown and "4.2 ms" in shown


def test_hot_keys_come_from_the_view_and_from_the_history() -> None:
    values = job()
    assert values.history is not None
    values.history.stages[0].hot_keys = (("'a'", 10), ("'b'", 70))
    values = replace(values, view=replace(values.view, hot_keys=(("'a'", 90),)))
    assert hot_keys_of(values) == [("'a'", "90"), ("'b'", "70")]


# Lists and forms


def test_a_filter_from_a_query_and_back() -> None:
    wanted = JobFilter.of({"state": "failed", "name": " word ", "page": "3"})
    assert wanted.query() == "state=failed&name=word" and not wanted.is_all
    assert JobFilter.of({"state": "odd"}).is_all


def test_the_fields_of_the_form_become_those_of_rest() -> None:
    given = given_in(
        {"job": "grep", "inputs": "/a\r\n\r\n /b \n", "params": "pattern=x y\n", "output": "/o", "evil": "1"}
    )
    assert wish_fields(given) == [
        ("job", "grep"),
        ("output", "/o"),
        ("inputs", "/a"),
        ("inputs", "/b"),
        ("set", "pattern=x y"),
    ]
    assert given["key"] and given_in({"key": "k"})["key"] == "k"


def test_built_in_jobs_are_offered_with_what_they_do() -> None:
    assert {name: bool(words) for name, words, _ in builtin_jobs()}["wordcount"]
