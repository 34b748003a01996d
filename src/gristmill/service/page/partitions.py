"""How evenly a shuffle is spread: the sizes of its partitions as bars, and the keys that have too many rows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from gristmill.runtime.journal.history import StageHistory
from gristmill.service.page.figures import count, size

_MOST_BARS = 96
HEIGHT = 100
_UNEVEN = 3.0  # times the median: worth a word


@dataclass(frozen=True)
class PartitionBar:
    """Some neighbouring partitions: one, if there are not too many. Positions in percent of the width."""

    x: float
    width: float
    height: float
    large: bool
    title: str


@dataclass(frozen=True)
class Spread:
    """The partitions that one stage has made.

    Attributes:
        stage: its name.
        count: of partitions.
        bars: from the first to the last.
        summary: in words.
        uneven: one has much more than others.
        top: the size at the top of the picture.
    """

    stage: str
    count: int
    bars: tuple[PartitionBar, ...]
    summary: str
    uneven: bool
    top: str


def spreads(stages: Sequence[StageHistory]) -> list[Spread]:
    """One for each stage that made partitions."""
    return [_spread(stage) for stage in stages if len(stage.partition_bytes) > 1 and any(stage.partition_bytes)]


def _spread(stage: StageHistory) -> Spread:
    sizes, rows = stage.partition_bytes, stage.partition_rows
    usual, largest = median(sizes), max(sizes)
    together = -(-len(sizes) // _MOST_BARS)  # the largest of them is what is shown
    groups = [range(first, min(first + together, len(sizes))) for first in range(0, len(sizes), together)]
    step = 100 / len(groups)
    bars = []
    for number, group in enumerate(groups):
        worst = max(group, key=lambda one: sizes[one])
        height = HEIGHT * sizes[worst] / largest
        bars.append(
            PartitionBar(
                round(number * step + step * 0.08, 3),
                round(step * 0.84, 3),
                round(max(height, 1.0 if sizes[worst] else 0.0), 1),
                _is_uneven(sizes[worst], usual),
                f"Partition {worst}: {size(sizes[worst])}, {count(rows[worst])} rows",
            )
        )
    where = sizes.index(largest)
    summary = f"{count(len(sizes))} partitions, {size(sum(sizes))} in all. The median has {size(usual)}"
    uneven = _is_uneven(largest, usual)
    if uneven and usual:
        summary += f"; partition {where} has {size(largest)}, {largest / usual:.1f} times as much."
    elif uneven:
        summary += f"; partition {where} has {size(largest)}."
    else:
        summary += f", the largest {size(largest)}: evenly spread."
    return Spread(stage.name, len(sizes), tuple(bars), summary, uneven, size(largest))


def _is_uneven(size_bytes: float, usual: float) -> bool:
    return size_bytes > _UNEVEN * usual
