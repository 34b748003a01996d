"""Figures for Prometheus are a fold over facts; a trace is a view of a history: both on facts that are made up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from gristmill.errors import FailureReport, JobFailed
from gristmill.plan.decision import Decision
from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.journal.facts import (
    AttemptOver,
    Fact,
    JobAccepted,
    JobBegun,
    JobCancelling,
    JobEnded,
    JobLate,
    JobRequested,
    JobTakenUp,
    Span,
    StageReplanned,
    TaskDone,
)
from gristmill.runtime.journal.history import JobHistory, replay
from gristmill.runtime.journal.summaries import loader_name
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import JobView, RunningView
from gristmill.scheduling.commands import JobState
from gristmill.service.looking.trace import trace_of, trace_text
from gristmill.service.metrics.figures import MOST_NAMES, OTHER, Figures, Histogram
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.storage.contracts import PartFile

PREPARED = {"spec": {}, "plan": [{"name": "map"}, {"name": "reduce"}]}
ACCEPTED = JobAccepted("j", "Job", 100.0, "", "boot", ((), (0,)), PREPARED, user="ann", queued=True)


def span(began: float, ended: float, slot: str = "w#1-0", speculative: bool = False) -> Span:
    return Span(slot, began - 0.5, began, ended, speculative)


def done(stage: int, index: int, number: int, where: Span, **made: Any) -> TaskDone:
    return TaskDone("j", stage, index, number, 0, TaskResult(seconds=1.0, **made), where)


def ended(state: JobState = JobState.SUCCEEDED, job: str = "j", at: float = 130.0) -> JobEnded:
    error = None if state is JobState.SUCCEEDED else JobFailed("no")
    return JobEnded(job, at, Outcome(JobView(job, "Job", state, 1.0, ()), error))


BLOCK = BlockInfo("path", (SegmentInfo(0, 30, 3, 7), SegmentInfo(30, 10, 1, 7)), "w#1")
FACTS: tuple[Fact, ...] = (
    ACCEPTED,
    JobBegun("j", 110.0),
    AttemptOver("j", 0, 0, 1, 0, "failed", span(111, 112), FailureReport("UserCodeError", "bad")),
    done(0, 0, 2, span(112, 114), records_in=9, bytes_in=90, block=BLOCK, bad_records=2),
    done(0, 1, 2, span(112, 116, "w#2-0", True), records_in=1, bytes_in=10, block=BLOCK),
    AttemptOver("j", 0, 1, 1, 0, "cancelled", span(111, 116, "w#1-1")),
    AttemptOver("j", 1, 0, 1, 0, "lost", span(117, 118), FailureReport("SomethingOfTomorrow", "gone")),
    done(1, 0, 2, span(118, 120), records_in=8, spilled_bytes=7, parts=(PartFile("a", "b", 4, 44),)),
    JobLate("j", 121.0),
    ended(),
)


def test_figures_are_what_the_facts_add_up_to() -> None:
    figures = Figures()
    figures.take(FACTS[:4])
    figures.take(FACTS[4:])
    assert figures.totals == {
        "facts": 10, "jobs_submitted": 1, "jobs_late": 1, "retries": 2, "input_records": 10, "input_bytes": 100,
        "shuffle_bytes": 80, "spilled_bytes": 7, "output_records": 4, "output_bytes": 44,
    }  # fmt: skip
    assert figures.attempts == {"done": 3, "failed": 1, "lost": 1, "cancelled": 1, "superseded": 0}
    assert figures.failures == {"UserCodeError": 1, OTHER: 1}
    assert figures.speculation == {"won": 1, "lost": 0} and figures.bad_records == {"Job": 2}
    assert (figures.queue_wait.total, figures.job_seconds["succeeded"].total) == (10.0, 20.0)
    assert sum(figures.task_seconds["input"].counts) == 2 and sum(figures.task_seconds["shuffle"].counts) == 1
    assert sum(figures.task_wait.counts) == 6 and figures.task_wait.total == 3.0


def test_what_began_before_is_known_and_not_counted() -> None:
    figures = Figures()
    figures.known(FACTS[:2])
    figures.take(FACTS[7:])
    assert figures.totals["jobs_submitted"] == 0 and figures.totals["input_records"] == 0
    assert figures.job_seconds["succeeded"].total == 20.0
    stranger = Figures()
    stranger.take(FACTS[2:])  # its begin is too long ago: the first stage is taken to read input
    assert stranger.totals["input_records"] == 10 and stranger.bad_records == {OTHER: 2}


def test_a_job_that_is_requested_first_is_one_job() -> None:
    figures = Figures()
    figures.take([JobRequested("j", "job.py", "ann", 90.0, {}), JobBegun("j", 95.0)])
    figures.take([replace(ACCEPTED, queued=False), ended(JobState.FAILED), JobTakenUp("j", 1, 140.0, "boot", True)])
    assert figures.totals["jobs_submitted"] == 1 and figures.queue_wait.total == 5.0
    assert figures.job_seconds["failed"].total == 35.0


def test_a_job_that_is_tried_again_is_followed_again() -> None:
    """Also one that ended before this server began: how it began is looked up."""
    again: tuple[Fact, ...] = (JobTakenUp("j", 1, 140.0, "boot", True), JobBegun("j", 143.0))
    for earlier in ((), FACTS):
        figures = Figures(lambda job: FACTS if job == "j" else ())
        figures.take(earlier)
        figures.take(again)
        figures.take([done(1, 0, 3, span(144, 145), records_in=8, bad_records=1), ended(at=150.0)])
        assert figures.bad_records[OTHER] == 0 and figures.bad_records["Job"] == (3 if earlier else 1)
        assert figures.queue_wait.total == (13.0 if earlier else 3.0)
        assert figures.job_seconds["succeeded"].total == (27.0 if earlier else 7.0)
        assert figures.totals["input_records"] == (10 if earlier else 0)
    figures = Figures()
    figures.known([*FACTS, *again])
    figures.take([ended(at=150.0)])
    assert figures.job_seconds["succeeded"].total == 7.0


def test_jobs_that_only_load_the_code_of_others_are_not_counted() -> None:
    loader = replace(ACCEPTED, job="l", name=loader_name("j"), queued=False, prepared={"spec": {"driver": True}})
    figures = Figures()
    figures.take([JobRequested("j", "job.py", "ann", 90.0, {}), JobBegun("j", 95.0), loader])
    figures.take([replace(FACTS[3], job="l"), replace(FACTS[2], job="l"), ended(JobState.FAILED, "l")])  # type: ignore[arg-type]
    assert figures.totals["jobs_submitted"] == 1 and sum(figures.jobs_ended.values()) == 0
    assert sum(figures.attempts.values()) == 0 and figures.totals["input_records"] == 0
    assert sum(figures.queue_wait.counts) == 1


def test_a_job_that_began_at_once_has_waited_for_nothing() -> None:
    figures = Figures()
    figures.take([replace(ACCEPTED, queued=False), ended()])
    assert figures.queue_wait.counts[0] == 1 and figures.queue_wait.total == 0.0


def test_as_many_names_of_jobs_as_there_may_be_time_series() -> None:
    figures = Figures()
    for number in range(MOST_NAMES + 50):
        job = f"j{number}"
        figures.take([replace(ACCEPTED, job=job, name=f"Job {number}"), replace(FACTS[3], job=job)])  # type: ignore[arg-type]
    assert len(figures.bad_records) == MOST_NAMES + 1 and figures.bad_records[OTHER] == 100


def test_what_lies_on_a_bound_belongs_to_the_bucket_below_it() -> None:
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 2, 2.5):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1] and histogram.total == 7.5


# Traces


def history(*facts: Fact) -> JobHistory:
    return replay(facts)["j"]


def test_a_trace_has_a_slice_for_each_attempt_in_its_slot() -> None:
    trace = json.loads("".join(trace_text(trace_of(history(*FACTS)))))
    events = trace["traceEvents"]
    slices = [event for event in events if event["ph"] == "X" and event["cat"].startswith("attempt")]
    assert [(one["name"], one["args"]["state"], one["ts"], one["dur"]) for one in slices] == [
        ("map 0", "failed", 11_000_000, 1_000_000),
        ("map 1", "cancelled", 11_000_000, 5_000_000),
        ("map 0", "done", 12_000_000, 2_000_000),
        ("map 1", "done", 12_000_000, 4_000_000),
        ("reduce 0", "lost", 17_000_000, 1_000_000),
        ("reduce 0", "done", 18_000_000, 2_000_000),
    ]
    assert slices[3]["args"]["speculative"] and slices[3]["args"]["waited_seconds"] == 0.5
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert [names[one["pid"]] for one in slices] == [*["Worker w#1"] * 3, "Worker w#2", *["Worker w#1"] * 2]
    assert [one["tid"] for one in slices[:3]] != [slices[0]["tid"]] * 3  # two slots
    stages = [event for event in events if event.get("cat") == "stage"]
    assert [(one["name"], one["ts"], one["dur"]) for one in stages] == [
        ("0 map", 11_000_000, 5_000_000),
        ("1 reduce", 17_000_000, 3_000_000),
    ]
    job = {event["name"]: event["dur"] for event in events if event.get("cat") == "job" and event["ph"] == "X"}
    assert job == {"waiting for its turn": 10_000_000, "Job": 20_000_000}
    marks = [event["name"] for event in events if event["ph"] == "i"]
    assert marks == ["failed: UserCodeError", "lost: SomethingOfTomorrow", "deadline"]
    counts = [(event["ts"], event["args"]["attempts"]) for event in events if event["name"] == "running, stage 0"]
    assert counts == [(11_000_000, 2), (12_000_000, 3), (14_000_000, 2), (16_000_000, 0)]


def test_a_trace_shows_what_runs_and_what_waits() -> None:
    waits = trace_of(history(ACCEPTED), (), 105.0)["traceEvents"]
    assert [(one["name"], one["dur"]) for one in waits if one["ph"] == "X"] == [("waiting for its turn", 5_000_000)]
    running = [RunningView(0, 7, 1, "w#1-0", 111.0, 112.0), RunningView(0, 8, 1, "w#1-1", 116.0, 116.0)]
    events = trace_of(history(*FACTS[:3], JobCancelling("j", 114.0)), running, 115.0)["traceEvents"]
    found = [(one["name"], one["ts"], one["dur"]) for one in events if one.get("cat") == "attempt,running"]
    assert found == [("map 7", 12_000_000, 3_000_000), ("map 8", 15_000_000, 1)]
    assert "cancelled" in [one["name"] for one in events if one["ph"] == "i"]


def test_a_journal_that_does_not_say_where_attempts_ran_makes_a_trace_without_them() -> None:
    events = trace_of(history(ACCEPTED, TaskDone("j", 0, 0, 1, 0, TaskResult()), ended()))["traceEvents"]
    assert [one["name"] for one in events if one["ph"] == "X"] == ["waiting for its turn"]


def test_many_attempts_make_a_trace_in_pieces() -> None:
    facts = [done(0, index, 1, span(111 + index, 112 + index)) for index in range(1200)]
    pieces = list(trace_text(trace_of(history(*FACTS[:2], *facts))))
    assert len(pieces) > 3
    assert sum(one["ph"] == "X" for one in json.loads("".join(pieces))["traceEvents"]) == 1200 + 3


def test_stages_that_were_added_are_known_as_such_even_if_the_plan_is_not() -> None:
    cut = StageReplanned("j", 1, Decision(notes=("Merged first.",)), ((1, (2,)), (2, (0,))))
    found = history(*FACTS[:2], cut, done(2, 0, 1, span(112, 113)))
    assert [(stage.name, stage.parents, stage.added) for stage in found.stages] == [
        ("map", (), False),
        ("reduce", (2,), False),
        ("stage 2", (0,), True),
    ]
    assert found.adaptations == ["Merged first."] and found.stages[2].done == {0}
