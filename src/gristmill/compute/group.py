"""From merged pieces to what a reducer is given: each key once, in order, with its values as an iterator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from gristmill.records.columns import decode_values
from gristmill.shuffle.groups import keys_of, lists_of, offsets_of
from gristmill.shuffle.merge import HotGroup, Piece

Group = tuple[Any, Iterator[Any]]

_MAX_VALUES = 16 * 1024  # Python objects at a time …
_MAX_BYTES = 1024 * 1024  # … and bytes of them as they were encoded


def groups(pieces: Iterable[Piece], on_rows: Callable[[int], None] = lambda _: None) -> Iterator[Group]:
    """The groups of ``pieces``. A group's iterator is valid until the next group is asked for.

    Args:
        pieces: from ``shuffle.merge``.
        on_rows: told the number of values whenever some have been decoded.
    """
    for piece in pieces:
        if isinstance(piece, HotGroup):
            key = keys_of(piece.row.slice(0, 1))[0]
            yield key, _decode_all(piece.arrays, on_rows)
        else:
            yield from _batch_groups(piece, on_rows)


def decode_in_parts(array: Any) -> Iterator[list[Any]]:
    """The Python values of an array, a bounded list at a time."""
    step = _limit(array.nbytes, len(array))
    for start in range(0, len(array), step):
        yield decode_values(array.slice(start, step))


def _batch_groups(batch: Any, on_rows: Callable[[int], None]) -> Iterator[Group]:
    offsets = offsets_of(batch)
    limit = _limit(batch.nbytes, offsets[-1])
    begin, rows = 0, len(batch)
    while begin < rows:
        end = begin + 1
        while end < rows and offsets[end + 1] - offsets[begin] <= limit:
            end += 1
        part = batch.slice(begin, end - begin)
        keys, flat, base = keys_of(part), lists_of(part).flatten(), offsets[begin]
        if end == begin + 1 and len(flat) > limit:
            yield keys[0], _decode_all(iter([flat]), on_rows)
        else:
            values = decode_values(flat)
            on_rows(len(values))
            for key, first, last in zip(keys, offsets[begin:end], offsets[begin + 1 : end + 1], strict=True):
                yield key, iter(values[first - base : last - base])
        begin = end


def _decode_all(arrays: Iterator[Any], on_rows: Callable[[int], None]) -> Iterator[Any]:
    def lists() -> Iterator[list[Any]]:
        for array in arrays:
            for values in decode_in_parts(array):
                on_rows(len(values))
                yield values

    return chain.from_iterable(lists())


def _limit(size_bytes: int, count: int) -> int:
    return max(1, min(_MAX_VALUES, count * _MAX_BYTES // max(1, size_bytes)))
