"""The map side of sorts, joins and groupings in columns: plain keys are gathered, sorted and written as Arrow arrays.

A sort, and a table to join, has about as many keys as pairs. A dict with a list for each would take most of the time,
and none of it is needed. What the blocks hold is the same.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, islice
from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow as pa
import pyarrow.compute as pc

from gristmill.compute import collect
from gristmill.compute.collect import Collector
from gristmill.compute.culprit import check_pair, encode_or_refuse
from gristmill.compute.ranges import RangePartitioner
from gristmill.compute.sorting import Sortable
from gristmill.plan.functions import Fold, Folder, Partitioner
from gristmill.records.columns import concat_values, decode_values
from gristmill.records.keys import encode_key, stable_hash
from gristmill.shuffle.blocks import BlockWriter
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.groups import ANY, BATCH_BYTES, INT, STR, join_equal_keys, key_array, keys_in, lists_of_one
from gristmill.shuffle.ordering import sort_order

_MANY = 1024  # so many keys tell how many are different
_HASHED = 1 << 16
_COLUMNS = {str: STR, int: INT, bytes: pa.binary()}
_BYTES_KIND, _BYTES_END = encode_key(b"")[:1], encode_key(b"")[1:]


class ColumnCollector(Collector):
    """Collects the pairs of one map attempt.

    It does what a :class:`~gristmill.compute.collect.Collector` does, faster if keys are all str, all bytes or all int
    of 64 bits, and most of them different, or to be sorted by ranges; from the first on that is none, and where values
    are folded, keys sorted downwards or partitions chosen by user code, it is one.

    Args:
        partitions, scratch, target, combiner, partitioner, fold, descending: as a Collector has them.
        run_bytes: how large runs of columns are; a Collector's, if None. What is sorted is the same however it is cut.
    """

    def __init__(
        self,
        partitions: int,
        scratch: Path | str,
        target: Path | str,
        combiner: Folder | None,
        partitioner: Partitioner | None,
        fold: Fold | None = None,
        descending: bool = False,
        run_bytes: int | None = None,
    ) -> None:
        super().__init__(partitions, scratch, target, combiner, partitioner, fold, descending)
        self._ranges = partitioner if isinstance(partitioner, RangePartitioner) else None
        known = partitioner is None or self._ranges is not None
        self._in_columns = known and combiner is None and fold is None and not descending
        self._keys: list[Any] = []
        self._values: list[Any] = []
        self._kind: type | None = None  # of the keys in columns
        self._columns: list[tuple[Any, Any]] = []
        self._column_bytes = 0
        self._run_bytes = collect.RUN_BYTES if run_bytes is None else run_bytes

    def consume(self, pairs: Iterator[tuple[Any, Any]]) -> None:
        """Take all of ``pairs``. Raises what a Collector raises."""
        if isinstance(pairs, Sortable) and self._in_columns:
            for keys, values in pairs.chunks():
                self._add(keys, values)
            return
        while self._in_columns:
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
                return self._write_columns(Path(self._target))
        return super().finish()

    def _gather(self, pairs: Iterable[tuple[Any, Any]]) -> int:
        chunk = list(pairs)
        if chunk:
            try:
                keys, values = zip(*chunk, strict=True)
            except (TypeError, ValueError):
                for pair in chunk:
                    check_pair(pair, None, "mapper", shuffled=True)
                raise
            self._keys += keys
            self._values += values
        return len(chunk)

    def _to_columns(self) -> None:
        keys, values = self._keys, self._values
        self._keys, self._values = [], []
        self._add(keys, values)

    def _add(self, keys: Any, values: Any) -> None:
        """Add lists or arrays to the columns, or leave columns for good if keys are not all of one plain type."""
        column = self._column(keys) if self._in_columns else None
        if column is None:
            if self._columns:
                self._cut_columns()
            self._in_columns = False
            super().consume(zip(_listed(keys, keys_in), _listed(values, decode_values), strict=True))
            return
        held = encode_or_refuse(values, share=False) if isinstance(values, list) else values
        self._columns.append((column, held))
        size = column.nbytes + held.nbytes
        self._column_bytes += size
        self._set_chunk(size // len(keys) + 1)
        if self._column_bytes >= self._run_bytes:
            self._cut_columns()

    def _column(self, keys: Any) -> Any:
        if not isinstance(keys, list):
            if self._kind not in (None, str):
                return None
            self._kind = str
            return keys
        types = set(map(type, keys))
        kind = types.pop()
        if types or kind not in _COLUMNS or self._kind not in (None, kind):
            return None
        if self._ranges is None and len(keys) >= _MANY and len(set(keys)) < len(keys) // 2:
            return None  # a dict has each of them once
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
        keys = pa.concat_arrays([key for key, _ in self._columns])
        values = concat_values([value for _, value in self._columns])
        self._columns.clear()
        self._column_bytes = 0
        order, ends = self._laid_out(keys)
        rows = max(1, len(keys) * BATCH_BYTES // max(1, keys.nbytes + values.nbytes))
        with BlockWriter(path, self._partitions) as writer:
            begin = 0
            for partition, end in enumerate(ends):
                # Taken a batch at a time: all at once would need as much memory again, and time to get it.
                for start in range(begin, end, rows):
                    some = order.slice(start, min(rows, end - start))
                    batch = _batch(self._kind, keys.take(some), lists_of_one(values.take(some)))
                    writer.write(partition, join_equal_keys(batch))
                begin = end
            return writer.finish()

    def _laid_out(self, keys: Any) -> tuple[Any, list[int]]:
        """The places of keys, by partition and then in their order; where each partition's end in that."""
        order = sort_order(keys)
        if self._ranges is not None:
            return order, list(self._ends(self._ranges, keys, order))
        if self._partitions == 1:
            return order, [len(order)]
        partition_of = self._hashed(keys).take(order)
        counts = {one["values"]: one["counts"] for one in pc.value_counts(partition_of).to_pylist()}
        ends = accumulate(counts.get(partition, 0) for partition in range(self._partitions))
        return order.take(pc.array_sort_indices(partition_of)), list(ends)  # stable: keys stay in order

    def _hashed(self, keys: Any) -> Any:
        """The partition of each key, see ``stable_partition``."""
        hash_of = crc32 if self._kind is str else stable_hash
        hashes = array("I")
        for start in range(0, len(keys), _HASHED):  # all at once would take much memory
            hashes.extend(map(hash_of, keys.slice(start, _HASHED).to_pylist()))
        count = pa.scalar(self._partitions, pa.uint32())
        hashed = pa.Array.from_buffers(pa.uint32(), len(keys), [None, pa.py_buffer(hashes)])
        return pc.subtract(hashed, pc.multiply(pc.divide(hashed, count), count))

    def _ends(self, ranges: RangePartitioner, keys: Any, order: Any) -> Iterator[int]:
        partitions = self._partitions

        def chosen(row: int) -> int:
            key = keys[order[row].as_py()].as_py()
            return ranges(key.decode("utf-8", "surrogatepass") if self._kind is str else key, partitions)

        for partition in range(1, partitions):
            yield bisect_left(range(len(order)), partition, key=chosen)
        yield len(order)


def _listed(column: Any, decode: Callable[[Any], list[Any]]) -> list[Any]:
    return column if isinstance(column, list) else decode(column)


def _batch(kind: type | None, keys: Any, lists: Any) -> Any:
    """A grouped batch of sorted keys, of which some may be equal."""
    if kind is not bytes:
        return pa.record_batch([keys, lists], ["key", "values"])
    escaped = pc.replace_substring(keys, b"\x00", b"\x00\xff")
    encoded = pc.binary_join_element_wise(_BYTES_KIND, escaped, _BYTES_END, b"")
    return pa.record_batch([encoded.cast(ANY), keys, lists], ["key", "shown", "values"])
