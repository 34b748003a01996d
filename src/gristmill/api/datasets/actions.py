"""What computes a dataset, and brings something of it here.

Whatever a task has to tell is merged by one more task, in the order of tasks: so results are always the same, and a
function that fails is reported like any other.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from gristmill.api.datasets.base import Elements, K, T_co, U
from gristmill.api.datasets.narrow import checked
from gristmill.api.datasets.stats import Stats
from gristmill.api.datasets.where import call_site
from gristmill.config import GIB, format_size, parse_size
from gristmill.errors import CollectTooLarge, EmptyDataset, UsageError
from gristmill.plan.logical import Keep, Node, Pipe, Read, Union

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from gristmill.api.rows import Rows


A = TypeVar("A")

_MORE_TASKS = 4  # times as many, whenever more are needed


class Actions(Elements[T_co]):
    """See :class:`~gristmill.api.datasets.dataset.Dataset`."""

    # Elements

    def collect(self, limit: str | int | None = GIB) -> list[T_co]:
        """All elements as a list, in their order.

        Args:
            limit: more than so many bytes, as they are stored, are not brought here: "1GiB" or a number; None: any.

        Raises:
            CollectTooLarge: there are more.
        """
        return list(self._limited(self._node, limit))

    def iterate(self) -> Iterator[T_co]:
        """All elements one after another, in their order: computed at once, and never all in memory here.

        What was computed lies on disk until the iterator has come to its end, is closed, or is forgotten.
        """
        return self._results(self._node)

    def take(self, count: int) -> list[T_co]:
        """The first ``count`` elements, or all if there are fewer.

        If that needs no exchange, the first task runs alone; only if it has too few elements some more run, and so on,
        each once. Tasks stop as soon as they have so many.
        """
        wanted = _checked_count(count)
        node = self._pipe("take", wanted)._node
        first = 1 if is_read_by_task(self._node) else 0
        taken: list[T_co] = []
        rows: Rows | None = None
        try:
            while len(taken) < wanted:
                rows = self._rows(node, first, rows)
                taken = list(islice(rows, wanted))
                if not first or rows.view.stages[-1].tasks < first:
                    break
                first *= _MORE_TASKS
        finally:
            if rows is not None:
                rows.close()
        return taken

    def first(self) -> T_co:
        """The first element.

        Raises:
            EmptyDataset: there is none.
        """
        found: T_co = _only_of(iter(self.take(1)))
        return found

    def is_empty(self) -> bool:
        """Whether there is no element."""
        return not self.take(1)

    def top(self, count: int, key: Callable[[T_co], Any] | None = None) -> list[T_co]:
        """The ``count`` largest elements, the largest first; of equals those that come first.

        Args:
            count: how many.
            key: what they are compared by, if not by themselves.
        """
        return self._few("last_few", count, key)

    def take_ordered(self, count: int, key: Callable[[T_co], Any] | None = None) -> list[T_co]:
        """The ``count`` smallest elements, the smallest first; of equals those that come first.

        Args:
            count: how many.
            key: what they are compared by, if not by themselves.
        """
        return self._few("first_few", count, key)

    def to_arrow(self, limit: str | int | None = GIB) -> pyarrow.Table:
        """All elements as an Arrow table, with columns as in ``map_batches``.

        Args:
            limit: as of :meth:`collect`.

        Raises:
            CollectTooLarge: there are more bytes.
            GristmillError: there is no type for all values of a column.
        """
        from gristmill.api.arrow import joined_tables

        return joined_tables(self._limited(self._pipe("to_arrow")._node, limit))

    def to_pandas(self, limit: str | int | None = GIB) -> pandas.DataFrame:
        """All elements as a pandas DataFrame; see :meth:`to_arrow`."""
        return self.to_arrow(limit).to_pandas()

    # Counts

    def count(self) -> int:
        """How many elements there are."""
        return sum(count for _, count in self._results(self._pipe("count")._node))

    def count_by_key(self: Elements[tuple[K, Any]]) -> dict[K, int]:
        """How many pairs each key has."""
        return dict(self._dataset.map(_key_with_one).reduce_by_key(operator.add).iterate())

    def count_by_value(self: Elements[U]) -> dict[U, int]:
        """How often each element comes. Elements must be of types that can be keys."""
        return dict(self._dataset.map(_with_one).reduce_by_key(operator.add).iterate())

    # One value of all

    def reduce(self: Elements[U], function: Callable[[U, U], U]) -> U:
        """What ``function`` makes of all elements, two at a time.

        ``function`` must be associative; of what comes earlier it takes the result first.

        Raises:
            EmptyDataset: there is no element. ``fold`` takes a value to begin with.
        """
        call = "reduce_all", checked(function, "reduce")
        found: U = _only_of(_merged(self, call, call), " Use fold(), which has a value to begin with.")
        return found

    def fold(self: Elements[U], zero: U, function: Callable[[U, U], U]) -> U:
        """As :meth:`reduce`, beginning with ``zero``: in each task, and again when their results are merged."""
        call = "fold_all", zero, checked(function, "fold")
        found: U = _only_of(_merged(self, call, call))
        return found

    def aggregate(self, zero: A, add: Callable[[A, T_co], A], merge: Callable[[A, A], A]) -> A:
        """A result of another type than the elements.

        Args:
            zero: what each task begins with, and merging too; tasks have copies of it, so it may be changed.
            add: what there is so far and an element give this.
            merge: what two tasks have come to gives this, the earlier one being the first argument.
        """
        part = "fold_all", zero, checked(add, "aggregate")
        found: A = _only_of(_merged(self, part, ("fold_all", zero, checked(merge, "aggregate"))))
        return found

    def sum(self: Elements[U]) -> U | int:
        """The sum; 0 if there are no elements.

        Floats are added without rounding, save once at the end: the sum does not depend on the cut into tasks.
        """
        total: U | int = self._dataset._totals()[1]
        return total

    def mean(self) -> Any:
        """The mean: the sum (see :meth:`sum`) by the count.

        Raises:
            EmptyDataset: there is no element.
        """
        count, total = self._totals()
        if not count:
            raise _empty()
        return total / count

    def min(self, key: Callable[[T_co], Any] | None = None) -> T_co:
        """The smallest element; of equals the first.

        Raises:
            EmptyDataset: there is none.
        """
        found: T_co = self._extreme("first_few", key)
        return found

    def max(self, key: Callable[[T_co], Any] | None = None) -> T_co:
        """The largest element; of equals the first.

        Raises:
            EmptyDataset: there is none.
        """
        found: T_co = self._extreme("last_few", key)
        return found

    def stats(self) -> Stats:
        """Count, sum, mean, variance, smallest and largest, of numbers."""
        figures: tuple[Any, ...] = _only_of(_merged(self, ("spread_of",), ("merge_spreads",)))
        return Stats.of(*figures)

    def histogram(self, buckets: int | Sequence[Any]) -> tuple[list[Any], list[int]]:
        """How many elements lie in each of some buckets.

        Args:
            buckets: how many of even width between the smallest and the largest number (which takes a pass to find
                them); or their bounds in ascending order: the first bucket begins at the first one, and the last one
                holds its upper bound as well. What lies outside of all is not counted, nor are None and NaN.

        Returns:
            The bounds, and a number for each bucket.

        Raises:
            UsageError: ``buckets`` is neither.
            EmptyDataset: there are no numbers to find the smallest and the largest of.
        """
        bounds = self._even_bounds(buckets) if isinstance(buckets, int) else list(buckets)
        ascending = all(low < high for low, high in pairwise(bounds))
        if len(bounds) < 2 or not (ascending or bounds[0] == bounds[-1]):
            raise UsageError(
                f"The bounds of a histogram's buckets must be two or more in ascending order, and not {bounds!r:.100}."
            )
        return bounds, _only_of(_merged(self, ("histogram", tuple(bounds)), ("merge_counts",)))

    # Side effects

    def foreach(self, function: Callable[[T_co], Any]) -> None:
        """Call a function with each element, where it is computed. A task that is tried again calls it again."""
        self._done(self._pipe("foreach", checked(function, "foreach"))._node)

    def for_each_partition(self, function: Callable[[Iterator[T_co]], Any]) -> None:
        """Call a function once in each task, with an iterator over the task's elements."""
        self._done(self._pipe("for_each_partition", checked(function, "for_each_partition"))._node)

    # Parts

    def _limited(self, node: Node, limit: str | int | None) -> Iterator[Any]:
        size = None if limit is None else parse_size(limit)
        rows = self._rows(node)
        if size is not None and rows.stored_bytes > size:
            stored = rows.stored_bytes
            rows.close()
            raise CollectTooLarge(
                f"The dataset is {format_size(stored)} as it is stored, and at most {format_size(size)} are to be "
                "brought here. Write it with write_parquet(…), look at take(…) or iterate() over it; or give a higher "
                "limit, such as collect(limit='4GiB')."
            )
        with rows:
            yield from rows

    def _few(self, how: str, count: int, key: Callable[[Any], Any] | None) -> list[Any]:
        call = how, key, _checked_count(count)
        return list(_merged(self, call, call)) if count else []

    def _extreme(self, how: str, key: Callable[[Any], Any] | None) -> Any:
        return _only_of(_merged(self, (how, key, 1), (how, key, 1)))

    def _totals(self) -> tuple[int, Any]:
        found: tuple[int, Any] = _only_of(_merged(self, ("total",), ("merge_totals",)))
        return found

    def _even_bounds(self, buckets: int) -> list[Any]:
        if buckets < 1:
            raise UsageError(f"A histogram has at least one bucket, and not {buckets}.")
        found = self._dataset.filter(_is_number).stats()
        low, high = found.min, found.max
        if not found.count:
            raise _empty(" Give the bounds of the buckets.")
        if not (math.isfinite(low) and math.isfinite(high)):
            raise UsageError("There are infinities among the numbers. Give the bounds of the buckets.")
        if low == high:
            return [low, high]
        whole = isinstance(low, int) and isinstance(high, int) and (high - low) % buckets == 0
        width = (high - low) // buckets if whole else (high - low) / buckets
        return [*(low + place * width for place in range(buckets)), high]

    def _done(self, node: Node) -> None:
        self._rows(node).close()


