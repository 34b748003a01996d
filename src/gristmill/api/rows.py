"""What an action has computed, element by element, wherever it lies."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from gristmill.runtime.reading import BlockInfo
    from gristmill.runtime.views import JobView


class Rows:
    """The elements that a job has left as blocks, in their order; read as they are asked for, as often as wanted.

    Args:
        view: the job's last view.
        blocks: of the last stage's tasks, in order; those without rows may be left out.
        bring: makes the blocks readable here, one by one, when each is needed.
        forget: deletes them.
        kept: the name under which the session keeps them.
    """

    def __init__(
        self,
        view: JobView,
        blocks: Sequence[BlockInfo],
        bring: Callable[[Sequence[BlockInfo]], Iterable[BlockInfo]],
        forget: Callable[[], None],
        kept: str = "",
    ) -> None:
        self.view = view
        self.kept = kept
        self._blocks = blocks
        self._bring = bring
        self._finalizer = weakref.finalize(self, forget)

    @property
    def stored_bytes(self) -> int:
        """How large it is where it lies."""
        return sum(block.size_bytes for block in self._blocks)

    def __iter__(self) -> Iterator[Any]:
        """The elements, block by block."""
        from gristmill.runtime.reading import records_of

        for block in self._bring(self._blocks):
            for records in records_of(block):
                yield from records

    def hand_over(self) -> None:
        """Leave it to others, which were computed in addition, to delete them."""
        self._finalizer.detach()

    def close(self) -> None:
        """Delete them. May be called again; happens by itself when nobody holds this object any more."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
