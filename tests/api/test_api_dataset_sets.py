"""Datasets as sets, from the user's side."""

from __future__ import annotations

from typing import Any

import pytest
from dataset_kit import session

import gristmill as gm

__all__ = ["session"]

LEFT: list[Any] = ["b", None, 1, "b", True, (1, "x"), 2.0, 2, "a"]
RIGHT: list[Any] = [1.0, "b", "c", None, None]


def in_order(elements: list[Any]) -> list[str]:
    return sorted(map(repr, elements))


def test_each_element_once(session: gm.Session) -> None:
    left = session.from_items(LEFT, partitions=3)
    assert in_order(left.distinct().collect()) == in_order(["b", None, 1, (1, "x"), 2.0, "a"])
    assert left.distinct(partitions=1).collect() == [None, 1, 2.0, "a", "b", (1, "x")]
    assert session.from_items([]).distinct().collect() == []


def test_elements_of_both(session: gm.Session) -> None:
    left, right = session.from_items(LEFT, partitions=3), session.from_items(RIGHT, partitions=2)
    assert in_order(left.intersection(right).collect()) == in_order(["b", None, 1])
    assert left.intersection(right, partitions=1).collect() == [None, 1, "b"]


def test_elements_that_the_other_does_not_have(session: gm.Session) -> None:
    left, right = session.from_items(LEFT, partitions=3), session.from_items(RIGHT, partitions=2)
    assert in_order(left.subtract(right).collect()) == in_order([(1, "x"), 2.0, 2, "a"])
    assert in_order(right.subtract(left, partitions=2).collect()) == in_order(["c"])
    assert in_order(left.subtract(session.from_items([])).collect()) == in_order(LEFT)


def test_elements_are_no_pairs_by_keys_afterwards(session: gm.Session) -> None:
    pairs = session.from_items([("a", 1), ("a", 2), ("a", 1)])
    for made in (pairs.distinct(), pairs.intersection(pairs), pairs.subtract(pairs)):
        assert made._partitioned is None
    assert pairs.distinct().reduce_by_key(lambda a, b: a + b).collect() == [("a", 3)]


def test_elements_must_be_what_keys_may_be(session: gm.Session) -> None:
    with pytest.raises(gm.JobFailed, match="dict"):
        session.from_items([{}]).distinct().collect()
