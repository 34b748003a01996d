"""What the datasets of the contract suite hold: awkward values of every kind, drawn by Hypothesis or fixed.

And how two of them are compared: exactly, types included; or as keys are, where 1, 1.0 and True are one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, NamedTuple
from uuid import UUID
from zlib import crc32

from hypothesis import strategies as st

from gristmill.errors import KeyTypeRefused
from gristmill.records.keys import encode_key

Parts = list[list[Any]]  # the elements of each partition
NAN = float("nan")


class Colour(Enum):
    """A key that is an Enum."""

    RED = "r"
    GREEN = "g"


class Level(IntEnum):
    """A value that is an int, and more than that."""

    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class Point:
    """A key that is a frozen dataclass."""

    x: Any
    y: Any = None


class Named(NamedTuple):
    """A tuple that must not come back as a plain one."""

    left: Any
    right: Any


class Opaque:
    """A value that only pickle knows."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"Opaque({self.inner!r})"


# Comparing


def exact(value: Any) -> Any:
    """Something that is equal for two values if and only if they are the same, types and NaN included."""
    kind = type(value).__qualname__
    if isinstance(value, (list, tuple)):
        return kind, tuple(map(exact, value))
    if isinstance(value, dict):
        return kind, tuple((exact(key), exact(item)) for key, item in value.items())
    if isinstance(value, (set, frozenset)):
        return kind, tuple(sorted(map(exact, value), key=repr))
    if isinstance(value, Opaque):
        return kind, exact(value.inner)
    if isinstance(value, Point):
        return kind, exact(value.x), exact(value.y)
    return kind, repr(value)


def alike(value: Any) -> Any:
    """As :func:`exact`, but what are equal keys is one: 1, 1.0 and True; NaN and Decimal("NaN")."""
    if isinstance(value, list):
        return "list", tuple(map(alike, value))
    if isinstance(value, tuple):  # a named one too: as a key it is equal to a plain one
        return "tuple", tuple(map(alike, value))
    if isinstance(value, dict):
        return "dict", tuple(sorted(((alike(key), alike(item)) for key, item in value.items()), key=repr))
    if isinstance(value, (set, frozenset)):
        return "set", tuple(sorted(map(alike, value), key=repr))
    if isinstance(value, Opaque):
        return "Opaque", alike(value.inner)
    try:
        return "key", encode_key(value)
    except KeyTypeRefused:
        return exact(value)


def shown(values: Iterable[Any], form: Callable[[Any], Any]) -> list[str]:
    """Values in no order, made comparable."""
    return sorted(repr(form(value)) for value in values)


def digest(value: Any) -> int:
    """A number that is equal for equal keys, and for all that is made of them, in every process."""
    return crc32(repr(alike(value)).encode("utf-8", "backslashreplace"))


# Fixed values: no shape of data should need luck to be seen.

AWKWARD_KEYS: tuple[Any, ...] = (
    None,
    1,
    1.0,
    True,
    Decimal(1),
    0,
    -0.0,
    False,
    NAN,
    -NAN,
    float("inf"),
    -(10**30),
    2**63,
    2**53 + 1,
    float(2**53),
    0.1,
    Decimal("0.1"),
    "",
    "a",
    "a\x00b",
    "é\udc80",
    "e\u0301",
    "\U0001d50a",
    "a\tb\nc\r",
    b"",
    b"a\x00\xff",
    date(2024, 2, 29),
    datetime(2024, 2, 29),
    datetime(2024, 2, 29, 12, tzinfo=UTC),
    datetime(2024, 2, 29, 14, tzinfo=timezone(timedelta(hours=2))),
    UUID(int=7),
    Colour.RED,
    (),
    (1, "a"),
    (True, "a"),
    (None, (NAN, b"")),
    Point(1, "a"),
    Point(None, (2.0,)),
)
AWKWARD_VALUES: tuple[Any, ...] = (
    *AWKWARD_KEYS,
    [],
    [1, [None]],
    {},
    {"b": 1, "a": [NAN], 3: None},
    {1, 2},
    frozenset({"x"}),
    Level.HIGH,
    Named(1, "a"),
    Opaque("x"),
    bytearray(b"xy"),
    3 + 4j,
    "long " * 500,
)

