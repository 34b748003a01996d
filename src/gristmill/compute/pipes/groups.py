"""Operators on the groups that come out of an exchange, and on pairs that lie as an exchange would lay them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import chain, groupby, repeat
from operator import itemgetter
from typing import Any

from gristmill.compute.cogroup import cogroup
from gristmill.compute.group import Group
from gristmill.compute.pipes.context import Context, Operator
from gristmill.compute.pipes.narrow import Streams
from gristmill.compute.sorting import PLAIN
from gristmill.compute.values import DECODED, StreamedValues, held_or_streamed
from gristmill.plan.functions import Call
from gristmill.records.keys import check_key, encode_key, holds_nan

_WITHOUT_NAN = frozenset((str, int, bytes, bool, type(None)))
_HELD = 16  # values of a key that are taken at once: each may be large


@dataclass(frozen=True)
class _Encoded:
    """Stands for a key that Python does not call equal to itself."""

    encoding: bytes


def place_of(key: Any) -> Any:
    """What is equal for equal keys, as Python compares and hashes: mostly the key itself.

    Raises:
        KeyTypeRefused: the key is of a type without order and stable hash.
    """
    if type(key) in _WITHOUT_NAN:
        return key
    check_key(key)
    return _Encoded(encode_key(key)) if holds_nan(key) else key


def groups_of_pairs(pairs: Iterable[tuple[Any, Any]]) -> Iterator[Group]:
    """Pairs in the order of their keys as groups. A group's iterator is valid until the next group is asked for."""
    for _, some in groupby(pairs, _place_of_pair):
        key, value = next(some)
        yield key, chain((value,), map(itemgetter(1), some))  # noqa: B031 - the same iterator goes on


def groups_ahead(pairs: Iterable[tuple[Any, Any]]) -> Iterator[Group]:
    """The same, faster where keys have few values: it looks at the next pair before it gives a group."""
    rest = iter(pairs)
    pair = next(rest, None)
    while pair is not None:
        key, value = pair
        pair = next(rest, None)
        if pair is None or not _are_one(key, pair[0]):
            yield key, iter((value,))
            continue
        held = [value]
        while pair is not None and len(held) < _HELD and _are_one(key, pair[0]):
            held.append(pair[1])
            pair = next(rest, None)
        if pair is None or not _are_one(key, pair[0]):
            yield key, iter(held)
        else:
            following = _Following(key, pair, rest)
            yield key, chain(held, following)
            for _ in following:  # what the consumer left
                pass
            pair = following.pair


class _Following:
    """The values of a key, up to the first pair of another one."""

    def __init__(self, key: Any, pair: tuple[Any, Any] | None, rest: Iterator[tuple[Any, Any]]) -> None:
        self.pair = pair
        self._key, self._rest = key, rest

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.pair is None or not _are_one(self._key, self.pair[0]):
            raise StopIteration
        value = self.pair[1]
        self.pair = next(self._rest, None)
        return value


def _are_one(key: Any, other: Any) -> bool:
    if type(key) in _WITHOUT_NAN:
        return bool(key == other)
    return bool(_place(key) == _place(other))


def _place_of_pair(pair: tuple[Any, Any]) -> Any:
    return _place(pair[0])


def _place(key: Any) -> Any:
    # It came through an exchange, and so it is of a type that may be a key.
    return key if type(key) in _WITHOUT_NAN or not holds_nan(key) else _Encoded(encode_key(key))


# From groups


def _regroup(context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    return groups_ahead(streams[0]) if context.may_take_ahead() else groups_of_pairs(streams[0])


def _ungroup(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    """Groups as pairs again."""
    return chain.from_iterable(zip(repeat(key), values) for key, values in streams[0])


def _fold(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """What was folded where it was made is merged."""
    [merge_combiners] = call.arguments
    return ((key, reduce(merge_combiners, values)) for key, values in streams[0])


def _fold_values(_context: Context, call: Call, streams: Streams) -> Iterator[Any]:
    """Values that were never apart are folded."""
    create, merge_value = call.arguments
    if create is None:
        return ((key, reduce(merge_value, values)) for key, values in streams[0])
    return ((key, _folded(create, merge_value, values)) for key, values in streams[0])


def _folded(create: Callable[[Any], Any], merge_value: Callable[[Any, Any], Any], values: Iterator[Any]) -> Any:
    first = next(values)  # a group has values
    return reduce(merge_value, values, create(first))


def _lists(context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    for key, values in streams[0]:
        if type(values) in DECODED:  # nearly all
            yield key, list(values)
        else:
            held = held_or_streamed(values, context.scratch)
            yield key, held
            _settle(held)


def _cogroup(context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    for key, several in cogroup(streams):
        held = tuple(held_or_streamed(values, context.scratch) for values in several)
        yield key, held
        for values in held:
            _settle(values)


def _settle(values: object) -> None:
    """The next group is asked for: whoever still has this one's values can no longer take them from the stream."""
    if isinstance(values, StreamedValues):
        values.settle()


# Elements as keys


def _alone(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    """Each element as a key with nothing."""
    return zip(streams[0], repeat(None))


def _with_itself(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    """Each element as a key with itself; see ``itself``."""
    return ((element, None if type(element) in PLAIN else element) for element in streams[0])


def _group_keys(_context: Context, _call: Call, streams: Streams) -> Iterator[Any]:
    return (key for key, _ in streams[0])


GROUPS: dict[str, Operator] = {
    "regroup": _regroup,
    "ungroup": _ungroup,
    "fold": _fold,
    "fold_values": _fold_values,
    "lists": _lists,
    "cogroup": _cogroup,
    "alone": _alone,
    "with_itself": _with_itself,
    "group_keys": _group_keys,
}
