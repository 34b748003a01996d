"""What an operator of a dataset is given besides its streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gristmill.plan.functions import Call

T = TypeVar("T")


class Context(Protocol):
    """The task in which an operator runs, and what it reads as a whole.

    Attributes:
        task: its number within its stage: tasks of a stage come in the order of its elements.
        tasks: how many the stage has.
        part: its number within its branch: a dataset's parts have the same numbers whatever else their stage does.
        scratch: a folder of the attempt's own, which goes when it ends. It may not be there yet.
    """

    task: int
    tasks: int
    part: int
    scratch: Path

    def whole(self, side: int, build: Callable[[Iterator[Any]], T]) -> T:
        """What ``build`` makes of all records of a side. It is kept for other tasks while it fits: do not change it.

        Args:
            side: one of ``Call.sides``.
            build: takes the records in their order.
        """
        ...

    def may_take_ahead(self) -> bool:
        """Whether an operator may take many elements at a time.

        It asks only if it is going to, for whatever fails then is run again, one element at a time.
        """
        ...

    def stream(self, side: int) -> Iterator[Any]:
        """All records of a side, anew at each call, never all in memory."""
        ...


Operator = Callable[[Context, Call, tuple[Iterator[Any], ...]], Iterator[Any]]
"""Makes one stream of some. Lazy: it takes one element at a time, so that it is known which one was in work."""
