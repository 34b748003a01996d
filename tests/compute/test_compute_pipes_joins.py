"""Joins of groups and of broadcast sides, against loops over lists."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipes_kit import Task

import gristmill.compute.pipes.joins as module
from gristmill.compute.pipes import PIPES
from gristmill.compute.values import HELD_BYTES
from gristmill.errors import KeyTypeRefused
from gristmill.plan.functions import Call
from gristmill.records.keys import encode_key

Pairs = list[tuple[Any, Any]]

some_keys = st.sampled_from([1, 1.0, True, 2, "1", None, math.nan, (1, "a"), (1.0, "a"), 0.5])
pair_lists = st.lists(st.tuples(some_keys, st.integers(0, 9)), max_size=8)


def groups(pairs: Pairs) -> Iterator[tuple[Any, Iterator[Any]]]:
    ordered = sorted(pairs, key=lambda pair: encode_key(pair[0]))
    for _, some in groupby(ordered, lambda pair: encode_key(pair[0])):
        same = list(some)
        yield same[0][0], iter([value for _, value in same])


def equal(one: Any, other: Any) -> bool:
    return encode_key(one) == encode_key(other)


def joined(left: Pairs, right: Pairs, all_left: bool, all_right: bool) -> Pairs:
    made: Pairs = []
    for key, value in left:
        partners = [other for place, other in right if equal(place, key)]
        made += [(key, (value, partner)) for partner in partners or ([None] if all_left else [])]
    if all_right:
        made += [(key, (None, value)) for key, value in right if not any(equal(key, place) for place, _ in left)]
    return made


def alike(made: Pairs, model: Pairs) -> bool:
    """Whether the pairs are the same: keys as keys, in any order."""

    def order(pair: tuple[Any, Any]) -> Any:
        return encode_key(pair[0]), repr(pair[1])

    return list(map(order, sorted(made, key=order))) == list(map(order, sorted(model, key=order)))


def run(how: str, *streams: Iterator[Any], arguments: tuple[Any, ...] = (), sides: Sequence[Pairs] = ()) -> Pairs:
    call = Call(how, arguments, len(streams), tuple(range(len(sides))))
    return list(PIPES[how](Task(sides), call, streams))


@given(pair_lists, pair_lists, st.booleans(), st.booleans())
def test_joins_of_groups(left: Pairs, right: Pairs, all_left: bool, all_right: bool) -> None:
    made = run("join", groups(left), groups(right), arguments=(all_left, all_right))
    assert alike(made, joined(left, right, all_left, all_right))
    assert [encode_key(key) for key, _ in made] == sorted(encode_key(key) for key, _ in made)


@given(pair_lists, pair_lists, st.booleans())
def test_joins_with_a_side_that_is_read_whole(left: Pairs, right: Pairs, all_too: bool) -> None:
    made = run("broadcast_join", iter(left), arguments=(all_too,), sides=[right])
    assert repr(made) == repr(joined(left, right, all_too, False))  # in the order of the left side
    made = run("broadcast_join_left", iter(right), arguments=(all_too,), sides=[left])
    assert alike(made, joined(left, right, False, all_too))


@given(pair_lists, pair_lists)
def test_pairs_whose_key_the_other_side_lacks(left: Pairs, right: Pairs) -> None:
    model = [pair for pair in left if not any(equal(pair[0], key) for key, _ in right)]
    assert alike(run("subtract_by_key", groups(left), groups(right)), model)
    assert repr(run("broadcast_subtract", iter(left), sides=[right])) == repr(model)


@given(st.lists(some_keys), st.lists(some_keys))
def test_sets(left: list[Any], right: list[Any]) -> None:
    lefts = groups([(x, None if type(x) in (str, int) else x) for x in left])
    made = run("subtract", lefts, groups([(x, None) for x in right]))
    assert sorted(map(repr, made)) == sorted(repr(x) for x in left if not any(equal(x, y) for y in right))
    made = run("intersection", groups([(x, None) for x in left]), groups([(x, None) for x in right]))
    assert [encode_key(x) for x in made] == sorted({encode_key(x) for x in left} & {encode_key(x) for x in right})


def test_every_element_with_every_other() -> None:
    assert run("cartesian", iter([1, 2]), sides=[[("a", "b")]]) == [(1, ("a", "b")), (2, ("a", "b"))]
    assert run("cartesian", iter([1, 2]), sides=[[]]) == []


def test_a_side_of_a_product_that_is_too_large_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WHOLE_BYTES", 1000)
    side: Any = list(range(10_000))
    assert module.list_of_few(x for x in side) is None
    made = list(PIPES["cartesian"](Generators([side]), Call("cartesian", sides=(0,)), (iter("ab"),)))
    assert made == [(letter, number) for letter in "ab" for number in side]


class Generators(Task):
    """Sides do not come as lists."""

    def stream(self, side: int) -> Iterator[Any]:
        yield from self._sides[side]


def test_keys_of_a_broadcast_join_must_be_keys() -> None:
    with pytest.raises(KeyTypeRefused, match="list"):
        run("broadcast_join", iter([([1], 2)]), arguments=(False,), sides=[[]])
    with pytest.raises(KeyTypeRefused, match="set"):
        run("broadcast_join", iter([(1, 2)]), arguments=(False,), sides=[[({1}, 2)]])


# A key with more values than may be held

MANY = HELD_BYTES // 2000
SOME = MANY + 20


def hot(count: int, taken: list[int] | None = None) -> Iterator[tuple[str, Iterator[tuple[int, str]]]]:
    def values() -> Iterator[tuple[int, str]]:
        for number in range(count):
            if taken is not None:
                taken[0] = number
            yield number, f"{number:2000}"

    yield "hot", values()


@pytest.mark.parametrize("all_too", [False, True])
@pytest.mark.parametrize("few", [0, 1, 3])
def test_of_a_hot_key_the_smaller_side_is_held(few: int, all_too: bool, tmp_path: Path) -> None:
    partners = [None] if not few and all_too else list(range(few))
    small = iter([("hot", iter(range(few)))] if few else [])
    taken = [0]
    made = run_in(tmp_path, (hot(SOME, taken), small), (all_too, False))
    first = next(made, None)
    assert taken[0] < 100
    assert sum(1 for _ in made) + (first is not None) == SOME * len(partners)

    small = iter([("hot", iter(range(few)))] if few else [])
    made = run_in(tmp_path, (small, hot(SOME, taken)), (False, all_too))
    assert [(key, left, right[0]) for key, (left, right) in made] == [
        ("hot", partner, number) for number in range(SOME) for partner in partners
    ]
    assert not list(tmp_path.iterdir())


def test_of_a_hot_key_on_both_sides_one_goes_to_a_file(tmp_path: Path) -> None:
    made = run_in(tmp_path, (hot(SOME), hot(SOME)), (False, False))
    for left in range(2):
        for right in range(SOME):
            key, pair = next(made)
            assert key == "hot" and (pair[0][0], pair[1][0]) == (left, right)


def run_in(folder: Path, streams: tuple[Iterator[Any], ...], arguments: tuple[bool, bool]) -> Iterator[Any]:
    task = Task()
    task.scratch = folder
    return PIPES["join"](task, Call("join", arguments, 2), streams)
