"""A thread with an event loop, in which sessions with workers are carried."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable

from gristmill.errors import GristmillError

_log = logging.getLogger(__name__)

START_SECONDS = 10.0
CLOSE_SECONDS = 3.0


class LoopThread:
    """Runs :meth:`serve`. Everything else happens in its thread, but for ``begin``, ``ask`` and ``close``.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._awake = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    async def serve(self) -> None:
        """Serve until :meth:`stopped`. Overridden; says :meth:`ready` when it does."""
        raise NotImplementedError

    def begin(self) -> None:
        """Start the thread, and wait until it is ready.

        Raises:
            GristmillError: that takes too long.
            Exception: what ``serve`` raised before it was ready.
        """
        self._thread.start()
        if not self._started.wait(START_SECONDS):
            raise GristmillError(f"The thread {self._thread.name} did not start in time.")
        if self._error is not None:
            raise self._error

    def ask(self, call: Callable[[], None]) -> None:
        """Have something done in the thread. Calls are done in order; from any thread."""
        self._calls.append(call)
        if not self._awake and self._loop is not None:
            self._awake = True
            with contextlib.suppress(RuntimeError):  # the loop has ended: there is nobody to be told anything
                self._loop.call_soon_threadsafe(self._work)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Let ``serve`` come to its end, and wait so long for it. May be called again."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)
            self._thread.join(seconds)

    # The thread.

    def call_failed(self, error: Exception) -> None:
        """Something that was asked for could not be done. Overridden by whoever can tell somebody."""

    def ready(self) -> None:
        """What was asked before is done, and whoever waits in ``begin`` goes on."""
        self._work()
        self._started.set()

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._stop is not None and self._stop.is_set()

    async def stopped(self) -> None:
        """Wait until it is to end; what was asked until then is done."""
        assert self._stop is not None, "the thread runs"
        await self._stop.wait()
        self._work()

    def _work(self) -> None:
        self._awake = False  # first: what is asked from here on wakes again
        while self._calls:
            call = self._calls.popleft()
            try:
                call()
            except Exception as error:  # those behind it are to be done all the same
                _log.exception("%s could not do what it was asked for", self._thread.name)
                self.call_failed(error)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:  # the thread's last line: begin() says it, or the log
            self._error = error
            if self._started.is_set():
                _log.exception("%s failed", self._thread.name)
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await self.serve()
