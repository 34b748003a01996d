"""What Prometheus is told of jobs and tasks: a fold over facts as they are written. All begins at 0 with the server.

Nothing here knows of Prometheus' library; ``service.metrics`` shows these figures to it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from gristmill import errors
from gristmill.runtime.journal.facts import (
    AttemptOver,
    Fact,
    JobAccepted,
    JobBegun,
    JobEnded,
    JobLate,
    JobRequested,
    JobTakenUp,
    Span,
    StageReplanned,
    TaskDone,
    WorkerGone,
    WorkerJoined,
)
from gristmill.runtime.journal.summaries import is_loader

TASK_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
WAIT_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 14400)
JOB_SECONDS = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400)
OTHER = "other"
MOST_NAMES = 100
"""So many names of jobs have a figure of their own, and all others one together: each is a time series."""

_MOST_JOBS = 20_000  # that are not over; more than wait and run


class Histogram:
    """How often what was measured lay in which bucket."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Take in one more."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass
class _Job:
    """What is remembered of a job until it is over."""

    name: str
    submitted: float
    begun: float | None = None
    parents: dict[int, tuple[int, ...]] = field(default_factory=dict)
    hidden: bool = False  # it loads the code of another one, which is counted


class Figures:
    """The figures. One thread may add facts; whoever reads meanwhile reads numbers that are there.

    Args:
        recall: the facts of a job that was over, by which it is known when it is tried again.

    Attributes:
        totals: sums, by their names.
        attempts: by how they ended.
        failures: by the kind of the error.
        bad_records: by the name of the job.
        speculation: by whether the copy was first.
        jobs_ended: by state.
    """

    def __init__(self, recall: Callable[[str], Iterable[Fact]] = lambda _job: ()) -> None:
        self._recall = recall
        self.totals: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter(dict.fromkeys(("done", "failed", "lost", "cancelled", "superseded"), 0))
        self.failures: Counter[str] = Counter()
        self.bad_records: Counter[str] = Counter()
        self.speculation: Counter[str] = Counter(won=0, lost=0)
        self.jobs_ended: Counter[str] = Counter(succeeded=0, failed=0, cancelled=0)
        self.task_seconds = {"input": Histogram(TASK_SECONDS), "shuffle": Histogram(TASK_SECONDS)}
        self.task_wait = Histogram(WAIT_SECONDS)
        self.queue_wait = Histogram(WAIT_SECONDS)
        self.job_seconds = {state: Histogram(JOB_SECONDS) for state in self.jobs_ended}
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    def known(self, facts: Iterable[Fact]) -> None:
        """Take in how jobs of earlier began that are not over; nothing of that is counted."""
        for fact in facts:
            if not isinstance(fact, JobEnded):  # it was tried again
                self._follow(fact)

    def take(self, facts: Sequence[Fact]) -> None:
        """Take in facts, in their order."""
        self.totals["facts"] += len(facts)
        for fact in facts:
            match fact:
                case TaskDone() | AttemptOver() if self._is_hidden(fact.job):
                    pass
                case TaskDone():
                    self._task_done(fact)
                case AttemptOver():
                    self._attempt_over(fact)
                case WorkerJoined():
                    self.totals["workers_joined"] += 1
                case WorkerGone():
                    self.totals["workers_gone"] += 1
                case _:
                    self._count_job(fact)
                    self._follow(fact)

    def _follow(self, fact: Fact) -> None:
        """What must be known of a job when its next facts come."""
        match fact:
            case JobRequested(job, name, _, at):
                self._jobs[job] = _Job(name, at)
            case JobAccepted(job, name, at):
                known = self._jobs.setdefault(job, _Job(name, at))
                known.name, known.parents = name, dict(enumerate(fact.parents))
                known.hidden = _loads(fact)
                if not fact.queued and known.begun is None:
                    known.begun = at
            case StageReplanned(job, _, _, parents):
                if (found := self._jobs.get(job)) is not None:
                    found.parents.update(parents)
            case JobBegun(job, at):
                if (found := self._jobs.get(job)) is not None:
                    found.begun = at
            case JobTakenUp(job, _, at, _, queued):
                if queued and job not in self._jobs:  # it was over
                    for one in self._recall(job):
                        if isinstance(one, (JobRequested, JobAccepted, StageReplanned)):
                            self._follow(one)
                if queued and (found := self._jobs.get(job)) is not None:
                    found.submitted, found.begun = at, None
            case JobEnded(job):
                self._jobs.pop(job, None)
        while len(self._jobs) > _MOST_JOBS:
            self._jobs.popitem(last=False)

    def _is_hidden(self, job: str) -> bool:
        found = self._jobs.get(job)
        return found is not None and found.hidden

    def _count_job(self, fact: Fact) -> None:
        found = self._jobs.get(fact.job)
        match fact:
            case JobRequested():
                self.totals["jobs_submitted"] += 1
            case JobAccepted() if found is None and not _loads(fact):  # else it was requested before
                self.totals["jobs_submitted"] += 1
                if not fact.queued:
                    self.queue_wait.observe(0.0)
            case JobBegun(_, at):
                if found is not None:
                    self.queue_wait.observe(max(0.0, at - found.submitted))
            case JobLate():
                self.totals["jobs_late"] += 1
            case JobEnded(_, at, outcome) if not self._is_hidden(fact.job):
                state = outcome.view.state.value
                self.jobs_ended[state] += 1
                if found is not None and found.begun is not None and state in self.job_seconds:
                    self.job_seconds[state].observe(max(0.0, at - found.begun))

    def _task_done(self, fact: TaskDone) -> None:
        result, totals = fact.result, self.totals
        job = self._jobs.get(fact.job)
        reads_input = not job.parents.get(fact.stage) if job is not None else fact.stage == 0
        self.attempts["done"] += 1
        self.task_seconds["input" if reads_input else "shuffle"].observe(result.seconds)
        if reads_input:
            totals["input_records"] += result.records_in
            totals["input_bytes"] += result.bytes_in
        totals["spilled_bytes"] += result.spilled_bytes
        if result.block is not None:
            totals["shuffle_bytes"] += result.block.size_bytes
        for part in result.parts:
            totals["output_records"] += part.rows
            totals["output_bytes"] += part.size_bytes
        if result.bad_records:
            self._count_bad(OTHER if job is None else job.name, result.bad_records)
        if (span := fact.span) is not None:
            self._count_span(fact.number, span, won=True)

    def _attempt_over(self, fact: AttemptOver) -> None:
        self.attempts[fact.how] += 1
        if fact.report is not None:
            error = fact.report.error
            self.failures[error if hasattr(errors, error) else OTHER] += 1
        self._count_span(fact.number, fact.span, won=False)

    def _count_span(self, number: int, span: Span, *, won: bool) -> None:
        self.task_wait.observe(span.waited_seconds)
        if span.speculative:
            self.speculation["won" if won else "lost"] += 1
        elif number > 1:
            self.totals["retries"] += 1

    def _count_bad(self, name: str, count: int) -> None:
        known = name in self.bad_records or len(self.bad_records) < MOST_NAMES
        self.bad_records[name if known else OTHER] += count


def _loads(fact: JobAccepted) -> bool:
    """Whether a job loads the code of another one."""
    return is_loader(fact.name, fact.prepared.get("spec", {}).get("driver", False))
