"""Sorting, from the user's side."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from dataset_kit import session
from dataset_shapes import exchanges, nodes

import gristmill as gm
from gristmill.plan.logical import Keep
from gristmill.records.keys import encode_key

__all__ = ["session"]

MIXED: list[Any] = ["b", None, 3, 1.5, "", b"x", (2, "a"), (1,), True, 1, 10**30, -1, float("nan"), "b"]


def shuffled(count: int) -> list[int]:
    numbers = list(range(count))
    random.Random(7).shuffle(numbers)
    return numbers


@pytest.mark.parametrize("partitions", [None, 1, 4])
def test_elements_come_in_order_through_all_tasks(session: gm.Session, partitions: int | None) -> None:
    numbers = session.from_items(shuffled(1000), partitions=5)
    up = numbers.sort_by(lambda x: x, partitions=partitions)
    assert up.collect() == list(range(1000))
    assert numbers.sort_by(lambda x: x, descending=True, partitions=partitions).collect() == list(range(999, -1, -1))
    assert numbers.sort_by(str, partitions=partitions).collect() == sorted(range(1000), key=str)
    if partitions:
        assert all(150 < size < 350 for size in map(len, up.glom().collect())) or partitions == 1


@pytest.mark.parametrize("partitions", [None, 1, 4])
@pytest.mark.parametrize("descending", [False, True])
def test_equal_keys_keep_their_order(session: gm.Session, descending: bool, partitions: int | None) -> None:
    pairs = [(n % 7, n) for n in shuffled(500)]
    model = sorted(pairs, key=lambda pair: pair[0], reverse=descending)
    dataset = session.from_items(pairs, partitions=3)
    assert dataset.sort_by(lambda p: p[0], descending=descending, partitions=partitions).collect() == model
    assert dataset.sort_by_key(descending=descending, partitions=partitions).collect() == model


def test_keys_of_all_kinds_have_an_order(session: gm.Session) -> None:
    mixed = session.from_items(MIXED, partitions=3)
    made = mixed.sort_by(lambda x: x, partitions=3).collect()
    assert list(map(repr, made)) == list(map(repr, sorted(MIXED, key=encode_key)))


def test_what_was_computed_is_written_down_before_it_is_sorted(session: gm.Session) -> None:
    counts = session.from_items([(n % 50, 1) for n in range(1000)]).reduce_by_key(lambda a, b: a + b)
    ordered = counts.sort_by_key(partitions=3)
    assert ordered.collect() == [(n, 20) for n in range(50)]
    assert all(10 <= len(part) <= 24 for part in ordered.glom().collect())  # samples do not all come from the first
    assert sum(isinstance(node, Keep) for node in nodes(ordered)) == 1
    again = ordered.map(lambda pair: (-pair[0], pair[1])).sort_by_key(partitions=2)
    assert again.collect() == [(-n, 20) for n in range(49, -1, -1)]


def test_what_is_read_is_not_written_down(session: gm.Session, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("c\na\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("b\n", encoding="utf-8")
    lines = session.read_text(tmp_path).map(str.upper)
    ordered = lines.union(lines.filter(lambda x: x == "B")).sort_by(lambda x: x, partitions=2)
    assert ordered.collect() == ["A", "B", "B", "C"]
    assert not any(isinstance(node, Keep) for node in nodes(ordered))
    assert len(exchanges(ordered)) == 1


def test_nothing_is_in_order(session: gm.Session) -> None:
    assert session.from_items([]).sort_by(lambda x: x).collect() == []
    assert session.from_items([]).sort_by(lambda x: x, partitions=3).glom().collect() == [[], [], []]


@pytest.mark.parametrize("partitions", [1, 2])
def test_keys_without_order_are_refused_by_name(session: gm.Session, partitions: int) -> None:
    with pytest.raises(gm.JobFailed, match="dict"):
        session.range(3).sort_by(lambda x: {x: x}, partitions=partitions).collect()


def test_wrong_arguments_are_refused_at_once(session: gm.Session) -> None:
    with pytest.raises(gm.UsageError, match=r"sort_by\(\) takes a function"):
        session.range(3).sort_by("name")  # type: ignore[arg-type]
    with pytest.raises(gm.UsageError, match="number of partitions"):
        session.range(3).sort_by(str, partitions=0)
