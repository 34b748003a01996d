"""Operators of a sort: keys beside elements, samples of the keys, and elements from groups."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from gristmill.compute.pipes.context import Context, Operator
from gristmill.compute.pipes.narrow import Streams
from gristmill.compute.sorting import PLAIN, Sortable, itself, pairs_of, sorted_columns, sorted_elements
from gristmill.compute.streams import Columns, Groups
from gristmill.plan.functions import Call
from gristmill.records.keys import check_key

_SAMPLES = 4096  # of all tasks together, or twice as many …
_LEAST = 16  # … or so many of each, if there are very many tasks
_READ = 16  # elements that are read for each sample


def _sort_pairs(context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """Pairs (key, element). An element of a plain type that is its own key does not travel twice."""
    [function] = call.arguments
    return Sortable(streams[0], function) if context.may_take_ahead() else pairs_of(function, streams[0])


def _sorted_elements(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    """The elements of the groups of what ``sort_pairs`` made."""
    [stream] = streams
    if isinstance(stream, Groups):
        return Columns(sorted_columns(stream.pieces, stream.on_rows))
    return sorted_elements(stream)


def _sort_key_pairs(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    """Pairs whose value has the key beside it, unless that is of a plain type: see ``itself``."""
    return ((key, (None if type(key) in PLAIN else key, value)) for key, value in streams[0])


def _sorted_pairs(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    """The pairs of the groups of what ``sort_key_pairs`` made."""
    for key, values in streams[0]:
        for own, value in values:
            yield itself(key) if own is None else own, value


def _sample_keys(context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """Keys of some elements.

    The first argument gives the key of an element. The second one says whether they are to come from all elements at
    even distances, or from the first ones, so that the others need not be read.
    """
    function, throughout = call.arguments
    count = max(_LEAST, _SAMPLES // context.tasks)
    elements = streams[0] if throughout else islice(streams[0], count * _READ)
    kept: list[Any] = []
    step = 1  # from one that is kept to the next
    for element in elements:
        key = function(element)
        check_key(key)
        kept.append(key)
        passed = step - 1
        if len(kept) == 2 * count:
            del kept[1::2]
            step *= 2
        next(islice(elements, passed, passed), None)
    yield from kept


ORDER: dict[str, Operator] = {
    "sort_pairs": _sort_pairs,
    "sorted_elements": _sorted_elements,
    "sort_key_pairs": _sort_key_pairs,
    "sorted_pairs": _sorted_pairs,
    "sample_keys": _sample_keys,
}
