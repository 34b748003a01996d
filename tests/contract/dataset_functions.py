"""Functions for the datasets of the contract suite. What they return for equal keys is equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from dataset_values import alike, digest


def small(value: Any) -> int:
    """One of a few keys."""
    return digest(value) % 4


def mixed_key(value: Any) -> Any:
    """One of a few keys of several types, 1, 1.0 and True among them."""
    return (1, True, "1", None, (1.0, "x"), (True, "x"))[digest(value) % 6]


def twice(value: Any) -> list[Any]:
    """None, one or two of a value."""
    return [value] * (digest(value) % 3)


def odd(value: Any) -> bool:
    """About every second value."""
    return digest(value) % 2 == 1


def pair(value: Any) -> tuple[int, Any]:
    """A pair of few keys."""
    return small(value), value


def together(left: Any, right: Any) -> Any:
    """Associative, and the order matters: for tuples, lists and texts."""
    return left + right


def add(left: int, right: int) -> int:
    """Associative, and the order does not matter."""
    return left + right


def appended(values: list[Any], value: Any) -> list[Any]:
    """Changes what it is given."""
    values.append(value)
    return values


def extended(values: list[Any], others: list[Any]) -> list[Any]:
    """Changes what it is given."""
    values.extend(others)
    return values


def sorted_alike(values: Iterable[Any]) -> list[Any]:
    """Values in an order that does not depend on the one they had."""
    return sorted(values, key=lambda value: repr(alike(value)))


def counted(rows: Iterator[Any]) -> Iterator[Any]:
    """A partition's rows, and then how many there were."""
    count = 0
    for row in rows:
        count += 1
        yield row
    yield ("rows", count)


def first_two(rows: Iterator[Any]) -> Iterator[Any]:
    """Stops early."""
    for _, row in zip(range(2), rows, strict=False):
        yield row


def lists(pairs: Any) -> Any:
    """A dataset of pairs, each value in a list of its own."""
    return pairs.map_values(lambda value: [value])