# Drawn values


def _texts() -> st.SearchStrategy[str]:
    plain = st.text(max_size=6)
    escaped = st.binary(max_size=4).map(lambda data: data.decode("utf-8", "surrogateescape"))
    return plain | escaped


def numbers() -> st.SearchStrategy[Any]:
    """Whole numbers, small and large, and floats without NaN and infinities."""
    floats = st.floats(allow_nan=False, allow_infinity=False, width=32)
    return st.integers(-5, 5) | st.integers() | st.integers(-(2**70), 2**70) | floats


def atoms() -> st.SearchStrategy[Any]:
    """Keys that are no tuples."""
    zones = st.sampled_from([None, UTC, timezone(timedelta(hours=-3))])
    moments = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=zones)
    decimals = st.decimals(allow_nan=True, allow_infinity=True).filter(lambda number: not number.is_snan())
    return st.one_of(
        st.sampled_from(AWKWARD_KEYS[:24]),
        st.integers(-3, 3),
        st.integers(-(2**70), 2**70),
        st.floats(),
        _texts(),
        st.binary(max_size=4),
        st.dates(),
        moments,
        decimals,
        st.uuids(),
        st.sampled_from(Colour),
    )


def keys() -> st.SearchStrategy[Any]:
    """All that may be a key, nested tuples and dataclasses included."""
    return st.recursive(
        atoms(),
        lambda inner: st.lists(inner, max_size=3).map(tuple) | st.builds(Point, inner, inner),
        max_leaves=4,
    )


def twin(key: Any) -> Any:
    """Another key that is equal to this one, if there is one that is not the same."""
    if isinstance(key, int):
        if key in (0, 1):
            return bool(key) if type(key) is int else int(key)
        return Decimal(key) if abs(key) > 2**53 else float(key)
    if isinstance(key, float) and key.is_integer():
        return int(key)
    if isinstance(key, datetime) and key.tzinfo is not None:
        return key.astimezone(timezone(timedelta(hours=5, minutes=45)))
    if isinstance(key, tuple):
        return Named(*key) if len(key) == 2 and type(key) is tuple else tuple(map(twin, key))
    return Point(twin(key.x), key.y) if isinstance(key, Point) else key


@st.composite
def pools(draw: st.DrawFn, most: int = 4) -> list[Any]:
    """A few keys, some of which are equal to others without being the same."""
    drawn = draw(st.lists(keys(), min_size=1, max_size=most))
    return [*drawn, *map(twin, drawn)]


def values() -> st.SearchStrategy[Any]:
    """All that may be an element: keys, and what cannot be one."""
    return st.recursive(
        atoms() | st.sampled_from(Level) | st.builds(Opaque, st.integers()) | st.complex_numbers(),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.builds(Named, inner, inner),
            st.dictionaries(st.text(max_size=2), inner, max_size=2),
        ),
        max_leaves=5,
    )


def partitioned(elements: st.SearchStrategy[Any], most: int = 4, each: int = 6) -> st.SearchStrategy[Parts]:
    """Some partitions, at least one; any of them may be empty."""
    return st.lists(st.lists(elements, max_size=each), min_size=1, max_size=most)


@st.composite
def _pairs(draw: st.DrawFn) -> Parts:
    """Pairs whose keys come several times."""
    pool = draw(pools())
    drawn: Parts = draw(partitioned(st.tuples(st.sampled_from(pool), values())))
    return drawn


@st.composite
def _two_of_pairs(draw: st.DrawFn) -> tuple[Parts, Parts]:
    pool = draw(pools())
    one = partitioned(st.tuples(st.sampled_from(pool), values()), 3, 5)
    return draw(one), draw(one)


