"""The agent: keeps executors up on one machine, gives them work, and tells what becomes of it.

It lives in a process that runs no user code of the job (the caller's, or a worker's), in one thread of its own. Every
call from outside only queues a request; everything is decided and done in that thread.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import selectors
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial

from gristmill.errors import FailureReport
from gristmill.runtime.agent.pool import ExecutorPool
from gristmill.runtime.contracts import FleetBroken, FleetEvent, JobAdmitted, JobSpec, Post, TaskSpec, WorkerUp
from gristmill.runtime.executor.attempts import prepare_folder
from gristmill.runtime.process.watch import AgentSettings
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.store import delete

__all__ = ["Agent", "AgentSettings"]

_log = logging.getLogger(__name__)
_WAKE_BYTES = 4096
_CLOSE_SECONDS = 6.0
_GATHER_SECONDS = 0.001
_DYING_SECONDS = 0.02  # how often to look whether a process has ended whose channel has

_Request = Callable[[ExecutorPool], None]


class Agent:
    """N executors on this machine, for whoever listens to ``post``. The contract is that of a Fleet.

    Args:
        executors: how many to keep up.
        worker: the name of this worker; slots are named after it.
        settings: how often to look, and how long to be patient.
    """

    def __init__(self, executors: int, *, worker: str = "w0", settings: AgentSettings | None = None) -> None:
        self._executors = executors
        self._worker = worker
        self._settings = settings or AgentSettings()
        self._requests: deque[_Request] = deque()
        self._waker: socket.socket | None = None  # a byte sent here wakes the thread
        self._waits = False  # the thread waits, or is about to, and must be woken for a request
        self._thread: threading.Thread | None = None
        self._closing = False
        self._post: Post = _unheard

    def start(self, post: Post) -> None:
        """Begin to offer slots. Returns at once; executors come up meanwhile."""
        self._post = post
        post(WorkerUp(self._worker))
        selector = selectors.DefaultSelector()
        pool = ExecutorPool(self._executors, self._worker, self._settings, post, selector)
        pool.fill_up(time.monotonic())  # here, not in the thread: every millisecond counts for the first result
        self._waker, woken = socket.socketpair()
        self._waker.setblocking(False)
        woken.setblocking(False)
        selector.register(woken, selectors.EVENT_READ, partial(_drain, woken))
        name = f"gristmill-agent-{self._worker}"
        self._thread = threading.Thread(target=self._run, args=(pool, selector, post, woken), name=name, daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def add_job(self, job: JobSpec) -> None:
        """Make a job's code known before its first launch."""
        prepare_folder(job)
        self._ask(lambda pool: pool.add_job(job))
        self._post(JobAdmitted(job.job))

    def launch(self, slot: str, spec: TaskSpec) -> None:
        """Run an attempt in a slot."""
        self._ask(lambda pool: pool.launch(slot, spec))

    def cancel(self, attempt: AttemptId, recalled: bool = False) -> None:
        """End an attempt with all it started. Its slot goes down."""
        self._ask(lambda pool: pool.cancel(attempt, recalled))

    def free(self, block: BlockInfo) -> None:
        """Delete a block."""
        self._ask(lambda _: _delete(block.path))

    def drop_job(self, job: str) -> None:
        """Forget a job's code."""
        self._ask(lambda pool: pool.drop_job(job))

    def drop_worker(self, worker: str) -> None:
        """Nothing: this worker lives and dies with whoever would say so."""

    def drain_worker(self, worker: str) -> None:
        """Nothing: likewise."""

    def close(self) -> None:
        """End every process, within 5 seconds, and the thread. May be called again."""
        atexit.unregister(self.close)
        thread, self._thread = self._thread, None
        self._closing = True
        if thread is not None:
            self._wake()
            thread.join(_CLOSE_SECONDS)

    def _ask(self, request: _Request) -> None:
        self._requests.append(request)
        if self._waits:  # once for many requests
            self._wake()

    def _wake(self) -> None:
        self._waits = False
        if self._waker is not None:
            with contextlib.suppress(OSError):  # full: it is awake already; closed: nobody is there to be woken
                self._waker.send(b"\0")

    # The agent's thread.

    def _run(self, pool: ExecutorPool, selector: selectors.BaseSelector, post: Post, woken: socket.socket) -> None:
        try:
            self._loop(pool, selector)
        except Exception as error:  # the thread's last line: nobody else would hear of it
            _log.exception("the agent of worker %s failed", self._worker)
            message = f"The agent of worker {self._worker} failed: {type(error).__name__}: {error}"
            post(FleetBroken(FailureReport("TaskError", message, log_tail=traceback.format_exc())))
        finally:
            pool.close()
            selector.close()
            woken.close()
            if self._waker is not None:
                self._waker.close()

    def _loop(self, pool: ExecutorPool, selector: selectors.BaseSelector) -> None:
        now = next_beat = time.monotonic()
        busy = False
        while not self._closing:
            pool.fill_up(now)
            pause = max(0.0, min(pool.next_watch, next_beat) - now)
            if busy and pool.is_well_supplied:
                time.sleep(_GATHER_SECONDS)  # what comes meanwhile is taken in one go
                pause = 0.0
            self._waits = True  # first this, then a look at the requests: so none is overlooked
            if self._requests:
                pause = 0.0
            elif not pool.is_settled:
                pause = min(pause, _DYING_SECONDS)
            ready = selector.select(pause)
            self._waits = False
            busy = bool(ready)
            for key, mask in ready:
                key.data(mask)
            while self._requests and not self._closing:
                self._requests.popleft()(pool)
            pool.flush()
            pool.take_starter_events()
            now = time.monotonic()
            pool.watch(now)
            if now >= next_beat:
                pool.beat(now)
                next_beat = now + self._settings.beat_seconds


def _unheard(_event: FleetEvent) -> None:
    """Stands in for whoever listens until ``start`` names one."""


def _drain(woken: socket.socket, _mask: int) -> None:
    with contextlib.suppress(BlockingIOError):
        woken.recv(_WAKE_BYTES)


def _delete(path: str) -> None:
    try:
        delete(path)
    except OSError as error:
        _log.warning("block %s cannot be deleted: %s", path, error)
