"""A collector into which fused functions fold (see ``fuse``): as fast as a loop over a plain dict, for it is one.

A plain dict cannot tell when what it holds grows. Numbers hardly do, so as long as all that is held are numbers, or
a few of them in a tuple, there is nothing to tell; this is looked at now and then. With anything else the collector
goes on as any other does, one pair after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import chain, islice
from pathlib import Path
from sys import getsizeof
from typing import Any

from gristmill.compute import collect
from gristmill.compute.collect import Collector
from gristmill.compute.folding import Folds
from gristmill.compute.fuse import Grouping
from gristmill.compute.weight import weight
from gristmill.plan.functions import Fold, Partitioner
from gristmill.records.keys import encode_key, holds_nan

_NUMBERS = frozenset((int, float, bool, complex, type(None)))
_NUMBER_BYTES = 32
_FEW = 8
_MORE = 2  # times as much as others hold: keys are charged with a list each, which numbers have not
_STEP = 1024  # records between two looks at what is held: at least
_STEP_A_KEY = 8  # and for each key: to look at all of them takes time


class FusedCollector(Collector):
    """Collects the pairs of one map attempt, which a fused function folds where they arise.

    What it is given after something failed comes as pairs: ``consume`` names what is wrong with one.
    """

    def __init__(
        self,
        partitions: int,
        scratch: Path | str,
        target: Path | str,
        partitioner: Partitioner | None,
        fold: Fold,
        fused: Grouping,
    ) -> None:
        super().__init__(partitions, scratch, target, None, partitioner, fold)
        self._fold = fold
        self._fused = fused
        self._folds: Folds | None = None
        self._groups = self._held = dict[Any, Any]()
        self._held_bytes = 0
        self._nans: dict[bytes, Any] = {}  # encoding → the first such key, which has the values of all

    def group(self, records: Iterator[Any], pairs_of: Callable[[Iterator[Any]], Iterator[tuple[Any, Any]]]) -> None:
        """Take the pairs that records become.

        Args:
            records: none is taken before the one in front of it is done.
            pairs_of: what the fused function was made of, as a stream.
        """
        step = 1  # the first shows what is to come
        for record in records:
            here = chain((record,), records)
            if self._folds is not None:
                self.consume(pairs_of(here))
                return
            self._fused(self._held, islice(here, step), self._first)
            size = _size_of_numbers(self._held.values())
            if size is None:
                self._take_pairs()
            else:
                self._held_bytes = size
                step = max(_STEP, _STEP_A_KEY * len(self._held))

    def consume(self, pairs: Iterator[tuple[Any, Any]]) -> None:
        """Take all of ``pairs``, as any collector does."""
        self._take_pairs()
        super().consume(pairs)

    def _take_pairs(self) -> None:
        """Fold pair by pair from now on."""
        if self._folds is None:
            folds = Folds(self._fold, self._charge_key)
            folds.begin_with(self._held)
            self._folds = self._groups = folds
            self._held = {}

    def _first(self, key: Any, value: Any) -> None:
        """A key that is not there: begin its group."""
        nan = b""
        if type(key) is not str:
            if key in self._held:  # then what we took for a missing key is a KeyError of the user's
                raise RuntimeError("a key's hash or equality failed")
            nan = encode_key(key) if holds_nan(key) else b""
            if nan in self._nans:  # Python calls no two NaNs equal, and here they are
                first = self._nans[nan]
                self._held[first] = self._fold.merge_value(self._held[first], value)
                return
        folded = value if self._fold.create is None else self._fold.create(value)
        size = _NUMBER_BYTES if type(folded) in _NUMBERS else weight(folded)
        if self._key_bytes + self._held_bytes + size >= _MORE * collect.RUN_BYTES and self._held:
            self._cut_run()
        self._charge_key(key)
        self._held_bytes += size
        self._held[key] = folded
        if nan:
            self._nans[nan] = key

    def _write_groups(self, path: Path) -> Any:
        written = super()._write_groups(path)
        self._nans.clear()
        self._held_bytes = 0
        return written


def _size_of_numbers(held: Collection[Any]) -> int | None:
    """How many bytes numbers, or tuples of a few, take. None if there is anything else among them."""
    if _NUMBERS.issuperset(map(type, held)):
        return sum(map(getsizeof, held))
    size = 0
    for one in held:
        if type(one) is tuple and len(one) <= _FEW and _NUMBERS.issuperset(map(type, one)):
            size += getsizeof(one) + sum(map(getsizeof, one))
        elif type(one) in _NUMBERS:
            size += getsizeof(one)
        else:
            return None
    return size
