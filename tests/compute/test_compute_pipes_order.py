"""Operators of a sort."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipes_kit import Task, piped

from gristmill.compute.pipes import PIPES
from gristmill.errors import KeyTypeRefused
from gristmill.plan.functions import Call
from gristmill.records.keys import encode_key

elements = st.sampled_from([1, 1.0, True, Decimal(1), "1", "", b"1", None, 0, False, (1, 2), 2**70])


def itself(x: Any) -> Any:
    return x


def grouped(pairs: list[tuple[Any, Any]]) -> list[tuple[Any, Iterator[Any]]]:
    """Pairs as they come out of an exchange."""
    groups = []
    for _, some in groupby(sorted(pairs, key=lambda pair: encode_key(pair[0])), lambda pair: encode_key(pair[0])):
        same = list(some)
        groups.append((same[0][0], iter([value for _, value in same])))
    return groups


@given(st.lists(elements), st.sampled_from([itself, repr, lambda x: 1, lambda x: None]))
def test_sorted_elements_are_the_very_elements(given_elements: list[Any], key: Any) -> None:
    made = piped("sorted_elements", grouped(piped("sort_pairs", given_elements, key)))
    model = sorted(given_elements, key=lambda x: encode_key(key(x)))
    assert list(map(repr, made)) == list(map(repr, model))


@given(st.lists(st.tuples(elements, st.sampled_from([None, 0]))))
def test_sorted_pairs_are_the_very_pairs(pairs: list[tuple[Any, Any]]) -> None:
    made = piped("sorted_pairs", grouped(piped("sort_key_pairs", pairs)))
    assert list(map(repr, made)) == list(map(repr, sorted(pairs, key=lambda pair: encode_key(pair[0]))))


def test_an_element_that_is_its_own_key_travels_once() -> None:
    assert piped("sort_pairs", ["b", 1, b"c", 1.5], itself) == [("b", None), (1, None), (b"c", None), (1.5, 1.5)]


@pytest.mark.parametrize("count", [0, 1, 16, 5000, 100_000])
def test_samples_come_from_all_elements_at_even_distances(count: int) -> None:
    made = piped("sample_keys", range(count), itself, True)
    assert min(count, 4096) <= len(made) <= 8192
    steps = {b - a for a, b in pairwise(made)}
    assert len(steps) <= 1
    if made:
        assert made[0] == 0 and made[-1] >= count - (steps or {1}).pop()


@pytest.mark.parametrize("tasks", [1, 10, 100_000])
def test_of_what_is_read_only_the_first_elements_are_taken(tasks: int) -> None:
    taken = 0

    def stream() -> Iterator[int]:
        nonlocal taken
        while True:
            yield taken
            taken += 1

    call = Call("sample_keys", (itself, False))
    made = list(PIPES["sample_keys"](Task(tasks=tasks), call, (stream(),)))
    assert made[0] == 0
    assert max(16, 4096 // tasks) <= len(made) <= 2 * max(16, 4096 // tasks)
    assert taken < 16 * max(16, 4096 // tasks)
    assert made[-1] > taken * 0.8


def test_keys_without_order_are_refused_by_name() -> None:
    with pytest.raises(KeyTypeRefused, match="dict"):
        piped("sample_keys", [{"a": 1}], itself, False)


def test_samples_are_keys() -> None:
    assert piped("sample_keys", ["a", "bc"], len, True) == [1, 2]
