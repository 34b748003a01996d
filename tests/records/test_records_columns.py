"""Values: what comes out of a column is what went in, type and all."""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.records.columns import as_pickled, concat_values, decode_values, encode_values


class Pair(NamedTuple):
    a: int
    b: int


plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text("aé\udc80\x00"), st.binary(),
    st.dates(), st.datetimes(),
)  # fmt: skip
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.lists(inner, max_size=2), max_leaves=5
)
few = st.lists(st.sampled_from(["a", "b", "é"]), min_size=64, max_size=80)
one_kind = st.sampled_from(
    [st.integers(), st.text(), st.tuples(st.integers(), st.text()), st.none() | st.floats(allow_nan=False)]
)


def typed(value: object) -> object:
    return (type(value), [typed(item) for item in value]) if isinstance(value, (tuple, list)) else (type(value), value)


@given(st.lists(values) | one_kind.flatmap(st.lists) | few)
def test_round_trip(items: list[object]) -> None:
    array = encode_values(items)
    for decoded in (decode_values(array), decode_values(as_pickled(array))):
        assert list(map(typed, decoded)) == list(map(typed, items))


@given(one_kind.flatmap(lambda kind: st.lists(kind, min_size=3)))
def test_a_slice_decodes_to_the_slice(items: list[object]) -> None:
    assert decode_values(encode_values(items).slice(1, 2)) == items[1:3]


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        ([1, 2], "int64"), ([1, None], "int64"), (["a"], "string"), ([b"a"], "binary"), ([1.5], "double"),
        ([(1, "a"), (2, "b")], "struct<0: int64, 1: string>"), ([date(2020, 1, 1)], "date32[day]"),
        ([datetime(2020, 1, 1)], "timestamp[us]"), ([1, 1.0], "large_binary"), ([2**80], "large_binary"),
        (["name", "other"] * 50, "dictionary<values=string, indices=int32, ordered=0>"),
        ([Pair(1, 2)], "large_binary"), (["\udc80"], "large_binary"), ([{"a": 1}], "large_binary"),
    ],
)  # fmt: skip
def test_the_plainest_column_is_chosen(items: list[object], kind: str) -> None:
    assert str(encode_values(items).type) == kind


@given(st.lists(few | st.lists(st.text(max_size=2)) | st.lists(st.integers()), min_size=1, max_size=4))
def test_arrays_of_any_types_can_be_joined(parts: list[list[object]]) -> None:
    joined = concat_values([encode_values(part) for part in parts])
    assert decode_values(joined) == [value for part in parts for value in part]


def test_nan_and_the_sign_of_zero_survive() -> None:
    nan, zero = decode_values(encode_values([math.nan, -0.0]))
    assert math.isnan(nan)
    assert math.copysign(1, zero) == -1


def test_values_of_a_class_known_by_value_only() -> None:
    class Local:
        def __init__(self, n: int) -> None:
            self.n = n

    (back,) = decode_values(encode_values([Local(3)]))
    assert back.n == 3
