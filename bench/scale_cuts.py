"""Into how many tasks a large job is best cut: the model, tried with many cuts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scale_model import Costs, Cut, Forecast, Machines, Work, forecast

from gristmill.config import GIB, MAX_SPLIT_BYTES
from gristmill.storage.inputs import default_reducers

LONG_SECONDS = 900.0
"""Longer tasks are avoided, for each that is lost, or slow, is much to do again …"""

WORTH = 1.5
"""… unless the job then takes so many times as long."""

NEARLY = 1.1
"""Times the fastest: smaller tasks are worth so much."""


def cuts(machines: Machines, input_bytes: float) -> Iterator[Cut]:
    """Cuts worth a try: splits from 64 MiB up, doubled each time; reducers likewise, and by the number of slots."""
    counts = {default_reducers(int(input_bytes)) << power for power in range(9)}
    counts |= {max(1, machines.slots * times // 2) for times in (1, 2, 4, 8, 16)}
    split = float(MAX_SPLIT_BYTES)
    while split <= 64 * GIB and split < 2 * input_bytes:
        for reducers in sorted(counts):
            yield Cut(split, reducers)
        split *= 2


def best_cut(costs: Costs, work: Work, machines: Machines, input_bytes: float) -> Forecast:
    """The fastest of the cuts that fit, or nearly; of those whose tasks are not too long, if that is worth it.

    If none fits, the one whose fullest room is the least full.
    """
    found = [forecast(costs, work, machines, cut, input_bytes) for cut in cuts(machines, input_bytes)]
    fitting = [one for one in found if one.fits]
    if fitting:
        enough = WORTH * min(one.seconds for one in fitting)
        short = [one for one in fitting if one.task_seconds <= LONG_SECONDS and one.seconds <= enough]
        return nearly_fastest(short or fitting)
    return min(found, key=lambda one: one.fullest)


def nearly_fastest(found: Sequence[Forecast]) -> Forecast:
    """Of those that take hardly longer than the fastest, the one with the smallest splits."""
    enough = NEARLY * min(one.seconds for one in found)
    return min((one for one in found if one.seconds <= enough), key=lambda one: (one.cut.split_bytes, one.seconds))
