"""Which keys have the most rows, noted in passing while blocks are merged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow.compute as pc

from gristmill.shuffle.groups import keys_of, lists_of, row_count
from gristmill.shuffle.merge import Counted, HotGroup, Piece

MANY_ROWS = 1000
"""In fewer rows no key is looked for."""

_SHARE = 8  # a key with less than this part of what was read is not worth naming
_MOST_KEYS = 3
_SHOWN_CHARS = 100


class HotKeys:
    """The largest groups of some streams of merged pieces."""

    def __init__(self) -> None:
        self._rows = 0
        self._largest: dict[str, int] = {}

    @property
    def found(self) -> tuple[tuple[str, int], ...]:
        """The keys as text, and how many rows they have; the most first."""
        if not self._largest:
            return ()
        least = max(MANY_ROWS, self._rows // _SHARE)
        found = [(key, rows) for key, rows in self._largest.items() if rows >= least]
        return tuple(sorted(found, key=lambda one: -one[1])[:_MOST_KEYS])

    def watch(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """The same pieces. A key is in one of them only."""
        for piece in pieces:
            if isinstance(piece, HotGroup):
                counted = Counted(piece.arrays)
                yield HotGroup(piece.row, counted)
                for _ in counted:  # what the consumer left
                    pass
                self._note(piece.row, 0, counted.rows)
            else:
                self._look(piece)
                yield piece

    def _look(self, batch: Any) -> None:
        rows = row_count(batch)
        if rows < MANY_ROWS:
            self._rows += rows
            return
        sizes = pc.list_value_length(lists_of(batch))
        largest = pc.max(sizes).as_py()
        self._rows += rows - largest
        self._note(batch, pc.index(sizes, largest).as_py(), largest)

    def _note(self, batch: Any, place: int, rows: int) -> None:
        self._rows += rows
        if rows < MANY_ROWS:
            return
        shown = _shown(keys_of(batch.slice(place, 1))[0])
        self._largest[shown] = self._largest.get(shown, 0) + rows
        if len(self._largest) > 2 * _MOST_KEYS:
            del self._largest[min(self._largest, key=lambda key: self._largest[key])]


def _shown(key: Any) -> str:
    try:
        text = repr(key)
    except Exception:  # the user's own
        text = f"<{type(key).__name__}>"
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
