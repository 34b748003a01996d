"""The timeline: lanes, what is drawn alone, what is drawn together, stragglers; and where a click leads."""

from __future__ import annotations

import re

import pytest
from page_values import BEGUN, done, failed, history, running

from gristmill.runtime.journal.facts import AttemptOver, Span
from gristmill.service.page.timeline import COLUMNS, task_at, ticks, timeline


def test_each_slot_has_a_lane_of_its_own_in_natural_order() -> None:
    past = history()
    for number, slot in enumerate(("w10-0", "w2-1", "w2-0")):
        past.add(done(number, slot, 0, 1))
    assert timeline(past.attempts, (), BEGUN, BEGUN + 1).lanes == ("w2 · 1", "w2 · 2", "w10 · 1")


def test_a_slot_that_came_after_another_had_gone_takes_its_lane() -> None:
    past = history()
    past.add(done(0, "w1-0", 0, 1))
    past.add(done(1, "w1-7", 2, 3))
    assert timeline(past.attempts, (), BEGUN, BEGUN + 3).lanes == ("w1 · 1",)


def test_few_attempts_are_drawn_one_by_one() -> None:
    past = history()
    past.add(done(0, "w1-0", 0, 5))
    past.add(failed(1, "w1-0", 5, 10))
    line = timeline(past.attempts, (), BEGUN, BEGUN + 10)
    assert [(mark.kind, mark.task, round(mark.x)) for mark in line.marks] == [
        ("stage0", "0-0", 0),
        ("failed", "0-1", COLUMNS // 2),
    ]
    assert not line.paths and line.kinds == ("stage0", "failed")
    assert "Task 0-1, attempt 1: failed, 5.0 s on w1" in line.marks[1].title


def test_of_many_attempts_only_what_covers_the_columns_is_told() -> None:
    past = history()
    for index in range(20_000):
        past.add(done(index, f"w1-{index % 4}", index / 100, index / 100 + 0.04))
    past.add(failed(7, "w1-0", 100, 100.04))
    line = timeline(past.attempts, (), BEGUN, BEGUN + 200)
    assert not line.marks and [kind for kind, _ in line.paths] == ["stage0", "failed"]
    assert sum(len(path) for _, path in line.paths) < 4 * COLUMNS  # whatever the number of attempts
    failed_at = re.fullmatch(r"M(\d+) 1h(\d)v16h-\dz", dict(line.paths)["failed"])
    assert failed_at is not None and abs(int(failed_at[1]) - COLUMNS // 2) <= 1  # one of 20,000, and seen
    assert line.attempts == 20_001


def test_a_straggler_and_its_second_attempt_are_seen() -> None:
    past = history()
    for index in range(5):
        past.add(done(index, "w1-0", index, index + 1))
    runs = [running(5, "w2-0", 2), running(5, "w3-0", 9.5, speculative=True), running(6, "w2-1", 9.2)]
    line = timeline(past.attempts, runs, BEGUN, BEGUN + 10)
    assert [mark.kind for mark in line.marks[-3:]] == ["slow", "running", "running"]
    (straggler,) = line.stragglers
    assert (straggler.task, straggler.slot, straggler.running, straggler.backup) == ("0-5", "w2", True, "w3")
    assert straggler.seconds == pytest.approx(8) and straggler.usual_seconds == pytest.approx(1)


def test_attempts_that_were_not_needed_and_lost_ones_look_different() -> None:
    past = history()
    past.add(done(0, "w1-0", 0, 1, speculative=True))
    past.add(AttemptOver("j", 0, 0, 2, 0, "cancelled", Span("w2-0", BEGUN, BEGUN, BEGUN + 1)))
    past.add(AttemptOver("j", 0, 1, 1, 0, "lost", Span("w3-0", BEGUN, BEGUN, BEGUN + 1)))
    past.add(AttemptOver("j", 0, 2, 1, 0, "cancelled", Span("w4-0", BEGUN, BEGUN, BEGUN)))  # it had not begun
    line = timeline(past.attempts, (), BEGUN, BEGUN + 1)
    assert [mark.kind for mark in line.marks] == ["backup", "void", "lost"]


def test_there_are_never_too_many_lanes() -> None:
    past = history()
    for number in range(300):
        past.add(done(number, f"w{number}-0", 0, 1))
    line = timeline(past.attempts, (), BEGUN, BEGUN + 1)
    assert len(line.lanes) + line.hidden_lanes == 300 and line.pixels <= 1000


def test_nothing_is_drawn_of_a_job_that_has_not_begun() -> None:
    assert timeline((), (), BEGUN, BEGUN + 5).lanes == ()


@pytest.mark.parametrize("seconds", [0.05, 0.9, 7, 59, 61, 3599, 90_000, 5_000_000])
def test_ticks_are_few_and_begin_at_the_left(seconds: float) -> None:
    found = ticks(seconds)
    assert found[0] == 0 and found[-1] <= seconds and len(found) <= 9


def test_a_place_leads_to_the_task_that_is_drawn_there() -> None:
    past = history()
    past.add(done(0, "w1-0", 0, 4))
    past.add(done(1, "w1-0", 5, 10))
    past.add(done(2, "w2-0", 0, 10))
    assert [task_at(past.attempts, (), BEGUN, BEGUN + 10, 0, at) for at in (0.1, 0.42, 0.9)] == ["0-0", "0-0", "0-1"]
    assert task_at(past.attempts, (), BEGUN, BEGUN + 10, 1, 0.5) == "0-2"
    assert task_at(past.attempts, (), BEGUN, BEGUN + 10, 9, 0.5) == ""
