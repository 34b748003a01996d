"""Joins of datasets, from the user's side."""

from __future__ import annotations

from collections.abc import Callable
from operator import add
from typing import Any

import pytest
from dataset_kit import session
from dataset_shapes import exchanges

import gristmill as gm
from gristmill.api.datasets.joins import broadcast
from gristmill.records.keys import encode_key

__all__ = ["session"]

LEFT: list[tuple[Any, Any]] = [("b", 1), ("a", 2), (None, 3), ("b", 4), (1, 5), ((1, "x"), 6)]
RIGHT: list[tuple[Any, Any]] = [("b", "p"), ("c", "q"), (None, "r"), ("b", "s"), (True, "t"), ("d", None)]

Side = gm.Dataset[tuple[Any, Any]]
Way = Callable[[Side], Side]

WAYS: dict[str, tuple[Way, Way]] = {
    "both are exchanged": (lambda left: left, lambda right: right),
    "the left one is exchanged": (lambda left: left, lambda right: right.partition_by(3)),
    "the right one is exchanged": (lambda left: left.partition_by(3), lambda right: right),
    "none is exchanged": (lambda left: left.partition_by(3), lambda right: right.partition_by(3)),
    "they lie by a function": (lambda left: left.partition_by(2, key_hash), lambda right: right),
    "the right one is sent whole": (lambda left: left, broadcast),
    "the left one is sent whole": (broadcast, lambda right: right),
}


def key_hash(key: Any) -> int:
    return len(encode_key(key))


@pytest.fixture(params=WAYS)
def sides(request: pytest.FixtureRequest, session: gm.Session) -> tuple[Side, Side]:
    """Two sides to be joined, in several ways."""
    left, right = WAYS[request.param]
    return left(session.from_items(LEFT, partitions=3)), right(session.from_items(RIGHT, partitions=2))


def joined(all_left: bool = False, all_right: bool = False) -> list[Any]:
    pairs: list[Any] = []
    for key, value in LEFT:
        partners = [other for place, other in RIGHT if place == key]
        pairs += [(key, (value, partner)) for partner in partners or ([None] if all_left else [])]
    keys = [key for key, _ in LEFT]
    return pairs + [(key, (None, value)) for key, value in RIGHT if all_right and key not in keys]


def in_order(pairs: list[Any]) -> list[str]:
    return sorted(map(repr, pairs))


def test_joins(sides: tuple[Side, Side]) -> None:
    left, right = sides
    assert in_order(left.join(right).collect()) == in_order(joined())
    assert in_order(left.left_join(right).collect()) == in_order(joined(all_left=True))
    assert in_order(left.right_join(right).collect()) == in_order(joined(all_right=True))
    assert in_order(left.outer_join(right).collect()) == in_order(joined(True, True))
    lacking = [pair for pair in LEFT if pair[0] not in [key for key, _ in RIGHT]]
    assert in_order(left.subtract_by_key(right).collect()) == in_order(lacking)


def test_what_two_sides_have_of_each_key(sides: tuple[Side, Side]) -> None:
    left, right = sides
    made = left.cogroup(right).collect()
    keys = {encode_key(key): key for key, _ in reversed(LEFT + RIGHT)}
    assert in_order(made) == in_order(
        [(key, ([v for k, v in LEFT if k == key], [v for k, v in RIGHT if k == key])) for key in keys.values()]
    )


def test_cogroup_takes_any_number_of_sides(session: gm.Session) -> None:
    one, two, three = (session.from_items([(key, n) for key in keys]) for n, keys in enumerate(["ab", "bc", "bb"]))
    made = one.cogroup(two, three, partitions=1).collect()
    assert made == [("a", ([0], [], [])), ("b", ([0], [1], [2, 2])), ("c", ([], [1], []))]
    with pytest.raises(gm.UsageError, match="at least one other"):
        one.cogroup()