@st.composite
def _keys_only(draw: st.DrawFn) -> Parts:
    pool = draw(pools(5))
    drawn: Parts = draw(partitioned(st.sampled_from(pool)))
    return drawn


@st.composite
def _two_of_keys(draw: st.DrawFn) -> tuple[Parts, Parts]:
    pool = draw(pools(5))
    one = partitioned(st.sampled_from(pool), 3, 5)
    return draw(one), draw(one)


def _dealt(items: Iterable[Any], parts: int = 4) -> Parts:
    """Items dealt out, with empty partitions at both ends and within."""
    dealt: Parts = [[] for _ in range(parts)]
    for place, item in enumerate(items):
        dealt[place * 7 % parts].append(item)
    return [[], *dealt[:2], [], *dealt[2:], []]


_LEFT = [(key, place) for place, key in enumerate([*AWKWARD_KEYS, *AWKWARD_KEYS[::3], *AWKWARD_KEYS[:9]])]
_RIGHT = [(key, f"r{place}") for place, key in enumerate([*AWKWARD_KEYS[::2], *AWKWARD_KEYS[:9], "only right", 99])]
_SOME_VALUES = [(AWKWARD_KEYS[place * 5 % 12], value) for place, value in enumerate(AWKWARD_VALUES)]
_NUMBERS = [3, -1, 0.5, 2**70, 3, 1e-3, -(2**40), 0, 0.1, 0.2, 0.3, 1e16, 1, -1e16]
_WORDS = ["b", "a", "", "é", "a", "b b", "zz", "日本", "a"]


@dataclass(frozen=True)
class Shape:
    """Data of one shape: of one or two datasets.

    Attributes:
        name: for people.
        fixed: data that every fleet sees in every run of the suite.
        drawn: the partitions of each dataset.
    """

    name: str
    fixed: tuple[tuple[Parts, ...], ...]
    drawn: st.SearchStrategy[tuple[Parts, ...]]


def _one(parts: st.SearchStrategy[Parts]) -> st.SearchStrategy[tuple[Parts, ...]]:
    return parts.map(lambda drawn: (drawn,))


ANY = Shape("any", ((_dealt(AWKWARD_VALUES),),), _one(partitioned(values())))
KEYS = Shape("keys", ((_dealt([*AWKWARD_KEYS, *AWKWARD_KEYS[::2]]),),), _one(_keys_only()))
PAIRS = Shape("pairs", ((_dealt([*_LEFT, *_SOME_VALUES]),),), _one(_pairs()))
NUMBERS = Shape("numbers", ((_dealt(_NUMBERS),),), _one(partitioned(numbers()).filter(lambda parts: any(parts))))
WORDS = Shape(
    "words",
    ((_dealt(_WORDS),),),
    _one(partitioned(st.text("abé 日", max_size=4))),
)
WHOLE = Shape("whole", ((_dealt(range(-9, 40)),),), _one(partitioned(st.integers(-20, 20))))
SOME_WHOLE = Shape("some whole", WHOLE.fixed, _one(partitioned(st.integers(-20, 20)).filter(lambda parts: any(parts))))
COUNTED = Shape(
    "counted",
    ((_dealt([(key, place) for place, (key, _) in enumerate(_LEFT)]),),),
    _one(_pairs().map(lambda parts: [[(key, digest(value) % 7) for key, value in part] for part in parts])),
)
TWO_PAIRS = Shape("two of pairs", ((_dealt(_LEFT), _dealt(_RIGHT, 3)),), _two_of_pairs())
TWO_KEYS = Shape(
    "two of keys", ((_dealt([*AWKWARD_KEYS, *AWKWARD_KEYS[::2]]), _dealt(AWKWARD_KEYS[::3], 2)),), _two_of_keys()
)
TWO_ANY = Shape(
    "two of any",
    ((_dealt(AWKWARD_VALUES[::4]), _dealt(AWKWARD_VALUES[1::5], 2)),),
    st.tuples(partitioned(values(), 3, 4), partitioned(values(), 3, 4)),
)
