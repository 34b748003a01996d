"""What each method of a dataset means, in plain Python: the oracle of the contract suite.

A :class:`Model` has a dataset's methods, and holds the elements of each partition in a list. It knows how much of what
it holds is promised:

- ``ordered``: the order of the elements. It is (file, offset), and (partition, key) after an exchange whose number of
  partitions was given; the values of a key come in the order that they had before. Not promised is the order after a
  repartition, after joins (which may do without an exchange), and after an exchange whose partitions follow from the
  size of the input.
- ``placed``: which partition an element lies in.
- ``typed``: which of several equal keys (1, 1.0, True) is shown: the first one, where there is an order.
- ``lies``: in how many partitions pairs lie by their keys, if they do: in so many they stay, unless told otherwise.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import reduce
from itertools import chain, pairwise
from types import SimpleNamespace
from typing import Any

from dataset_values import Parts

from gristmill.records.keys import encode_key, stable_hash

Groups = list[list[tuple[Any, list[Any]]]]


class Model:
    """See the module."""

    def __init__(
        self,
        parts: Parts,
        *,
        ordered: bool = True,
        placed: bool = True,
        typed: bool = True,
        lies: int | None = None,
    ) -> None:
        self.parts = parts
        self.ordered = ordered
        self.placed = placed and ordered
        self.typed = typed
        self.lies = lies

    @property
    def rows(self) -> list[Any]:
        """All elements."""
        return list(chain.from_iterable(self.parts))

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def _like(self, parts: Parts) -> Model:
        return Model(parts, ordered=self.ordered, placed=self.placed, typed=self.typed)

    def _lying(self, made: Model) -> Model:
        """Made of this one's pairs, which kept their keys."""
        made.lies = self.lies
        return made

    # One element, or one partition, at a time

    def map(self, function: Callable[[Any], Any]) -> Model:
        return self._like([[function(row) for row in part] for part in self.parts])

    def flat_map(self, function: Callable[[Any], Iterable[Any]]) -> Model:
        return self._like([[made for row in part for made in function(row)] for part in self.parts])

    def filter(self, function: Callable[[Any], Any]) -> Model:
        return self._lying(self._like([[row for row in part if function(row)] for part in self.parts]))

    def map_partitions(self, function: Callable[[Iterator[Any]], Iterable[Any]]) -> Model:
        return self._like([list(function(iter(part))) for part in self.parts])

    def glom(self) -> Model:
        return self._like([[list(part)] for part in self.parts])

    def key_by(self, function: Callable[[Any], Any]) -> Model:
        return self.map(lambda row: (function(row), row))

    def map_values(self, function: Callable[[Any], Any]) -> Model:
        return self._lying(self.map(lambda pair: (pair[0], function(pair[1]))))

    def flat_map_values(self, function: Callable[[Any], Iterable[Any]]) -> Model:
        return self._lying(self.flat_map(lambda pair: [(pair[0], made) for made in function(pair[1])]))

    def keys(self) -> Model:
        return self.map(lambda pair: pair[0])

    def values(self) -> Model:
        return self.map(lambda pair: pair[1])

    # Where elements lie

    def union(self, *others: Model) -> Model:
        every = [self, *others]
        parts = [part for each in every for part in each.parts]
        ordered, placed, typed = (all(getattr(each, name) for each in every) for name in ("ordered", "placed", "typed"))
        return Model(parts, ordered=ordered, placed=placed, typed=typed)

    def repartition(self, partitions: int) -> Model:
        return Model([self.rows], ordered=False, typed=self.typed)

    def coalesce(self, partitions: int) -> Model:
        return Model([self.rows], ordered=self.ordered, placed=False, typed=self.typed)

    def zip_with_index(self) -> Model:
        count = iter(range(len(self)))
        return self.map(lambda row: (row, next(count)))

    def zip(self, other: Model) -> Model:
        assert len(self) == len(other)
        others = iter(other.rows)
        made = self.map(lambda row: (row, next(others)))
        return Model(
            made.parts, ordered=self.ordered and other.ordered, placed=self.placed, typed=self.typed and other.typed
        )

    def sample(self, fraction: float, seed: int = 0) -> Model:
        """None, or all: what else is taken is for the dataset to say."""
        assert fraction in (0, 1)
        return self.filter(lambda _: fraction)

    def cache(self) -> Model:
        return self

    def persist(self, *_level: Any, **_how: Any) -> Model:
        return self

    def unpersist(self) -> Model:
        return self

    def checkpoint(self) -> Model:
        return self

    # By key

    def _exchanged(self, partitions: int | None, *more: Model) -> Groups:
        """Groups of tagged values: (key, [(which dataset, value), …]), by (partition, key)."""
        found: dict[bytes, tuple[Any, list[Any]]] = {}
        for tag, model in enumerate((self, *more)):
            for key, value in model.rows:
                found.setdefault(encode_key(key), (key, []))[1].append((tag, value))
        groups: Groups = [[] for _ in range(partitions or 1)]
        for encoded in sorted(found):
            groups[stable_hash(found[encoded][0]) % len(groups)].append(found[encoded])
        return groups

    def _by_key(self, function: Callable[[list[Any]], Any], partitions: int | None) -> Model:
        """One element a key: what ``function`` makes of its values."""
        partitions = partitions or self.lies
        groups = self._exchanged(partitions)
        parts = [[(key, function([value for _, value in tagged])) for key, tagged in part] for part in groups]
        known = partitions is not None
        return Model(parts, ordered=known, placed=known, typed=self.typed and self.ordered, lies=partitions)

    def group_by_key(self, partitions: int | None = None) -> Model:
        return self._by_key(list, partitions)

    def group_by(self, function: Callable[[Any], Any], partitions: int | None = None) -> Model:
        return self.key_by(function).group_by_key(partitions)

    def combine_by_key(
        self,
        create: Callable[[Any], Any],
        merge_value: Callable[[Any, Any], Any],
        merge_combiners: Callable[[Any, Any], Any],
        partitions: int | None = None,
    ) -> Model:
        return self._by_key(lambda values: reduce(merge_value, values[1:], create(values[0])), partitions)

    def reduce_by_key(self, function: Callable[[Any, Any], Any], partitions: int | None = None) -> Model:
        return self._by_key(lambda values: reduce(function, values), partitions)

    def fold_by_key(self, zero: Any, function: Callable[[Any, Any], Any], partitions: int | None = None) -> Model:
        return self._by_key(lambda values: reduce(function, values, copy.deepcopy(zero)), partitions)

    def aggregate_by_key(
        self,
        zero: Any,
        add: Callable[[Any, Any], Any],
        merge: Callable[[Any, Any], Any],
        partitions: int | None = None,
    ) -> Model:
        return self.fold_by_key(zero, add, partitions)

    def partition_by(self, partitions: int, function: Callable[..., Any] | None = None) -> Model:
        parts: Parts = [[] for _ in range(partitions)]
        place = stable_hash if function is None else function
        for pair in sorted(self.rows, key=lambda pair: encode_key(pair[0])):
            parts[place(pair[0]) % partitions].append(pair)
        lies = partitions if function is None else None
        return Model(parts, ordered=self.ordered, typed=False, lies=lies)

    def distinct(self, partitions: int | None = None) -> Model:
        return self._flagged()._by_key(len, partitions).keys()

    # Several datasets

    def cogroup(self, *others: Model, partitions: int | None = None) -> Model:
        groups = self._exchanged(partitions, *others)
        tags = range(1 + len(others))
        parts = [
            [(key, tuple([value for tag, value in tagged if tag == each] for each in tags)) for key, tagged in part]
            for part in groups
        ]
        known = partitions is not None
        typed = all(each.ordered and each.typed for each in (self, *others))
        return Model(parts, ordered=known, placed=known, typed=typed, lies=partitions)

    def _flagged(self) -> Model:
        return self.map(lambda row: (row, None))

    def _joined(self, other: Model, pick: Callable[[Any, list[Any], list[Any]], Iterable[Any]]) -> Model:
        rows = [made for key, (left, right) in self.cogroup(other).rows for made in pick(key, left, right)]
        return Model([rows], ordered=False, typed=False)

    def join(self, other: Model, partitions: int | None = None) -> Model:
        return self._joined(other, lambda key, left, right: [(key, (v, w)) for v in left for w in right])

    def left_join(self, other: Model, partitions: int | None = None) -> Model:
        return self._joined(other, lambda key, left, right: [(key, (v, w)) for v in left for w in right or [None]])

    def right_join(self, other: Model, partitions: int | None = None) -> Model:
        return self._joined(other, lambda key, left, right: [(key, (v, w)) for v in left or [None] for w in right])

    def outer_join(self, other: Model, partitions: int | None = None) -> Model:
        return self._joined(
            other, lambda key, left, right: [(key, (v, w)) for v in left or [None] for w in right or [None]]
        )

    def subtract_by_key(self, other: Model, partitions: int | None = None) -> Model:
        return self._joined(other, lambda key, left, right: [] if right else [(key, v) for v in left])

    def _flagged(self) -> Model:
        return self.map(lambda row: (row, None))

    def subtract(self, other: Model, partitions: int | None = None) -> Model:
        both = self.map(lambda row: (row, row)).cogroup(other._flagged(), partitions=partitions)
        made = both.flat_map(lambda group: [] if group[1][1] else group[1][0])
        made.ordered = made.placed = made.ordered and self.ordered  # equal ones come in the order that they had
        return made

    def intersection(self, other: Model, partitions: int | None = None) -> Model:
        both = self._flagged().cogroup(other._flagged(), partitions=partitions)
        return both.filter(lambda group: all(group[1])).keys()

    def cartesian(self, other: Model) -> Model:
        rows = [(left, right) for left in self.rows for right in other.rows]
        ordered = self.ordered and other.ordered
        return Model([rows], ordered=ordered, placed=False, typed=self.typed and other.typed)

    # Order

    def sort_by(self, key: Callable[[Any], Any], descending: bool = False, partitions: int | None = None) -> Model:
        rows = sorted(self.rows, key=lambda row: encode_key(key(row)), reverse=descending)
        return Model([rows], ordered=self.ordered, placed=False, typed=self.typed)

    def sort_by_key(self, descending: bool = False, partitions: int | None = None) -> Model:
        return self.sort_by(lambda pair: pair[0], descending)

    # Actions

    def collect(self) -> list[Any]:
        return self.rows

    def iterate(self) -> Iterator[Any]:
        return iter(self.rows)

    def take(self, count: int) -> list[Any]:
        return self.rows[:count]

    def first(self) -> Any:
        return self.rows[0]

    def is_empty(self) -> bool:
        return not len(self)

    def top(self, count: int, key: Callable[[Any], Any] | None = None) -> list[Any]:
        # reverse=True keeps those that are equal as they were
        return sorted(self.rows, key=key, reverse=True)[:count]  # type: ignore[type-var,arg-type]

    def take_ordered(self, count: int, key: Callable[[Any], Any] | None = None) -> list[Any]:
        return sorted(self.rows, key=key)[:count]  # type: ignore[type-var,arg-type]

    def count(self) -> int:
        return len(self)

    def count_by_key(self) -> dict[Any, int]:
        return dict(self._by_key(len, None).rows)

    def count_by_value(self) -> dict[Any, int]:
        return self._flagged().count_by_key()

    def reduce(self, function: Callable[[Any, Any], Any]) -> Any:
        return reduce(function, self.rows)

    def fold(self, zero: Any, function: Callable[[Any, Any], Any]) -> Any:
        return self.aggregate(zero, function, function)

    def aggregate(self, zero: Any, add: Callable[[Any, Any], Any], merge: Callable[[Any, Any], Any]) -> Any:
        assert self.placed, "it depends on the cut into tasks"
        found = [reduce(add, part, copy.deepcopy(zero)) for part in self.parts]
        return reduce(merge, found, copy.deepcopy(zero))

    def sum(self) -> Any:
        exact = sum(Fraction(row) for row in self.rows)
        return float(exact) if any(isinstance(row, float) for row in self.rows) else int(exact)

    def mean(self) -> float:
        return float(sum(Fraction(row) for row in self.rows) / len(self))

    def min(self, key: Callable[[Any], Any] | None = None) -> Any:
        return min(self.rows, key=key)  # type: ignore[type-var,arg-type]

    def max(self, key: Callable[[Any], Any] | None = None) -> Any:
        return max(self.rows, key=key)  # type: ignore[type-var,arg-type]

    def stats(self) -> Any:
        mean = sum(map(Fraction, self.rows)) / len(self)
        variance = float(sum((Fraction(row) - mean) ** 2 for row in self.rows) / len(self))
        return SimpleNamespace(
            count=len(self), sum=self.sum(), mean=float(mean), variance=variance, stdev=math.sqrt(variance),
            min=self.min(), max=self.max(),
        )  # fmt: skip

    def histogram(self, bounds: Sequence[Any]) -> tuple[list[Any], list[int]]:
        """For bounds that are given."""
        last = len(bounds) - 2
        counts = [
            sum(low <= row < high or (place == last and row == high) for row in self.rows)
            for place, (low, high) in enumerate(pairwise(bounds))
        ]
        return list(bounds), counts