def test_a_dataset_is_joined_with_itself(session: gm.Session) -> None:
    pairs = session.from_items([("a", 1), ("a", 2), ("b", 3)], partitions=2)
    model = [("a", (1, 1)), ("a", (1, 2)), ("a", (2, 1)), ("a", (2, 2)), ("b", (3, 3))]
    for dataset in (pairs, pairs.partition_by(2)):
        assert sorted(dataset.join(dataset).collect()) == model
        assert sorted(dataset.join(broadcast(dataset)).collect()) == model


def test_exchanges_are_left_out_where_pairs_lie_by_their_keys(session: gm.Session) -> None:
    left, right = session.from_items(LEFT), session.from_items(RIGHT)
    lying = left.partition_by(4)
    assert len(exchanges(left.join(right))) == 2
    assert len(exchanges(lying.join(right))) == 2
    assert len(exchanges(lying.join(right.partition_by(4)))) == 2  # both are for lying so
    assert len(exchanges(lying.join(right.partition_by(5)))) == 3
    assert len(exchanges(lying.join(lying.map_values(str)))) == 1
    assert len(exchanges(lying.join(right.partition_by(4, key_hash)))) == 3
    assert len(exchanges(left.join(right).reduce_by_key(add).join(left.join(right)))) == 4
    assert len(exchanges(lying.subtract_by_key(lying.filter(bool)))) == 1
    assert not exchanges(left.join(broadcast(right)))
    assert not exchanges(broadcast(left).right_join(right))
    assert len(exchanges(broadcast(left).left_join(right))) == 2
    assert len(exchanges(broadcast(left).outer_join(broadcast(right)))) == 2
    assert len(exchanges(left.reduce_by_key(add).join(broadcast(right)).reduce_by_key(add))) == 1


def test_default_partitions_of_one_job_are_the_same(session: gm.Session) -> None:
    left, right = session.from_items(LEFT).reduce_by_key(add), session.from_items(RIGHT).group_by_key()
    both = left.join(right)
    assert len(exchanges(both)) == 2
    assert in_order(both.collect()) == in_order([("b", (5, ["p", "s"])), (None, (3, ["r"])), (1, (5, ["t"]))])


def test_rounds_of_joins_like_those_of_a_page_rank(session: gm.Session) -> None:
    edges = [(0, 1), (0, 2), (1, 2), (2, 0), (3, 2)]
    links = session.from_items(edges, partitions=2).group_by_key(partitions=3)
    ranks = links.map_values(lambda _: 1.0)
    for _ in range(3):
        sent = links.join(ranks).flat_map(lambda pair: [(to, pair[1][1] / len(pair[1][0])) for to in pair[1][0]])
        ranks = sent.reduce_by_key(add, partitions=3).map_values(lambda rank: 0.15 + 0.85 * rank)
    assert len(exchanges(ranks)) == 4

    model = dict.fromkeys(range(4), 1.0)
    for _ in range(3):
        received: dict[int, float] = {}
        for start, to in edges:
            if start in model:
                share = model[start] / sum(1 for place, _ in edges if place == start)
                received[to] = received.get(to, 0) + share
        model = {page: 0.15 + 0.85 * rank for page, rank in received.items()}
    assert dict(ranks.collect()) == pytest.approx(model)


def test_every_element_with_every_other(session: gm.Session) -> None:
    numbers, letters = session.range(4, partitions=2), session.from_items(["x", "y"], partitions=2)
    assert numbers.cartesian(letters).collect() == [(n, letter) for n in range(4) for letter in "xy"]
    assert numbers.cartesian(session.from_items([])).collect() == []
    both = numbers.union(numbers)
    assert both.cartesian(letters).count() == 16


def test_datasets_of_different_sessions_are_not_joined(session: gm.Session) -> None:
    with gm.Session(on="inline") as other:
        for method in ("join", "cogroup", "cartesian", "subtract"):
            with pytest.raises(gm.UsageError, match="different sessions"):
                getattr(session.from_items(LEFT), method)(other.from_items(LEFT))
