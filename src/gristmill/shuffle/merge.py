"""Merging sorted streams of grouped batches, many rows at a time.

A round takes from every stream the rows whose key lies below a bound, the smallest of the streams' last loaded keys,
and sorts them together in one call: nothing that comes later can lie below it. The bound itself may go on in batches
that are not loaded yet, so its values are handed over as a stream of their own, one input after the other: a hot key
takes no more memory than any other.

Values of a key come in the order of the streams, and within a stream in its own order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gristmill.errors import BlockCorrupt
from gristmill.shuffle.groups import as_any, lists_of, merge_batches, row_count, same_kind

_MAX_ROUND_BYTES = 24 * 1024 * 1024


@dataclass(frozen=True)
class HotGroup:
    """One key whose values may be many. Read ``arrays`` to the end before going on."""

    row: Any  # a grouped batch whose first row has the key
    arrays: Iterator[Any]  # of values, Arrow


Piece = Any  # a grouped batch, or a HotGroup. A key is in one piece only.


def merge(streams: Sequence[Iterator[Any]], sent: int) -> Iterator[Piece]:
    """All rows of ``streams`` in key order, each key once.

    Args:
        streams: iterators over grouped batches, each in key order.
        sent: how many values all of them hold together, as their makers said.

    Raises:
        BlockCorrupt: another number of values came out.
    """
    came = 0
    cursors = [cursor for stream in streams if (cursor := _Cursor(stream)).batch is not None]
    while cursors:
        _align(cursors)
        bound = _bound(cursors)
        below = [rows for cursor in cursors if (rows := cursor.take_below(bound)) is not None]
        if below:
            merged = merge_batches(below)
            came += row_count(merged)
            yield merged
        if bound is not None:
            # A cursor that starts with the bound exists: the one whose last key it is has not passed it.
            at_bound = [cursor for cursor in cursors if cursor.starts_with(bound)]
            row = at_bound[0].batch
            counted = _Counted(_values_at(at_bound, bound))
            yield HotGroup(row, counted)
            for _ in counted:  # what the consumer left
                pass
            came += counted.rows
        cursors = [cursor for cursor in cursors if cursor.batch is not None]
    if came != sent:
        raise BlockCorrupt(f"{sent} values were sent to this task, and merging them gave {came}.")


class _Counted:
    """An iterator over arrays that counts what has been taken."""

    def __init__(self, arrays: Iterator[Any]) -> None:
        self._arrays = arrays
        self.rows = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        array = next(self._arrays)
        self.rows += len(array)
        return array


class _Cursor:
    """A stream, its loaded batch and one batch of foresight."""

    def __init__(self, stream: Iterator[Any]) -> None:
        self._stream = stream
        self._next = next(stream, None)
        self.batch: Any = None
        self.loaded_bytes = 0  # of the loaded batch, when it was loaded
        self._advance()

    @property
    def is_last(self) -> bool:
        """No batch follows the loaded one."""
        return self._next is None

    @property
    def kind(self) -> Any:
        """The form of the loaded batch's keys."""
        return self.batch.schema.field(0).type

    def first_key(self) -> Any:
        return self.batch.column(0)[0].as_py()

    def last_key(self) -> Any:
        return self.batch.column(0)[len(self.batch) - 1].as_py()

    def starts_with(self, key: Any) -> bool:
        return self.batch is not None and bool(self.first_key() == key)

    def take_below(self, bound: Any) -> Any:
        """Remove and return the loaded rows with keys below the bound (all, if None); None if there are none."""
        count = len(self.batch) if bound is None else self._count_below(bound)
        if not count:
            return None
        rows = self.batch if count == len(self.batch) else self.batch.slice(0, count)
        self._drop(count)
        return rows

    def take_first(self) -> Any:
        """Remove and return the first row's values."""
        values = lists_of(self.batch.slice(0, 1)).flatten()
        self._drop(1)
        return values

    def to_any(self) -> None:
        self.batch = as_any(self.batch)

    def _drop(self, count: int) -> None:
        if count < len(self.batch):
            self.batch = self.batch.slice(count)
        else:
            self._advance()

    def _advance(self) -> None:
        self.batch, self._next = self._next, next(self._stream, None) if self._next is not None else None
        self.loaded_bytes = 0 if self.batch is None else self.batch.get_total_buffer_size()

    def _count_below(self, bound: Any) -> int:
        keys, low, high = self.batch.column(0), 0, len(self.batch)
        while low < high:
            middle = (low + high) // 2
            if keys[middle].as_py() < bound:
                low = middle + 1
            else:
                high = middle
        return low


def _bound(cursors: Sequence[_Cursor]) -> Any:
    """The key below which everything is loaded; None if everything is."""
    if sum(cursor.loaded_bytes for cursor in cursors) > _MAX_ROUND_BYTES:
        return min(cursor.first_key() for cursor in cursors)  # rows so large go one key at a time
    bounds = [cursor.last_key() for cursor in cursors if not cursor.is_last]
    return min(bounds) if bounds else None


def _align(cursors: Sequence[_Cursor]) -> None:
    """Make the loaded batches comparable."""
    for cursor, batch in zip(cursors, same_kind([cursor.batch for cursor in cursors]), strict=True):
        cursor.batch = batch


def _values_at(cursors: Sequence[_Cursor], bound: Any) -> Iterator[Any]:
    """The values of the bound key, stream by stream, through as many batches as they reach."""
    row = cursors[0].batch.slice(0, 1)
    kind, encoded = row.schema.field(0).type, as_any(row).column(0)[0].as_py()
    for cursor in cursors:
        while cursor.batch is not None:
            if cursor.kind == kind:
                if not cursor.starts_with(bound):
                    break
            else:  # a later batch of the stream may hold its keys in another form
                cursor.to_any()
                if not cursor.starts_with(encoded):
                    break
            yield cursor.take_first()
