"""A task for operators to run in, and a way to call them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gristmill.compute.pipes import PIPES
from gristmill.plan.functions import Call

T = TypeVar("T")


class Task:
    """A context whose sides are lists."""

    def __init__(self, sides: Sequence[Sequence[Any]] = (), *, task: int = 0, tasks: int = 1, part: int = 0) -> None:
        self.task, self.tasks, self.part = task, tasks, part
        self.scratch = Path("scratch-that-nobody-needs")
        self._sides = sides

    def whole(self, side: int, build: Callable[[Iterator[Any]], T]) -> T:
        return build(self.stream(side))

    def may_take_ahead(self) -> bool:
        return False

    def stream(self, side: int) -> Iterator[Any]:
        return iter(self._sides[side])


def piped(how: str, elements: Sequence[Any], *arguments: Any, task: Task | None = None, sides: int = 0) -> list[Any]:
    """What an operator makes of elements."""
    call = Call(how, arguments, sides=tuple(range(sides)), name=how, where="test.py:1")
    return list(PIPES[how](task or Task(), call, (iter(elements),)))
