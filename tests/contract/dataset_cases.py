"""The contract of datasets as a table: a case is a chain or an action, said once for datasets and for their model."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any

import dataset_functions as f
from dataset_model import Model
from dataset_values import (
    ANY,
    COUNTED,
    KEYS,
    NUMBERS,
    PAIRS,
    SOME_WHOLE,
    TWO_ANY,
    TWO_KEYS,
    TWO_PAIRS,
    WHOLE,
    WORDS,
    Shape,
    alike,
    exact,
    shown,
)

from gristmill import broadcast

Check = Callable[..., None]


@dataclass(frozen=True)
class Case:
    """One promise.

    Attributes:
        name: for people.
        shape: of the data that it takes.
        run: what is done with the datasets, or with their models; gives a dataset, which is then collected, or a value.
        check: takes what came and the models, if there is no one value that must come.
    """

    name: str
    shape: Shape
    run: Callable[..., Any]
    check: Check | None = None


def assert_same(got: Any, expected: Any) -> None:
    """What came is what a model, or a value, says."""
    if not isinstance(expected, Model):
        form = alike if isinstance(expected, dict) else exact
        assert form(got) == form(expected), f"{got!r}, and not {expected!r}"
        return
    form = exact if expected.typed else alike
    if expected.ordered:
        assert_equal(list(map(form, got)), list(map(form, expected.rows)))
    else:
        assert_equal(shown(got, form), shown(expected.rows, form))


def assert_equal(got: list[Any], expected: list[Any]) -> None:
    """Two lists are equal; if not, where they begin to differ is said."""
    if got == expected:
        return
    both = zip_longest(got, expected, fillvalue="nothing")
    place, (one, other) = next((place, pair) for place, pair in enumerate(both) if pair[0] != pair[1])
    raise AssertionError(f"{len(got)} elements, and should be {len(expected)}; at {place}: {one!r}, not {other!r}")


def _cases() -> Iterator[Case]:
    yield from _narrow()
    yield from _placed()
    yield from _keyed()
    yield from _several()
    yield from _joined()
    yield from _ordered()
    yield from _actions()
    yield from _numbers()


def _narrow() -> Iterator[Case]:
    yield Case("source", ANY, lambda d: d)
    yield Case("map", ANY, lambda d: d.map(lambda value: (value, f.small(value))))
    yield Case("flat_map", ANY, lambda d: d.flat_map(f.twice))
    yield Case("flat_map by a generator", ANY, lambda d: d.flat_map(lambda value: (value for _ in range(2))))
    yield Case("filter", ANY, lambda d: d.filter(f.odd))
    yield Case("filter keeps what is true in any way", ANY, lambda d: d.filter(lambda value: "x" * f.small(value)))
    yield Case("filter none", ANY, lambda d: d.filter(lambda _: None))
    yield Case("map_partitions", ANY, lambda d: d.map_partitions(f.counted))
    yield Case("map_partitions that stops early", ANY, lambda d: d.map_partitions(f.first_two))
    yield Case("map_partitions to a list", ANY, lambda d: d.map_partitions(lambda rows: [len(list(rows))]))
    yield Case("key_by", ANY, lambda d: d.key_by(f.mixed_key))
    yield Case("map_values", PAIRS, lambda d: d.map_values(lambda value: [value]))
    yield Case("flat_map_values", PAIRS, lambda d: d.flat_map_values(f.twice))
    yield Case("keys", PAIRS, lambda d: d.keys())
    yield Case("values", PAIRS, lambda d: d.values())
    yield Case("glom", ANY, lambda d: d.glom())
    yield Case("glom of filtered", ANY, lambda d: d.filter(f.odd).glom())
    yield Case(
        "many narrow ones", PAIRS, lambda d: d.filter(f.odd).map_values(f.twice).values().flat_map(list).map(f.pair)
    )
    yield Case("cache", ANY, lambda d: d.map(f.pair).cache().map(lambda pair: pair[1]))
    for level in ("MEMORY", "MEMORY_AND_DISK", "DISK"):
        yield Case(f"persist {level}", ANY, lambda d, level=level: _twice(d.map(f.pair).persist(level)))
    yield Case("persist compressed", ANY, lambda d: _twice(d.map(f.pair).persist("DISK", compressed=True)))
    yield Case("persist, then unpersist", ANY, lambda d: _twice(d.map(f.pair).persist().unpersist()))
    yield Case("cache of groups", PAIRS, lambda d: _twice(d.group_by_key(3).cache()))
    yield Case("cache of a union", TWO_ANY, lambda d, e: _twice(d.union(e).cache()))
    yield Case("cache of sorted", KEYS, lambda d: _twice(d.sort_by(lambda key: key, partitions=2).cache()))
    yield Case("checkpoint", ANY, lambda d: d.map(f.pair).checkpoint().values())


def _placed() -> Iterator[Case]:
    yield Case("union", TWO_ANY, lambda d, e: d.union(e))
    yield Case("union with itself", ANY, lambda d: d.union(d, d.map(f.pair)))
    yield Case("union, then glom", TWO_ANY, lambda d, e: d.union(e).glom())
    yield Case("union, then map_partitions", TWO_ANY, lambda d, e: d.union(e.filter(f.odd)).map_partitions(f.counted))
    yield Case("union of an exchanged one", TWO_PAIRS, lambda d, e: d.group_by_key(partitions=2).union(e))
    for n in (1, 3):
        yield Case(f"repartition {n}", ANY, lambda d, n=n: d.repartition(n))
        yield Case(f"repartition {n} is even", ANY, lambda d, n=n: d.repartition(n).glom(), _check_even(n))
        yield Case(f"coalesce {n}", ANY, lambda d, n=n: d.coalesce(n))
        yield Case(f"coalesce {n} gives so many", ANY, lambda d, n=n: d.coalesce(n).glom(), _check_parts(n))
    yield Case("coalesce to more", ANY, lambda d: d.coalesce(20))
    yield Case("zip_with_index", ANY, lambda d: d.zip_with_index())
    yield Case("zip_with_index of sorted", KEYS, lambda d: d.sort_by(lambda key: key, partitions=3).zip_with_index())
    yield Case("zip_with_index of a union", TWO_ANY, lambda d, e: d.union(e).zip_with_index())
    yield Case("zip", ANY, lambda d: d.zip(d.map(f.small)))
    yield Case("zip of other cuts", ANY, lambda d: d.zip(d.coalesce(2).map(f.small)))
    yield Case("sample none", ANY, lambda d: d.sample(0.0))
    yield Case("sample all", ANY, lambda d: d.sample(1.0, seed=3))
    yield Case("sample some", ANY, lambda d: d.zip_with_index().sample(0.5, seed=3), _check_part_of_it)
    yield Case(
        "sample with replacement", ANY, lambda d: d.zip_with_index().sample(1.5, 3, with_replacement=True), _check_drawn
    )
    yield Case("pipe", WORDS, lambda d: d.pipe("cat"), _check_lines(lambda line: line))
    yield Case("pipe with arguments", WORDS, lambda d: d.pipe(["sed", "s/a/b a/"]), _check_lines(_with_b))


def _keyed() -> Iterator[Case]:
    for n in (None, 1, 3):
        at = "" if n is None else f" in {n}"
        yield Case(f"reduce_by_key{at}", COUNTED, lambda d, n=n: d.reduce_by_key(f.add, partitions=n))
        yield Case(
            f"reduce_by_key in order{at}", PAIRS, lambda d, n=n: f.lists(d).reduce_by_key(f.together, partitions=n)
        )
        yield Case(f"fold_by_key{at}", COUNTED, lambda d, n=n: d.fold_by_key(0, f.add, partitions=n))
        yield Case(
            f"fold_by_key in order{at}", PAIRS, lambda d, n=n: _tuples(d).fold_by_key((), f.together, partitions=n)
        )
        yield Case(
            f"aggregate_by_key{at}", PAIRS, lambda d, n=n: d.aggregate_by_key([], f.appended, f.extended, partitions=n)
        )
        yield Case(
            f"combine_by_key{at}",
            PAIRS,
            lambda d, n=n: d.combine_by_key(lambda value: [value], f.appended, f.extended, partitions=n),
        )
        yield Case(f"group_by_key{at}", PAIRS, lambda d, n=n: d.group_by_key(partitions=n).map_values(list))
        yield Case(f"group_by{at}", ANY, lambda d, n=n: d.group_by(f.mixed_key, partitions=n).map_values(list))
        yield Case(f"distinct{at}", KEYS, lambda d, n=n: d.distinct(partitions=n))
    yield Case("groups are lists", PAIRS, lambda d: d.group_by_key(partitions=2))
    yield Case(
        "reduce_by_key leaves single values", PAIRS, lambda d: d.reduce_by_key(lambda left, _: left, partitions=2)
    )
    yield Case("reduce_by_key keeps the last", PAIRS, lambda d: d.reduce_by_key(lambda _, right: right, partitions=2))
    yield Case("glom of groups", PAIRS, lambda d: d.group_by_key(partitions=4).glom())
    yield Case("glom of folded", COUNTED, lambda d: d.reduce_by_key(f.add, partitions=4).glom())
    yield Case("partition_by", PAIRS, lambda d: d.partition_by(3))
    yield Case("partition_by, then glom", PAIRS, lambda d: d.partition_by(3).keys().glom(), _check_placed_by_key)
    yield Case(
        "twice by key", PAIRS, lambda d: d.map_values(lambda _: 1).reduce_by_key(f.add, 3).map(_turned).group_by_key(2)
    )
    yield Case(
        "folded again where it lies",
        COUNTED,
        lambda d: d.reduce_by_key(f.add, 3).map_values(f.twice).reduce_by_key(f.together, 3),
    )
    for then in ("map_values", "flat_map_values"):
        yield Case(
            f"{then}: pairs stay where they lie",
            COUNTED,
            lambda d, then=then: getattr(d.partition_by(3), then)(f.twice).group_by_key().map_values(list).glom(),
        )
    yield Case(
        "filter: pairs stay where they lie",
        COUNTED,
        lambda d: d.reduce_by_key(f.add, 3).filter(f.odd).group_by_key().map_values(list).glom(),
    )
    yield Case(
        "cache: pairs stay where they lie",
        COUNTED,
        lambda d: d.reduce_by_key(f.add, 3).cache().group_by_key().map_values(list).glom(),
    )
    yield Case(
        "map: pairs lie by other keys",
        COUNTED,
        lambda d: d.partition_by(3).map(_turned).group_by_key(3).map_values(f.sorted_alike),
    )
    yield Case(
        "keys: they lie by nothing",
        COUNTED,
        lambda d: d.partition_by(3).keys().map(f.pair).group_by_key(3).map_values(f.sorted_alike),
    )
    yield Case("partition_by a function", COUNTED, lambda d: d.partition_by(3, f.small))
    yield Case(
        "partition_by a function, then join", COUNTED, lambda d: d.partition_by(3, f.small).join(d.partition_by(3))
    )
    yield Case(
        "partition_by a function on both sides",
        COUNTED,
        lambda d: d.partition_by(3, f.small).join(d.partition_by(3, f.small)),
    )
    yield Case("partition_by a function, then fold", COUNTED, lambda d: d.partition_by(3, f.small).reduce_by_key(f.add))
    yield Case("partition_by a negative number", COUNTED, lambda d: d.partition_by(3, lambda key: -f.small(key)))
    yield Case("many operations by key", COUNTED, _many_by_key)
    yield Case("filter between two by key", COUNTED, lambda d: d.reduce_by_key(f.add, 3).filter(f.odd).group_by_key(3))


def _several() -> Iterator[Case]:
    for n in (None, 3):
        at = "" if n is None else f" in {n}"
        yield Case(f"cogroup{at}", TWO_PAIRS, lambda d, e, n=n: _plain(d.cogroup(e, partitions=n)))
        yield Case(f"intersection{at}", TWO_KEYS, lambda d, e, n=n: d.intersection(e, partitions=n))
        yield Case(f"subtract{at}", TWO_KEYS, lambda d, e, n=n: d.subtract(e, partitions=n))
        yield Case(f"subtract_by_key{at}", TWO_PAIRS, lambda d, e, n=n: d.subtract_by_key(e, partitions=n))
    yield Case("cogroup of three", TWO_PAIRS, lambda d, e: _plain(d.cogroup(e, d.map_values(f.small), partitions=2)))
    yield Case("cogroup with itself", PAIRS, lambda d: _plain(d.cogroup(d, partitions=2)))
    yield Case("cogroup of partitioned", TWO_PAIRS, lambda d, e: _plain(d.group_by_key(2).cogroup(e.group_by_key(2))))
    yield Case("cartesian", TWO_ANY, lambda d, e: d.cartesian(e))
    yield Case("cartesian with itself", WHOLE, lambda d: d.filter(f.odd).cartesian(d.filter(f.odd)))
    yield Case("intersection with nothing", KEYS, lambda d: d.intersection(d.filter(lambda _: False)))
    yield Case("subtract nothing", KEYS, lambda d: d.subtract(d.filter(lambda _: False)))
    yield Case("subtract all", KEYS, lambda d: d.subtract(d))


def _joined() -> Iterator[Case]:
    for how in ("join", "left_join", "right_join", "outer_join"):
        for n in (None, 3):
            at = "" if n is None else f" in {n}"
            yield Case(f"{how}{at}", TWO_PAIRS, lambda d, e, how=how, n=n: getattr(d, how)(e, partitions=n))
        yield Case(f"{how} with itself", PAIRS, lambda d, how=how: getattr(d, how)(d))
        yield Case(f"{how} with nothing", PAIRS, lambda d, how=how: getattr(d, how)(d.filter(lambda _: False)))
        yield Case(f"{how} of nothing", PAIRS, lambda d, how=how: getattr(d.filter(lambda _: False), how)(d))
        yield Case(
            f"{how} of sides cut alike",
            TWO_PAIRS,
            lambda d, e, how=how: getattr(d.partition_by(3), how)(e.partition_by(3)),
        )
        yield Case(
            f"{how} of sides cut otherwise",
            TWO_PAIRS,
            lambda d, e, how=how: getattr(d.partition_by(3), how)(e.partition_by(2)),
        )
        yield Case(
            f"{how} with a side that is cut", TWO_PAIRS, lambda d, e, how=how: getattr(d, how)(e.partition_by(2))
        )
        yield Case(
            f"{how} of folded sides",
            TWO_PAIRS,
            lambda d, e, how=how: getattr(f.lists(d).reduce_by_key(f.together, 3), how)(e.group_by_key(3)).map_values(
                lambda both: tuple(None if side is None else list(side) for side in both)
            ),
        )
        yield Case(
            f"{how}, then by key",
            TWO_PAIRS,
            lambda d, e, how=how: getattr(d, how)(e).map_values(f.small).reduce_by_key(f.add, 2),
        )
        yield Case(f"{how} with a broadcast", TWO_PAIRS, lambda d, e, how=how: getattr(d, how)(_small(e)))
        yield Case(f"{how} of a broadcast", TWO_PAIRS, lambda d, e, how=how: getattr(_small(d), how)(e))
        yield Case(
            f"{how} of cut sides, then by key",
            TWO_PAIRS,
            lambda d, e, how=how: (
                getattr(d.partition_by(3), how)(e.partition_by(3)).map_values(f.small).reduce_by_key(f.add)
            ),
        )
    yield Case("subtract_by_key of a broadcast", TWO_PAIRS, lambda d, e: d.subtract_by_key(_small(e)))
    yield Case("three joined", TWO_PAIRS, lambda d, e: d.join(e).left_join(d.map_values(f.small)))


def _ordered() -> Iterator[Case]:
    for n in (None, 1, 3):
        at = "" if n is None else f" in {n}"
        for descending in (False, True):
            down = " descending" if descending else ""
            yield Case(
                f"sort_by{down}{at}",
                KEYS,
                lambda d, n=n, r=descending: d.sort_by(lambda key: key, descending=r, partitions=n),
            )
            yield Case(
                f"sort_by is stable{down}{at}",
                ANY,
                lambda d, n=n, r=descending: d.sort_by(f.small, descending=r, partitions=n),
            )
            yield Case(
                f"sort_by_key{down}{at}", PAIRS, lambda d, n=n, r=descending: d.sort_by_key(descending=r, partitions=n)
            )
    yield Case(
        "sort_by of sorted", KEYS, lambda d: d.sort_by(lambda key: key, partitions=2).sort_by(f.small, partitions=3)
    )
    yield Case(
        "sort_by after groups",
        PAIRS,
        lambda d: d.group_by_key(2).map_values(len).sort_by(lambda pair: pair[1], partitions=2),
    )
    yield Case(
        "sort_by, parts", KEYS, lambda d: d.sort_by(lambda key: key, partitions=3).glom(), _check_sorted_parts(3)
    )
    yield Case("sort_by of words", WORDS, lambda d: d.sort_by(lambda word: (len(word), word), descending=True))
    yield Case("sort_by of a union", TWO_KEYS, lambda d, e: d.union(e).sort_by(lambda key: key, partitions=2))


def _actions() -> Iterator[Case]:
    yield Case("iterate", ANY, lambda d: list(d.iterate()))
    yield Case("iterate in part", ANY, lambda d: [row for _, row in zip(range(3), d.iterate(), strict=False)])
    for n in (0, 1, 5, 1000):
        yield Case(f"take {n}", ANY, lambda d, n=n: d.take(n))
        yield Case(f"top {n}", WORDS, lambda d, n=n: d.top(n))
        yield Case(f"take_ordered {n}", WORDS, lambda d, n=n: d.take_ordered(n))
    yield Case("take of filtered", ANY, lambda d: d.filter(f.odd).take(3))
    yield Case("take of groups", PAIRS, lambda d: d.group_by_key(3).map_values(list).take(2))
    yield Case("top by key", ANY, lambda d: d.top(5, key=f.small))
    yield Case("take_ordered by key", ANY, lambda d: d.take_ordered(5, key=f.small))
    yield Case("first", NUMBERS, lambda d: d.first())
    yield Case("is_empty", ANY, lambda d: d.is_empty())
    yield Case("count", ANY, lambda d: d.count())
    yield Case("count of nothing", ANY, lambda d: d.filter(lambda _: False).count())
    yield Case("count of groups", PAIRS, lambda d: d.group_by_key().count())
    yield Case("count_by_key", PAIRS, lambda d: d.count_by_key())
    yield Case("count_by_value", KEYS, lambda d: d.count_by_value())
    yield Case("reduce in order", NUMBERS, lambda d: d.map(lambda value: (value,)).reduce(f.together))
    yield Case("fold in order", ANY, lambda d: d.map(lambda value: (value,)).fold((), f.together))
    yield Case("fold of lists", ANY, lambda d: d.map(lambda value: [value]).fold([], f.extended))
    yield Case("fold with a zero that counts", WHOLE, lambda d: d.fold(10, f.add))
    yield Case("aggregate in order", ANY, lambda d: d.aggregate([], f.appended, f.extended))
    yield Case("collect twice", ANY, lambda d: (d.collect(), d.collect()))


def _numbers() -> Iterator[Case]:
    yield Case("sum", NUMBERS, lambda d: d.sum())
    yield Case("sum of whole numbers", WHOLE, lambda d: d.sum())
    yield Case("mean", NUMBERS, lambda d: d.mean(), _check_close(lambda m: m.mean()))
    yield Case("min", NUMBERS, lambda d: d.min())
    yield Case("max", NUMBERS, lambda d: d.max())
    yield Case("min by key", NUMBERS, lambda d: d.min(key=abs))
    yield Case("max by key", NUMBERS, lambda d: d.max(key=abs))
    yield Case("stats", NUMBERS, lambda d: _figures(d.stats()), _check_close(lambda m: _figures(m.stats())))
    yield Case("count of a union", WHOLE, lambda d: d.union(d.filter(lambda _: False)).count())
    yield Case("histogram of bounds", WHOLE, lambda d: d.histogram([-5, 0, 3, 10]))
    yield Case("histogram of one bucket", WHOLE, lambda d: d.histogram([-5, 5]))
    yield Case("histogram of texts", WORDS, lambda d: d.histogram(["a", "b", "z"]))
    for buckets in (1, 4, 7):
        yield Case(
            f"histogram of {buckets} even buckets", SOME_WHOLE, lambda d, n=buckets: d.histogram(n), _check_histogram
        )


# Parts of cases


def _twice(d: Any) -> tuple[Any, ...]:
    """What is kept, and what others make of what is kept."""
    return d.count(), d.collect(), d.filter(f.odd).collect()


def _tuples(d: Any) -> Any:
    return d.map_values(lambda value: (value,))


def _plain(d: Any) -> Any:
    """Groups of a cogroup as lists, whatever they are."""
    return d.map_values(lambda sides: [list(side) for side in sides])


def _small(d: Any) -> Any:
    """Marked as small; to a model that means nothing."""
    return d if isinstance(d, Model) else broadcast(d)


def _turned(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    return pair[1], pair[0]


def _with_b(line: str) -> str:
    return line.replace("a", "b a", 1)


def _many_by_key(d: Any) -> Any:
    counts = d.reduce_by_key(f.add, partitions=3)
    small = counts.map(lambda pair: (pair[1] % 3, 1)).reduce_by_key(f.add, partitions=2)
    return counts.map(lambda pair: (pair[1] % 3, pair[0])).group_by_key(partitions=2).cogroup(small, partitions=2)


def _figures(stats: Any) -> tuple[Any, ...]:
    return stats.count, stats.sum, stats.mean, stats.variance, stats.stdev, stats.min, stats.max


# Checks


def _check_even(partitions: int) -> Check:
    def check(got: list[list[Any]], d: Model) -> None:
        assert len(got) == partitions
        sizes = list(map(len, got))
        assert max(sizes) - min(sizes) <= len(d.parts)
        assert shown([row for part in got for row in part], exact) == shown(d.rows, exact)

    return check


def _check_parts(partitions: int) -> Check:
    def check(got: list[list[Any]], d: Model) -> None:
        assert len(got) <= partitions
        assert [exact(row) for part in got for row in part] == list(map(exact, d.rows))

    return check


def _check_part_of_it(got: list[Any], d: Model) -> None:
    places = [place for _, place in got]
    assert places == sorted(set(places))
    assert all(exact(row) == exact(d.rows[place]) for row, place in got)


def _check_drawn(got: list[Any], d: Model) -> None:
    places = [place for _, place in got]
    assert places == sorted(places)
    assert all(exact(row) == exact(d.rows[place]) for row, place in got)
    if len(d) >= 40:
        assert len(set(places)) < len(places) <= 3 * len(d)


def _check_lines(change: Callable[[str], str]) -> Check:
    def check(got: list[str], d: Model) -> None:
        assert got == [change(line) for line in d.rows]

    return check


def _check_placed_by_key(got: list[list[Any]], d: Model) -> None:
    assert_same(got, d.map(lambda pair: (pair[0], None)).partition_by(3).keys().glom())


def _check_sorted_parts(partitions: int) -> Check:
    def check(got: list[list[Any]], d: Model) -> None:
        assert len(got) == partitions
        assert_same([key for part in got for key in part], d.sort_by(lambda key: key))
        ends = [(part[0], part[-1]) for part in got if part]
        for (_, end), (begin, _) in pairwise(ends):
            assert alike(end) != alike(begin), "equal keys lie in one partition"

    return check


def _check_close(expected: Callable[[Model], Any]) -> Check:
    def check(got: Any, d: Model) -> None:
        should = expected(d)
        both = zip(got, should, strict=True) if isinstance(should, tuple) else [(got, should)]
        for one, other in both:
            assert math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9), (got, should)

    return check


def _check_histogram(got: tuple[list[Any], list[int]], d: Model) -> None:
    bounds, counts = got
    assert bounds == sorted(bounds)
    assert (bounds[0], bounds[-1]) == (min(d.rows), max(d.rows))
    if len(counts) == 1:
        assert counts == [len(d)]
        return
    places = [min(bisect_right(bounds, row), len(counts)) - 1 for row in d.rows]
    assert counts == [places.count(place) for place in range(len(counts))]


CASES = tuple(_cases())
assert len({case.name for case in CASES}) == len(CASES)
