"""Joins: of groups side by side, or of pairs with a side that each task reads as a whole.

Of a key that both sides have, one side's values are held, and the other's stream by. The right ones are held, unless
they are too many and the left ones are not. If both are too many, the right ones go to a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from gristmill.compute.cogroup import cogroup
from gristmill.compute.pipes.context import Context, Operator
from gristmill.compute.pipes.groups import place_of
from gristmill.compute.pipes.narrow import Streams
from gristmill.compute.sorting import itself
from gristmill.compute.values import DECODED, StreamedValues, take_held
from gristmill.plan.functions import Call

_NOTHING = (None,)
_END = object()
_WHOLE_BYTES = 32 * 1024 * 1024  # as Python holds them: of a product's right side, so much is held

Table = dict[Any, tuple[Any, list[Any]]]
"""Place of a key → the key as it came first, and its values."""


# Groups side by side


def _join(context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """Pairs (key, (left, right)); without a partner on the left or right None, or nothing if that is not wished."""
    all_left, all_right = call.arguments
    for key, (left, right) in cogroup(streams):
        more: Iterator[Any] | None = None
        if type(right) in DECODED:  # nearly all
            seconds = list(right)
        else:
            seconds, more = take_held(right)
        if more is not None:
            yield from _hot(key, left, seconds, more, context, all_right)
        elif seconds:
            alone = all_right
            for first in left:
                alone = False
                for second in seconds:
                    yield key, (first, second)
            if alone:
                for second in seconds:
                    yield key, (None, second)
        elif all_left:
            for first in left:
                yield key, (first, None)


def _hot(
    key: Any, left: Iterator[Any], seconds: Sequence[Any], more: Iterator[Any], context: Context, all_right: bool
) -> Iterator[Any]:
    """What a key gives that has more values on the right than may be held."""
    firsts, more_left = take_held(left)
    if more_left is not None:
        seconds = StreamedValues(seconds, more, context.scratch)
        for first in chain(firsts, more_left):
            for second in seconds:
                yield key, (first, second)
    elif firsts:
        for second in chain(seconds, more):
            for first in firsts:
                yield key, (first, second)
    elif all_right:
        for second in chain(seconds, more):
            yield key, (None, second)


def _subtract_by_key(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    for key, (left, right) in cogroup(streams):
        if not _any_of(right):
            for value in left:
                yield key, value


def _subtract(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    for key, (left, right) in cogroup(streams):
        if not _any_of(right):
            for value in left:
                yield itself(key) if value is None else value


def _intersection(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    for key, (left, right) in cogroup(streams):
        if _any_of(left) and _any_of(right):
            yield key


def _any_of(values: Iterator[Any]) -> bool:
    return next(values, _END) is not _END


# A side that each task reads as a whole


def _broadcast_join(context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """The same as ``join``, the right side being a table."""
    [all_left] = call.arguments
    found = context.whole(call.sides[0], table_of).get
    partners: Iterable[Any]
    for key, value in streams[0]:
        entry = found(place_of(key))
        if entry is not None:
            partners = entry[1]
        elif all_left:
            partners = _NOTHING
        else:
            continue
        for partner in partners:
            yield key, (value, partner)


def _broadcast_join_left(context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """The same as ``join``, the left side being a table."""
    [all_right] = call.arguments
    found = context.whole(call.sides[0], table_of).get
    for key, value in streams[0]:
        entry = found(place_of(key))
        if entry is not None:
            first, partners = entry
            for partner in partners:
                yield first, (partner, value)
        elif all_right:
            yield key, (None, value)


def _broadcast_subtract(context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """The pairs whose key is none of a side's."""
    keys = context.whole(call.sides[0], key_set_of)
    return (pair for pair in streams[0] if place_of(pair[0]) not in keys)


def _cartesian(context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """Pairs of each element with each one of a side. A side that is too large is read once for each element."""
    [side] = call.sides
    others = context.whole(side, list_of_few)
    for element in streams[0]:
        for other in context.stream(side) if others is None else others:
            yield element, other


def table_of(pairs: Iterator[tuple[Any, Any]]) -> Table:
    """A side's values, by key."""
    table: Table = {}
    for key, value in pairs:
        place = place_of(key)
        entry = table.get(place)
        if entry is None:
            table[place] = key, [value]
        else:
            entry[1].append(value)
    return table


def key_set_of(pairs: Iterator[tuple[Any, Any]]) -> frozenset[Any]:
    """A side's keys."""
    return frozenset(place_of(key) for key, _ in pairs)


def list_of_few(records: Iterator[Any]) -> list[Any] | None:
    """A side's records; None if they are too many to be held."""
    held, rest = take_held(records, _WHOLE_BYTES)
    return held if rest is None else None


JOINS: dict[str, Operator] = {
    "join": _join,
    "subtract_by_key": _subtract_by_key,
    "subtract": _subtract,
    "intersection": _intersection,
    "broadcast_join": _broadcast_join,
    "broadcast_join_left": _broadcast_join_left,
    "broadcast_subtract": _broadcast_subtract,
    "cartesian": _cartesian,
}
