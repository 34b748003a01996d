"""Grouped batches: what lies in a block. One row is one key with its values: a key is stored, compared, decoded once.

Columns: ``key``, which sorts and compares as keys do; ``values``, a list; and ``shown``, the key as Python had it,
where ``key`` does not tell. The type of ``key`` says which of three kinds the batch is:

============  ==========================================================  =========
binary        every key is a str: its UTF-8                               no shown
int64         every key is an int of 64 bits                              no shown
large_binary  anything, mixed: the encoding of ``records.keys``           shown
============  ==========================================================  =========

Within a batch keys are strictly ascending. A key may stand again at the start of the next batch: a hot key's values
need not fit in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gristmill.records.columns import concat_values, decode_values, encode_values
from gristmill.records.keys import encode_key, utf8
from gristmill.shuffle.ordering import sort_order

STR, INT, ANY = pa.binary(), pa.int64(), pa.large_binary()
BATCH_BYTES = 128 * 1024
_INT64 = 1 << 63


def key_kind(keys: Sequence[Any]) -> Any:
    """The plainest kind that holds all of ``keys``."""
    types = set(map(type, keys))
    if types == {str}:
        return STR
    if types == {int} and -_INT64 <= min(keys) and max(keys) < _INT64:
        return INT
    return ANY


def make_batch(
    kind: Any, sortable: Sequence[Any], keys: Sequence[Any], counts: Sequence[int], values: Any, share: bool = True
) -> Any:
    """A grouped batch.

    Args:
        kind: STR, INT or ANY.
        sortable: for ANY, the encodings of ``keys``; else ``keys`` themselves.
        keys: strictly ascending.
        counts: how many of ``values`` belong to each key.
        values: an Arrow array made by ``encode_values``, in the order of the keys.
        share: see ``encode_values``.
    """
    offsets = pa.array(accumulate(counts, initial=0), pa.int32(), size=len(counts) + 1)
    lists = pa.ListArray.from_arrays(offsets, values)
    if kind == ANY:
        return pa.record_batch([pa.array(sortable, ANY), encode_values(keys, share), lists], ["key", "shown", "values"])
    return pa.record_batch([key_array(kind, keys), lists], ["key", "values"])


def one_key_batch(row: Any, values: Any) -> Any:
    """A batch of one key, the first of ``row``, with other values."""
    offsets = pa.array([0, len(values)], pa.int32())
    columns = [row.column(i).slice(0, 1) for i in range(row.num_columns - 1)]
    return pa.record_batch([*columns, pa.ListArray.from_arrays(offsets, values)], row.schema.names)


def keys_of(batch: Any) -> list[Any]:
    """The keys of a batch, as Python had them."""
    kind = batch.schema.field(0).type
    if kind == ANY:
        return decode_values(batch.column(1))
    return keys_in(batch.column(0))


def keys_in(column: Any) -> list[Any]:
    """The keys of a column of a plain kind, as Python had them."""
    keys: list[Any] = column.to_pylist()
    return [key.decode("utf-8", "surrogatepass") for key in keys] if column.type == STR else keys


def lists_of(batch: Any) -> Any:
    """The list column of a batch."""
    return batch.column(batch.num_columns - 1)


def offsets_of(batch: Any) -> list[int]:
    """Where each key's values begin in ``lists_of(batch).flatten()``, and where the last one's end."""
    offsets: list[int] = lists_of(batch).offsets.to_pylist()
    first = offsets[0]
    return [offset - first for offset in offsets] if first else offsets


def row_count(batch: Any) -> int:
    """Values, not keys."""
    offsets = lists_of(batch).offsets
    return int(offsets[len(offsets) - 1].as_py() - offsets[0].as_py())


def as_any(batch: Any) -> Any:
    """The same batch with keys of kind ANY."""
    if batch.schema.field(0).type == ANY:
        return batch
    keys = keys_of(batch)
    encoded = pa.array(map(encode_key, keys), ANY, size=len(keys))
    return pa.record_batch([encoded, encode_values(keys), lists_of(batch)], ["key", "shown", "values"])


def same_kind(batches: Sequence[Any]) -> list[Any]:
    """The same batches, their keys of one kind, so that they can be compared."""
    kinds = {batch.schema.field(0).type for batch in batches}
    return list(batches) if len(kinds) <= 1 else [as_any(batch) for batch in batches]


def merge_batches(batches: Sequence[Any]) -> Any:
    """One batch of several of one kind. Equal keys become one, the first of them, with its values in batch order."""
    if len(batches) == 1:
        return batches[0]
    places = range(batches[0].num_columns - 1)
    keys = [concat_values([batch.column(i) for batch in batches]) for i in places]
    order = sort_order(keys[0])  # stable: equal keys stay in batch order
    columns = [column.take(order) for column in keys]
    values = [lists_of(batch).flatten() for batch in batches]
    if sum(map(len, values)) == len(order):  # one each, as in a sort: it is faster to take the values themselves
        columns.append(lists_of_one(concat_values(values).take(order)))
    else:
        columns.append(_concat_lists([lists_of(batch) for batch in batches], values).take(order))
    return join_equal_keys(pa.record_batch(columns, batches[0].schema.names))


def lists_of_one(values: Any) -> Any:
    """A list of each value."""
    return pa.ListArray.from_arrays(_counting(len(values)).slice(0, len(values) + 1), values)


@lru_cache(maxsize=8)
def _counting_to(power: int) -> Any:
    return pa.array(range((1 << power) + 1), pa.int32())


def _counting(least: int) -> Any:
    """The numbers from 0 to at least ``least``."""
    return _counting_to(max(10, (least - 1).bit_length()))


def split_batch(batch: Any) -> list[Any]:
    """The same rows in batches of about ``BATCH_BYTES``; a row that is larger by itself is cut among several."""
    rows, size = len(batch), batch.nbytes
    if size <= 2 * BATCH_BYTES or row_count(batch) <= 1:
        return [batch]
    if rows == 1:
        values = lists_of(batch).flatten()
        step = max(1, len(values) * BATCH_BYTES // size)
        return [one_key_batch(batch, values.slice(start, step)) for start in range(0, len(values), step)]
    if size > 64 * BATCH_BYTES:  # rows differ in size: halve until an average means something
        half = rows // 2
        return split_batch(batch.slice(0, half)) + split_batch(batch.slice(half))
    step = max(1, rows * BATCH_BYTES // size)
    pieces = [batch.slice(start, step) for start in range(0, rows, step)]
    return [part for piece in pieces for part in (split_batch(piece) if piece.nbytes > 2 * BATCH_BYTES else [piece])]


def key_array(kind: Any, keys: Sequence[Any]) -> Any:
    """Keys of a plain kind as an array that compares as they do."""
    try:
        return pa.array(keys, kind)
    except UnicodeEncodeError:
        return pa.array(map(utf8, keys), kind, size=len(keys))


def _concat_lists(arrays: list[Any], values: list[Any]) -> Any:
    if len({array.type for array in arrays}) == 1 and "dictionary" not in str(arrays[0].type):
        return pa.concat_arrays(arrays)
    # Offsets and values apart: the values may be of several types.
    starts, offsets = 0, [pa.array([0], pa.int32())]
    for array in arrays:
        rebased = _rebased_offsets(array)
        offsets.append(pc.add(rebased.slice(1), pa.scalar(starts, pa.int32())))
        starts += rebased[len(array)].as_py()
    return pa.ListArray.from_arrays(pa.concat_arrays(offsets), concat_values(values))


def _rebased_offsets(lists: Any) -> Any:
    offsets = lists.offsets
    return pc.subtract(offsets, offsets[0])


def join_equal_keys(batch: Any) -> Any:
    """Make neighbouring rows of the same key one row. Their values lie side by side already."""
    keys = batch.column(0)
    rows = len(keys)
    differs = pc.not_equal(keys.slice(1), keys.slice(0, rows - 1))
    if pc.all(differs).as_py() is not False:
        return batch
    starts = pc.indices_nonzero(pa.concat_arrays([pa.array([True]), differs]))
    lists = lists_of(batch)
    offsets = _rebased_offsets(lists)
    new_offsets = pa.concat_arrays([offsets.take(starts), offsets.slice(rows, 1)])
    columns = [batch.column(i).take(starts) for i in range(batch.num_columns - 1)]
    joined = pa.ListArray.from_arrays(new_offsets, lists.flatten())
    return pa.record_batch([*columns, joined], batch.schema.names)
