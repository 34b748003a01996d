"""The table of transitions is complete, and nothing goes around it."""

from __future__ import annotations

import pytest

from gristmill.scheduling.transitions import TRANSITIONS, Cause, TaskState, follow


def test_no_state_has_two_ways_for_one_cause() -> None:
    ways = [(row.source, row.cause) for row in TRANSITIONS]
    assert len(ways) == len(set(ways))


def test_every_state_and_cause_is_used() -> None:
    assert {row.source for row in TRANSITIONS} == set(TaskState)
    assert {row.target for row in TRANSITIONS} == set(TaskState)
    assert {row.cause for row in TRANSITIONS} == set(Cause)


def test_every_row_leads_where_it_says() -> None:
    for row in TRANSITIONS:
        assert follow(row.source, row.cause) is row.target


def test_a_way_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(AssertionError, match="DONE cannot be LAUNCHED"):
        follow(TaskState.DONE, Cause.LAUNCHED)


def test_texts_can_stand_in_a_diagram() -> None:
    assert not [row.text for row in TRANSITIONS if set(row.text) & set(":;\n")]