def is_read_by_task(node: Node) -> bool:
    """Whether a task's elements come from splits, or from what the session keeps, and need no other task."""
    pending = [node]
    while pending:
        match pending.pop():
            case Read():
                pass
            case Keep(_, kept) if kept:
                pass
            case Pipe(children, _, ()):
                pending.extend(children)
            case Union(children):
                pending.extend(children)
            case _:
                return False
    return True


def _merged(dataset: Elements[Any], part: tuple[Any, ...], merge: tuple[Any, ...]) -> Iterator[Any]:
    """Run ``part`` in each task, and ``merge`` in one task over all that those gave."""
    parts = dataset._pipe(*part)._node
    side = Pipe((), dataset._call("side", inputs=0), (parts,))
    return dataset._results(Pipe((side,), dataset._call(*merge)))


def _only_of(elements: Iterator[Any], advice: str = "") -> Any:
    for element in elements:
        return element
    raise _empty(advice)


def _empty(advice: str = "") -> EmptyDataset:
    return EmptyDataset(f"{call_site()[0]}() of a dataset without elements.{advice}")


def _checked_count(count: Any) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise UsageError(f"{call_site()[0]}() takes a number of elements; this is {count!r}.")
    return count


def _is_number(element: Any) -> bool:
    return element is not None and element == element


def _with_one(element: U) -> tuple[U, int]:
    return element, 1


def _key_with_one(pair: tuple[K, Any]) -> tuple[K, int]:
    return pair[0], 1
