"""What comes to the coordinator's loop beside the fleet's events, and the threads in which jobs end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gristmill.errors import JournalFailed
from gristmill.runtime.contracts import FleetEvent
from gristmill.runtime.coordinator.ending import Ending, wind_up
from gristmill.runtime.coordinator.jobs import Job
from gristmill.runtime.outcome import Outcome

if TYPE_CHECKING:
    from gristmill.runtime.coordinator.reopening import Reopened


@dataclass(frozen=True)
class Submit:
    """A job is to begin."""

    job: Job


@dataclass(frozen=True)
class CancelJob:
    """Somebody wants a job to end."""

    job: str


@dataclass(frozen=True)
class Forget:
    """A session wants to keep something no more; all that it keeps, if ``kept`` is empty."""

    session: str
    kept: str = ""


@dataclass(frozen=True)
class ForgetBroadcast:
    """A session uses a broadcast no more."""

    session: str
    digest: str


@dataclass(frozen=True)
class ForgetJobs:
    """Nobody will try these jobs again, which are over."""

    jobs: tuple[str, ...]


@dataclass(frozen=True)
class JobOver:
    """Another thread is done with the end of a job; or it crashed."""

    job: Job
    outcome: Outcome | None
    crash: Exception | None = None


@dataclass(frozen=True)
class StorageBack:
    """The files of a job that waited for them can be seen."""

    job: Job
    reopened: Reopened


@dataclass(frozen=True)
class JournalBroken:
    """Nothing can be noted any more."""

    failure: JournalFailed


@dataclass(frozen=True)
class Question:
    """Somebody wants to know what only the loop can tell, and waits at ``box``. ``ask`` must not raise."""

    ask: Callable[[], object]
    box: queue.SimpleQueue[Any]


@dataclass(frozen=True)
class Stop:
    """The loop is to end."""


Item = (
    FleetEvent
    | Submit
    | CancelJob
    | Forget
    | ForgetBroadcast
    | ForgetJobs
    | JobOver
    | StorageBack
    | JournalBroken
    | Question
    | Stop
)


class Enders:
    """Threads in which jobs end, since that waits for disks.

    Args:
        post: takes what came of each.
        tell: is told of each after that.
    """

    def __init__(self, post: Callable[[JobOver], None], tell: Callable[[JobOver], None] = lambda _over: None) -> None:
        self._post = post
        self._tell = tell
        self._threads: set[threading.Thread] = set()

    def begin(self, ending: Ending) -> None:
        """End a job in a thread of its own."""

        def end() -> None:
            over = wound_up(ending)
            self._post(over)
            self._tell(over)

        thread = threading.Thread(target=end, name="gristmill-end", daemon=True)
        self._threads = {other for other in self._threads if other.is_alive()} | {thread}
        thread.start()

    def wait(self, seconds: float) -> None:
        """Let them come to their end, each for at most so long."""
        for thread in list(self._threads):
            thread.join(seconds)


def wound_up(ending: Ending) -> JobOver:
    """End a job in this thread."""
    try:
        return JobOver(ending.job, wind_up(ending))
    except Exception as error:  # of the journal, or a defect of ours: the loop's to handle
        return JobOver(ending.job, None, error)
