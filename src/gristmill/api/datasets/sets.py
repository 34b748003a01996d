"""Transformations that treat datasets as sets. Their elements must be of types that keys may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.api.datasets.base import Elements, T, T_co
from gristmill.api.datasets.grouping import FIRST, grouped, side_by_side, target_of

if TYPE_CHECKING:
    from gristmill.api.datasets.dataset import Dataset


class Sets(Elements[T_co]):
    """See :class:`~gristmill.api.datasets.dataset.Dataset`.

    Elements that are equal as keys (see :class:`~gristmill.api.datasets.keyed.Keyed`) are the same here. The results
    come in the order (partition, element).

    Raises of all methods here:
        KeyTypeRefused: (when it is computed) an element is of a type that keys may not have.
    """

    def distinct(self, partitions: int | None = None) -> Dataset[T_co]:
        """Each element once, as it came first.

        Args:
            partitions: in how many parts the result lies; by default it follows from the size of the input.
        """
        keys = self._pipe("alone")
        return grouped(keys, target_of((), partitions), FIRST)._pipe("group_keys", kind=self._kind)

    def intersection(self: Elements[T], other: Elements[T], partitions: int | None = None) -> Dataset[T]:
        """Each element that both datasets have, once.

        Args:
            other: the other dataset.
            partitions: in how many parts the result lies; by default it follows from the size of the input.
        """
        sides = (self._pipe("alone"), other._pipe("alone"))
        made = side_by_side("intersection", sides=sides, partitions=partitions, folds=(FIRST, FIRST))
        return made._derive(made._node, kind=self._kind)  # what lies by its key is no pair any more

    def subtract(self: Elements[T], other: Elements[T], partitions: int | None = None) -> Dataset[T]:
        """The elements that the other dataset does not have, each as often as it is here.

        Args:
            other: the other dataset.
            partitions: in how many parts the result lies; by default it follows from the size of the input.
        """
        sides = (self._pipe("with_itself"), other._pipe("alone"))
        made = side_by_side("subtract", sides=sides, partitions=partitions, folds=(None, FIRST))
        return made._derive(made._node, kind=self._kind)
