"""Transformations of (key, value) pairs. Those that fold a key's values are all built on ``combine_by_key``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gristmill.api.datasets.base import Elements, K, Partitioned, T, T_co, U, V, checked_partitions
from gristmill.api.datasets.grouping import KeyPartitioner, grouped, lies_as, target_of
from gristmill.api.datasets.narrow import checked
from gristmill.errors import UsageError
from gristmill.plan.functions import Fold

if TYPE_CHECKING:
    from gristmill.api.datasets.dataset import Dataset

_NEVER_CHANGED = frozenset((int, float, complex, str, bytes, bool, type(None)))


@dataclass(frozen=True)
class _Begun:
    """The fold of a first value, from a zero of its own: the function may change it."""

    zero: Any
    function: Callable[[Any, Any], Any]

    def __call__(self, value: Any) -> Any:
        zero = self.zero
        return self.function(zero if type(zero) in _NEVER_CHANGED else copy.deepcopy(zero), value)


class Keyed(Elements[T_co]):
    """See :class:`~gristmill.api.datasets.dataset.Dataset`.

    Keys may be None, bool, int, float, str, bytes, Decimal, date, datetime, UUID, Enum, and tuples and frozen
    dataclasses of these. Those that Python calls equal (1, 1.0, True) are one key, shown as the first of them.

    Args of most methods here:
        partitions: in how many parts the result lies, and so how many tasks work on it. By default as many as the pairs
            lie in already, if they lie by their keys; else it follows from the size of the input.
    """

    def key_by(self, function: Callable[[T_co], U]) -> Dataset[tuple[U, T_co]]:
        """Pairs of what ``function`` makes of an element, and the element. The order stays."""
        return self._pipe("key_by", checked(function, "key_by"))

    def keys(self: Elements[tuple[K, Any]]) -> Dataset[K]:
        """The key of each pair. The order stays."""
        return self._pipe("keys")

    def values(self: Elements[tuple[Any, V]]) -> Dataset[V]:
        """The value of each pair. The order stays."""
        return self._pipe("values")

    def map_values(self: Elements[tuple[K, V]], function: Callable[[V], U]) -> Dataset[tuple[K, U]]:
        """The same keys, each with what ``function`` makes of its value. The order stays, and where pairs lie."""
        return self._pipe("map_values", checked(function, "map_values"), keeps_keys=True)

    def flat_map_values(self: Elements[tuple[K, V]], function: Callable[[V], Iterable[U]]) -> Dataset[tuple[K, U]]:
        """Each key with every element of what ``function`` makes of its value. The order stays, and where pairs lie."""
        return self._pipe("flat_map_values", checked(function, "flat_map_values"), keeps_keys=True)

    def reduce_by_key(
        self: Elements[tuple[K, V]], function: Callable[[V, V], V], partitions: int | None = None
    ) -> Dataset[tuple[K, V]]:
        """Each key once, with all its values made one: ``function`` makes one of two, again and again.

        It is called where the values are as well as after they were brought together, so it must be associative:
        ``f(f(a, b), c) == f(a, f(b, c))``. The values come to it in their order. ::

            words.map(lambda word: (word, 1)).reduce_by_key(operator.add)

        Args:
            function: takes two values and returns one. A value that is alone is not touched.
            partitions: see :class:`Keyed`.
        """
        return _folded(self, Fold(None, checked(function, "reduce_by_key"), function), partitions)

    def fold_by_key(
        self: Elements[tuple[K, V]], zero: V, function: Callable[[V, V], V], partitions: int | None = None
    ) -> Dataset[tuple[K, V]]:
        """As ``reduce_by_key``, beginning with ``zero``.

        Args:
            zero: must change nothing, such as 0 for a sum: it is used for every part of a key's values.
            function: takes what is folded so far and a value; it may change and return the former.
            partitions: see :class:`Keyed`.
        """
        fold = Fold(_Begun(zero, checked(function, "fold_by_key")), function, function)
        return _folded(self, fold, partitions)

    def aggregate_by_key(
        self: Elements[tuple[K, V]],
        zero: U,
        merge_value: Callable[[U, V], U],
        merge_combiners: Callable[[U, U], U],
        partitions: int | None = None,
    ) -> Dataset[tuple[K, U]]:
        """Each key once, with what its values were gathered into, which may be of another type than they are. ::

            pairs.aggregate_by_key((0, 0.0), lambda a, x: (a[0] + 1, a[1] + x), lambda a, b: (a[0] + b[0], a[1] + b[1]))

        Args:
            zero: what gathering begins with, for every part of a key's values; each has a copy of its own.
            merge_value: takes what is gathered so far and a value; it may change and return the former.
            merge_combiners: makes one of two that were gathered; it may change and return the first.
            partitions: see :class:`Keyed`.
        """
        checked(merge_combiners, "aggregate_by_key")
        fold = Fold(_Begun(zero, checked(merge_value, "aggregate_by_key")), merge_value, merge_combiners)
        return _folded(self, fold, partitions)

    def combine_by_key(
        self: Elements[tuple[K, V]],
        create: Callable[[V], U],
        merge_value: Callable[[U, V], U],
        merge_combiners: Callable[[U, U], U],
        partitions: int | None = None,
    ) -> Dataset[tuple[K, U]]:
        """Each key once, with what its values were gathered into.

        Args:
            create: what the first value of a part of them becomes.
            merge_value: takes what is gathered so far and a value; it may change and return the former.
            merge_combiners: makes one of two that were gathered; it may change and return the first.
            partitions: see :class:`Keyed`.
        """
        for function in (create, merge_value, merge_combiners):
            checked(function, "combine_by_key")
        return _folded(self, Fold(create, merge_value, merge_combiners), partitions)

    def group_by_key(self: Elements[tuple[K, V]], partitions: int | None = None) -> Dataset[tuple[K, Sequence[V]]]:
        """Each key once, with a list of its values in their order.

        To add values up, or to make one of them in another way, ``reduce_by_key`` and its like are much faster: they do
        so before values travel.

        The values of a key that has more of them than 32 MiB come as a sequence that is like a list, but has only the
        first of them in memory and the others in a temporary file. So one hot key does not take all memory, as long as
        the values are iterated over and not brought together: ``pairs.group_by_key().map_values(sum)``.
        """
        return _of_groups(self, "lists", partitions)

    def group_by(
        self: Elements[T], function: Callable[[T], K], partitions: int | None = None
    ) -> Dataset[tuple[K, Sequence[T]]]:
        """What ``function`` makes of elements as keys, each with a list of its elements: see ``group_by_key``."""
        return _of_groups(self._pipe("key_by", checked(function, "group_by")), "lists", partitions)

    def partition_by(
        self: Elements[tuple[K, V]], partitions: int, function: Callable[[K], int] | None = None
    ) -> Dataset[tuple[K, V]]:
        """The same pairs, each in the partition of its key, and there in the order of keys.

        Joins of two datasets that lie alike, and folds, then need no exchange any more. It is worth it for what is kept
        (see ``cache``) and joined more than once.

        Args:
            partitions: how many.
            function: makes a whole number of a key, of which the remainder modulo ``partitions`` is taken; equal keys
                must give the same. By default a hash of the key that is the same on all machines.

        Raises:
            UsageError: ``partitions`` is no positive number.
        """
        partitioner = None if function is None else KeyPartitioner(checked(function, "partition_by"))
        if partitions is None:
            raise UsageError("partition_by() needs a number of partitions.")
        target = Partitioned(checked_partitions(partitions), partitioner, ordered=True)
        if lies_as(self, target):
            return self._dataset
        made = grouped(self, target)._pipe("ungroup", kind=self._kind)
        made._partitioned = target
        return made


def _folded(pairs: Elements[Any], fold: Fold, partitions: int | None) -> Dataset[Any]:
    target = target_of((pairs,), partitions)
    groups = grouped(pairs, target, fold)
    if lies_as(pairs, target):
        made = groups._pipe("fold_values", fold.create, fold.merge_value)
    else:
        made = groups._pipe("fold", fold.merge_combiners)
    made._partitioned = target
    return made


def _of_groups(pairs: Elements[Any], how: str, partitions: int | None) -> Dataset[Any]:
    target = target_of((pairs,), partitions)
    made = grouped(pairs, target)._pipe(how)
    made._partitioned = target
    return made
