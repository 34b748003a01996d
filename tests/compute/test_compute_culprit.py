"""The record and the yield that gave what cannot be taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gristmill.compute.culprit import check_pair, find_culprit
from gristmill.errors import KeyTypeRefused, UserCodeError


def mapper(key: Any, line: str) -> Iterator[Any]:
    yield line, 1
    if line == "triple":
        yield line, 1, 2
    if line == "set":
        yield ("a", {line}), 1


def test_the_record_and_the_line_are_found() -> None:
    found = find_culprit(mapper, None, ["fine", "also fine", "triple", "set"], shuffled=True)
    assert found is not None
    index, error, frame = found
    assert index == 2 and isinstance(error, UserCodeError)
    assert frame is not None
    assert frame.source == "yield line, 1, 2"


def test_a_refused_key_counts_only_if_it_is_shuffled() -> None:
    found = find_culprit(mapper, None, ["fine", "set"], shuffled=True)
    assert found is not None
    assert (found[0], type(found[1])) == (1, KeyTypeRefused)
    assert find_culprit(mapper, None, ["fine", "set"], shuffled=False) is None


def test_what_is_no_iterable_is_named() -> None:
    found = find_culprit(lambda key, value: 5 if value else None, None, [0, 1], shuffled=True)
    assert found is not None
    assert found[0] == 1
    assert "this one returned 5" in str(found[1])


def test_a_mapper_that_raises_first_has_no_culprit() -> None:
    assert find_culprit(lambda key, value: 1 // value, None, [0], shuffled=True) is None


@pytest.mark.parametrize("key", [[1], {}, {1}, (1, [2])])
def test_keys_that_cannot_be_hashed(key: Any) -> None:
    with pytest.raises(KeyTypeRefused):
        check_pair((key, 1), mapper, "mapper", shuffled=True)
    check_pair((key, 1), mapper, "mapper", shuffled=False)
