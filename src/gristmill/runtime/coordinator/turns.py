"""Who waits for a turn, who has one, and who is late: notes on jobs by their ids, and a thread that acts on them.

Whose turn it is, is decided in ``scheduling.queueing``. What it means to begin is the caller's affair. Scripts have a
queue of their own: each takes an executor of its own, and waits for its jobs most of the time.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable

from gristmill.errors import ServerFull
from gristmill.scheduling.queueing import QueueLimits, WaitingJob, next_jobs

_log = logging.getLogger(__name__)

_WAIT_SECONDS = 1.0  # no wait is longer: the clock may be set
_END_SECONDS = 2.0


class _Lane:
    """A queue, and those that have come through it and run.

    Attributes:
        ranks: of those that wait, sorted.
        running: whose each job is that runs.
    """

    def __init__(self, limits: QueueLimits) -> None:
        self.limits = limits
        self.ranks: list[tuple[int, float, str]] = []
        self.running: dict[str, str] = {}

    def next(self, waiting: Iterable[WaitingJob]) -> list[WaitingJob]:
        """Those that begin now."""
        return next_jobs(waiting, Counter(self.running.values()), self.limits)


class Turns:
    """The queue. Any thread may call.

    Args:
        limits: how many jobs may run, and wait.
        begin: a job's turn has come. Called in a thread of its own, for it may wait for disks.
        late: a job has outlived its deadline. Called in the queue's thread.
        wall: seconds since the epoch.
    """

    def __init__(
        self,
        limits: QueueLimits,
        begin: Callable[[WaitingJob], None],
        late: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits
        self._begin, self._late, self._wall = begin, late, wall
        self._changed = threading.Condition()
        self._waiting: dict[str, WaitingJob] = {}
        self._lanes = {False: _Lane(limits), True: _Lane(limits.of_scripts)}  # of jobs, and of scripts
        self._entering: set[str] = set()  # they have a place, and are being made durable
        self._deadlines: list[tuple[float, str]] = []  # a heap; those of jobs that are over go when their time comes
        self._watched: dict[str, float] = {}  # job → when it is late
        self._thread: threading.Thread | None = None
        self._beginning: set[threading.Thread] = set()
        self._started = self._closing = False

    def start(self) -> None:
        """Let turns come from now on."""
        with self._changed:
            self._started = True
            self._wake()

    def close(self) -> None:
        """No turn comes any more. Bounded."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        until = time.monotonic() + _END_SECONDS
        for thread in (*((self._thread,) if self._thread is not None else ()), *self._beginning):
            thread.join(max(0.0, until - time.monotonic()))

    def enter(self, job: WaitingJob, *, at_once: bool = True) -> bool:
        """Give a job its place. Whether it has its turn now; if not, it is to be added when it is durable.

        Args:
            job: the job.
            at_once: whether it may have its turn now.

        Raises:
            ServerFull: as many wait as may.
        """
        with self._changed:
            if at_once and not self._entering and not self._closing and self._is_first(job):
                self._lanes[job.script].running[job.job] = job.user
                return True
            waiting = len(self._waiting) + len(self._entering)
            if waiting >= self._limits.waiting:
                raise ServerFull(
                    f"The server is full: {waiting:,} jobs wait for their turn, and no more may. Try again later."
                )
            self._entering.add(job.job)
            return False

    def _is_first(self, job: WaitingJob) -> bool:
        lane = self._lanes[job.script]
        place = bisect_left(lane.ranks, job.rank)
        before = (self._waiting[rank[2]] for rank in lane.ranks[:place])
        return job in lane.next((*before, job))

    def add(self, job: WaitingJob) -> None:
        """A job waits from now on."""
        with self._changed:
            self._entering.discard(job.job)
            self._waiting[job.job] = job
            insort(self._lanes[job.script].ranks, job.rank)
            self._wake()

    def run(self, job: str, user: str, *, script: bool) -> None:
        """A job runs that did not come by way of the queue, but counts."""
        with self._changed:
            self._lanes[script].running[job] = user

    def leave(self, job: str) -> bool:
        """A job waits no more, and does not run. Whether it was waiting."""
        with self._changed:
            self._entering.discard(job)
            found = self._waiting.pop(job, None)
            if found is not None:
                ranks = self._lanes[found.script].ranks
                del ranks[bisect_left(ranks, found.rank)]
            return found is not None

    def over(self, job: str) -> None:
        """A job is over, or waits no more."""
        with self._changed:
            self.leave(job)
            self._watched.pop(job, None)
            if any([lane.running.pop(job, None) is not None for lane in self._lanes.values()]):
                self._wake()

    def watch(self, job: str, late_at: float) -> None:
        """Tell when this job has outlived its deadline, unless it is over by then."""
        with self._changed:
            self._watched[job] = late_at
            heapq.heappush(self._deadlines, (late_at, job))
            self._wake()

    def before(self, job: str) -> int | None:
        """How many jobs are before one that waits; None if it does not."""
        with self._changed:
            found = self._waiting.get(job)
            return None if found is None else bisect_left(self._lanes[found.script].ranks, found.rank)

    def __len__(self) -> int:
        return len(self._waiting)

    def _wake(self) -> None:
        """Let the thread look, which is made when there is something to look for."""
        if self._thread is None and self._started and not self._closing and (self._waiting or self._watched):
            self._thread = threading.Thread(target=self._run, name="gristmill-queue", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    # The thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                begun, late = self._due()
                while not begun and not late and not self._closing:
                    self._changed.wait(self._patience())
                    begun, late = self._due()
                if self._closing:
                    return
            for job in begun:
                call = (self._begin, job)
                thread = threading.Thread(target=self._call, args=call, name="gristmill-turn", daemon=True)
                thread.start()
                self._beginning = {other for other in self._beginning if other.is_alive()} | {thread}
            for name in late:
                self._call(self._late, name)

    def _call(self, what: Callable[..., None], argument: object) -> None:
        try:
            what(argument)
        except Exception:  # the thread's last line: other jobs must have their turn
            if not self._closing:
                _log.exception("a job in the queue could not be seen to")

    def _due(self) -> tuple[list[WaitingJob], list[str]]:
        """The jobs whose turn is now, and those that are late."""
        if self._closing:
            return [], []
        begun = [job for lane in self._lanes.values() for job in lane.next(self._in_order(lane))]
        for job in begun:
            self.leave(job.job)
            self._lanes[job.script].running[job.job] = job.user
        late, now = [], self._wall()
        while self._deadlines and self._deadlines[0][0] <= now:
            at, name = heapq.heappop(self._deadlines)
            if self._watched.get(name) == at:
                del self._watched[name]
                late.append(name)
        return begun, late

    def _in_order(self, lane: _Lane) -> Iterable[WaitingJob]:
        return (self._waiting[rank[2]] for rank in lane.ranks)

    def _patience(self) -> float:
        left = self._deadlines[0][0] - self._wall() if self._deadlines else _WAIT_SECONDS
        return max(0.0, min(left, _WAIT_SECONDS))
