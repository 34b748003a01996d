"""Attempts that a restart of the server has cut off are told of by their logs alone."""

from __future__ import annotations

from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.journal.facts import Fact, JobAccepted, JobTakenUp, TaskDone
from gristmill.runtime.journal.history import JobHistory
from gristmill.service.looking.cutoff import attempts_over

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
