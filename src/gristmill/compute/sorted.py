"""The map side of a sort, in columns: plain keys are gathered, sorted and written as Arrow arrays.

A sort has about as many keys as pairs. A dict with a list for each would take most of the time, and none of it is
needed. What the blocks hold is the same.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gristmill.compute import collect
from gristmill.compute.collect import Collector
from gristmill.compute.culprit import check_pair, encode_or_refuse
from gristmill.compute.ranges import RangePartitioner
from gristmill.plan.functions import Fold, Folder, Partitioner
from gristmill.records.columns import concat_values
from gristmill.records.keys import encode_key
from gristmill.shuffle.blocks import BlockWriter
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.groups import ANY, BATCH_BYTES, INT, STR, join_equal_keys, key_array

_COLUMNS = {str: STR, int: INT, bytes: pa.binary()}
_PREFIX_BYTES = 8
_BYTES_KIND, _BYTES_END = encode_key(b"")[:1], encode_key(b"")[1:]


class SortCollector(Collector):
    """Collects the pairs of one map attempt, whose keys go to partitions by ranges.

    It does what a :class:`~gristmill.compute.collect.Collector` does, faster if keys are all str, all bytes or all int
    of 64 bits; from the first on that is none, and for all else than a plain sort upwards, it is one.

    Args:
        partitions, scratch, target, combiner, partitioner, fold, descending: as a Collector has them.
    """

    def __init__(
        self,
        partitions: int,
        scratch: Path,
        target: Path,
        combiner: Folder | None,
        partitioner: Partitioner | None,
        fold: Fold | None = None,
        descending: bool = False,
    ) -> None:
        super().__init__(partitions, scratch, target, combiner, partitioner, fold, descending)
        plain = combiner is None and fold is None and not descending
        self._ranges = partitioner if plain and isinstance(partitioner, RangePartitioner) else None
        self._keys: list[Any] = []
        self._values: list[Any] = []
        self._kind: type | None = None  # of the keys in columns
        self._columns: list[tuple[Any, Any]] = []
        self._column_bytes = 0

    def consume(self, pairs: Iterator[tuple[Any, Any]]) -> None:
        """Take all of ``pairs``. Raises what a Collector raises."""
        while self._ranges is not None:
            room = self._chunk - len(self._keys)
            if self._gather(islice(pairs, room)) < room:
                return
            self._to_columns()
        super().consume(pairs)

    def finish(self) -> BlockInfo:
        """Write the block."""
        if self._keys:
            self._to_columns()
        if self._columns:
            if self._runs:
                self._cut_columns()
            else:
                return self._write_columns(self._target)
        return super().finish()

    def _gather(self, pairs: Iterable[tuple[Any, Any]]) -> int:
        keys, values = self._keys, self._values
        before = len(keys)
        add_key, add_value = keys.append, values.append
        for pair in pairs:
            try:
                key, value = pair
            except (TypeError, ValueError):
                check_pair(pair, None, "mapper", shuffled=True)
                raise
            add_key(key)
            add_value(value)
        return len(keys) - before

    def _to_columns(self) -> None:
        """Make arrays of what was gathered, or leave columns for good if keys are not all of one plain type."""
        keys, values = self._keys, self._values
        self._keys, self._values = [], []
        column = self._column(keys)
        if column is None:
            if self._columns:
                self._cut_columns()
            self._ranges = None
            super().consume(zip(keys, values, strict=True))
            return
        held = encode_or_refuse(values, share=False)
        self._columns.append((column, held))
        size = column.nbytes + held.nbytes
        self._column_bytes += size
        self._set_chunk(size // len(keys) + 1)
        if self._column_bytes >= collect.RUN_BYTES:
            self._cut_columns()

    def _column(self, keys: list[Any]) -> Any:
        types = set(map(type, keys))
        kind = types.pop()
        if types or kind not in _COLUMNS or self._kind not in (None, kind):
            return None
        try:
            column = key_array(_COLUMNS[kind], keys)
        except OverflowError:
            return None
        self._kind = kind
        return column

    def _cut_columns(self) -> None:
        self._add_run(self._write_columns)

    def _write_columns(self, path: Path) -> BlockInfo:
        """Write what the columns hold, sorted, as a block, and empty them."""
        assert self._ranges is not None
        keys = pa.concat_arrays([key for key, _ in self._columns])
        values = concat_values([value for _, value in self._columns])
        self._columns.clear()
        self._column_bytes = 0
        order = sort_order(keys)
        rows = max(1, len(keys) * BATCH_BYTES // max(1, keys.nbytes + values.nbytes))
        offsets = pa.array(range(min(rows, len(keys)) + 1), pa.int32())
        with BlockWriter(path, self._partitions) as writer:
            begin = 0
            for partition, end in enumerate(self._ends(keys, order)):
                # Taken a batch at a time: all at once would need as much memory again, and time to get it.
                for start in range(begin, end, rows):
                    some = order.slice(start, min(rows, end - start))
                    lists = pa.ListArray.from_arrays(offsets.slice(0, len(some) + 1), values.take(some))
                    writer.write(partition, join_equal_keys(_batch(self._kind, keys.take(some), lists)))
                begin = end
            return writer.finish()

    def _ends(self, keys: Any, order: Any) -> Iterator[int]:
        """Where each partition's rows end."""
        ranges, partitions = self._ranges, self._partitions
        assert ranges is not None

        def chosen(row: int) -> int:
            key = keys[order[row].as_py()].as_py()
            return ranges(key.decode("utf-8", "surrogatepass") if self._kind is str else key, partitions)

        for partition in range(1, partitions):
            yield bisect_left(range(len(order)), partition, key=chosen)
        yield len(order)


