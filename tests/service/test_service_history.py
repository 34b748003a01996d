"""Histories are kept up with the journal, fact by fact; events say what facts say, and nothing that opens anything."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gristmill.errors import FailureReport, JobFailed
from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.journal.facts import (
    AttemptOver,
    Fact,
    JobAccepted,
    JobBegun,
    JobCancelling,
    JobCommitting,
    JobEnded,
    JobLate,
    JobRequested,
    JobTakenUp,
    Span,
    TaskDone,
    WorkerGone,
    WorkerJoined,
)
from gristmill.runtime.journal.history import replay
from gristmill.runtime.journal.journal import JOURNAL, Journal
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import JobView, StageView
from gristmill.scheduling.commands import JobState
from gristmill.service.looking.history import Histories, event_json
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.storage.contracts import PartFile

PREPARED = {
    "spec": {"ticket": "SECRET", "session_ticket": "SECRET", "session": ""},
    "plan": [{"name": "map"}, {"name": "reduce"}],
    "output_path": "/out",
    "priority": 3,
}
ACCEPTED = JobAccepted(
    "j", "Job", 1.0, "SECRET", "boot", ((), (0,)), PREPARED, user="ann", signature="SECRET", queued=True
)

REQUESTED = JobRequested(
    "j", "job.py", "ann", 0.5, {"token": "SECRET"}, "/out", key="SECRET", digest="SECRET", signature="SECRET"
)


def done(index: int, number: int = 1, stage: int = 0, at: float = 10.0, segments: int = 2) -> TaskDone:
    block = BlockInfo("path", tuple(SegmentInfo(0, 5 + place, 1 + place, 7) for place in range(segments)), "w#1")
    result = TaskResult(records_in=5, seconds=1.5, block=block, hot_keys=(("'the'", 10 + index),))
    return TaskDone("j", stage, index, number, 0, result, Span("w#1-0", at - 2, at - 1.5, at))


def ended(state: JobState = JobState.SUCCEEDED) -> JobEnded:
    stages = (StageView(0, "map", False, 3, 3, 0, 15, 0, 0), StageView(1, "reduce", True, 1, 1, 0, 3, 0, 0))
    error = None if state is JobState.SUCCEEDED else JobFailed("no", FailureReport("UserCodeError", "no"), "")
    return JobEnded("j", 20.0, Outcome(JobView("j", "Job", state, 19.0, stages, attempts=4), error))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / JOURNAL)
    yield journal
    journal.close()


def write(journal: Journal, *facts: Fact) -> None:
    for fact in facts:
        number = journal.add(fact)
    journal.durable(number)


def test_a_history_grows_with_the_journal_and_is_the_one_that_all_facts_make_at_once(journal: Journal) -> None:
    histories = Histories(journal)
    assert histories.of("j") is None
    write(journal, ACCEPTED)
    first = histories.of("j")
    assert first is not None and (first.begun_at, first.is_over, first.user) == (None, False, "ann")
    write(journal, JobBegun("j", 2.0), done(0), done(1), replace(ACCEPTED, job="other"), done(2), done(0, 2))
    report = FailureReport("UserCodeError", "bad")
    write(journal, AttemptOver("j", 1, 0, 1, 0, "failed", Span("w#1-0", 11.0, 11.0, 12.0), report))
    again = histories.of("j")
    assert again is first and len(again.attempts) == 5 and again.begun_at == 2.0
    assert [row.number for row in again.attempts_of(0, 0)] == [1, 2]
    assert [row.state for row in again.attempts_of(1, 0)] == ["failed"]
    map_stage = again.stages[0]
    assert map_stage.partition_bytes == [15, 18] and map_stage.partition_rows == [3, 6]  # each task once
    assert map_stage.done == {0, 1, 2} and map_stage.hot_keys == (("'the'", 33),)
    write(journal, JobLate("j", 13.0), JobCommitting("j", 14.0, (PartFile("a", "b", 1, 2),)), ended())
    whole = histories.of("j")
    assert whole is not None and whole.is_over and whole.late_at == 13.0
    assert [stage.tasks for stage in whole.stages] == [3, 1]
    assert whole == replay(journal.facts("j"))["j"] == Histories(journal).of("j")


def test_many_threads_that_look_while_facts_come_see_each_attempt_once(journal: Journal) -> None:
    histories = Histories(journal)
    write(journal, ACCEPTED)
    found: list[int] = []

    def look() -> None:
        last = 0
        while last < 600:
            history = histories.of("j")
            assert history is not None
            last = len(history.attempts)
            assert [row.index for row in history.attempts[:last]] == list(range(last))
        found.append(last)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for index in range(600):
        journal.add(done(index))
    for thread in threads:
        thread.join(60)
    assert found == [600] * 4


def test_events_can_be_taken_up_after_any_of_them(journal: Journal) -> None:
    facts: list[Fact] = [ACCEPTED, *(done(index) for index in range(600)), JobCancelling("j", 5.0), ended()]
    write(journal, WorkerJoined("", 0.5, "w#1", "host"), *facts[:100])
    write(journal, *facts[100:])
    histories = Histories(journal)
    events = histories.events("j")
    assert [fact for _, fact in events] == facts
    numbers = [number for number, _ in events]
    assert numbers == sorted(set(numbers))
    for place in (0, 1, 99, 100, 101, 356, 601, 602):
        assert histories.events("j", numbers[place]) == events[place + 1 :]
    taken: list[tuple[int, Fact]] = []
    while some := histories.events("j", taken[-1][0] if taken else -1, most=10):
        taken += some
    assert taken == events
    assert len(journal.numbered()) == len(facts) + 1


def test_few_histories_are_held_when_they_are_large(journal: Journal) -> None:
    for job in "abc":
        write(journal, replace(ACCEPTED, job=job), *(replace(done(index), job=job) for index in range(10)))
    histories = Histories(journal, most=15)
    kept = {job: histories.of(job) for job in "abc"}
    assert histories.of("c") is kept["c"]
    assert histories.of("a") == kept["a"] and histories.of("a") is not kept["a"]
    histories.forget("a")
    assert histories.of("a") == kept["a"]


def test_what_an_attempt_is_called_is_the_name_of_its_log(journal: Journal) -> None:
    write(journal, ACCEPTED, done(17), replace(done(18), epoch=2))
    history = Histories(journal).of("j")
    assert history is not None
    assert [row.log_name("j") for row in history.attempts] == ["j-s0-t00017-a1", "j-s0-t00018-a1-e2"]
    events = [event_json(number, fact) for number, fact in journal.numbered("j")]
    assert [event.get("attempt") for event in events] == [None, "j-s0-t00017-a1", "j-s0-t00018-a1-e2"]
    assert [event.get("task") for event in events] == [None, "0-17", "0-18"]


def test_a_job_that_was_requested_has_a_history_before_its_code_is_loaded(journal: Journal) -> None:
    histories = Histories(journal)
    write(journal, REQUESTED)
    history = histories.of("j")
    assert history is not None
    assert (history.name, history.user, history.output, history.accepted) == ("job.py", "ann", "/out", None)
    write(journal, JobBegun("j", 2.0), replace(ACCEPTED, at=3.0, queued=False), done(0))
    assert histories.of("j") is history
    assert (history.name, history.submitted_at, history.begun_at) == ("Job", 0.5, 2.0)
    assert [stage.name for stage in history.stages] == ["map", "reduce"] and len(history.attempts) == 1


def test_a_job_that_is_tried_again_waits_and_has_not_ended(journal: Journal) -> None:
    histories = Histories(journal)
    write(journal, replace(ACCEPTED, queued=False), ended(JobState.FAILED))
    history = histories.of("j")
    assert history is not None and history.is_over
    write(journal, JobTakenUp("j", 1, 30.0, "boot", True))
    assert histories.of("j") is history
    assert (history.is_over, history.begun_at, history.taken_up) == (False, None, [30.0])


def test_who_tries_a_cancelled_job_again_wants_it_to_run(journal: Journal) -> None:
    histories = Histories(journal)
    write(journal, replace(ACCEPTED, queued=False), JobCancelling("j", 2.0), JobTakenUp("j", 1, 3.0, "boot"))
    history = histories.of("j")
    assert history is not None and history.cancelling_at == 2.0, "a server that is started again still ends it"
    write(journal, ended(JobState.CANCELLED), JobTakenUp("j", 2, 30.0, "boot"))
    assert histories.of("j") is history
    assert (history.cancelling_at, history.is_over) == (None, False)


FACTS: tuple[Fact, ...] = (
    REQUESTED,
    ACCEPTED,
    JobBegun("j", 2.0),
    JobTakenUp("j", 1, 3.0, "boot"),
    done(0),
    TaskDone("j", 1, 0, 1, 0, TaskResult(last_bad=FailureReport("UserCodeError", "bad"))),
    AttemptOver("j", 1, 0, 1, 0, "lost", Span("w-0", 1.0, 1.0, 2.0)),
    JobCancelling("j", 2.5),
    JobLate("j", 2.5),
    JobCommitting("j", 3.0, (PartFile("a", "b", 1, 2),)),
    ended(JobState.FAILED),
    WorkerJoined("", 1.0, "w#1", "host", "rack", 2.0, 100),
    WorkerGone("", 2.0, "w#1", "silent"),
)


def test_every_field_of_events_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "watching.md").read_text("utf-8")
    for fact in FACTS:
        for name in event_json(7, fact):
            assert f"`{name}`" in page, (fact.kind, name)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.kind)
def test_events_are_json_and_hold_no_secrets(fact: Fact) -> None:
    event = event_json(7, fact)
    text = json.dumps(event, allow_nan=False)
    assert "SECRET" not in text and "boot" not in text
    assert list(event)[:3] == ["number", "kind", "job"] and (event["number"], event["kind"]) == (7, fact.kind)
    assert event["job"] == fact.job
    assert "at" in event and (event["at"] is not None or isinstance(fact, TaskDone))
