"""Folds, groups and partitions of pairs, from the user's side."""

from __future__ import annotations

import math
from operator import add
from typing import Any

import pytest
from dataset_kit import session
from dataset_shapes import exchanges

import gristmill as gm
from gristmill.records.keys import encode_key, stable_hash

__all__ = ["session"]

PAIRS: list[tuple[Any, Any]] = [("b", 1), ("a", 2), (None, 3), ("b", 4), ((1, "x"), 5), ("a", 6), (1, 7), (True, 8)]


def by_key(pairs: list[tuple[Any, Any]]) -> list[tuple[Any, list[Any]]]:
    """Each key as it came first with its values, in the order of keys."""
    groups: dict[bytes, tuple[Any, list[Any]]] = {}
    for key, value in pairs:
        groups.setdefault(encode_key(key), (key, []))[1].append(value)
    return [groups[key] for key in sorted(groups)]


def in_order(pairs: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    return sorted(pairs, key=lambda pair: encode_key(pair[0]))


GROUPS = by_key(PAIRS)
SUMS = [(key, sum(values)) for key, values in GROUPS]


@pytest.fixture(params=["spread", "together"])
def pairs(request: pytest.FixtureRequest, session: gm.Session) -> gm.Dataset[tuple[Any, Any]]:
    """Pairs that lie anywhere, or by their keys already."""
    made = session.from_items(PAIRS, partitions=3)
    return made if request.param == "spread" else made.partition_by(3)


def test_values_are_folded(pairs: gm.Dataset[tuple[Any, Any]]) -> None:
    assert in_order(pairs.reduce_by_key(add, partitions=2).collect()) == SUMS
    assert in_order(pairs.reduce_by_key(add).collect()) == SUMS
    assert in_order(pairs.fold_by_key(0, add).collect()) == SUMS
    counted = pairs.aggregate_by_key((0, 0), lambda a, v: (a[0] + 1, a[1] + v), lambda a, b: (a[0] + b[0], a[1] + b[1]))
    assert in_order(counted.collect()) == [(key, (len(values), sum(values))) for key, values in GROUPS]
    listed = pairs.combine_by_key(lambda v: [v], lambda a, v: [*a, v], add, partitions=2)
    assert in_order(listed.collect()) == GROUPS


def test_keys_and_values_are_folded_in_order(pairs: gm.Dataset[tuple[Any, Any]]) -> None:
    texts = pairs.map_values(str).reduce_by_key(add, partitions=1)
    assert texts.collect() == [(key, "".join(map(str, values))) for key, values in GROUPS]


def test_a_zero_that_is_changed_is_copied(session: gm.Session) -> None:
    def extend(held: list[int], value: int) -> list[int]:
        held.append(value)
        return held

    pairs = session.from_items([("a", 1), ("b", 2), ("a", 3)], partitions=2)
    made = pairs.aggregate_by_key([], extend, add, partitions=1)
    assert made.collect() == [("a", [1, 3]), ("b", [2])]
    assert pairs.map_values(lambda v: [v]).fold_by_key([], add, partitions=1).collect() == made.collect()


def test_values_are_grouped(pairs: gm.Dataset[tuple[Any, Any]]) -> None:
    assert in_order(pairs.group_by_key().collect()) == GROUPS
    assert pairs.group_by_key(partitions=1).collect() == GROUPS
    by_parity = [(value % 2, (key, value)) for key, value in pairs.collect()]
    assert in_order(pairs.group_by(lambda pair: pair[1] % 2).collect()) == by_key(by_parity)


def test_nan_is_a_key_like_others(session: gm.Session) -> None:
    pairs = session.from_items([(math.nan, 1), (float("nan"), 2), (0.5, 3)], partitions=2)
    for dataset in (pairs, pairs.partition_by(2)):
        assert repr(dataset.reduce_by_key(add, partitions=1).collect()) == "[(0.5, 3), (nan, 3)]"
        assert repr(dataset.group_by_key(partitions=2).collect()) in (
            "[(0.5, [3]), (nan, [1, 2])]",
            "[(nan, [1, 2]), (0.5, [3])]",
        )


def test_the_sides_of_pairs(session: gm.Session) -> None:
    pairs = session.from_items([("b", 1), ("a", 2)])
    assert pairs.keys().collect() == ["b", "a"]
    assert pairs.values().collect() == [1, 2]
    assert pairs.map_values(lambda v: v * 2).collect() == [("b", 2), ("a", 4)]
    assert pairs.flat_map_values(range).collect() == [("b", 0), ("a", 0), ("a", 1)]
    assert session.range(3).key_by(lambda x: x % 2).collect() == [(0, 0), (1, 1), (0, 2)]


def test_pairs_lie_by_the_stable_hash_of_their_keys(session: gm.Session) -> None:
    pairs = session.from_items([(n % 10, n) for n in range(40)], partitions=3)
    parts = pairs.partition_by(4).glom().collect()
    assert [{stable_hash(key) % 4 for key, _ in part} for part in parts] == [{0}, {1}, {2}, {3}]
    assert all([key for key, _ in part] == sorted(key for key, _ in part) for part in parts)
    assert sorted(pair for part in parts for pair in part) == sorted(pairs.collect())


def test_pairs_lie_where_a_function_says(session: gm.Session) -> None:
    pairs = session.from_items([(n, str(n)) for n in range(-3, 5)])
    parts = pairs.partition_by(3, lambda key: key).glom().collect()
    assert [[key for key, _ in part] for part in parts] == [[-3, 0, 3], [-2, 1, 4], [-1, 2]]


def test_a_partition_function_must_give_whole_numbers(session: gm.Session) -> None:
    with pytest.raises(gm.JobFailed, match="'x'"):
        session.from_items([("x", 1)]).partition_by(3, lambda key: key).collect()


def test_what_lies_by_its_keys_needs_no_exchange(session: gm.Session) -> None:
    pairs = session.from_items(PAIRS, partitions=3)
    lying = pairs.partition_by(4)
    assert lying.partition_by(4) is lying
    assert len(exchanges(lying.reduce_by_key(add))) == 1
    assert len(exchanges(lying.map_values(str).filter(bool).reduce_by_key(add).group_by_key())) == 1
    assert len(exchanges(lying.group_by_key(4).flat_map_values(list).fold_by_key(0, add, 4))) == 1
    assert len(exchanges(lying.reduce_by_key(add, 5))) == 2
    assert len(exchanges(lying.map(lambda pair: pair).reduce_by_key(add))) == 2
    assert len(exchanges(lying.union(lying).reduce_by_key(add))) == 2
    assert len(exchanges(lying.partition_by(4, stable_hash))) == 2
    by_function = pairs.partition_by(4, stable_hash)
    assert len(exchanges(by_function.partition_by(4, stable_hash).reduce_by_key(add))) == 1


def test_wrong_arguments_are_refused_at_once(session: gm.Session) -> None:
    pairs = session.from_items(PAIRS)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(gm.UsageError, match="number of partitions"):
            pairs.reduce_by_key(add, wrong)  # type: ignore[arg-type]
    with pytest.raises(gm.UsageError, match=r"combine_by_key\(\) takes a function"):
        pairs.combine_by_key(list, add, None)  # type: ignore[arg-type]
    with pytest.raises(gm.UsageError, match="number of partitions"):
        pairs.partition_by(None)  # type: ignore[arg-type]


def test_a_key_that_is_none_is_refused_by_name(session: gm.Session) -> None:
    with pytest.raises(gm.JobFailed, match="dict"):
        session.from_items([({}, 1)]).reduce_by_key(add).collect()
    with pytest.raises(gm.JobFailed, match="list"):
        session.from_items([([1], 1)]).group_by_key().collect()


def test_a_hot_key_does_not_take_all_memory(session: gm.Session) -> None:
    count = 250_000  # beyond what is held of one key

    def measure(values: Any) -> tuple[str, int, int]:
        return type(values).__name__, sum(map(int, values)), len(values)

    pairs = session.range(count, partitions=2).map(lambda n: ("hot", f"{n:0100}"))
    model = [("hot", ("StreamedValues", sum(range(count)), count))]
    assert pairs.group_by_key(partitions=1).map_values(measure).collect() == model
    assert pairs.partition_by(2).group_by_key().map_values(measure).collect() == model
    [(_, listed)] = pairs.group_by_key().collect()
    assert type(listed) is list and len(listed) == count
