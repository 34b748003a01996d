"""Sums and moments that do not depend on where the elements were cut into tasks, or hardly.

A :class:`Total` adds floats without rounding: it keeps what an addition would lose (an expansion, after Shewchuk 1997),
and rounds once at the end. So the sum of the same floats is the same float, however they were cut, unless it grows
beyond all floats on the way. A :class:`Spread` is computed in two passes over each batch, and batches are merged by the
formulas of Chan, Golub and LeVeque (1979) in the order of the elements: the same cut gives the same bits, another cut
may differ in the last ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from numbers import Integral, Rational, Real
from typing import Any

_BATCH = 4096
_PARTS = 64  # an expansion that is longer is made short again


def batches(stream: Iterator[Any]) -> Iterator[list[Any]]:
    """The elements in lists."""
    while batch := list(islice(stream, _BATCH)):
        yield batch


class Total:
    """How many elements there are, and their sum: whole numbers and floats exactly, anything else by its ``+``."""

    def __init__(self) -> None:
        self.count = 0
        self._whole = 0
        self._holds_ints = False
        self._floats: list[float] = []  # their sum is exact; empty if there was no float
        self._special = 0.0  # of infinities and NaN
        self._others: Any = None
        self._holds_others = False

    def add(self, batch: Sequence[Any]) -> None:
        """Add some elements.

        Raises:
            TypeError: they cannot be added.
        """
        self.count += len(batch)
        kinds = set(map(type, batch))
        if kinds <= {int, bool}:
            self._add_ints(batch)
        elif kinds == {float}:
            self._add_floats(batch)
        else:
            for element in batch:
                self._add_any(element)

    def merge(self, later: Total) -> None:
        """Add the total of elements that come after these."""
        self.count += later.count
        self._whole += later._whole
        self._holds_ints |= later._holds_ints
        self._special += later._special
        if later._floats:
            self._add_floats(later._floats)
        if later._holds_others:
            self._add_other(later._others)

    def result(self) -> Any:
        """The sum; 0 if there was nothing to add."""
        numbers: Any = self._whole
        if self._floats:
            numbers = self._special or math.fsum([*self._floats, *_floats_of(self._whole)])
        if not self._holds_others:
            return numbers
        return self._others + numbers if self._holds_ints or self._floats else self._others

    def _add_ints(self, batch: Sequence[int]) -> None:
        self._whole += sum(batch)
        self._holds_ints = True

    def _add_floats(self, batch: Sequence[float]) -> None:
        floats = [*self._floats, *batch]
        try:
            self._floats = _expansion(floats)
        except (OverflowError, ValueError):  # infinities, NaN, or too large on the way
            self._floats = [sum(floats)]
        if not math.isfinite(self._floats[0]):
            self._special += self._floats[0]
            self._floats = [0.0]

    def _add_any(self, element: Any) -> None:
        if isinstance(element, float):
            self._add_floats([float(element)])
        elif isinstance(element, Integral):
            self._add_ints([int(element)])
        elif isinstance(element, Real) and not isinstance(element, Rational):
            self._add_floats([float(element)])
        else:
            self._add_other(element)

    def _add_other(self, element: Any) -> None:
        if element is None or isinstance(element, (str, bytes)):
            raise TypeError(f"{element!r:.100} is no number")
        self._others = self._others + element if self._holds_others else element
        self._holds_others = True


class Spread:
    """How many numbers there are, their mean, smallest and largest, and the sum of squares of distances to the mean."""

    def __init__(self) -> None:
        self.total = Total()
        self.mean = 0.0
        self.squares = 0.0
        self.smallest: Any = None
        self.largest: Any = None

    def add(self, batch: Sequence[Any]) -> None:
        """Add some numbers, at least one.

        Raises:
            TypeError: one is no number.
        """
        numbers = [_number(element) for element in batch]
        one = Spread()
        one.total.add(batch)
        one.mean = _mean(numbers)
        one.squares = _sum((number - one.mean) ** 2 for number in numbers)
        one.smallest, one.largest = min(batch), max(batch)
        self.merge(one)

    def merge(self, later: Spread) -> None:
        """Add numbers that come after these."""
        here, there = self.total.count, later.total.count
        if not there:
            return
        if not here:
            self.mean, self.squares = later.mean, later.squares
            self.smallest, self.largest = later.smallest, later.largest
        else:
            apart = later.mean - self.mean
            self.mean += apart * there / (here + there)
            self.squares += later.squares + apart * apart * here * there / (here + there)
            self.smallest, self.largest = min(self.smallest, later.smallest), max(self.largest, later.largest)
        self.total.merge(later.total)

    def result(self) -> tuple[int, Any, float, float, Any, Any]:
        """Count, sum, mean, sum of squares of distances to it, smallest, largest."""
        return self.total.count, self.total.result(), self.mean, self.squares, self.smallest, self.largest


def _number(element: Any) -> float:
    if isinstance(element, (str, bytes)):
        raise TypeError(f"{element!r:.100} is no number")
    return float(element)


def _mean(numbers: Sequence[float]) -> float:
    mean = _sum(numbers) / len(numbers)
    # A sum may be too large for a float where the mean is not.
    return mean if math.isfinite(mean) else _sum(number / len(numbers) for number in numbers)


def _sum(numbers: Iterator[float] | Sequence[float] | Any) -> float:
    values = list(numbers)
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return float(sum(values))


def _expansion(floats: list[float]) -> list[float]:
    """A few floats whose sum is exactly that of others, largest first; at least one.

    Raises:
        OverflowError: the sum is too large.
        ValueError: infinities of both signs.
    """
    if len(floats) <= 1:
        return floats
    parts: list[float] = []
    while True:
        # What remains once the leading digits are taken away is added in the next round, again without rounding.
        part = math.fsum([*floats, *(-part for part in parts)])
        parts.append(part)
        if part == 0.0 or not math.isfinite(part) or len(parts) > _PARTS:
            break
    return parts[:-1] or parts


def _floats_of(whole: int) -> list[float]:
    """Floats whose sum is exactly a whole number.

    Raises:
        OverflowError: it is too large for a float.
    """
    parts: list[float] = []
    while whole:
        parts.append(float(whole))
        whole -= int(parts[-1])
    return parts
