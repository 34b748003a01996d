"""What jobs bring along, in Ray's object store: their code, the modules that travel with it, and what was broadcast.

Each is put there once, and aside: much takes seconds, through Ray Client minutes, and members are heard meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

import ray

from gristmill.fleets.ray.aside import Aside, come

Untold = dict[str, list[Any] | None]
"""What a member is to be told of: references by SHA-256, each in a list, so that Ray leaves it as one; None: gone."""


class Blobs:
    """Lives in the crew's thread.

    Args:
        put: puts bytes into the store, and returns the reference; may block.
    """

    def __init__(self, put: Callable[[bytes], Any] | None = None) -> None:
        self._put = put or _put
        self._aside = Aside("gristmill-ray-puts")
        self._kept: dict[str, asyncio.Future[Any]] = {}  # references that there are or will be, by SHA-256
        self._untold: dict[str, Untold] = {}  # by actor
        self._coming: dict[str, asyncio.Task[None]] = {}  # by job: what waits for all that the job needs

    def begin(self, actor: str) -> Untold:
        """A member comes: what it is to be told of, now and from now on."""
        there = {name: kept for name, kept in self._kept.items() if kept.done() and kept.exception() is None}
        self._untold[actor] = {name: [kept.result()] for name, kept in there.items()}
        return self._untold[actor]

    def end(self, actor: str) -> None:
        """A member has gone."""
        self._untold.pop(actor, None)

    def bring(
        self,
        job: str,
        blobs: Mapping[str, Callable[[], bytes]],
        then: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Let members have what a job needs.

        Args:
            job: which one.
            blobs: how to get each, by its SHA-256; asked, aside, for those that are not there.
            then: called when all are there: what members are told from then on comes after them.
            failed: called with why one cannot be had.
        """
        self.give_up(job)
        task = self._coming[job] = asyncio.create_task(self._bring(blobs, then, failed))

        def over(_task: asyncio.Task[None]) -> None:
            if self._coming.get(job) is task:
                del self._coming[job]

        task.add_done_callback(over)

    def give_up(self, job: str) -> None:
        """A job is not wanted any more: if it still waits, nobody is told of it."""
        if (task := self._coming.pop(job, None)) is not None:
            task.cancel()

    def forget(self, name: str) -> None:
        """Members need this no more."""
        if (kept := self._kept.pop(name, None)) is not None and kept.done():
            for untold in self._untold.values():
                untold[name] = None

    def close(self) -> Future[None]:
        """Put nothing more. Returns what is done when nothing is being put."""
        for job in list(self._coming):
            self.give_up(job)
        return self._aside.close()

    async def _bring(
        self,
        blobs: Mapping[str, Callable[[], bytes]],
        then: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        try:
            for one in [self._keep(name, data) for name, data in blobs.items()]:
                await asyncio.shield(one)  # others may wait for it, too
        except Exception as error:  # of Ray's, or of the disk from which it is read: somebody is told
            failed(error)
        else:
            then()

    def _keep(self, name: str, data: Callable[[], bytes]) -> asyncio.Future[Any]:
        if name not in self._kept:
            kept = self._kept[name] = come(self._aside.do(lambda: self._put(data())))
            kept.add_done_callback(partial(self._there, name))
        return self._kept[name]

    def _there(self, name: str, kept: asyncio.Future[Any]) -> None:
        if kept.exception() is not None:
            if self._kept.get(name) is kept:
                del self._kept[name]  # the next job may have more luck
        elif self._kept.get(name) is kept:  # else it is not wanted any more
            for untold in self._untold.values():
                untold[name] = [kept.result()]


def _put(data: bytes) -> Any:
    if not ray.is_initialized():  # else Ray would start another
        raise OSError("this process is not connected to Ray any more")
    return ray.put(data)
