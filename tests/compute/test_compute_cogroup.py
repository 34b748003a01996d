"""Groups of several streams by key, against dicts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.compute.cogroup import cogroup
from gristmill.compute.group import Group
from gristmill.records.keys import encode_key

key_sets = st.sampled_from(
    [
        st.integers(-4, 4),
        st.text("ab\x00é\udc80", max_size=2),
        st.binary(max_size=2),
        st.sampled_from([1, 1.0, True, Decimal(2), 2, "1", "2", b"1", None, math.nan, (1, "a"), (1.0, "a"), 0.5]),
    ]
)
sides = key_sets.flatmap(lambda key: st.lists(st.dictionaries(key, st.lists(st.integers()), max_size=6), max_size=4))


def stream(side: dict[Any, list[int]]) -> Iterator[Group]:
    """Groups in order. Whatever is read of one after the next was asked for is wrong."""
    for key in {encode_key(key): key for key in sorted(side, key=encode_key)}.values():
        alive = [True]

        def values(key: Any = key, alive: list[bool] = alive) -> Iterator[int]:
            for value in side[key]:
                assert alive[0]
                yield value

        yield key, values()
        alive[0] = False


@given(given_sides=sides)
@settings(max_examples=200)
def test_each_key_comes_once_with_its_values_in_each_stream(given_sides: list[dict[Any, list[int]]]) -> None:
    result = [(key, list(map(list, values))) for key, values in cogroup([stream(side) for side in given_sides])]
    by_key = [{encode_key(key): (key, values) for key, values in side.items()} for side in given_sides]
    encoded = sorted({key for side in by_key for key in side})
    assert [encode_key(key) for key, _ in result] == encoded
    for (key, values), e in zip(result, encoded, strict=True):
        assert values == [side[e][1] if e in side else [] for side in by_key]
        assert repr(key) == repr(next(side[e][0] for side in by_key if e in side))


def test_groups_that_are_not_read_do_not_disturb() -> None:
    left = {n: [n, n] for n in range(0, 10, 2)}
    right = {n: [n] for n in range(0, 10, 3)}
    keys = [key for key, _ in cogroup([stream(left), stream(right)])]
    assert keys == [0, 2, 3, 4, 6, 8, 9]
