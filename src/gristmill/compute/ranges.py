"""Keys by ranges: what a sort's partitions hold follows one another in the order of keys."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from gristmill.records.keys import encode_key

_PLAIN = (str, int, bytes)  # among themselves these compare as their encodings do


class RangePartitioner:
    """(key, partitions) to a partition: how many of the bounds are not above the key. Equal keys stay together.

    Attributes:
        bounds: the first keys of all partitions but the first, ascending; the same one may stand several times.
        kind: the one plain type that all bounds have; None if ``bounds`` are encodings.
    """

    def __init__(self, bounds: Sequence[Any], partitions: int, descending: bool = False) -> None:
        assert len(bounds) < partitions, "a bound lies between two partitions"
        self.kind = _plain_kind(bounds)
        self.partitions, self.descending = partitions, descending
        self._encoded = [encode_key(bound) for bound in bounds]
        self.bounds: list[Any] = list(bounds) if self.kind is not None else self._encoded

    def __call__(self, key: Any, partitions: int) -> int:
        """Where a key goes.

        Raises:
            KeyTypeRefused: it has no order.
        """
        assert partitions == self.partitions, "bounds are made for a number of partitions"
        if not self.bounds:
            above = 0
        elif type(key) is self.kind:
            above = bisect_right(self.bounds, key)
        else:
            above = bisect_right(self._encoded, encode_key(key))
        return partitions - 1 - above if self.descending else above


def bounds_of(samples: Sequence[Any], partitions: int, descending: bool) -> RangePartitioner:
    """A partitioner that cuts the samples into parts of about the same size.

    Where there are fewer different keys than partitions, some partitions stay empty.

    Args:
        samples: keys, in any order.
        partitions: how many parts there are.
        descending: the largest keys go to partition 0.

    Raises:
        KeyTypeRefused: a sample has no order.
    """
    count = len(samples)
    if _plain_kind(samples) is not None:
        ordered = sorted(samples)
    else:
        keyed = {encode_key(sample): sample for sample in samples}
        ordered = [keyed[encoded] for encoded in sorted(map(encode_key, samples))]
    bounds = [ordered[count * part // partitions] for part in range(1, partitions)] if count else []
    return RangePartitioner(bounds, partitions, descending)


def _plain_kind(keys: Sequence[Any]) -> type | None:
    types = set(map(type, keys))
    return next((kind for kind in _PLAIN if types == {kind}), None)
