"""Python values as Arrow arrays and back, exactly: what comes out is equal to what went in, and of the same type.

The Arrow type alone says how to decode, so no schema travels beside the data:

===============  =============================================================
int64            int
float64          float
bool             bool
null             None
string           str without lone surrogates
dictionary       the same, where a few strings come again and again
binary           bytes
date32           date
timestamp[us]    datetime without time zone and fold
struct           tuple; its fields are the tuple's items
large_binary     anything else, pickled
===============  =============================================================

A null inside any of them is None.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import pyarrow as pa

PICKLED = pa.large_binary()

_INT, _FLOAT, _BOOL, _STR, _BYTES, _DATE, _DATETIME = (
    pa.int64(), pa.float64(), pa.bool_(), pa.string(), pa.binary(), pa.date32(), pa.timestamp("us"),
)  # fmt: skip
_PLAIN: dict[type, Any] = {int: _INT, float: _FLOAT, bool: _BOOL, str: _STR, bytes: _BYTES, date: _DATE}
_SHARED = pa.dictionary(pa.int32(), _STR)
_MAX_TUPLE = 64
_MIN_SHARED = 64  # fewer values than this are not worth a dictionary …
_MAX_SHARED = 256  # … nor are they if more of them than this are different
_MAX_SHARED_MERGED = 1024


def encode_values(values: Sequence[Any], share: bool = True) -> Any:
    """An Arrow array of ``values``, in the plainest type that gives all of them back exactly.

    Args:
        values: what to encode.
        share: False to make no dictionaries, for an array that will be cut: each piece would take all of it along.
    """
    types = set(map(type, values))
    nulls = type(None) in types
    types.discard(type(None))
    if not types:
        return pa.nulls(len(values))
    if len(types) == 1:
        (only,) = types
        array = _encode_plain(only, values, nulls, share)
        if array is not None:
            return array
    return encode_pickled(values)


def encode_pickled(values: Sequence[Any]) -> Any:
    """An Arrow array of ``values``, each pickled by itself."""
    return pa.array([_pickle(value) for value in values], PICKLED)


def decode_values(array: Any) -> list[Any]:
    """The Python values of an array made by :func:`encode_values` (or of a slice of one)."""
    kind = array.type
    if pa.types.is_struct(kind):
        # flatten() honours the slice and field() does not.
        return list(zip(*map(decode_values, array.flatten()), strict=True))
    if kind == _SHARED:
        # Equal values become one object again, which keeps a group of them small.
        shared = [*array.dictionary.to_pylist(), None]
        return [shared[-1 if code is None else code] for code in array.indices.to_pylist()]
    plain: list[Any] = array.to_pylist()
    if kind == PICKLED:
        return [None if item is None else pickle.loads(item) for item in plain]
    return plain


def as_pickled(array: Any) -> Any:
    """The same values in the one type that holds everything: for joining arrays whose types differ."""
    return array if array.type == PICKLED else encode_pickled(decode_values(array))


def concat_values(arrays: Sequence[Any]) -> Any:
    """One array of several, whatever their types."""
    if len(arrays) == 1:
        return arrays[0]
    types = {array.type for array in arrays}
    if types == {_SHARED}:
        joined = pa.concat_arrays(arrays)
        return joined if len(joined.dictionary) <= _MAX_SHARED_MERGED else joined.dictionary_decode()
    if len(types) > 1:
        arrays = [as_plain_text(array) for array in arrays]
        types = {array.type for array in arrays}
    return pa.concat_arrays(arrays if len(types) == 1 else [as_pickled(array) for array in arrays])


def as_plain_text(array: Any) -> Any:
    """A dictionary's strings in full, also within tuples; other arrays as they are."""
    if array.type == _SHARED:
        return array.dictionary_decode()
    if pa.types.is_struct(array.type):
        columns = [as_plain_text(column) for column in array.flatten()]
        return pa.StructArray.from_arrays(columns, [str(n) for n in range(len(columns))])
    return array


def _encode_shared(values: Sequence[Any]) -> Any:
    """Few strings many times, a file's name with each of its words say, as a dictionary; None if they are not."""
    if len(values) < _MIN_SHARED or len(set(values[:: len(values) // _MIN_SHARED])) > _MIN_SHARED // 4:
        return None
    distinct = dict.fromkeys(values)
    if len(distinct) > min(_MAX_SHARED, len(values) // 8):
        return None
    for code, value in enumerate(distinct):
        distinct[value] = code
    codes = pa.array(list(map(distinct.__getitem__, values)), pa.int32())
    return pa.DictionaryArray.from_arrays(codes, pa.array(list(distinct), _STR))


def _encode_plain(kind: type, values: Sequence[Any], nulls: bool, share: bool) -> Any:
    if arrow := _PLAIN.get(kind):
        try:
            shared = _encode_shared(values) if kind is str and share and not nulls else None
            return pa.array(values, arrow) if shared is None else shared
        except (OverflowError, UnicodeEncodeError, pa.ArrowInvalid):
            return None  # a large int, or a str with what surrogateescape kept
    if kind is datetime:
        if all(v is None or (v.tzinfo is None and v.fold == 0) for v in values):
            return pa.array(values, _DATETIME)
        return None
    if kind is tuple and not nulls:
        return _encode_tuples(values, share)
    return None


def _encode_tuples(values: Sequence[Any], share: bool) -> Any:
    widths = set(map(len, values))
    if len(widths) != 1 or not 0 < next(iter(widths)) <= _MAX_TUPLE:
        return None
    columns = [encode_values(column, share) for column in zip(*values, strict=True)]
    # A pickled item would make a column of small pickles; one pickle of the whole tuple is smaller and faster.
    if any(column.type == PICKLED for column in columns):
        return None
    return pa.StructArray.from_arrays(columns, [str(n) for n in range(len(columns))])


def _pickle(value: Any) -> bytes:
    try:
        return pickle.dumps(value, 5)
    except (pickle.PicklingError, AttributeError, TypeError):
        # Instances of classes that were defined in the job's own script: those are known by value only.
        import cloudpickle

        by_value: bytes = cloudpickle.dumps(value, 5)
        return by_value
