"""Merging sorted streams of grouped batches, many rows at a time.

A round takes from every stream the rows whose key is at most a bound, the smallest of the streams' last loaded keys,
and sorts them together in one call: nothing that comes later can lie below it. If the bound itself goes on in batches
that are not loaded yet, its values are handed over as a stream of their own, one input after the other: a hot key takes
no more memory than any other.

Values of a key come in the order of the streams, and within a stream in its own order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gristmill.errors import BlockCorrupt
from gristmill.shuffle.groups import as_any, lists_of, merge_batches, row_count

_MAX_ROUND_BYTES = 24 * 1024 * 1024
_ROUND_BYTES = 4 * 1024 * 1024  # of all streams together, so much is loaded for a round, if their rows are small


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
    cursors = [cursor for stream in streams if (cursor := _Cursor(stream)).batches]
    while cursors:
        for cursor in cursors:
            cursor.load(_ROUND_BYTES // len(cursors))
        _align(cursors)
        bound, goes_on = _bound(cursors)
        below = [rows for cursor in cursors for rows in cursor.take_below(bound, not goes_on)]
        if below:
            merged = merge_batches(below)
            came += row_count(merged)
            yield merged
        if goes_on:
            # A cursor that starts with the bound exists: the one whose last key it is has not passed it.
            at_bound = [cursor for cursor in cursors if cursor.starts_with(bound)]
            row = at_bound[0].batches[0]
            counted = Counted(_values_at(at_bound, bound))
            yield HotGroup(row, counted)
            for _ in counted:  # what the consumer left
                pass
            came += counted.rows
        cursors = [cursor for cursor in cursors if cursor.batches or not cursor.is_last]
    if came != sent:
        raise BlockCorrupt(f"{sent} values were sent to this task, and merging them gave {came}.")


class Counted:
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
    """A stream, its loaded batches and one batch of foresight."""

    def __init__(self, stream: Iterator[Any]) -> None:
        self._stream = stream
        self._next = next(stream, None)
        self.batches: deque[Any] = deque()  # none of them empty
        self._row_bytes: deque[int] = deque()  # of these, about
        self.loaded_bytes = 0
        self.load(0)

    @property
    def is_last(self) -> bool:
        """No batch follows the loaded ones."""
        return self._next is None

    @property
    def kind(self) -> Any:
        """The form of the loaded batches' keys."""
        return self.batches[0].schema.field(0).type

    def load(self, least_bytes: int) -> None:
        """Load batches, at least one, until so much is there."""
        while self._next is not None and (not self.batches or self.loaded_bytes < least_bytes):
            each = self._next.get_total_buffer_size() // len(self._next) + 1
            self.batches.append(self._next)
            self._row_bytes.append(each)
            self.loaded_bytes += each * len(self._next)
            self._next = next(self._stream, None)

    def first_key(self) -> Any:
        return self.batches[0].column(0)[0].as_py()

    def last_key(self) -> Any:
        last = self.batches[-1]
        return last.column(0)[len(last) - 1].as_py()

    def starts_with(self, key: Any) -> bool:
        return bool(self.batches) and bool(self.first_key() == key)

    def goes_on_with(self, bound: Any) -> bool:
        """Whether rows of the bound may follow that are not loaded yet."""
        if self._next is None or self.last_key() != bound:
            return False
        following = self._next.column(0)
        return following.type != self.kind or bool(following[0].as_py() == bound)

    def take_below(self, bound: Any, including: bool) -> list[Any]:
        """Remove and return the loaded rows with keys below the bound, or up to it (all, if it is None)."""
        taken = []
        while self.batches:
            batch = self.batches[0]
            count = len(batch) if bound is None else _count_below(batch.column(0), bound, including)
            if count:
                taken.append(batch if count == len(batch) else batch.slice(0, count))
                self._drop(count)
            if count < len(batch):
                break
        return taken

    def take_first(self) -> Any:
        """Remove and return the first row's values."""
        batch = self.batches[0]
        values = lists_of(batch.slice(0, 1)).flatten()
        self._drop(1)
        self.load(0)
        return values

    def to_any(self) -> None:
        self.batches = deque(map(as_any, self.batches))

    def _drop(self, count: int) -> None:
        self.loaded_bytes -= count * self._row_bytes[0]
        if count < len(self.batches[0]):
            self.batches[0] = self.batches[0].slice(count)
        else:
            self.batches.popleft()
            self._row_bytes.popleft()


def _count_below(keys: Any, bound: Any, including: bool) -> int:
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        key = keys[middle].as_py()
        if key < bound or (including and key == bound):
            low = middle + 1
        else:
            high = middle
    return low


def _bound(cursors: Sequence[_Cursor]) -> tuple[Any, bool]:
    """The key below which everything is loaded, None if everything is; and whether it may have more rows."""
    if sum(cursor.loaded_bytes for cursor in cursors) > _MAX_ROUND_BYTES:
        return min(cursor.first_key() for cursor in cursors), True  # rows so large go one key at a time
    bounds = [cursor.last_key() for cursor in cursors if not cursor.is_last]
    if not bounds:
        return None, False
    bound = min(bounds)
    return bound, any(cursor.goes_on_with(bound) for cursor in cursors)


def _align(cursors: Sequence[_Cursor]) -> None:
    """Make the loaded batches comparable."""
    kinds = {batch.schema.field(0).type for cursor in cursors for batch in cursor.batches}
    if len(kinds) > 1:
        for cursor in cursors:
            cursor.to_any()


def _values_at(cursors: Sequence[_Cursor], bound: Any) -> Iterator[Any]:
    """The values of the bound key, stream by stream, through as many batches as they reach."""
    row = cursors[0].batches[0].slice(0, 1)
    kind, encoded = row.schema.field(0).type, as_any(row).column(0)[0].as_py()
    for cursor in cursors:
        while cursor.batches:
            if cursor.kind == kind:
                if not cursor.starts_with(bound):
                    break
            else:  # a later batch of the stream may hold its keys in another form
                cursor.to_any()
                if not cursor.starts_with(encoded):
                    break
            yield cursor.take_first()
