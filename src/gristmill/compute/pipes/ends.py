"""Parts of actions: what each task makes of its elements, and what one task makes of all that."""

from __future__ import annotations

import collections
import copy
import functools
import heapq
import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from gristmill.compute.guard import misuse
from gristmill.compute.pipes.context import Context, Operator
from gristmill.compute.pipes.narrow import Streams
from gristmill.compute.pipes.sums import Spread, Total, batches
from gristmill.plan.functions import Call

Sums = TypeVar("Sums", Total, Spread)

_NO_ORDER = "not supported between instances of"


def _side(context: Context, call: Call, _streams: Streams) -> Iterator[Any]:
    """All records of a dataset, in one task: it reads nothing else."""
    return context.stream(call.sides[0])


def _count(context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    """One pair (number of the part, number of its elements)."""
    numbers = itertools.count()
    collections.deque(zip(streams[0], numbers, strict=False), maxlen=0)  # counts in C
    yield context.part, next(numbers)


def _reduce_all(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    [function] = call.arguments
    for first in streams[0]:
        yield functools.reduce(function, streams[0], first)


def _fold_all(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    zero, function = call.arguments
    # Functions may change what they fold into, and the job's code is used for many tasks.
    yield functools.reduce(function, streams[0], copy.deepcopy(zero))


def _total(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    yield _added(call, Total(), streams)


def _merge_totals(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    total = _merged(call, Total(), streams)
    yield _adding(call, lambda done: (done.count, done.result()), total)


def _spread_of(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    yield _added(call, Spread(), streams)


def _merge_spreads(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    yield _merged(call, Spread(), streams).result()


def _added(call: Call, sums: Sums, streams: Streams) -> Sums:
    for batch in batches(streams[0]):
        _adding(call, sums.add, batch)
    return sums


def _merged(call: Call, sums: Sums, streams: Streams) -> Sums:
    for part in streams[0]:
        _adding(call, sums.merge, part)
    return sums


def _adding(call: Call, add: Callable[[Any], Any], added: Any) -> Any:
    try:
        return add(added)
    except (TypeError, ValueError) as error:
        message = f"{call.name}() cannot add up the elements: {error}."
        raise misuse(None, call.name, message, "Make numbers of them first: .map(float).") from error


def _first_few(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    yield from _ordered(call, lambda key: heapq.nsmallest(call.arguments[1], streams[0], key=key))


def _last_few(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    yield from _ordered(call, lambda key: heapq.nlargest(call.arguments[1], streams[0], key=key))


def _ordered(call: Call, pick: Callable[[Callable[[Any], Any] | None], list[Any]]) -> list[Any]:
    key = call.arguments[0]
    try:
        return pick(key)
    except TypeError as error:
        if _NO_ORDER not in str(error):
            raise
        message = f"{call.name}() cannot tell which element comes first: {error}."
        advice = f"Say by what they are to be compared: .{call.name}(…, key=…)."
        raise misuse(key, call.name, message, advice) from error


def _histogram(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """How many elements lie in each bucket; a bucket holds its lower bound, the last one its upper bound too."""
    bounds = call.arguments[0]
    counts = [0] * (len(bounds) - 1)
    last = len(counts) - 1
    low, high = bounds[0], bounds[-1]
    for element in streams[0]:
        try:
            if element is not None and low <= element <= high:
                counts[min(bisect_right(bounds, element) - 1, last)] += 1
        except TypeError as error:
            message = f"{call.name}() cannot compare {element!r:.100} with the bounds of its buckets: {error}."
            raise misuse(None, call.name, message, "Bounds are values like the elements.") from error
    yield counts


def _merge_counts(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    for merged in streams[0]:
        for counts in streams[0]:
            merged = [here + there for here, there in zip(merged, counts, strict=True)]
        yield merged


def _foreach(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    [function] = call.arguments
    for element in streams[0]:
        function(element)
    yield from ()


def _for_each_partition(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    [function] = call.arguments
    function(streams[0])
    yield from ()


ENDS: dict[str, Operator] = {
    "side": _side,
    "count": _count,
    "reduce_all": _reduce_all,
    "fold_all": _fold_all,
    "total": _total,
    "merge_totals": _merge_totals,
    "spread_of": _spread_of,
    "merge_spreads": _merge_spreads,
    "first_few": _first_few,
    "last_few": _last_few,
    "histogram": _histogram,
    "merge_counts": _merge_counts,
    "foreach": _foreach,
    "for_each_partition": _for_each_partition,
}
