"""What ``stats()`` tells of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stats:
    """Figures of some numbers.

    Attributes:
        count: how many there are.
        sum: of whole numbers and floats it is exact, but for one rounding at the end.
        mean: NaN if there are none.
        variance: of the numbers themselves (divided by the count); NaN if there are none.
        min: the smallest one; None if there are none.
        max: the largest one; None if there are none.
    """

    count: int
    sum: Any
    mean: float
    variance: float
    min: Any
    max: Any

    @property
    def stdev(self) -> float:
        """The square root of the variance."""
        return math.sqrt(self.variance)

    @property
    def sample_variance(self) -> float:
        """The variance of all, if these are a sample of them (divided by the count less one); NaN of fewer than two."""
        return self.variance * self.count / (self.count - 1) if self.count > 1 else math.nan

    @property
    def sample_stdev(self) -> float:
        """The square root of the sample variance."""
        return math.sqrt(self.sample_variance)

    @classmethod
    def of(cls, count: int, total: Any, mean: float, squares: float, smallest: Any, largest: Any) -> Stats:
        """From what tasks have added up: ``squares`` is the sum of squared distances to the mean."""
        if not count:
            return cls(0, 0, math.nan, math.nan, None, None)
        return cls(count, total, mean, squares / count, smallest, largest)
