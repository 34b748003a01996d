"""Keys: one encoding for what Python calls equal, in one order, with one hash."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.errors import KeyTypeRefused
from gristmill.records.keys import check_key, encode_key, stable_hash


class Colour(Enum):
    RED = 1
    BLUE = 2


class Level(IntEnum):
    LOW = 1


class Unit(StrEnum):
    METRE = "m"


@dataclass(frozen=True)
class Point:
    x: int
    y: str


numbers = st.one_of(
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.floats(allow_nan=False),
    st.sampled_from([0.0, -0.0, 0.1, 0.5, 1.0, 1e300, 5e-324, math.inf, -math.inf, 2.0**53, 2**53 + 1]),
    st.decimals(allow_nan=False),
    st.sampled_from([Decimal("0.1"), Decimal("1.0"), Decimal("1E+2"), Decimal("-0"), 10**400, Level.LOW]),
)
texts = st.one_of(st.text(), st.text("ab\x00\xff\udc80é\U0001f600", max_size=4), st.just(Unit.METRE))
atoms = st.one_of(
    st.none(), numbers, texts, st.binary(max_size=4), st.dates(), st.datetimes(),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])),
    st.uuids(), st.sampled_from(Colour), st.builds(Point, st.integers(-2, 2), st.text(max_size=2)),
)  # fmt: skip
keys = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)


@given(keys, keys)
def test_encodings_are_equal_if_and_only_if_python_says_so(a: object, b: object) -> None:
    assert (encode_key(a) == encode_key(b)) == (a == b)


@given(keys, keys)
def test_equal_keys_have_one_hash(a: object, b: object) -> None:
    if a == b:
        assert stable_hash(a) == stable_hash(b)


@given(numbers, numbers)
def test_numbers_are_in_their_own_order(a: float, b: float) -> None:
    assert (encode_key(a) < encode_key(b)) == (a < b)


@given(st.text("ab\x00\xff\udc80é\U0001f600", max_size=5), st.text("ab\x00\xff\udc80é\U0001f600", max_size=5))
def test_texts_are_in_pythons_order(a: str, b: str) -> None:
    assert (encode_key(a) < encode_key(b)) == (a < b)


@given(st.lists(st.tuples(st.integers(-5, 5), st.text("a\x00b", max_size=3)), min_size=2, max_size=5))
def test_tuples_of_one_shape_are_in_pythons_order(rows: list[tuple[int, str]]) -> None:
    assert sorted(rows) == sorted(rows, key=encode_key)


@given(st.lists(st.integers(0, 3), max_size=4).map(tuple), st.lists(st.integers(0, 3), max_size=4).map(tuple))
def test_a_tuple_comes_before_its_extensions(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    assert (encode_key(a) < encode_key(b)) == (a < b)


@given(st.datetimes(), st.datetimes())
def test_datetimes_are_in_order(a: datetime, b: datetime) -> None:
    assert (encode_key(a) < encode_key(b)) == (a < b)


def test_nan_is_equal_to_itself_and_last_among_numbers() -> None:
    assert encode_key(math.nan) == encode_key(float("nan")) == encode_key(Decimal("NaN"))
    assert encode_key(math.inf) < encode_key(math.nan) < encode_key("")


def test_kinds_come_in_one_order() -> None:
    in_order = [
        None, -1, True, "a", b"a", date(2020, 1, 1), datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC),
        UUID(int=0), Colour.BLUE, (), Point(0, ""),
    ]  # fmt: skip
    assert sorted(in_order, key=encode_key) == in_order


def test_instants_are_equal_across_time_zones() -> None:
    noon = datetime(2020, 6, 1, 12, tzinfo=UTC)
    assert encode_key(noon) == encode_key(noon.astimezone(timezone(timedelta(hours=9))))


@pytest.mark.parametrize(
    ("key", "name"),
    [(frozenset(), "frozenset"), (1j, "complex"), ((1, object()), "object"), ([1], "list"), ({}, "dict")],
)
def test_other_types_are_refused_by_name(key: object, name: str) -> None:
    for refuse in (encode_key, check_key):
        with pytest.raises(KeyTypeRefused, match=name) as refused:
            refuse(key)
        assert "tuples and frozen dataclasses" in refused.value.report.advice


@given(keys)
def test_what_is_checked_can_be_encoded(key: object) -> None:
    check_key(key)
    encode_key(key)


def test_the_hash_is_the_same_in_every_process() -> None:
    code = "from gristmill.records.keys import stable_hash as h; print(h('word'), h(('a', 1)), h(1.0), h(None))"
    environments = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    runs = {
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
        for env in environments
    }
    assert len(runs) == 1
    here = " ".join(str(stable_hash(key)) for key in ("word", ("a", 1), True, None))
    assert runs == {here + "\n"}
