"""Transformations that need to know where an element stands among all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.api.datasets.base import Elements, T_co, U
from gristmill.plan.functions import ExchangeFunctions
from gristmill.plan.logical import Keep, Node, Pipe

if TYPE_CHECKING:
    from gristmill.api.datasets.dataset import Dataset

_ONE_FOR_ONE = frozenset(("map", "key_by", "map_values", "keys", "values", "zip_with_index", "zip"))
_BUCKETS = 1024  # what is zipped comes together in so many pieces of equal length


class Numbering(Elements[T_co]):
    """See :class:`~gristmill.api.datasets.dataset.Dataset`."""

    def zip_with_index(self) -> Dataset[tuple[T_co, int]]:
        """Pairs of each element and its place among all, from 0. The order stays.

        The elements are written down once: first they are counted, then numbered.
        """
        kept, counts = self._counted()
        numbered = self._derive(kept)._pipe("zip_with_index", sides=(counts,))
        numbered._kind = f"tuple[{self._kind}, int]" if self._kind else "tuple"
        return numbered

    def zip(self, other: Elements[U]) -> Dataset[tuple[T_co, U]]:
        """Pairs of the first elements of both datasets, of the second ones, and so on. The order stays.

        A dataset and what ``map`` made of it are put together as they are read; all else is written down, counted, and
        brought together by place.

        Raises:
            LengthsDiffer: (when it is computed) one of them has more elements.
        """
        kind = f"tuple[{self._kind or 'Any'}, {other._kind or 'Any'}]"
        if _base(self._node) is _base(other._node):
            return self._pipe("zip", others=(other,), kind=kind)
        left, left_counts = self._counted()
        right, right_counts = other._dataset._counted()
        counts = (left_counts, right_counts)
        exchanged = [
            dataset._derive(
                dataset._derive(kept)
                ._pipe("number", which, _BUCKETS, sides=counts)
                ._exchange(ExchangeFunctions(partitioner=_by_bucket))
            )
            for which, (dataset, kept) in enumerate(((self._dataset, left), (other._dataset, right)))
        ]
        return exchanged[0]._pipe("zip_groups", others=(exchanged[1],), kind=kind)

    def _counted(self) -> tuple[Node, Node]:
        """The elements, written down; and how many each part has."""
        kept = self._node if isinstance(self._node, Keep) else Keep(self._node)
        return kept, Pipe((kept,), self._call("count"))


def _base(node: Node) -> Node:
    """The node in whose tasks, one for one, the elements of ``node`` lie."""
    while isinstance(node, Pipe) and node.call.how in _ONE_FOR_ONE:
        node = node.children[0]
    return node


def _by_bucket(bucket: int, partitions: int) -> int:
    return bucket * partitions // _BUCKETS
