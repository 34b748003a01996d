"""Who must see what before work begins: each worker the files of each job.

A job is admitted when all workers that are there see its files; a later worker, when it sees the files of all jobs. A
job of an earlier coordinator was admitted before: then it is the worker that is refused, not the job. So it is when
the worker has trouble of its own, a full disk say, and there are others.

No clock, no sockets: the fleet tells what happens and is told what follows from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gristmill.errors import FailureReport, PathNotShared


@dataclass(frozen=True)
class AdmitJob:
    """All workers that are there see what the job needs."""

    job: str


@dataclass(frozen=True)
class RejectJob:
    """A worker does not."""

    job: str
    report: FailureReport


@dataclass(frozen=True)
class AdmitWorker:
    """This worker sees what all running jobs need."""

    worker: str


@dataclass(frozen=True)
class RefuseWorker:
    """This worker came after a job was admitted, and does not see what the job needs; or it cannot take any job."""

    worker: str
    reason: str


@dataclass(frozen=True)
class GiveUpWorker:
    """This worker was asked and does not answer, though it lives."""

    worker: str


Verdict = AdmitJob | RejectJob | AdmitWorker | RefuseWorker | GiveUpWorker


class Admission:
    """Who was asked about what. Each job and each worker gets one verdict, unless it goes away first.

    Args:
        patient: where workers are there for the jobs alone and come after them, a job waits for the first of them, and
            that one decides; else a job that nobody sees yet is admitted.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self._patient = patient
        self._untried: set[str] = set()  # jobs that wait for a worker to be there
        self._workers: set[str] = set()  # admitted
        self._joining: dict[str, set[str]] = {}  # worker → jobs that it has yet to answer for
        self._jobs: set[str] = set()  # admitted
        self._waiting: dict[str, set[str]] = {}  # job → admitted workers that have yet to answer
        self._known: set[str] = set()  # those of them that an earlier coordinator has admitted

    def add_worker(self, worker: str) -> tuple[Sequence[str], list[Verdict]]:
        """A worker came. Returns the jobs it is to be asked about."""
        jobs = sorted(self._jobs | self._waiting.keys())
        if not jobs:
            self._workers.add(worker)
            return jobs, [AdmitWorker(worker)]
        self._joining[worker] = set(jobs)
        return jobs, []

    def add_job(self, job: str, *, known: bool = False) -> tuple[Sequence[str], list[Verdict]]:
        """A job came; ``known``: it goes on. Returns the workers that are to be asked about it."""
        for jobs in self._joining.values():
            jobs.add(job)
        asked = sorted(self._workers | self._joining.keys())
        if not self._workers and self._patient:
            self._waiting[job] = set()
            self._untried.add(job)
            return asked, []
        if not self._workers:
            self._jobs.add(job)
            return asked, [AdmitJob(job)]
        self._waiting[job] = set(self._workers)
        if known:
            self._known.add(job)
        return asked, []

    def answer(self, worker: str, job: str, refusal: FailureReport | None) -> list[Verdict]:
        """A worker says whether it sees what a job needs."""
        if worker in self._joining:
            if refusal is not None and job in self._untried and refusal.error == PathNotShared.__name__:
                return [RejectJob(job, refusal), *self.drop_job(job)]
            if refusal is not None and job in self._joining[worker]:
                del self._joining[worker]
                return [RefuseWorker(worker, refusal.message)]
            self._joining[worker].discard(job)
            return self._settle([worker], [])
        if worker not in self._waiting.get(job, ()):
            return []
        if refusal is not None:
            its_own = refusal.error != PathNotShared.__name__ and len(self._workers) > 1
            if job in self._known or its_own:
                return [RefuseWorker(worker, refusal.message)]
            return [RejectJob(job, refusal), *self.drop_job(job)]
        self._waiting[job].discard(worker)
        return self._settle([], [job])

    def drop_worker(self, worker: str) -> list[Verdict]:
        """A worker is gone."""
        self._workers.discard(worker)
        self._joining.pop(worker, None)
        for job, workers in self._waiting.items():
            workers.discard(worker)
            if self._patient and not self._workers:
                self._untried.add(job)
        return self._settle([], list(self._waiting))

    def drop_job(self, job: str) -> list[Verdict]:
        """A job is over."""
        self._jobs.discard(job)
        self._known.discard(job)
        self._untried.discard(job)
        self._waiting.pop(job, None)
        for jobs in self._joining.values():
            jobs.discard(job)
        return self._settle(list(self._joining), [])

    def time_out_job(self, job: str) -> list[Verdict]:
        """Whoever has not answered for this job by now never will."""
        return [GiveUpWorker(worker) for worker in sorted(self._waiting.get(job, ()))]

    def time_out_worker(self, worker: str) -> list[Verdict]:
        """If this worker has not answered for all jobs by now it never will."""
        return [GiveUpWorker(worker)] if worker in self._joining else []

    def _settle(self, workers: Iterable[str], jobs: Iterable[str]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for worker in workers:
            if not self._joining[worker]:
                del self._joining[worker]
                self._workers.add(worker)
                verdicts.append(AdmitWorker(worker))
                jobs = [*jobs, *sorted(self._untried)]  # it sees them all
                self._untried.clear()
        for job in jobs:
            if job not in self._untried and not self._waiting[job]:
                del self._waiting[job]
                self._known.discard(job)
                self._jobs.add(job)
                verdicts.append(AdmitJob(job))
        return verdicts
