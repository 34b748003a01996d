"""Sorting: keys go to partitions by ranges, whose bounds follow from samples."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from gristmill.api.datasets.base import Elements, K, T, T_co, V
from gristmill.api.datasets.narrow import checked
from gristmill.plan.functions import ExchangeFunctions
from gristmill.plan.logical import Keep, Node, Pipe, Read, Union

if TYPE_CHECKING:
    from gristmill.api.datasets.dataset import Dataset

# To take the first elements of these, no more is computed than those need.
_ELEMENTWISE = frozenset(
    ("map", "filter", "flat_map", "key_by", "map_values", "flat_map_values", "keys", "values", "sample")
)


class Order(Elements[T_co]):
    """See :class:`~gristmill.api.datasets.dataset.Dataset`."""

    def sort_by(
        self: Elements[T], key: Callable[[T], Any], *, descending: bool = False, partitions: int | None = None
    ) -> Dataset[T]:
        """All elements in the order of what ``key`` makes of them, from the first task to the last.

        Elements of equal keys keep their order, also if it is descending. The order of keys is by kind, then by value:
        None, numbers (NaN last), str, bytes, date, datetime, UUID, Enum, tuples, frozen dataclasses.

        Samples of the keys say which part goes to which task. Where elements are read from files they are taken from
        the first ones of every split; what comes out of other computations is written down first, and read twice.

        Args:
            key: makes a key of an element; it is called twice for some.
            descending: whether the largest comes first.
            partitions: in how many parts the result lies; by default it follows from the size of the input.

        Raises:
            KeyTypeRefused: (when it is computed) a key is of a type that has no order here.
        """
        checked(key, "sort_by")
        base = self if partitions == 1 else _read_twice(self)
        pairs = base._pipe("sort_pairs", key)
        return _sorted(base, key, pairs, descending, partitions)._pipe("sorted_elements", kind=self._kind)

    def sort_by_key(
        self: Elements[tuple[K, V]], *, descending: bool = False, partitions: int | None = None
    ) -> Dataset[tuple[K, V]]:
        """All pairs in the order of their keys, from the first task to the last: see ``sort_by``.

        Args:
            descending: whether the largest comes first.
            partitions: in how many parts the result lies; by default it follows from the size of the input.

        Raises:
            KeyTypeRefused: (when it is computed) a key is of a type that has no order here.
        """
        base = self if partitions == 1 else _read_twice(self)
        pairs = base._pipe("sort_key_pairs")
        return _sorted(base, itemgetter(0), pairs, descending, partitions)._pipe("sorted_pairs", kind=self._kind)


def _sorted(
    base: Elements[Any], key: Callable[[Any], Any], pairs: Elements[Any], descending: bool, partitions: int | None
) -> Dataset[Any]:
    """The groups of sorted pairs."""
    if partitions == 1:
        step, samples = ExchangeFunctions(descending=descending), None
    else:
        step = ExchangeFunctions(ranges=True, descending=descending)
        samples = base._pipe("sample_keys", key, isinstance(base._node, Keep))._node
    return pairs._derive(pairs._exchange(step, partitions, samples=samples))


def _read_twice(dataset: Elements[T]) -> Elements[T]:
    """The same elements, written down if it would take long to compute some of them twice."""
    node = dataset._node
    if isinstance(node, Keep) or _is_read(node):
        return dataset
    return dataset._derive(Keep(node), kind=dataset._kind)


def _is_read(node: Node) -> bool:
    """Whether a node's first elements can be had without the others."""
    pending = [node]
    while pending:
        match pending.pop():
            case Read():
                pass
            case Pipe((child,), call, ()) if call.how in _ELEMENTWISE:
                pending.append(child)
            case Union(children):
                pending.extend(children)
            case _:
                return False
    return True
