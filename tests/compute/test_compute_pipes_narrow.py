"""Operators of one element at a time, without an engine around them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import pytest
from pipes_kit import Task, piped

from gristmill.compute.pipes import PIPES
from gristmill.errors import UserCodeError
from gristmill.plan.functions import Call


def test_elements_are_mapped_filtered_and_flattened_in_order() -> None:
    assert piped("map", [1, 2, 3], lambda x: x + 1) == [2, 3, 4]
    assert piped("map", [" a ", "b"], str.strip) == ["a", "b"]
    assert piped("filter", [1, 2, 3], lambda x: x % 2) == [1, 3]
    assert piped("flat_map", ["a b", "", "c"], str.split) == ["a", "b", "c"]


def test_pairs_keep_their_keys() -> None:
    pairs = [("a", 1), (None, 2)]
    assert piped("map_values", pairs, lambda v: -v) == [("a", -1), (None, -2)]
    assert piped("flat_map_values", pairs, range) == [("a", 0), (None, 0), (None, 1)]
    assert piped("keys", pairs) == ["a", None]
    assert piped("values", pairs) == [1, 2]
    assert piped("key_by", [1, 2], str) == [("1", 1), ("2", 2)]


def test_all_elements_of_a_task_at_once() -> None:
    assert piped("map_partitions", [1, 2], lambda part: [sum(part)]) == [3]
    assert piped("map_partitions", [], lambda part: [sum(part)]) == [0]
    assert piped("glom", [1, 2]) == [[1, 2]]
    assert piped("glom", []) == [[]]


@pytest.mark.parametrize("how", ["map", "filter", "flat_map", "key_by", "map_values", "flat_map_values"])
def test_operators_take_one_element_at_a_time(how: str) -> None:
    taken: list[int] = []

    def elements() -> Iterator[Any]:
        for number in count():
            taken.append(number)
            yield (number, number) if how.endswith("values") else number

    made = PIPES[how](Task(), Call(how, (lambda x: [x],)), (elements(),))
    assert len(list(islice(made, 3))) == 3
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("how", ["map", "filter", "flat_map", "key_by", "map_values", "flat_map_values"])
def test_a_stop_iteration_in_user_code_is_not_the_end_of_the_data(how: str) -> None:
    def fails(_: Any) -> Any:
        return next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        piped(how, [(1, 2), (3, 4)], fails)


def test_what_cannot_be_iterated_over_is_named() -> None:
    with pytest.raises(UserCodeError, match="flat_map must return a list or another iterable; this one returned None"):
        piped("flat_map", [1], lambda x: None)
    with pytest.raises(UserCodeError, match="map_partitions must return"):
        piped("map_partitions", [1], lambda part: 7)
    with pytest.raises(UserCodeError, match="flat_map_values must return"):
        piped("flat_map_values", [(1, 2)], lambda value: value)


def test_an_error_in_an_iterator_of_the_users_is_its_own() -> None:
    class Bad:
        def __iter__(self) -> Any:
            raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        piped("flat_map", [1], lambda x: Bad())


def test_a_sample_follows_from_seed_and_part_alone() -> None:
    first = piped("sample", range(1000), 0.3, "7", False, task=Task(part=2))
    assert first == piped("sample", range(1000), 0.3, "7", False, task=Task(part=2, task=9, tasks=10))
    assert first != piped("sample", range(1000), 0.3, "7", False, task=Task(part=3))
    assert first != piped("sample", range(1000), 0.3, "8", False, task=Task(part=2))
    assert 200 < len(first) < 400 and first == sorted(first)
    assert piped("sample", range(5), 0.0, "7", False) == []
    assert piped("sample", range(5), 1.0, "7", False) == [0, 1, 2, 3, 4]


def test_a_sample_with_replacement_holds_elements_several_times() -> None:
    drawn = piped("sample", range(500), 40.0, "7", True)
    assert drawn == sorted(drawn)
    assert 38 * 500 < len(drawn) < 42 * 500
    counts = [drawn.count(number) for number in range(500)]
    mean = sum(counts) / 500
    assert (
        30 < sum((number - mean) ** 2 for number in counts) / 500 < 52
    )  # a Poisson distribution's variance is its mean


def test_take_stops_reading() -> None:
    elements = count()
    assert list(PIPES["take"](Task(), Call("take", (3,)), (elements,))) == [0, 1, 2]
    assert next(elements) == 3
