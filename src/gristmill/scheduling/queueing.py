"""Whose turn it is among jobs that wait to begin. Once begun they share the slots: see ``order``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gristmill.config import MAX_JOBS, MAX_SCRIPTS, MAX_WAITING


@dataclass(frozen=True)
class QueueLimits:
    """How many jobs may be there.

    Attributes:
        jobs: that run at a time.
        jobs_per_user: likewise, of each user; None: as many as of all.
        waiting: that wait for their turn, scripts as well.
        scripts: that run at a time, beside those. They have a queue of their own.
    """

    jobs: int = MAX_JOBS
    jobs_per_user: int | None = None
    waiting: int = MAX_WAITING
    scripts: int = MAX_SCRIPTS

    @property
    def of_scripts(self) -> QueueLimits:
        """As they hold in the queue of scripts."""
        return replace(self, jobs=self.scripts)


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that waits. There may be thousands of these.

    Attributes:
        job: its id.
        user: whose it is.
        priority: higher ones are first.
        since: since when it waits; of two of the same time and priority, the one with the lower id is first.
        script: it is a program that submits jobs itself. These begin at once, for it waits for them.
    """

    job: str
    user: str
    priority: int
    since: float
    script: bool = False

    @property
    def rank(self) -> tuple[int, float, str]:
        """Its place in the queue: the lowest is the first."""
        return -self.priority, self.since, self.job


def next_jobs(waiting: Iterable[WaitingJob], running: Mapping[str, int], limits: QueueLimits) -> list[WaitingJob]:
    """The jobs that begin now.

    A user who has as many running as one may have is passed over, and keeps nobody else from beginning.

    Args:
        waiting: by rank.
        running: how many jobs of each user run.
        limits: how many may.
    """
    counts = Counter(running)
    room = limits.jobs - counts.total()
    most = limits.jobs if limits.jobs_per_user is None else limits.jobs_per_user
    found: list[WaitingJob] = []
    for job in waiting:
        if room <= 0:
            break
        if counts[job.user] < most:
            counts[job.user] += 1
            room -= 1
            found.append(job)
    return found
