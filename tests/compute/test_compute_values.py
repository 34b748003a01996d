"""Values that are too many for memory, against lists."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from gristmill.compute.values import HELD_BYTES, StreamedValues, held_or_streamed, take_held


def streamed(count: int, folder: Path, head: int = 3) -> StreamedValues[int]:
    return StreamedValues(list(range(head)), iter(range(head, count)), folder)


def test_it_can_be_iterated_over_again_and_again(tmp_path: Path) -> None:
    values = streamed(10_000, tmp_path / "made" / "when needed")
    assert sum(values) == sum(range(10_000))
    assert list(values) == list(range(10_000))
    assert len(values) == 10_000


def test_iterators_do_not_disturb_each_other(tmp_path: Path) -> None:
    values = streamed(5000, tmp_path)
    one, other = iter(values), iter(values)
    assert list(islice(one, 100)) == list(range(100))
    assert list(islice(other, 3000)) == list(range(3000))
    assert list(one) == list(range(100, 5000))
    assert list(other) == list(range(3000, 5000))


def test_its_length_is_known_before_it_was_read(tmp_path: Path) -> None:
    assert len(streamed(5000, tmp_path)) == 5000
    assert len(streamed(3, tmp_path)) == 3


def test_it_is_a_sequence(tmp_path: Path) -> None:
    values, model = streamed(9000, tmp_path), list(range(9000))
    for place in (0, 2, 3, 500, 8999, -1, -9000):
        assert values[place] == model[place]
    for place in (9000, -9001):
        with pytest.raises(IndexError, match="9000 values"):
            values[place]
    assert values[8990:] == model[8990:]
    assert values[::-1000] == model[::-1000]
    assert list(islice(reversed(values), 3)) == [8999, 8998, 8997]
    assert 8000 in values and 9000 not in values
    assert values.index(4000) == 4000


def test_pickled_it_becomes_a_list(tmp_path: Path) -> None:
    assert pickle.loads(pickle.dumps(streamed(5000, tmp_path))) == list(range(5000))


def test_what_lists_can_and_it_cannot_is_said(tmp_path: Path) -> None:
    values: Any = streamed(10, tmp_path)
    with pytest.raises(AttributeError, match=r"cannot sort\(\); list\(values\) makes a list"):
        values.sort()
    with pytest.raises(AttributeError, match="no attribute 'sum'"):
        _ = values.sum
    assert repr(values) == "<StreamedValues: 0, 1, 2, …>"


def test_its_file_goes_with_it(tmp_path: Path) -> None:
    values = streamed(10_000, tmp_path)
    assert len(values) == 10_000
    file = values._file
    assert not list(tmp_path.iterdir())  # it has no name
    del values
    assert file.closed


def test_few_values_are_held() -> None:
    assert take_held(iter([])) == ([], None)
    assert take_held(iter(range(15))) == (list(range(15)), None)
    assert take_held(x for x in range(16)) == (list(range(16)), None)
    assert take_held(x for x in range(100_000)) == (list(range(100_000)), None)


@pytest.mark.parametrize("size", [1, 1000, 500_000])
def test_of_many_values_a_bounded_part_is_held(size: int) -> None:
    limit = 1_000_000

    def values() -> Iterator[bytes]:
        for number in range(limit):
            yield number.to_bytes(4) * (size // 4 + 1)

    held, rest = take_held(values(), limit)
    assert rest is not None
    assert limit / 4 <= sum(map(len, held)) + 100 * len(held) <= 16 * 500_000 + 2 * limit
    assert int.from_bytes(next(rest)[:4]) == len(held)
    assert int.from_bytes(next(rest)[:4]) == len(held) + 1


def test_the_bound_lies_exactly_between_two_values() -> None:
    held, rest = take_held(iter(range(16)), 1)
    assert (held, rest) == (list(range(16)), None)
    held, rest = take_held((x for x in range(17)), 1)
    assert rest is not None
    assert (held, list(rest)) == (list(range(16)), [16])


def test_what_is_held_or_not_looks_the_same(tmp_path: Path) -> None:
    few = held_or_streamed((x for x in range(1000)), tmp_path)
    many = held_or_streamed((str(x) * 100 for x in range(200_000)), tmp_path)
    assert type(few) is list and type(many) is StreamedValues
    assert sum(len(x) for x in many[:-1]) > HELD_BYTES
