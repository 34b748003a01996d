"""Datasets for chaos, each with what it must give in plain Python. All in integers: no order of adding matters."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import add
from typing import Any

from gristmill import Dataset, Session

WHOLE = 1_000_000  # a rank of one
PARTS = 6


@dataclass(frozen=True)
class Case:
    """What is run under fire.

    Attributes:
        rows: makes the data from a source of chance and a size.
        run: acts on datasets of a session; the last argument is how long a partition takes at least, in seconds.
        expected: the same in plain Python.
    """

    rows: Callable[[random.Random, int], list[tuple[int, Any]]]
    run: Callable[[Session, list[tuple[int, Any]], float], Any]
    expected: Callable[[list[tuple[int, Any]]], Any]


def slowly(pause: float) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """A function for ``map_partitions`` that takes its time in the middle of a partition."""

    def passed(elements: Iterable[Any]) -> Iterator[Any]:
        for number, element in enumerate(elements):
            if number == 10:
                time.sleep(pause)
            yield element

    return passed


# A cached iterative job


def links(chance: random.Random, size: int) -> list[tuple[int, int]]:
    """Pages and what they link to; some pages are linked to by very many."""
    pages = max(2, size // 8)
    return [(chance.randrange(pages), min(chance.randrange(pages), chance.randrange(pages))) for _ in range(size)]


def given(joined: tuple[int, tuple[list[int], int]]) -> Iterator[tuple[int, int]]:
    """What a page gives to those that it links to, and nothing to itself."""
    page, (targets, rank) = joined
    yield page, 0
    for target in targets:
        yield target, rank * 85 // (100 * len(targets))


def ranks(level: str, rounds: int = 4) -> Callable[[Session, list[tuple[int, int]], float], Any]:
    """PageRank, with an action in each round, over links that are kept at a level."""

    def run(session: Session, rows: list[tuple[int, int]], pause: float) -> Any:
        kept = session.from_items(rows, partitions=PARTS).map_partitions(slowly(pause)).group_by_key().persist(level)
        ranked: Dataset[tuple[int, int]] = kept.map_values(lambda _: WHOLE)
        for _ in range(rounds):
            shares = kept.join(ranked).flat_map(given).map_partitions(slowly(pause / 2))
            before, ranked = ranked, shares.reduce_by_key(add).map_values(lambda share: share + 150_000).persist(level)
            ranked.count()
            before.unpersist()
        return sorted(ranked.collect())

    return run


def ranks_expected(rows: list[tuple[int, int]], rounds: int = 4) -> Any:
    """See :func:`ranks`."""
    targets = defaultdict(list)
    for page, target in rows:
        targets[page].append(target)
    ranked = dict.fromkeys(targets, WHOLE)
    for _ in range(rounds):
        shares: dict[int, int] = defaultdict(int)
        for page in targets.keys() & ranked.keys():
            for target, share in given((page, (targets[page], ranked[page]))):
                shares[target] += share
        ranked = {page: share + 150_000 for page, share in shares.items()}
    return sorted(ranked.items())


# A join


def numbers(chance: random.Random, size: int) -> list[tuple[int, int]]:
    """Keys of which one in three is the same, and numbers."""
    return [(chance.choice((0, chance.randrange(size), chance.randrange(50))), at) for at in range(size)]


def joined(session: Session, rows: list[tuple[int, int]], pause: float) -> Any:
    """Rows with the sum of their key, outer: the keys of two have no partner on either side."""
    left = session.from_items(rows, partitions=PARTS).map_partitions(slowly(pause)).filter(lambda row: row[0] != 2)
    right = session.from_items(rows, partitions=PARTS).filter(lambda row: row[0] % 3 != 1)
    sums = right.map_partitions(slowly(pause)).group_by_key().map_values(sum)
    both = left.outer_join(sums).map_partitions(slowly(pause))
    return sorted(both.collect(), key=repr)


def joined_expected(rows: list[tuple[int, int]]) -> Any:
    """See :func:`joined`."""
    sums: dict[int, int] = defaultdict(int)
    for key, number in rows:
        if key % 3 != 1:
            sums[key] += number
    both = [(key, (number, sums.get(key))) for key, number in rows if key != 2]
    both += [(key, (None, sum)) for key, sum in sums.items() if key == 2]  # type: ignore[misc]
    return sorted(both, key=repr)


# A sort


def in_order(session: Session, rows: list[tuple[int, int]], pause: float) -> Any:
    """All rows by key, those of a key as they came."""
    source = session.from_items(rows, partitions=PARTS).map_partitions(slowly(pause))
    return source.sort_by(lambda row: row[0], partitions=PARTS).map_partitions(slowly(pause)).collect()


CASES: dict[str, Case] = {
    "ranks-in-memory": Case(links, ranks("MEMORY"), ranks_expected),
    "ranks-on-disk": Case(links, ranks("DISK"), ranks_expected),
    "join": Case(numbers, joined, joined_expected),
    "sort": Case(numbers, in_order, lambda rows: sorted(rows, key=lambda row: row[0])),
}
