"""Operators that look at one element at a time, or at the elements of one task."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, repeat
from types import MethodDescriptorType
from typing import Any

from gristmill.compute.guard import misuse
from gristmill.compute.pipes.context import Context, Operator
from gristmill.plan.functions import Call

Streams = tuple[Iterator[Any], ...]
_POISSON_STEP = 16.0  # e**-16 is still far from the smallest float


def mapped(function: Callable[[Any], Any], stream: Iterator[Any]) -> Iterator[Any]:
    """The function of each element. A StopIteration out of it does not pass for the end of the stream."""
    if isinstance(function, MethodDescriptorType):  # such as str.lower: it is no code of the user's
        return map(function, stream)
    return (function(element) for element in stream)


def iterables(function: Callable[[Any], Any], stream: Iterator[Any], name: str) -> Iterator[Iterator[Any]]:
    """Iterators over what the function returns.

    Raises:
        UserCodeError: it returned what cannot be iterated over.
    """
    for element in stream:
        made = function(element)
        try:
            items = iter(made)
        except TypeError:
            if isinstance(made, Iterable):  # its own __iter__ failed
                raise
            raise not_iterable(function, made, name) from None
        yield items


def not_iterable(function: Any, made: Any, name: str) -> Exception:
    """The failure of a function that returned something without elements."""
    message = f"The function given to {name} must return a list or another iterable; this one returned {made!r:.200}."
    advice = "Return [] where there is nothing; or use map, if each element is to give one."
    return misuse(function, name, message, advice)


def _map(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    return mapped(call.arguments[0], streams[0])


def _filter(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    [function] = call.arguments
    return (element for element in streams[0] if function(element))


def _flat_map(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    return chain.from_iterable(iterables(call.arguments[0], streams[0], call.name))


def _key_by(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    [function] = call.arguments
    return ((function(element), element) for element in streams[0])


def _map_values(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    [function] = call.arguments
    return ((key, function(value)) for key, value in streams[0])


def _flat_map_values(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    [function] = call.arguments

    def pairs() -> Iterator[Iterator[Any]]:
        for key, value in streams[0]:
            for items in iterables(function, iter((value,)), call.name):
                yield zip(repeat(key), items)

    return chain.from_iterable(pairs())


def _keys(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    return (key for key, _ in streams[0])


def _values(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    return (value for _, value in streams[0])


def _map_partitions(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    [function] = call.arguments
    return chain.from_iterable(iterables(function, iter(streams), call.name))


def _glom(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    yield list(streams[0])


def _sample(context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    fraction, seed, with_replacement = call.arguments
    draw = random.Random(f"{seed}/{context.part}").random
    if not with_replacement:
        return (element for element in streams[0] if draw() < fraction)
    return chain.from_iterable(repeat(element, _poisson(fraction, draw)) for element in streams[0])


def _poisson(mean: float, draw: Callable[[], float]) -> int:
    """How often an element comes, by Knuth's method, in steps that do not underflow."""
    count = 0
    while mean > 0:
        step = min(mean, _POISSON_STEP)
        mean -= step
        limit, product = math.exp(-step), draw()
        while product > limit:
            count += 1
            product *= draw()
    return count


def _take(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    return islice(streams[0], call.arguments[0])


NARROW: dict[str, Operator] = {
    "map": _map,
    "filter": _filter,
    "flat_map": _flat_map,
    "key_by": _key_by,
    "map_values": _map_values,
    "flat_map_values": _flat_map_values,
    "keys": _keys,
    "values": _values,
    "map_partitions": _map_partitions,
    "glom": _glom,
    "sample": _sample,
    "take": _take,
}
