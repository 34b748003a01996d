"""Attempts that a restart of the server has cut off are told of by their logs alone."""

from __future__ import annotations

from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.journal.facts import Fact, JobAccepted, JobTakenUp, Span, TaskDone
from gristmill.runtime.journal.history import JobHistory
from gristmill.service.looking.cutoff import CutOffs, attempts_over, cut_off, drawn
from gristmill.service.looking.trace import trace_of
from gristmill.service.page.timeline import timeline

ACCEPTED = JobAccepted("j", "Job", 1.0, "", "boot", ((),), {"spec": {}, "plan": []})


def history_of(*facts: Fact) -> JobHistory:
    history = JobHistory(ACCEPTED)
    for fact in facts:
        history.add(fact)
    return history


def over(history: JobHistory, *logs: str) -> list[tuple[int, int, str]]:
    return [(row.number, row.epoch, row.state) for row in attempts_over(history, 0, 7, logs)]


def test_a_log_without_a_fact_is_of_an_attempt_that_was_cut_off() -> None:
    taken_up = JobTakenUp("j", 1, 2.0, "boot")
    history = history_of(TaskDone("j", 0, 7, 2, 0, TaskResult()), taken_up, TaskDone("j", 0, 7, 1, 1, TaskResult()))
    logs = (
        "j-s0-t00007-a1",
        "j-s0-t00007-a2",
        "j-s0-t00007-a1-e1",
        "j-s0-t00007-a2-e1",
        "j-s0-t00008-a1",
        "j-s1-t00007-a1",
    )
    assert over(history, *logs) == [(2, 0, "done"), (1, 0, "lost"), (1, 1, "done")]
    [lost] = [row for row in attempts_over(history, 0, 7, logs) if row.state == "lost"]
    assert lost.log_name("j") == "j-s0-t00007-a1" and lost.span is None
    assert lost.report is not None and "cut off" in lost.report.message


def test_without_a_restart_what_has_no_fact_runs() -> None:
    assert over(history_of(), "j-s0-t00007-a1") == []


def test_they_are_drawn_from_when_they_can_have_begun_to_the_restart() -> None:
    accepted = JobAccepted("j", "Job", 1.0, "", "boot", ((), (0,)), {"spec": {}, "plan": []})

    def done(stage: int, index: int, epoch: int, at: float) -> TaskDone:
        return TaskDone("j", stage, index, 1, epoch, TaskResult(), Span("w-1", at - 1, at - 1, at))

    history = JobHistory(accepted)
    for fact in (done(0, 0, 0, 3.0), done(0, 1, 0, 5.0), JobTakenUp("j", 1, 20.0, "boot"), done(0, 2, 1, 24.0)):
        history.add(fact)
    history.add(JobTakenUp("j", 2, 30.0, "boot"))
    logs = ("j-s0-t00002-a1", "j-s1-t00000-a1", "j-s0-t00001-a2", "j-s1-t00000-a1-e1", "j-s1-t00000-a1-e2", "other")
    rows = drawn(history, list(cut_off(history, logs)))
    seen = [(row.stage, row.index, row.number, row.epoch, row.span and row.span[2:4]) for row in rows]
    assert seen == [
        (0, 2, 1, 0, (1.0, 20.0)),
        (1, 0, 1, 0, (5.0, 20.0)),  # after all that its stage reads, as far as it was done
        (0, 1, 2, 0, (5.0, 20.0)),  # after the attempt before it
        (1, 0, 1, 1, (24.0, 30.0)),
    ]
    line = timeline([*history.attempts, *rows], (), 1.0, 40.0)
    assert [mark.kind for mark in line.marks[-4:]] == ["cut"] * 4 and "cut" in line.kinds
    assert line.marks[-1].title.startswith("Task 1-0, attempt 1: cut off by a restart")
    assert line.lanes == ("cut off · 1", "cut off · 2", "cut off · 3", "w · 1")  # the last had ended before another
    events = trace_of(history, cut_off=rows)["traceEvents"]
    slices = [event for event in events if event["ph"] == "X" and "cut_off" in event["args"]]
    assert [(one["ts"], one["dur"]) for one in slices] == [
        (0, 19_000_000),
        *[(4_000_000, 15_000_000)] * 2,
        (23_000_000, 6_000_000),
    ]
    assert "Cut off by a restart" in [event["args"].get("name") for event in events if event["ph"] == "M"]


def test_logs_are_listed_again_after_a_while_or_another_restart() -> None:
    history, known = history_of(JobTakenUp("j", 1, 2.0, "boot")), CutOffs()
    asked: list[int] = []

    def logs() -> list[str]:
        asked.append(1)
        return ["j-s0-t00007-a1"]

    for now in (100.0, 105.0, 111.0):
        assert len(known.of(history, logs, now)) == 1
    history.add(JobTakenUp("j", 2, 3.0, "boot"))
    known.of(history, logs, 112.0)
    assert len(asked) == 3
