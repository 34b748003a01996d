"""Transformations that bring the pairs of several datasets together by their keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from gristmill.api.datasets.base import Elements, K, T, T_co, U, V, W
from gristmill.api.datasets.grouping import FIRST, lies_as, side_by_side, target_of
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from gristmill.api.datasets.dataset import Dataset


class Joins(Elements[T_co]):
    """See :class:`~gristmill.api.datasets.dataset.Dataset`.

    Pairs of equal keys are brought together by an exchange of both sides; of one side, if the other one lies by its
    keys already (see ``partition_by``; so do the results of folds and joins); of none, if both lie alike. A side that
    was marked by ``broadcast`` is sent whole to every task instead, and the other one stays where it is.

    In memory are held, of one key at a time, the values of one side: the right one's, unless they are more than 32 MiB
    and the left one's are not. If both are, the right one's go to a temporary file.

    Args of all methods here:
        partitions: in how many parts the result lies: by default as many as the pairs of a side lie in already, if they
            lie by their keys; else it follows from the size of the input. Not used where a side is sent whole.
    """

    _is_broadcast = False

    def join(
        self: Elements[tuple[K, V]], other: Elements[tuple[K, W]], partitions: int | None = None
    ) -> Dataset[tuple[K, tuple[V, W]]]:
        """Pairs (key, (value, other's value)), of each value with each one of the other that has the same key."""
        return _joined(self, other, partitions, all_left=False, all_right=False)

    def left_join(
        self: Elements[tuple[K, V]], other: Elements[tuple[K, W]], partitions: int | None = None
    ) -> Dataset[tuple[K, tuple[V, W | None]]]:
        """As ``join``; a value whose key the other lacks comes with None."""
        return _joined(self, other, partitions, all_left=True, all_right=False)

    def right_join(
        self: Elements[tuple[K, V]], other: Elements[tuple[K, W]], partitions: int | None = None
    ) -> Dataset[tuple[K, tuple[V | None, W]]]:
        """As ``join``; a value of the other whose key is lacking here comes with None."""
        return _joined(self, other, partitions, all_left=False, all_right=True)

    def outer_join(
        self: Elements[tuple[K, V]], other: Elements[tuple[K, W]], partitions: int | None = None
    ) -> Dataset[tuple[K, tuple[V | None, W | None]]]:
        """As ``join``; a value of either side whose key the other one lacks comes with None."""
        return _joined(self, other, partitions, all_left=True, all_right=True)

    @overload
    def cogroup(
        self: Elements[tuple[K, V]], other: Elements[tuple[K, W]], /, *, partitions: int | None = None
    ) -> Dataset[tuple[K, tuple[Sequence[V], Sequence[W]]]]: ...
    @overload
    def cogroup(
        self: Elements[tuple[K, V]],
        other: Elements[tuple[K, W]],
        third: Elements[tuple[K, U]],
        /,
        *,
        partitions: int | None = None,
    ) -> Dataset[tuple[K, tuple[Sequence[V], Sequence[W], Sequence[U]]]]: ...
    @overload
    def cogroup(
        self: Elements[tuple[K, V]], /, *others: Elements[tuple[K, Any]], partitions: int | None = None
    ) -> Dataset[tuple[K, tuple[Sequence[Any], ...]]]: ...
    def cogroup(
        self: Elements[tuple[K, Any]], /, *others: Elements[tuple[K, Any]], partitions: int | None = None
    ) -> Dataset[Any]:
        """Each key of any side once, with a tuple of lists: its values here, and in each of the others.

        A list that is very large comes as a sequence of which only a part is in memory: see ``group_by_key``.
        """
        if not others:
            raise UsageError("cogroup() takes at least one other dataset; for one alone there is group_by_key().")
        return side_by_side("cogroup", sides=(self, *others), partitions=partitions)

    def subtract_by_key(
        self: Elements[tuple[K, V]], other: Elements[tuple[K, Any]], partitions: int | None = None
    ) -> Dataset[tuple[K, V]]:
        """The pairs whose key the other dataset does not have."""
        if other._dataset._is_broadcast:
            return _with_whole(self, other, "broadcast_subtract")
        if not lies_as(other, target_of((self, other), partitions)):
            other = other._pipe("keys")._pipe("alone")
        return side_by_side("subtract_by_key", sides=(self, other), partitions=partitions, folds=(None, FIRST))

    def cartesian(self: Elements[T], other: Elements[U]) -> Dataset[tuple[T, U]]:
        """Pairs of each element with each one of the other dataset, in the order of the elements.

        Every task reads all of the other one: let it be the smaller one. If it is more than 32 MiB it is read again for
        every element.
        """
        return _with_whole(self, other, "cartesian", keeps_keys=False)


def broadcast(dataset: Elements[T]) -> Dataset[T]:
    """The same dataset, marked as small: a join that is given it sends it whole to every task.

    The other side then needs no exchange. All of the small side must fit in the memory of one task. The mark is for the
    join that is given this very dataset, not for what is made of it: ``large.join(broadcast(small))``. It is of no use
    where a join also wants those of the small side that find no partner, and so for either side of an ``outer_join``.
    """
    marked = dataset._derive(dataset._node, partitioned=dataset._partitioned, kind=dataset._kind)
    marked._is_broadcast = True
    return marked


def _joined(
    left: Elements[Any], right: Elements[Any], partitions: int | None, *, all_left: bool, all_right: bool
) -> Dataset[Any]:
    if right._dataset._is_broadcast and not all_right:
        return _with_whole(left, right, "broadcast_join", all_left)
    if left._dataset._is_broadcast and not all_left:
        return _with_whole(right, left, "broadcast_join_left", all_right)
    return side_by_side("join", all_left, all_right, sides=(left, right), partitions=partitions)


def _with_whole(
    parts: Elements[Any], whole: Elements[Any], how: str, *arguments: Any, keeps_keys: bool = True
) -> Dataset[Any]:
    """An operator on the elements of one dataset that reads all of another one."""
    both = parts._derive(parts._node, whole, partitioned=parts._partitioned)  # of one session
    return both._pipe(how, *arguments, sides=(whole._node,), keeps_keys=keeps_keys)
