"""Operators that know where an element stands."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from pipes_kit import Task, piped

from gristmill.compute.pipes import PIPES
from gristmill.errors import LengthsDiffer
from gristmill.plan.functions import Call


def test_elements_are_dealt_out_in_turn() -> None:
    assert piped("spread", "abcd", 3, task=Task(task=0, tasks=2)) == [(0, "a"), (1, "b"), (2, "c"), (0, "d")]
    assert piped("spread", "ab", 3, task=Task(task=1, tasks=2)) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("tasks", "partitions", "targets"),
    [(5, 2, [0, 0, 0, 1, 1]), (4, 2, [0, 0, 1, 1]), (2, 3, [0, 1]), (3, 3, [0, 1, 2])],
)
def test_neighbours_are_put_together(tasks: int, partitions: int, targets: list[int]) -> None:
    made = [piped("gather", "x", partitions, task=Task(task=task, tasks=tasks)) for task in range(tasks)]
    assert made == [[(target, "x")] for target in targets]
    groups = [(0, iter([1, 2])), (1, iter([3]))]
    assert piped("ungather", groups) == [1, 2, 3]


def test_indices_go_on_where_the_parts_before_end() -> None:
    counts = [(0, 2), (1, 0), (2, 1)]
    assert piped("zip_with_index", "ab", task=Task([counts], part=0), sides=1) == [("a", 0), ("b", 1)]
    assert piped("zip_with_index", "", task=Task([counts], part=1), sides=1) == []
    assert piped("zip_with_index", "c", task=Task([counts], part=2, task=7), sides=1) == [("c", 2)]


@pytest.mark.parametrize("lengths", [[3], [1, 0, 2], [5, 7, 1], [0, 10]])
@pytest.mark.parametrize("buckets", [1, 4, 100])
def test_buckets_are_filled_alike_however_elements_are_cut(lengths: list[int], buckets: int) -> None:
    count = sum(lengths)
    sides = [list(enumerate(lengths)), [(0, count)]]
    elements = iter(range(count))
    cut = [pair for part, length in enumerate(lengths) for pair in numbered(elements, length, 0, buckets, sides, part)]
    whole = numbered(iter(range(count)), count, 1, buckets, sides, 0)
    assert cut == whole == [(place * buckets // count, place) for place in range(count)]


def numbered(
    elements: Iterator[int], length: int, which: int, buckets: int, sides: list[Any], part: int
) -> list[tuple[int, int]]:
    return piped("number", list(islice(elements, length)), which, buckets, task=Task(sides, part=part), sides=2)


def test_groups_are_zipped_by_place() -> None:
    def groups(*values: str) -> Iterator[Any]:
        return ((bucket, iter(each)) for bucket, each in enumerate(values))

    def zipped(*streams: Iterator[Any]) -> list[Any]:
        return list(PIPES["zip_groups"](Task(), Call("zip_groups", inputs=2, name="zip"), streams))

    assert zipped(groups("ab", "c"), groups("xy", "z")) == [("a", "x"), ("b", "y"), ("c", "z")]
    with pytest.raises(LengthsDiffer, match=r"zip\(\) found other elements than before"):
        zipped(groups("ab"), groups("x"))

    def failing() -> Iterator[Any]:
        raise ValueError("mine")
        yield

    with pytest.raises(ValueError, match="mine"):
        list(PIPES["zip"](Task(), Call("zip", inputs=2), (iter("a"), failing())))


def test_datasets_of_different_lengths_are_not_zipped() -> None:
    with pytest.raises(LengthsDiffer, match="the first has 3 elements, the other 2"):
        piped("number", "abc", 0, 4, task=Task([[(0, 3)], [(0, 2)]]), sides=2)
