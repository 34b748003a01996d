"""What an action has computed, element by element, wherever it lies."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gristmill.errors import BlockUnreachable

if TYPE_CHECKING:
    from gristmill.runtime.executor.reading import BlockInfo
    from gristmill.runtime.views import JobView


_PAUSES = (0.0, 0.2, 0.4, 0.8, 1.6, 3.2, *[5.0] * 11)  # until a worker that died is given up: a minute is enough


class Rows:
    """The elements that a job has left as blocks, in their order; read as they are asked for, as often as wanted.

    A worker may die before all that it made was read. Then that is made again, and reading goes on where it was.

    Args:
        view: the job's last view.
        blocks: of the last stage's tasks, in order; those without rows may be left out.
        bring: makes the blocks readable here, one by one, when each is needed.
        forget: deletes them.
        kept: the name under which the session keeps them.
        again: makes anew what was lost, given what is left; None: nothing can be lost.
    """

    def __init__(
        self,
        view: JobView,
        blocks: Sequence[BlockInfo],
        bring: Callable[[Sequence[BlockInfo]], Iterable[BlockInfo]],
        forget: Callable[[], None],
        kept: str = "",
        again: Callable[[Rows], Rows] | None = None,
    ) -> None:
        self.view = view
        self.kept = kept
        self._again = again
        self._later: Rows | None = None
        self._blocks = blocks
        self._bring = bring
        self._finalizer = weakref.finalize(self, forget)

    @property
    def stored_bytes(self) -> int:
        """How large it is where it lies."""
        return sum(block.size_bytes for block in self._blocks)

    def __iter__(self) -> Iterator[Any]:
        """The elements, block by block.

        Raises:
            BlockUnreachable: of what a worker made that cannot be reached; and making it again has not helped.
        """
        taken, pauses = 0, iter(_PAUSES)
        while True:
            rows = self._later or self
            try:
                for records in rows._lists(taken):
                    yield from records
                    taken += len(records)
                return
            except BlockUnreachable:
                pause = next(pauses, None)
                if self._again is None or pause is None:
                    raise
                time.sleep(pause)
                self._later = self._again(rows)

    def _lists(self, skipped: int) -> Iterator[list[Any]]:
        """The elements, some at a time, but for the first ones."""
        from gristmill.runtime.executor.reading import records_of

        place = 0
        while place < len(self._blocks) and (rows := self._blocks[place].segment(0).rows) <= skipped:
            skipped -= rows
            place += 1
        for block in self._bring(self._blocks[place:]):
            for records in records_of(block):
                if skipped < len(records):
                    yield records[skipped:] if skipped else records
                skipped = max(0, skipped - len(records))

    def hand_over(self) -> None:
        """Leave it to others, which were computed in addition, to delete them."""
        self._finalizer.detach()

    def close(self) -> None:
        """Delete them. May be called again; happens by itself when nobody holds this object any more."""
        if self._later is not None:
            self._later.close()
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
