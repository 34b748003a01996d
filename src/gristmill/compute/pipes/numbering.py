"""Operators that know where an element stands: in which task of how many, and at which place there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count, repeat
from typing import Any

from gristmill.compute.pipes.context import Context, Operator
from gristmill.compute.pipes.narrow import Streams
from gristmill.errors import FailureReport, LengthsDiffer
from gristmill.plan.functions import Call


def _spread(context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """Pairs (partition, element): elements are dealt out to all partitions in turn."""
    [partitions] = call.arguments
    return ((place % partitions, element) for place, element in enumerate(streams[0], start=context.task))


def _gather(context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """Pairs (partition, element): so many tasks side by side go to one partition."""
    [partitions] = call.arguments
    target = context.task * partitions // context.tasks if context.tasks > partitions else context.task
    return zip(repeat(target), streams[0])


def _ungather(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    """The values of all groups."""
    return chain.from_iterable(values for _, values in streams[0])


def _zip_with_index(context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """Pairs (element, index). The side tells how many elements each part has."""
    counts = context.whole(call.sides[0], dict)
    return zip(streams[0], count(_start(counts, context.part)), strict=False)


def _zip(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """Pairs of the elements of two streams, which are of one length."""
    try:
        yield from zip(*streams, strict=True)
    except ValueError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise  # it came out of a stream
        message = f"{call.name}() found other elements than before: a function does not always give the same."
        raise LengthsDiffer(FailureReport(error="LengthsDiffer", message=message, function=call.name)) from error


def _zip_groups(context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """Pairs of the values of two streams of groups."""
    return _zip(context, call, tuple(_ungather(context, call, (stream,)) for stream in streams))


def _number(context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """Pairs (bucket, element): elements in their order fill so many buckets evenly.

    The sides tell how many elements each part has: of this dataset, and of another that is to fill them likewise.

    Raises:
        LengthsDiffer: the datasets have different numbers of elements.
    """
    which, buckets = call.arguments
    parts = [context.whole(side, dict) for side in call.sides]
    counts = [sum(each.values()) for each in parts]
    if counts[0] != counts[1]:
        raise _lengths_differ(call, counts[0], counts[1])
    place = _start(parts[which], context.part)
    end = place + parts[which].get(context.part, 0)
    while place < end:
        bucket = place * buckets // counts[0]
        next_place = min(-(-(bucket + 1) * counts[0] // buckets), end)
        yield from zip(repeat(bucket, next_place - place), streams[0], strict=False)
        place = next_place


def _start(counts: dict[int, int], part: int) -> int:
    return sum(number for other, number in counts.items() if other < part)


def _lengths_differ(call: Call, left: int, right: int) -> LengthsDiffer:
    return LengthsDiffer(
        FailureReport(
            error="LengthsDiffer",
            message=f"{call.name}() takes datasets of one length; the first has {left} elements, the other {right}.",
            function=call.name,
            advice="Use zip_with_index() and join() to put together what has gaps.",
        )
    )


NUMBERING: dict[str, Operator] = {
    "spread": _spread,
    "gather": _gather,
    "ungather": _ungather,
    "zip_with_index": _zip_with_index,
    "zip": _zip,
    "number": _number,
    "zip_groups": _zip_groups,
}