def sort_order(keys: Any) -> Any:
    """The places of an array's items in their order, equal ones as they stand.

    Comparing numbers is far faster than comparing strings. So strings are sorted by the first bytes after those that
    all have in common, and only those that are alike in these by all of theirs.
    """
    if not pa.types.is_binary(keys.type) or len(keys) < 2:
        return pc.array_sort_indices(keys)
    prefixes = _prefixes(keys)
    order = pc.array_sort_indices(prefixes)
    ordered = prefixes.take(order)
    alike = pc.equal(ordered.slice(1), ordered.slice(0, len(ordered) - 1))
    if not alike.true_count:
        return order
    if alike.true_count > len(keys) // 2:
        return pc.array_sort_indices(keys)
    no = pa.array([False])
    mask = pc.or_(pa.concat_arrays([alike, no]), pa.concat_arrays([no, alike]))
    places = order.filter(mask)
    return pc.replace_with_mask(order, mask, places.take(pc.array_sort_indices(keys.take(places))))


def _prefixes(keys: Any) -> Any:
    """As numbers: those are in the order of the keys, but may be equal where keys are not."""
    low, high = (end.as_py() for end in pc.min_max(keys).values())
    start = next((place for place, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    cut = pc.binary_slice(keys, start, start + _PREFIX_BYTES)
    padded = pc.ascii_rpad(cut.view(pa.string()), _PREFIX_BYTES, padding="\0")  # of bytes: it looks at no character
    numbers = array("Q")
    numbers.frombytes(padded.buffers()[2][: _PREFIX_BYTES * len(keys)])
    if sys.byteorder == "little":
        numbers.byteswap()
    return pa.Array.from_buffers(pa.uint64(), len(keys), [None, pa.py_buffer(numbers)])


def _batch(kind: type | None, keys: Any, lists: Any) -> Any:
    """A grouped batch of sorted keys, of which some may be equal."""
    if kind is not bytes:
        return pa.record_batch([keys, lists], ["key", "values"])
    escaped = pc.replace_substring(keys, b"\x00", b"\x00\xff")
    encoded = pc.binary_join_element_wise(_BYTES_KIND, escaped, _BYTES_END, b"")
    return pa.record_batch([encoded.cast(ANY), keys, lists], ["key", "shown", "values"])
