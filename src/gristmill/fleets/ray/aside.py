"""What waits for Ray is done aside: if its head is gone it never returns, and the members go on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Aside:
    """Does one thing after the other, in a thread that nobody waits for.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._over: Future[None] = Future()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def do(self, call: Callable[[], Any]) -> Future[Any]:
        """Have something done, in its turn. Returns what comes of it, if it ever does."""
        future: Future[Any] = Future()
        self._calls.put((call, future))
        return future

    def close(self) -> Future[None]:
        """Begin nothing more, not even what waits for its turn. Returns what is done when what was begun is."""
        self._closed = True
        self._calls.put(None)
        return self._over

    def _run(self) -> None:
        while (item := self._calls.get()) is not None and not self._closed:
            call, future = item
            try:
                future.set_result(call())
            except Exception as error:
                future.set_exception(error)
        self._over.set_result(None)


def come(future: Future[Any]) -> asyncio.Future[Any]:
    """What comes of something that happens elsewhere, for who waits in this thread's loop."""
    loop = asyncio.get_running_loop()
    answer = loop.create_future()

    def given(there: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_settle, answer, there)

    future.add_done_callback(given)
    return answer


def _settle(answer: asyncio.Future[Any], given: Future[Any]) -> None:
    if answer.done():
        return
    if (error := given.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(given.result())
