"""The jobs that a coordinator knows: those that wait, run or ended lately; and those that only the journal knows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gristmill.errors import KeyTaken
from gristmill.runtime.coordinator.known import EndedJob, KnownJob, Queue, QueuedJob, Runner, RunningJob, ended
from gristmill.runtime.journal.facts import Fact, JobAccepted, JobEnded, JobRequested
from gristmill.scheduling.commands import JobState

if TYPE_CHECKING:
    from gristmill.runtime.journal.journal import Journal

__all__ = ["EndedJob", "KnownJob", "Queue", "QueuedJob", "Registry", "Runner", "RunningJob", "ended"]

_REMEMBERED = 1000  # ended jobs that are answered for without looking into the journal
_LISTED = 200  # of those that only the journal remembers


class Registry:
    """Jobs by id and by idempotency key. Any thread may call."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._changed = threading.Condition()
        self._known: OrderedDict[str, KnownJob] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()  # those of them that are over, the oldest first
        self._by_key: dict[str, tuple[str, str]] = {}  # the job, and what tells its request from others
        self._key_of: dict[str, str] = {}  # the inverse

    def tidy(self) -> None:
        """Remove the folders of jobs that had succeeded: their coordinator was killed before it came to that."""
        from gristmill.runtime.files.jobfolder import JobFolder, is_settled

        if self._journal is None:
            return
        with suppress(OSError):  # housekeeping must not fail a server
            for path in Path(self._journal.path.parent, "jobs").iterdir():
                if not path.is_dir() or is_settled(path):
                    continue
                found = self._journal.summary(path.name)
                if found is not None and found.state is JobState.SUCCEEDED:
                    with suppress(OSError):
                        if folder := JobFolder.adopt(path, {"job": path.name}):  # its own facts may be gone already
                            folder.remove_but_logs()

    def add(self, job: KnownJob, key: str = "", request: str = "") -> KnownJob:
        """Make a job known; or find the one that was submitted with the same key before.

        Raises:
            KeyTaken: that was with another request.
        """
        if key and (known := self.find_key(key, request)) is not None:
            return known
        with self._changed:
            if key and (other := self._known.get(self._by_key.get(key, ("", ""))[0])) is not None:
                return other  # it came just now
            self._known[job.job] = job
            if key:
                self._by_key[key] = job.job, request
                self._key_of[job.job] = key
            if self._journal is None and len(self._known) > _REMEMBERED:  # nobody tells us when one of these is over
                self._ended.update({id: None for id, one in self._known.items() if one.outcome is not None})
            self._shrink()
            return job

    def become(self, job: KnownJob, key: str = "", request: str = "") -> None:
        """A job is now what it is here: it has its turn, is over, or waits again.

        Args:
            job: the job.
            key: of its submission, if that is not known yet.
            request: see :meth:`add`.
        """
        with self._changed:
            self._known[job.job] = job
            if key:
                self._by_key[key] = job.job, request
                self._key_of[job.job] = key
            self._ended.pop(job.job, None)
            if job.outcome is not None:
                self._ended[job.job] = None
            self._shrink()
            self._changed.notify_all()

    def _shrink(self) -> None:
        while len(self._ended) > _REMEMBERED:
            oldest, _ = self._ended.popitem(last=False)
            self._drop(oldest)

    def _drop(self, job: str) -> None:
        self._known.pop(job, None)
        self._ended.pop(job, None)
        if (key := self._key_of.pop(job, None)) is not None:
            self._by_key.pop(key, None)

    def forget(self, *jobs: str) -> None:
        """Jobs that did not begin after all, or that nobody is to remember."""
        with self._changed:
            for job in jobs:
                self._drop(job)
            self._changed.notify_all()

    def known(self) -> list[KnownJob]:
        """All that are known without reading."""
        with self._changed:
            return list(self._known.values())

    def wait_moved(self, job: KnownJob, timeout: float) -> KnownJob:
        """What a job has become, as soon as that is something else, or so many seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._known.get(job.job) is not job, timeout)
        return self.find(job.job) or job

    def find(self, job: str) -> KnownJob | None:
        """A job by its id."""
        with self._changed:
            known = self._known.get(job)
        if known is None and self._journal is not None and (known := _of_facts(self._journal.facts(job))) is not None:
            with self._changed:  # it ended so long ago that it was forgotten
                if job not in self._known:
                    self._known[job] = known
                    self._ended[job] = None
                    self._shrink()
        return known

    def find_key(self, key: str, request: str = "") -> KnownJob | None:
        """The job that was submitted with this key.

        Raises:
            KeyTaken: that was with another request, as far as both are known.
        """
        with self._changed:
            job, before = self._by_key.get(key, ("", ""))
        if not job and self._journal is not None and (found := self._journal.job_of_key(key)) is not None:
            job, before = found.job, found.request
        if request and before and request != before:
            raise KeyTaken(job)
        return self.find(job) if job else None

    def all(self) -> list[KnownJob]:
        """All that are known without reading, and some of earlier; the youngest first."""
        known = {one.job: one for one in self.known()}
        if self._journal is not None:
            for summary in self._journal.page_of_jobs(limit=_LISTED):
                if summary.job not in known and (found := self.find(summary.job)) is not None:
                    known[summary.job] = found
        return sorted(known.values(), key=lambda known: known.job, reverse=True)


def _of_facts(facts: Iterable[Fact]) -> EndedJob | None:
    """A job that is over, as its facts tell of it; None if it is not."""
    requested: JobRequested | None = None
    accepted: JobAccepted | None = None
    end: JobEnded | None = None
    for fact in facts:
        match fact:
            case JobRequested():
                requested = fact
            case JobAccepted():
                accepted = fact
            case JobEnded():
                end = fact
    if end is None:
        return None
    if accepted is not None:
        prepared = accepted.prepared
        format, priority = prepared["plan"][-1]["sink"][1].get("format", ""), prepared["priority"]
        output, deadline = prepared["output_path"], accepted.deadline_seconds
        name, user, at = accepted.name, accepted.user, accepted.at
    elif requested is not None:
        format, priority, output, deadline = "", requested.priority, requested.output, requested.deadline_seconds
        name, user, at = requested.name, requested.user, requested.at
    else:
        return None
    return EndedJob(end.job, name, output, format, at, end.outcome, user, priority, deadline)
