"""What tasks make of their elements for an action, and how that is merged."""

from __future__ import annotations

import math
import operator
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipes_kit import Task, piped

from gristmill.errors import UserCodeError

FLOATS = st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300), max_size=30)


def total(parts: list[list[Any]]) -> Any:
    [(count, result)] = piped("merge_totals", [piped("total", part)[0] for part in parts])
    assert count == sum(map(len, parts))
    return result


def cut(elements: list[Any], edges: list[int]) -> list[list[Any]]:
    bounds = sorted({0, len(elements), *(min(edge, len(elements)) for edge in edges)})
    return [elements[low:high] for low, high in pairwise(bounds)] or [[]]


@given(FLOATS, st.lists(st.integers(0, 30), max_size=4))
def test_the_sum_of_floats_does_not_depend_on_the_cut(floats: list[float], edges: list[int]) -> None:
    assert total(cut(floats, edges)) == math.fsum(floats)


@given(st.lists(st.one_of(st.integers(), st.floats(-1e9, 1e9)), max_size=20), st.lists(st.integers(0, 20), max_size=3))
def test_whole_numbers_among_floats_are_added_exactly(numbers: list[Any], edges: list[int]) -> None:
    exact = sum(map(Fraction, numbers))
    found = total(cut(numbers, edges))
    if any(isinstance(number, float) for number in numbers):
        assert found == exact.numerator / exact.denominator
    else:
        assert found == exact and isinstance(found, int)


def test_many_floats_are_added_exactly() -> None:
    floats = [(-1) ** n * 10.0 ** (n % 40) / 3 for n in range(20_001)]
    assert total([floats[:7], floats[7:9000], floats[9000:]]) == math.fsum(floats)


def test_sums_of_what_is_no_plain_number() -> None:
    assert total([[Decimal("1.1")], [Decimal("2.2"), 3]]) == Decimal("6.3")
    assert total([[Fraction(1, 3)], [Fraction(2, 3)]]) == 1
    assert total([[True], [True, 2]]) == 4
    assert total([[], []]) == 0
    assert total([[[1], [2]], [[3]]]) == [1, 2, 3]


def test_infinities_and_nan_come_out_as_python_adds_them() -> None:
    assert total([[math.inf], [1.0]]) == math.inf
    assert total([[1.0, -math.inf]]) == -math.inf
    assert math.isnan(total([[math.inf], [-math.inf]]))
    assert math.isnan(total([[math.inf, -math.inf]]))
    assert math.isnan(total([[1.0], [math.nan, 2]]))
    assert total([[1e308, 1e308]]) == math.inf
    assert total([[1e308], [1e308]]) == math.inf


@pytest.mark.parametrize("elements", [["a"], [1, None], [1, "a"], [Decimal(1), 1.5], [b"x"]])
def test_what_cannot_be_added_is_named(elements: list[Any]) -> None:
    with pytest.raises(UserCodeError, match=r"total\(\) cannot add up|merge_totals\(\) cannot add up"):
        total([elements])


@settings(max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.lists(st.integers(0, 50), max_size=4))
def test_moments_are_those_of_all_numbers(numbers: list[float], edges: list[int]) -> None:
    parts = [piped("spread_of", part)[0] for part in cut(numbers, edges)]
    [(count, added, mean, squares, low, high)] = piped("merge_spreads", parts)
    exact = [Fraction(number) for number in numbers]
    true_mean = sum(exact) / len(exact)
    assert (count, added, low, high) == (len(numbers), math.fsum(numbers), min(numbers), max(numbers))
    scale = max(map(abs, numbers))
    assert mean == pytest.approx(float(true_mean), rel=1e-12, abs=scale * 1e-14)
    assert squares == pytest.approx(float(sum((x - true_mean) ** 2 for x in exact)), rel=1e-9, abs=scale**2 * 1e-12)


def test_the_variance_of_large_numbers_that_lie_close_is_not_lost() -> None:
    parts = [piped("spread_of", [1e9 + n for n in part])[0] for part in ([4, 7], [13, 16])]
    [(_, _, mean, squares, _, _)] = piped("merge_spreads", parts)
    assert (mean, squares) == (1e9 + 10, 90.0)


def test_parts_without_elements_give_nothing_to_reduce() -> None:
    assert piped("reduce_all", [], operator.add) == []
    assert piped("reduce_all", [1], operator.add) == [1]
    assert piped("reduce_all", ["a", "b", "c"], operator.add) == ["abc"]


def test_each_fold_begins_with_a_copy() -> None:
    zero: list[int] = []

    def add(into: list[int], element: int) -> list[int]:
        into.append(element)
        return into

    assert piped("fold_all", [1, 2], zero, add) == [[1, 2]]
    assert piped("fold_all", [3], zero, add) == [[3]]
    assert zero == []


def test_the_first_of_equals_are_taken() -> None:
    words = ["bb", "a", "cc", "d"]
    assert piped("first_few", words, len, 3) == ["a", "d", "bb"]
    assert piped("last_few", words, len, 3) == ["bb", "cc", "a"]
    assert piped("first_few", [], None, 3) == []


def test_elements_without_an_order_are_named() -> None:
    with pytest.raises(UserCodeError, match="cannot tell which element comes first"):
        piped("first_few", [1, None], None, 1)

    def key(_: Any) -> Any:
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        piped("first_few", [1], key, 1)


def test_buckets_hold_their_lower_bound_and_the_last_its_upper_one() -> None:
    assert piped("histogram", [0, 1, 2, 3, 4, -1, 5, math.nan], (0, 2, 4)) == [[2, 3]]
    assert piped("merge_counts", [[1, 2], [3, 4], [0, 1]]) == [[4, 7]]


def test_a_count_names_its_part() -> None:
    assert piped("count", "abc", task=Task(part=4, task=6)) == [(4, 3)]


def test_functions_that_are_called_for_what_they_do() -> None:
    seen: list[Any] = []
    assert piped("foreach", [1, 2], seen.append) == []
    assert piped("for_each_partition", [3, 4], lambda part: seen.extend(part)) == []
    assert seen == [1, 2, 3, 4]
