"""Keys by ranges, and keys in descending order."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.compute import collect, combine
from gristmill.compute.collect import Collector
from gristmill.compute.combine import fan_in
from gristmill.compute.group import groups
from gristmill.compute.ranges import bounds_of
from gristmill.errors import KeyTypeRefused
from gristmill.records.keys import encode_descending, encode_key
from gristmill.shuffle.blocks import read_segment
from gristmill.shuffle.merge import merge

mixed = st.sampled_from([1, 1.0, True, Decimal(2), -3, 0, -0.5, math.nan, math.inf, 1 << 80]) | st.sampled_from(
    ["a", "a\x00", "a\x00b", "", "\x00", b"", b"\x00", None, (), ("a",), ("a\x00",), (1,), (1, "a")]
)
keys = st.sampled_from(
    [st.integers(-5, 5), st.text("ab\x00é\udc80", max_size=3), st.binary(max_size=3), mixed, st.tuples(mixed, mixed)]
).flatmap(lambda key: st.lists(key, max_size=40))


@given(given_keys=keys, samples=st.integers(0, 40), partitions=st.integers(1, 6), descending=st.booleans())
@settings(max_examples=200)
def test_partitions_follow_one_another_in_order(
    given_keys: list[Any], samples: int, partitions: int, descending: bool
) -> None:
    choose = bounds_of(given_keys[:samples], partitions, descending)
    choose = pickle.loads(pickle.dumps(choose))
    chosen = [choose(key, partitions) for key in sorted(given_keys, key=encode_key, reverse=descending)]
    assert chosen == sorted(chosen)
    assert all(0 <= partition < partitions for partition in chosen)
    by_key = {(encode_key(key), choose(key, partitions)) for key in given_keys}
    assert len(by_key) == len({encoded for encoded, _ in by_key}), "equal keys stay together"
    again = bounds_of(list(reversed(given_keys[:samples])), partitions, descending)
    assert [again(key, partitions) for key in given_keys] == [choose(key, partitions) for key in given_keys]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("kind", [int, str, float])
def test_parts_are_about_even(kind: Any, descending: bool) -> None:
    given_keys = [kind(n * 7919 % 1000) for n in range(1000)]
    choose = bounds_of(given_keys[::3], 4, descending)
    sizes = Counter(choose(key, 4) for key in given_keys)
    assert sorted(sizes) == [0, 1, 2, 3]
    assert max(sizes.values()) < 300


def test_few_different_keys_leave_partitions_empty() -> None:
    choose = bounds_of(["b", "a"] * 10, 5, descending=False)
    assert choose("a", 5) < choose("b", 5)
    assert {choose("c", 5), choose("b", 5)} == {4}
    assert bounds_of([], 3, descending=False)("x", 3) == 0
    assert bounds_of([], 3, descending=True)("x", 3) == 2


def test_a_key_without_order_is_refused() -> None:
    with pytest.raises(KeyTypeRefused, match="set"):
        bounds_of([1, {2}], 2, descending=False)
    with pytest.raises(KeyTypeRefused, match="list"):
        bounds_of([1, 2], 2, descending=False)([3], 2)


@given(given_keys=keys)
def test_descending_encodings_are_the_other_way_around(given_keys: list[Any]) -> None:
    up = sorted(given_keys, key=encode_key)
    down = sorted(given_keys, key=encode_descending, reverse=True)
    assert list(map(encode_key, up)) == list(map(encode_key, down))


@given(tasks=st.lists(keys, min_size=1, max_size=3), small=st.booleans())
@settings(max_examples=80)
def test_descending_blocks_merge_stably(
    tasks: list[list[Any]], small: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("descending")
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(collect, "RUN_BYTES", 1500)
            patch.setattr(collect, "_CHUNK", (3, 3))
            patch.setattr(combine, "FAN_IN", 2)
        samples = [key for some in tasks for key in some][::2]
        choose, blocks = bounds_of(samples, 3, descending=True), []
        for number, some in enumerate(tasks):
            target = folder / f"block-{number}"
            collector = Collector(3, folder / f"{number}", target, None, choose, descending=True)
            collector.consume((key, (number, place)) for place, key in enumerate(some))
            blocks.append(collector.finish())
        result = [pair for partition in range(3) for pair in read(blocks, partition, folder)]
    flat = [(key, (number, place)) for number, some in enumerate(tasks) for place, key in enumerate(some)]
    # Encodings turned around, so that equal keys stay as they came.
    expected = sorted(flat, key=lambda pair: encode_descending(pair[0]))
    assert [value for _, value in result] == [value for _, value in expected]
    assert [encode_key(key) for key, _ in result] == [encode_key(key) for key, _ in expected]


def read(blocks: list[Any], partition: int, folder: Path) -> list[tuple[Any, Any]]:
    merged, numbers, _ = fan_in(blocks, [partition], folder / f"merge-{partition}", None)
    rows = sum(block.segment(numbers[0]).rows for block in merged)
    pieces = merge([read_segment(block, numbers[0]) for block in merged], rows)
    return [(key, value) for key, grouped in groups(pieces) for value in grouped]
