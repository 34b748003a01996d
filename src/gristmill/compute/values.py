"""Values of one key that may be too many for memory: what does not fit goes to a file, and is read from there again.

How much is held depends on the values alone, so the same data always takes the same way.
"""

from __future__ import annotations

import pickle
import tempfile
import weakref
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar, overload

from gristmill.compute.weight import weight

V = TypeVar("V")

HELD_BYTES = 32 * 1024 * 1024  # of one key's values, as Python holds them
_CHUNK_BYTES = 512 * 1024
_CHUNK = 16, 4096  # values taken between two looks at their size: at first, most
_SAMPLE = 4
DECODED: tuple[type, ...] = (type(iter([])), type(iter(())))
"""Iterators over values that are in memory: whoever decoded them at once knew that they are few."""


class StreamedValues(Sequence[V]):
    """The values of a key that has very many: a sequence like a list, of which only the first part lies in memory.

    The others are taken as they are iterated over, and written to a temporary file, from which they come when they are
    asked for again. It cannot be changed. Pickled it becomes a list.

    Args:
        head: the first values.
        rest: the others.
        folder: where the file is made; made itself if it is not there.
    """

    def __init__(self, head: Sequence[V], rest: Iterator[V], folder: Path) -> None:
        self._rest: Iterator[V] | None = rest
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)
        weakref.finalize(self, self._file.close)
        self._head = head
        self._offsets: list[int] = []  # of the chunks in the file
        self._ends: list[int] = []  # how many values there are up to the end of each chunk
        self._last: tuple[int, list[V]] = -1, []  # the chunk that was read last, for access by index
        self._step = _CHUNK[0]

    def __iter__(self) -> Iterator[V]:
        yield from self._head
        number = 0
        while True:
            if number < len(self._offsets):
                chunk = self._read(number)
            elif not (chunk := self._take()):
                return
            yield from chunk
            number += 1

    def __len__(self) -> int:
        self.settle()
        return self._ends[-1] if self._ends else len(self._head)

    @overload
    def __getitem__(self, place: int) -> V: ...
    @overload
    def __getitem__(self, place: slice) -> list[V]: ...
    def __getitem__(self, place: int | slice) -> V | list[V]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"there are {len(self)} values, and none at {place}")
        place %= len(self)
        if place < len(self._head):
            return self._head[place]
        number = bisect_right(self._ends, place)
        if self._last[0] != number:
            self._last = number, self._read(number)
        chunk = self._last[1]
        return chunk[place - self._ends[number] + len(chunk)]

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (), None, iter(self)

    def __repr__(self) -> str:
        return f"<StreamedValues: {', '.join(map(repr, self._head[:3]))}, …>"

    def __getattr__(self, name: str) -> NoReturn:
        if hasattr(list, name):
            raise AttributeError(
                f"the values of this key are so many that they are not in one list, and cannot {name}(); "
                "list(values) makes a list of them, if it fits in memory"
            )
        raise AttributeError(f"'StreamedValues' object has no attribute {name!r}")

    def settle(self) -> None:
        """Take what has not been taken yet: from now on nothing is needed but the file."""
        while self._take():
            pass

    def _take(self) -> list[V]:
        """The next values, which are put into the file; none if there are no more."""
        if self._rest is None:
            return []
        chunk = list(islice(self._rest, self._step))
        if not chunk:
            self._rest = None
            return chunk
        self._step = _next_step(_mean_weight(chunk))
        data = pickle.dumps(chunk, pickle.HIGHEST_PROTOCOL)
        self._offsets.append(self._file.seek(0, 2))
        self._ends.append((self._ends[-1] if self._ends else len(self._head)) + len(chunk))
        self._file.write(data)
        return chunk

    def _read(self, number: int) -> list[V]:
        self._file.seek(self._offsets[number])
        chunk: list[V] = pickle.load(self._file)
        return chunk


def take_held(values: Iterator[V], limit: int = HELD_BYTES) -> tuple[list[V], Iterator[V] | None]:
    """The first values, as many as may be held.

    Returns:
        A list, and an iterator over the others; or None if those were all.
    """
    if type(values) in DECODED:
        return list(values), None
    step = _CHUNK[0]
    held = list(islice(values, step))
    if len(held) < step:
        return held, None
    size = (mean := _mean_weight(held)) * len(held)
    while size < limit:
        step = _next_step(mean)
        chunk = list(islice(values, step))
        held += chunk
        if len(chunk) < step:
            return held, None
        mean = _mean_weight(chunk)
        size += mean * len(chunk)
    for value in values:
        return held, chain((value,), values)
    return held, None


def held_or_streamed(values: Iterator[V], folder: Path) -> list[V] | StreamedValues[V]:
    """All values: a list if they may be held."""
    held, rest = take_held(values)
    return held if rest is None else StreamedValues(held, rest, folder)


def _mean_weight(chunk: Sequence[Any]) -> int:
    sample = chunk[:: len(chunk) // _SAMPLE + 1]
    return 8 + sum(map(weight, sample)) // len(sample)


def _next_step(mean: int) -> int:
    return max(1, min(_CHUNK[1], _CHUNK_BYTES // mean))
