"""Streams of groups side by side: each key once, with its values in each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gristmill.compute.group import Group
from gristmill.records.keys import encode_key

Cogroup = tuple[Any, list[Iterator[Any]]]

_PLAIN = frozenset((str, int, bytes))  # among themselves these compare as their encodings do


def cogroup(streams: Sequence[Iterator[Group]]) -> Iterator[Cogroup]:
    """The groups of several streams, by key: an iterator of values for each stream, empty where it lacks the key.

    Keys that are equal as keys (1, 1.0, True) are one, shown as in the first stream that has it. The iterators are
    valid until the next key is asked for.

    Args:
        streams: groups, each stream in the order of ``records.keys``.
    """
    return _cogroup_two(*streams) if len(streams) == 2 else _cogroup_many(streams)


def _cogroup_two(left: Iterator[Group], right: Iterator[Group]) -> Iterator[Cogroup]:
    first, second = next(left, None), next(right, None)
    while first is not None and second is not None:
        one, other = first[0], second[0]
        if type(one) is not type(other) or type(one) not in _PLAIN:
            one, other = encode_key(one), encode_key(other)
        if one == other:
            yield first[0], [first[1], second[1]]
            first, second = next(left, None), next(right, None)
        elif one < other:
            yield first[0], [first[1], iter(())]
            first = next(left, None)
        else:
            yield second[0], [iter(()), second[1]]
            second = next(right, None)
    while first is not None:
        yield first[0], [first[1], iter(())]
        first = next(left, None)
    while second is not None:
        yield second[0], [iter(()), second[1]]
        second = next(right, None)


def _cogroup_many(streams: Sequence[Iterator[Group]]) -> Iterator[Cogroup]:
    heads = [next(stream, None) for stream in streams]
    while present := [head[0] for head in heads if head is not None]:
        types = set(map(type, present))
        plain = len(types) == 1 and not types.isdisjoint(_PLAIN)
        keys = [None if head is None else head[0] if plain else encode_key(head[0]) for head in heads]
        smallest = min(key for key in keys if key is not None)
        taken = [place for place, key in enumerate(keys) if key is not None and key == smallest]
        values: list[Iterator[Any]] = [iter(()) for _ in heads]
        for place in taken:
            values[place] = heads[place][1]  # type: ignore[index]  # those that are taken are there
        yield heads[taken[0]][0], values  # type: ignore[index]
        for place in taken:
            heads[place] = next(streams[place], None)
