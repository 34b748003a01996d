"""Threads that read what jobs have left, on storage that may hang: few, and none that other calls wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
from anyio.to_thread import run_sync

_MOST = 16
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Readers:
    """Runs what reads, at most so many at a time; the others wait.

    Args:
        most: threads.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._limiter = anyio.CapacityLimiter(most)

    async def call(self, function: Callable[_P, _T], *args: _P.args, **named: _P.kwargs) -> _T:
        """What a function returns."""
        return await run_sync(partial(function, *args, **named), limiter=self._limiter)

    async def each(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """The same pieces. A thread is taken while one is read, and not while it is sent."""
        while (piece := await self.call(next, pieces, None)) is not None:
            yield piece
