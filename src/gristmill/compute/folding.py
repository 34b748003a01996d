"""Folds values as they come: key → what its values have been folded to so far.

The meaning is that of ``functools.reduce`` from the left, over the values in the order in which they come: what is cut
between is joined by ``merge_combiners``. A value that stays alone is never touched.
"""

from __future__ import annotations

from bdb import BdbQuit
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from operator import add
from typing import Any

from gristmill.compute.culprit import check_pair
from gristmill.compute.guard import locate, user_error
from gristmill.compute.weight import weight
from gristmill.errors import GristmillError, TaskError
from gristmill.plan.functions import Fold, Folder
from gristmill.records.keys import encode_key, holds_nan

_NOT_THE_USERS = (GristmillError, MemoryError, BdbQuit)
_SAMPLES = 8  # pairs of a chunk whose folding is measured
_WORTH_RECOUNTING = 2  # pairs folded since the last count, for each key: counting costs more than that otherwise
_PLAIN = frozenset((str, bytes, int, float, bool, complex, tuple, type(None)))  # what these hold, they hold in sight


class _Nothing:
    """What a new key holds."""

    __slots__ = ()

    def __add__(self, other: Any) -> Any:
        return other


_NOTHING = _Nothing()


class Folds(dict[Any, Any]):
    """key → what its values are folded to.

    What it holds may grow with each value (a fold can build lists), or not at all: so the growth is measured while a
    few pairs of each chunk are folded. What is measured depends on the pairs alone.

    Attributes:
        held_bytes: about what the folded values take.
    """

    def __init__(self, fold: Fold, charge: Callable[[Any], None]) -> None:
        """``charge`` is told every new key."""
        self._fold = fold
        self._charge = charge
        self._take = self._add if fold.create is None and fold.merge_value is add else self._merge
        self._nans: dict[bytes, list[Any]] = {}  # encoding → the first such key, and the one that is in the dict
        self._recent = 0  # pairs since the last count
        self.held_bytes = 0

    def __missing__(self, key: Any) -> Any:
        if type(key) is not str and holds_nan(key):
            return self._missing_nan(key)
        self._charge(key)
        return _NOTHING

    def take(self, pairs: Iterator[tuple[Any, Any]], count: int) -> int:
        """Fold at most so many pairs in.

        Returns:
            About how many bytes one of them takes; 0 if there was none.

        Raises:
            KeyTypeRefused: a key is of a type without order and stable hash.
            UserCodeError: a function of the fold raised, or something is not a pair.
        """
        step = max(1, count // _SAMPLES)
        grown = weighed = measured = taken = 0
        for pair in pairs:
            growth, size = self._measure(pair)
            grown += growth
            weighed += size
            measured += 1
            taken += 1 + self._take(islice(pairs, step - 1))
            if taken + step > count:
                break
        self._recent += taken
        if not measured:
            return 0
        self.held_bytes = max(0, self.held_bytes + grown * taken // measured)
        return max(weighed, grown) // measured + 8

    def recount(self) -> None:
        """Measure what all hold, unless few pairs came since that was last done."""
        if self._recent >= _WORTH_RECOUNTING * len(self):
            self._recent = 0
            self.held_bytes = sum(map(_weight_throughout, self.values()))

    def begin_with(self, held: Mapping[Any, Any]) -> None:
        """Hold what was folded elsewhere, where its keys were charged."""
        self.update(held)
        self._nans.update((encode_key(key), [key, key]) for key in held if type(key) is not str and holds_nan(key))
        self.held_bytes = sum(map(_weight_throughout, held.values()))

    def settle(self) -> None:
        """All came: keys that only Python calls different are what the first of them was."""
        for first, current in self._nans.values():
            if first is not current:
                self[first] = self.pop(current)

    def clear(self) -> None:
        """Begin anew."""
        super().clear()
        self._nans.clear()
        self._recent = self.held_bytes = 0

    def _measure(self, pair: tuple[Any, Any]) -> tuple[int, int]:
        """Fold a pair in. By how many bytes what is held grew then, and how many the value has."""
        try:
            key, value = pair
            before = weight(self[key]) if key in self else 0
        except (TypeError, ValueError):
            check_pair(pair, None, "mapper", shuffled=True)
            raise
        size = weight(value)
        self._take((pair,))
        held = self[key]
        growth = weight(held) - before
        # Where a value is kept, its own weight is closer to the truth than that of the container's first ones.
        kept = growth > 0 and type(held) not in _PLAIN
        return max(growth, size + 8) if kept else growth, size

    def _add(self, pairs: Iterable[tuple[Any, Any]]) -> int:
        # Not in place, which would change a list that is the user's own; of all else it takes the same time.
        count = 0
        for pair in pairs:
            try:
                key, value = pair
                self[key] = self[key] + value
            except _NOT_THE_USERS:
                raise
            except Exception as error:  # whatever user code raises
                raise _failed(error, "merge_value", pair) from error
            count += 1
        return count

    def _merge(self, pairs: Iterable[tuple[Any, Any]]) -> int:
        create, merge_value = self._fold.create, self._fold.merge_value
        count = 0
        held: Any = None
        for pair in pairs:
            try:
                key, value = pair
                held = self[key]
                if held is not _NOTHING:
                    self[key] = merge_value(held, value)
                else:
                    self[key] = value if create is None else create(value)
            except _NOT_THE_USERS:
                raise
            except Exception as error:  # whatever user code raises
                raise _failed(error, "create" if held is _NOTHING else "merge_value", pair) from error
            count += 1
        return count

    def _missing_nan(self, key: Any) -> Any:
        """Python calls no two NaNs equal, and here they are: what the last one had goes to the new one."""
        found = self._nans.setdefault(encode_key(key), [key, key])
        if found[1] is key:
            self._charge(key)
            return _NOTHING
        held = self.pop(found[1])
        found[1] = key
        return held


def fold_combiner(fold: Fold) -> Folder:
    """A combiner for values that are folded already: it merges them, the first come first."""
    merge = fold.merge_combiners

    def combine(key: Any, values: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
        folded = next(values)  # a group has values
        for value in values:
            try:
                folded = merge(folded, value)
            except _NOT_THE_USERS:
                raise
            except Exception as error:  # whatever user code raises
                raise _failed(error, "merge_combiners", (key, value)) from error
        yield key, folded

    return combine


def _failed(error: Exception, role: str, pair: tuple[Any, Any]) -> TaskError:
    check_pair(pair, None, "mapper", shuffled=True)  # what is wrong with itself
    return locate(user_error(error, role), record=pair[0], source="")


def _weight_throughout(held: Any) -> int:
    """The same as ``weight``, for what may have begun otherwise than it went on."""
    if type(held) is list and held:
        sample = held[:: len(held) // _SAMPLES + 1]
        return held.__sizeof__() + len(held) * sum(map(weight, sample)) // len(sample)
    return weight(held)
