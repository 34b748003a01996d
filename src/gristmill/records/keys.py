"""The order, equality and stable hash of keys.

Every key has one encoding, a byte string. Two keys have the same encoding if and only if Python calls them equal
(NaN, which Python does not call equal to itself, is equal to itself here), and encodings compare as bytes in the
total order of keys: by kind, then by value. So sorting, grouping, merging and partitioning need to know bytes only.

Kinds in order: None, numbers, str, bytes, date, naive datetime, aware datetime, UUID, Enum, tuple, frozen dataclass.
The escaping of strings inside tuples is that of FoundationDB's tuple layer.
"""

from __future__ import annotations

import dataclasses
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID
from zlib import crc32

from gristmill.errors import FailureReport, KeyTypeRefused

_NONE, _NUMBER, _STR, _BYTES, _DATE, _NAIVE, _AWARE, _UUID, _ENUM, _TUPLE, _DATACLASS = (
    bytes([n]) for n in range(1, 12)
)
_END = b"\x00"

# Within numbers.
_NEGATIVE_INFINITY, _NEGATIVE, _ZERO, _POSITIVE, _INFINITY, _NAN = (_NUMBER + bytes([n]) for n in range(6))
_EXPONENT_BIAS = 1 << 63
_SMALL = 10**18
_SMALL_POINTS = [_POSITIVE + (point + _EXPONENT_BIAS).to_bytes(8, "big") for point in range(19)]
_INVERT = bytes(255 - n for n in range(256))

_EPOCH = datetime(1, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_INSTANT_BIAS = 1 << 62  # an aware datetime of year 1 may lie before year 1 in UTC

_ATOMS = frozenset((str, int, bytes, float, bool, type(None), date, datetime, UUID, Decimal))
_NEVER_NAN = frozenset((str, int, bytes, bool, type(None)))

PLAIN_KEYS = (
    "None, bool, int, float, str, bytes, Decimal, date, datetime, UUID, Enum, "
    "and tuples and frozen dataclasses of these"
)


def encode_key(key: Any) -> bytes:
    """The key's place in the total order, as bytes.

    Raises:
        KeyTypeRefused: the key, or something in it, is of a type without a stable order and hash.
    """
    if isinstance(key, str):
        return _STR + _escape(utf8(key))
    if isinstance(key, int):
        return _encode_int(key)
    if isinstance(key, tuple):
        return _TUPLE + b"".join(map(encode_key, key)) + _END
    if key is None:
        return _NONE
    if isinstance(key, float):
        return _encode_float(key)
    if isinstance(key, bytes):
        return _BYTES + _escape(key)
    return _encode_rare(key)


def encode_descending(key: Any) -> bytes:
    """The key's place in the total order turned around, as bytes."""
    # The end is marked: of two encodings that begin alike the longer one comes first here.
    return (encode_key(key) + _END).translate(_INVERT)


def check_key(key: Any) -> None:
    """Raise what :func:`encode_key` would raise; faster."""
    if type(key) in _ATOMS:
        return
    if isinstance(key, tuple):
        for item in key:
            check_key(item)
    else:
        encode_key(key)


def holds_nan(key: Any) -> bool:
    """Whether a key is NaN or has one in it: Python does not call two of them equal, and here they are."""
    if type(key) in _NEVER_NAN:
        return False
    if isinstance(key, tuple):
        return any(map(holds_nan, key))
    if isinstance(key, (float, Decimal)):
        return key != key
    return _is_frozen_dataclass(key) and any(holds_nan(getattr(key, field.name)) for field in dataclasses.fields(key))


def stable_hash(key: Any) -> int:
    """A 32-bit hash: equal for equal keys, the same in every process and on every machine.

    Raises:
        KeyTypeRefused: as :func:`encode_key`.
    """
    # A str is hashed without its kind and escapes: it is by far the commonest key, and this is one call in C.
    return crc32(utf8(key)) if isinstance(key, str) else crc32(encode_key(key))


def utf8(text: str) -> bytes:
    """UTF-8 in which what surrogateescape kept survives; compares as Python's strings do."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _encode_int(key: int) -> bytes:
    if 0 < key < _SMALL:  # by far the commonest, and an int key is encoded for its hash
        small = b"%d" % key
        return _SMALL_POINTS[len(small)] + small.rstrip(b"0") + _END
    if key == 0:
        return _ZERO
    try:
        digits = str(abs(int(key)))  # int(): a bool or IntEnum has a str of its own
    except ValueError:  # longer than sys.get_int_max_str_digits()
        return _encode_decimal(Decimal(int(key)))
    return _encode_digits(key < 0, len(digits), digits)


def _encode_float(key: float) -> bytes:
    if key != key:
        return _NAN
    if key in (float("inf"), float("-inf")):
        return _INFINITY if key > 0 else _NEGATIVE_INFINITY
    return _encode_int(int(key)) if key.is_integer() else _encode_decimal(Decimal(key))


def _encode_decimal(key: Decimal) -> bytes:
    if key.is_nan():
        return _NAN
    if key.is_infinite():
        return _INFINITY if key > 0 else _NEGATIVE_INFINITY
    if key.is_zero():
        return _ZERO
    sign, digits, exponent = key.as_tuple()
    assert isinstance(exponent, int)
    return _encode_digits(bool(sign), len(digits) + exponent, "".join(map(str, digits)))


def _encode_digits(negative: bool, point: int, digits: str) -> bytes:
    """The number 0.digits x 10**point. Leading zeros are not allowed, trailing ones do not matter."""
    magnitude = (point + _EXPONENT_BIAS).to_bytes(8, "big") + digits.rstrip("0").encode() + _END
    return _NEGATIVE + magnitude.translate(_INVERT) if negative else _POSITIVE + magnitude


def _encode_rare(key: Any) -> bytes:
    if isinstance(key, Decimal):
        return _encode_decimal(key)
    if isinstance(key, datetime):  # before date: it is one
        offset = key.utcoffset()
        if offset is None:
            return _NAIVE + ((key - _EPOCH) // _MICROSECOND).to_bytes(8, "big")
        instant = (key.replace(tzinfo=None) - _EPOCH - offset) // _MICROSECOND
        return _AWARE + (instant + _INSTANT_BIAS).to_bytes(8, "big")
    if isinstance(key, date):
        return _DATE + key.toordinal().to_bytes(4, "big")
    if isinstance(key, UUID):
        return _UUID + key.bytes
    if isinstance(key, Enum):
        name = key.name if key.name is not None else repr(key.value)  # a combination of flags may have no name
        return _ENUM + _class_name(key) + _escape(utf8(name))
    if _is_frozen_dataclass(key):
        fields = (getattr(key, field.name) for field in dataclasses.fields(key) if field.compare)
        return _DATACLASS + _class_name(key) + b"".join(map(encode_key, fields)) + _END
    raise KeyTypeRefused(
        FailureReport(
            error="KeyTypeRefused",
            message=f"A key of type {type(key).__qualname__} has no stable order and hash: {_cut(repr(key))}",
            exception=type(key).__qualname__,
            advice=f"Keys may be {PLAIN_KEYS}. Make it one of these, for example a tuple of its parts.",
        )
    )


def _escape(data: bytes) -> bytes:
    return (data.replace(_END, b"\x00\xff") if _END in data else data) + _END


def _class_name(key: Any) -> bytes:
    cls = type(key)
    return _escape(cls.__qualname__.encode()) + _escape(cls.__module__.encode())


def _is_frozen_dataclass(key: Any) -> bool:
    params = getattr(type(key), "__dataclass_params__", None)
    return params is not None and bool(params.frozen) and bool(params.eq)


def _cut(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
