"""Operators on groups, and on pairs as groups."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from operator import add
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipes_kit import Task, piped

from gristmill.compute.pipes import PIPES
from gristmill.compute.pipes.groups import groups_of_pairs, place_of
from gristmill.compute.sorting import itself
from gristmill.compute.values import StreamedValues
from gristmill.errors import KeyTypeRefused
from gristmill.plan.functions import Call
from gristmill.records.keys import encode_key

keys = st.sampled_from([1, 1.0, True, Decimal(2), 2, "1", "2", b"1", None, math.nan, float("nan"), (1, math.nan), 0.5])


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


def groups(*some: tuple[Any, list[Any]]) -> list[tuple[Any, Iterator[Any]]]:
    return [(key, iter(values)) for key, values in some]


@given(st.lists(st.tuples(keys, st.integers())))
def test_sorted_pairs_are_grouped_by_equal_keys(pairs: list[tuple[Any, int]]) -> None:
    pairs.sort(key=lambda pair: encode_key(pair[0]))
    made = [(key, list(values)) for key, values in groups_of_pairs(iter(pairs))]
    model: dict[bytes, tuple[Any, list[int]]] = {}
    for key, value in pairs:
        model.setdefault(encode_key(key), (key, []))[1].append(value)
    assert repr(made) == repr(list(model.values()))


@given(keys, keys)
def test_the_place_of_a_key_is_equal_for_equal_keys(one: Any, other: Any) -> None:
    assert (place_of(one) == place_of(other)) == (encode_key(one) == encode_key(other))
    if place_of(one) == place_of(other):
        assert hash(place_of(one)) == hash(place_of(other))


def test_what_is_no_key_has_no_place() -> None:
    with pytest.raises(KeyTypeRefused, match="list"):
        place_of([1])
    with pytest.raises(KeyTypeRefused, match="object"):
        place_of((1, object()))


def test_groups_that_are_not_read_are_passed_over() -> None:
    pairs = [(n // 3, n) for n in range(9)]
    assert [key for key, _ in groups_of_pairs(iter(pairs))] == [0, 1, 2]
    assert [(key, next(values)) for key, values in groups_of_pairs(iter(pairs))] == [(0, 0), (1, 3), (2, 6)]


def test_pairs_and_groups_are_each_other() -> None:
    pairs = [("a", 1), ("a", 2), ("b", 3)]
    [stream] = [PIPES["regroup"](Task(), Call("regroup"), (iter(pairs),))]
    assert list(PIPES["ungroup"](Task(), Call("ungroup"), (stream,))) == pairs


def test_what_is_folded_is_merged() -> None:
    assert piped("fold", groups(("a", [1, 2, 3]), ("b", [True])), add) == [("a", 6), ("b", True)]


def test_values_are_folded_from_the_first_to_the_last() -> None:
    some = [("a", [1, 2, 3]), ("b", [4])]
    assert piped("fold_values", groups(*some), None, lambda a, b: f"{a}{b}") == [("a", "123"), ("b", 4)]
    made = piped("fold_values", groups(*some), lambda v: [v], lambda a, b: [*a, b])
    assert made == [("a", [1, 2, 3]), ("b", [4])]


@pytest.mark.parametrize("how", ["fold", "fold_values"])
def test_a_stop_iteration_in_a_fold_is_not_the_end_of_the_data(how: str) -> None:
    def fails(_one: Any, _other: Any) -> Any:
        raise StopIteration

    arguments = (fails,) if how == "fold" else (None, fails)
    with pytest.raises(RuntimeError, match="StopIteration"):
        piped(how, groups(("a", [1, 2])), *arguments)


def test_groups_become_lists() -> None:
    made = piped("lists", groups(("a", [1, 2]), ("b", [None])))
    assert made == [("a", [1, 2]), ("b", [None])]
    assert all(type(values) is list for _, values in made)


def test_groups_side_by_side_become_lists() -> None:
    streams = tuple(
        iter(side)
        for side in (groups(("a", [1, 2]), ("b", [3])), groups(("b", [4]), ("c", [5])), groups(("c", [6, 7])))
    )
    made = list(PIPES["cogroup"](Task(), Call("cogroup", inputs=3), streams))
    assert made == [("a", ([1, 2], [], [])), ("b", ([3], [4], [])), ("c", ([], [5], [6, 7]))]


def hot(count: int, alive: list[bool]) -> Iterator[tuple[str, Iterator[str]]]:
    """A group that is too large to be held, and another one; as the engine does, the first one's values end then."""

    def values() -> Iterator[str]:
        for number in range(count):
            assert alive[0], "values were asked for after the next group"
            yield f"{number:0100}"

    yield "hot", values()
    alive[0] = False
    yield "small", iter(["x"])


@pytest.mark.parametrize("how", ["lists", "cogroup"])
def test_a_hot_group_streams_and_can_still_be_read_later(how: str, tmp_path: Path) -> None:
    task = Task()
    task.scratch = tmp_path
    count = 250_000
    streams = (hot(count, [True]), iter(groups(("later", [0]))))[: 1 if how == "lists" else 2]
    made = PIPES[how](task, Call(how, inputs=len(streams)), streams)
    key, found = next(made)
    values = found if how == "lists" else found[0]
    assert key == "hot" and type(values) is StreamedValues
    assert next(made)[0] == ("small" if how == "lists" else "later")
    assert sum(map(int, values)) == sum(range(count))
    assert len(values) == count


@given(st.sampled_from(["", "a", 0, 5, -1, 2**70, b"", b"a"]))
def test_an_element_of_a_plain_type_is_given_back_by_any_key_that_is_equal(element: Any) -> None:
    others: list[Any] = [element]
    if isinstance(element, str):
        others.append(Text(element))
    elif isinstance(element, int):
        others += [Decimal(element), float(element), *([bool(element)] if element in (0, 1) else [])]
    for key in others:
        assert itself(key) == element
        assert type(itself(key)) is type(element)


def test_elements_travel_as_keys() -> None:
    assert piped("alone", ["a", 1]) == [("a", None), (1, None)]
    assert piped("with_itself", ["a", 1, 1.0, True, None]) == [
        ("a", None), (1, None), (1.0, 1.0), (True, True), (None, None)
    ]  # fmt: skip
    assert piped("group_keys", groups(("a", [1, 2]), ("b", [None]))) == ["a", "b"]
