"""Operators that know where an element stands."""

from __future__ import annotations

import pytest
from pipes_kit import Task, piped

from gristmill.errors import LengthsDiffer


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


def test_elements_are_numbered_for_a_zip() -> None:
    counts = [[(0, 2), (1, 1)], [(0, 0), (1, 3)]]
    assert piped("number", "c", 0, task=Task(counts, part=1), sides=2) == [((2, 3), "c")]
    assert piped("number", "xyz", 1, task=Task(counts, part=1), sides=2) == [
        ((0, 3), "x"),
        ((1, 3), "y"),
        ((2, 3), "z"),
    ]
    groups = [((0, 2), iter("ax")), ((1, 2), iter("by"))]
    assert piped("zip_groups", groups) == [("a", "x"), ("b", "y")]


def test_datasets_of_different_lengths_are_not_zipped() -> None:
    with pytest.raises(LengthsDiffer, match="the first has 3 elements, the other 2"):
        piped("number", "abc", 0, task=Task([[(0, 3)], [(0, 2)]]), sides=2)
