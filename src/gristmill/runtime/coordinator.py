"""The coordinator: one loop between a fleet, which acts, and the scheduler, which decides.

Fleet events and requests come in through one queue. The loop turns them into the scheduler's events, calls ``step``
and carries out what it says. It never unpickles and never runs user code; only an inline fleet does that, within
``launch``, and then the loop runs in the thread of whoever waits, so that a debugger works there.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from gristmill.errors import (
    BadRecordLimit,
    FailureKind,
    FailureReport,
    GristmillError,
    TaskError,
    task_error,
)
from gristmill.runtime import outcome as outcomes
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    Beat,
    BlocksGone,
    Fleet,
    FleetBroken,
    FleetEvent,
    JobAdmitted,
    JobRejected,
    SlotDown,
    SlotUp,
    TaskResult,
    WorkerDown,
    WorkerLeaving,
    WorkerUp,
)
from gristmill.runtime.jobs import Job, PreparedJob
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.tally import JobTally, summary_of
from gristmill.runtime.views import JobView, Observer
from gristmill.scheduling import commands, events
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.events import AttemptId, TaskId
from gristmill.scheduling.state import SchedulerState
from gristmill.scheduling.step import step

_VIEW_SECONDS = 0.1
_WAIT_SECONDS = 1.0  # no wait is longer, whatever the scheduler wants
_DRAIN_SECONDS = 5.0  # how long a job's end waits for its cancelled attempts to be gone
_JOIN_SECONDS = 10.0


@dataclass(frozen=True)
class _Submit:
    job: Job


@dataclass(frozen=True)
class _CancelJob:
    job: str


@dataclass(frozen=True)
class _Stop:
    pass


class RunningJob:
    """A submitted job."""

    def __init__(self, coordinator: Coordinator, job: Job) -> None:
        self._coordinator = coordinator
        self._job = job

    @property
    def job(self) -> str:
        """The job's id."""
        return self._job.prepared.spec.job

    def wait(self, timeout: float | None = None) -> Outcome | None:
        """Wait until the job is over; None if it still runs after ``timeout`` seconds."""
        return self._coordinator.wait_for(self._job, timeout)

    def cancel(self) -> None:
        """Ask for the job to end. Returns at once; ``wait`` says how it ended."""
        self._coordinator.request_cancel(self._job)

    def view(self) -> JobView:
        """How the job stands, or stood at most a moment ago."""
        return self._job.view


class Coordinator:
    """Runs jobs on a fleet.

    Args:
        fleet: where slots live; the coordinator starts and closes it.
        threaded: False to run the loop within :meth:`RunningJob.wait` instead of a thread of its own.
        clock: seconds, monotonic.
    """

    def __init__(self, fleet: Fleet, *, threaded: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._fleet = fleet
        self._clock = clock
        self._queue: queue.SimpleQueue[FleetEvent | _Submit | _CancelJob | _Stop] = queue.SimpleQueue()
        self._scheduler = SchedulerState()
        self._commands: deque[commands.Command] = deque()
        self._jobs: dict[str, Job] = {}
        self._worker_of: dict[str, str] = {}  # slot → worker
        self._attempt_in: dict[str, AttemptId] = {}  # slot → what was launched in it
        self._slot_of: dict[AttemptId, str] = {}  # the inverse
        self._arrived: dict[AttemptId, TaskResult] = {}  # results that the scheduler has yet to judge
        self._wake_at: float | None = None
        self._viewed_at = clock()
        self._broken: FailureReport | None = None  # why the fleet cannot go on
        self._crash: Exception | None = None  # what ended the loop
        self._stopping = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="gristmill-coordinator", daemon=True)
        self._threaded = threaded

    def start(self) -> None:
        """Let the fleet come up. Returns at once."""
        self._fleet.start(self._queue.put)
        if self._threaded:
            self._thread.start()

    def submit(self, prepared: PreparedJob, observer: Observer | None = None) -> RunningJob:
        """Begin a job."""
        tally = JobTally(prepared.spec.job, prepared.name, prepared.plan, prepared.splits)
        job = Job(prepared, tally, observer, self._clock(), tally.view(JobState.RUNNING, 0.0))
        self._queue.put(_Submit(job))
        return RunningJob(self, job)

    def close(self) -> None:
        """Cancel what still runs and end every process of the fleet. May be called again."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(_Stop())
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)
        self._fleet.close()
        if self._thread.is_alive():
            return  # it is committing an output, which must not be disturbed
        with suppress(queue.Empty):
            while True:  # jobs that were submitted too late to begin
                if isinstance(item := self._queue.get_nowait(), _Submit):
                    self._jobs[item.job.prepared.spec.job] = item.job
        self._end_all(JobState.CANCELLED, None)

    def request_cancel(self, job: Job) -> None:
        """Queue a cancellation."""
        self._queue.put(_CancelJob(job.prepared.spec.job))

    def wait_for(self, job: Job, timeout: float | None) -> Outcome | None:
        """See :meth:`RunningJob.wait`."""
        deadline = None if timeout is None else self._clock() + timeout
        while not job.over.is_set() and self._crash is None:
            left = _WAIT_SECONDS if deadline is None else min(_WAIT_SECONDS, deadline - self._clock())
            if self._threaded or self._closed:
                job.over.wait(max(0.0, left))
            else:
                self._turn(max(0.0, left))
            if left <= 0:
                break
        if self._crash is not None and job.outcome is None:
            raise self._crash
        return job.outcome

    # The loop.

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn(_WAIT_SECONDS)
        except Exception as error:  # a defect of ours: whoever waits must learn of it, since this thread ends here
            self._crash = error
            for job in self._jobs.values():
                job.over.set()

    def _turn(self, limit: float) -> None:
        """Wait for something to happen, for a bounded time, and handle all that is queued."""
        with suppress(queue.Empty):
            self._handle(self._queue.get(timeout=self._patience(limit)))
            while not self._stopping:
                self._handle(self._queue.get_nowait())
                if self._clock() - self._viewed_at >= _VIEW_SECONDS:
                    break
        now = self._clock()
        if self._wake_at is not None and now >= self._wake_at:
            self._feed(events.TimePassed())
        for job in [job for job in self._jobs.values() if job.state is not JobState.RUNNING]:
            if not job.draining or now >= job.drain_until:
                self._finish(job)
        if now - self._viewed_at >= _VIEW_SECONDS:
            self._viewed_at = now
            for job in self._jobs.values():
                job.view = job.tally.view(JobState.RUNNING, now - job.began)
                if job.observer is not None:
                    job.observer(job.view)

    def _patience(self, limit: float) -> float:
        times = [self._viewed_at + _VIEW_SECONDS] if self._jobs else []
        if self._wake_at is not None:
            times.append(self._wake_at)
        times += [job.drain_until for job in self._jobs.values() if job.state is not JobState.RUNNING]
        return max(0.0, min(limit, min(times, default=limit + self._clock()) - self._clock()))

    def _handle(self, item: FleetEvent | _Submit | _CancelJob | _Stop) -> None:
        if self._broken is not None and not isinstance(item, (_Submit, _Stop)):
            return  # all jobs are over, and nothing can be launched any more
        match item:
            case WorkerUp():
                self._feed(
                    events.WorkerJoined(
                        item.worker,
                        item.host,
                        item.rack,
                        item.cpus,
                        item.memory_bytes,
                        item.suspect_seconds,
                        item.lost_seconds,
                    )
                )
            case WorkerLeaving(worker):
                self._feed(events.WorkerDraining(worker))
            case WorkerDown(worker):
                self._worker_down(worker)
            case BlocksGone(_, paths):
                self._blocks_gone(paths)
            case JobAdmitted(name):
                if job := self._jobs.get(name):
                    self._admitted(job)
            case JobRejected(name, report):
                if job := self._jobs.get(name):
                    job.state = JobState.FAILED
                    self._end(job, outcomes.job_failed(name, report, job.prepared.spec.folder))
            case SlotUp(slot, worker, depth):
                self._worker_of[slot] = worker
                self._feed(events.SlotJoined(slot, worker, depth))
            case SlotDown(slot):
                self._slot_down(slot)
            case AttemptDone(attempt, result):
                self._attempt_done(attempt, result)
            case AttemptFailed(attempt, report, slot_leaves):
                self._attempt_failed(attempt, report, slot_leaves)
            case Beat(worker, attempts, began):
                for attempt, progress in attempts.items():
                    if job := self._jobs.get(attempt.job):
                        job.tally.progressed(attempt, progress)
                self._feed(events.Heartbeat(worker, tuple(attempts), began))
            case FleetBroken(report):
                self._broken = report
                self._end_all(JobState.FAILED, report)
            case _Submit(job):
                self._begin(job)
            case _CancelJob(name):
                self._feed(events.JobCancelled(name))
            case _Stop():
                self._stopping = True

    def _begin(self, job: Job) -> None:
        spec = job.prepared.spec
        self._jobs[spec.job] = job
        if self._broken is not None:
            self._end_all(JobState.FAILED, self._broken)
            return
        self._fleet.add_job(spec)

    def _admitted(self, job: Job) -> None:
        """The fleet can run the job: it begins."""
        spec = job.prepared.spec
        seed = crc32(spec.job.encode())
        policy = events.RetryPolicy(user_attempts=job.prepared.max_attempts)
        self._feed(events.JobSubmitted(spec.job, seed, policy, spec.max_bad_records))
        stages = job.prepared.plan.stages
        for stage, tasks in zip(stages, job.tally.task_counts(), strict=True):
            final = stage is stages[-1]
            self._feed(events.StageAdded(spec.job, stage.id, stage.parents, tasks, final))

    def _slot_down(self, slot: str) -> None:
        attempt = self._attempt_in.pop(slot, None)
        if attempt is not None:
            self._slot_of.pop(attempt, None)
            job = self._jobs.get(attempt.job)
            if job is not None and job.tally.stopped(attempt):
                report = outcomes.lost_report(attempt, _stage_name(job, attempt))
                job.tally.failed(report)
                job.last_failure = (attempt, report)
        for job in self._jobs.values():
            job.draining.discard(slot)
        self._worker_of.pop(slot, None)
        self._feed(events.SlotLeft(slot))

    def _worker_down(self, worker: str) -> None:
        """A worker is gone: so are its slots, and what ran in them."""
        for slot in [slot for slot, of in self._worker_of.items() if of == worker]:
            self._slot_down(slot)
        self._feed(events.WorkerLost(worker))

    def _blocks_gone(self, paths: Sequence[str]) -> None:
        for path in paths:
            for job in self._jobs.values():
                if (task := job.tally.maker_of(path)) is not None:
                    self._feed(events.BlockLost(task))

    def _attempt_done(self, attempt: AttemptId, result: TaskResult) -> None:
        job = self._stopped(attempt)
        self._arrived[attempt] = result
        if job is not None:
            job.bad_records = job.tally.bad_records + result.bad_records
            if result.last_bad is not None:
                job.last_bad = outcomes.of_attempt(result.last_bad, attempt, _stage_name(job, attempt))
        segments = () if result.block is None else result.block.segments
        sizes = tuple(segment.length for segment in segments)
        self._feed(events.TaskFinished(attempt, result.block is not None, sizes, result.bad_records))
        self._discard(attempt)  # nothing to do if it was accepted

    def _attempt_failed(self, attempt: AttemptId, report: FailureReport, slot_leaves: bool | None) -> None:
        lost: tuple[TaskId, ...] = ()
        kind = task_error(report).kind
        job = self._stopped(attempt)
        if job is not None:
            report = outcomes.of_attempt(report, attempt, _stage_name(job, attempt))
            job.tally.failed(report)
            job.last_failure = (attempt, report)
            if kind is FailureKind.FETCH:
                paths = [report.details.get("block", ""), *str(report.details.get("blocks", "")).split("\n")]
                makers = [job.tally.maker_of(str(path)) for path in dict.fromkeys(paths)]
                lost = tuple(maker for maker in makers if maker is not None)
        self._feed(events.TaskFailed(attempt, kind, lost, slot_leaves))

    def _stopped(self, attempt: AttemptId) -> Job | None:
        """The job of an attempt that ran until now; None if it was not known to run."""
        slot = self._slot_of.pop(attempt, None)
        if slot is not None:
            self._attempt_in.pop(slot, None)
        job = self._jobs.get(attempt.job)
        return job if job is not None and job.tally.stopped(attempt) else None

    # What the scheduler says.

    def _feed(self, event: events.Event) -> None:
        if isinstance(event, events.TimePassed):
            self._wake_at = None
        self._commands += step(self._scheduler, event, self._clock())
        while self._commands:
            self._carry_out(self._commands.popleft())

    def _carry_out(self, command: commands.Command) -> None:
        match command:
            case commands.Launch(attempt, slot):
                tally = self._jobs[attempt.job].tally
                self._attempt_in[slot] = attempt
                self._slot_of[attempt] = slot
                tally.launched(attempt)
                self._fleet.launch(slot, tally.spec_for(attempt))
            case commands.Cancel(attempt, slot):
                self._stopped(attempt)
                if self._threaded:  # else nothing runs while the loop does
                    self._jobs[attempt.job].draining.add(slot)
                self._fleet.cancel(attempt)
            case commands.AcceptOutput(attempt):
                self._jobs[attempt.job].tally.accepted(attempt, self._arrived.pop(attempt))
            case commands.DiscardOutput(attempt):
                self._discard(attempt)
            case commands.FreeBlock(task):
                block = self._jobs[task.job].tally.freed(task)
                if block is not None:
                    self._fleet.free(block)
            case commands.ReportStage(name, stage, _):
                self._jobs[name].tally.stage_is_whole(stage)
            case commands.DropWorker(worker):
                self._fleet.drop_worker(worker)
                self._worker_down(worker)
            case commands.WakeAt(when):
                self._wake_at = when
            case commands.EndJob(name, state, cause):
                job = self._jobs[name]
                job.state, job.cause = state, cause
                job.drain_until = self._clock() + _DRAIN_SECONDS

    def _discard(self, attempt: AttemptId) -> None:
        """Nothing may remain of a result that does not count."""
        result = self._arrived.pop(attempt, None)
        if result is None:
            return
        if result.block is not None:
            self._fleet.free(result.block)
        if job := self._jobs.get(attempt.job):  # the staging folder of a job that is over is gone already
            for part in result.parts:
                with suppress(OSError):
                    (Path(job.prepared.spec.staging) / part.staged).unlink(missing_ok=True)

    # The end of a job.

    def _finish(self, job: Job) -> None:
        """All of the job's attempts are over: put its output in place, or leave nothing of it."""
        spec = job.prepared.spec
        self._fleet.drop_job(spec.job)
        error: GristmillError | None = None
        if job.state is JobState.SUCCEEDED:
            view = job.tally.view(job.state, self._clock() - job.began)
            try:
                job.prepared.output.commit(job.tally.parts(), summary_of(view, job.prepared.output_path))
            except TaskError as failure:  # the disk is full
                error = outcomes.job_failed(spec.job, failure.report, spec.folder)
            except GristmillError as failure:
                error = failure
            except OSError as failure:
                error = outcomes.output_failed(spec.job, failure, spec.folder)
            if error is not None:
                job.state = JobState.FAILED
        elif job.state is JobState.CANCELLED:
            error = outcomes.job_cancelled(spec.job, spec.folder)
        else:
            error = _failure_of(job)
        self._end(job, error)

    def _end(self, job: Job, error: GristmillError | None) -> None:
        self._jobs.pop(job.prepared.spec.job, None)
        if error is not None:
            with suppress(OSError):  # what cannot be removed now is removed by the next run
                job.prepared.output.abort()
        job.view = job.tally.view(job.state, self._clock() - job.began)
        job.outcome = Outcome(job.view, error)
        try:
            if job.observer is not None and self._crash is None:
                job.observer(job.view)
        finally:
            job.over.set()

    def _end_all(self, state: JobState, report: FailureReport | None) -> None:
        """End every job without the scheduler: the fleet is gone or is about to go."""
        for job in list(self._jobs.values()):
            spec = job.prepared.spec
            job.state = state
            cancelled = outcomes.job_cancelled(spec.job, spec.folder)
            self._end(job, outcomes.job_failed(spec.job, report, spec.folder) if report else cancelled)


def _stage_name(job: Job, attempt: AttemptId) -> str:
    return job.prepared.plan.stages[attempt.stage].name


def _failure_of(job: Job) -> GristmillError:
    """Why a job failed: by one attempt, or by too many bad records in all."""
    spec, cause, last = job.prepared.spec, job.cause, job.last_failure
    if cause is None:
        return outcomes.too_many_bad_records(spec.job, job.bad_records, spec.max_bad_records, job.last_bad, spec.folder)
    report = last[1] if last is not None and last[0] == cause else outcomes.lost_report(cause, _stage_name(job, cause))
    if report.error == BadRecordLimit.__name__:
        return outcomes.bad_record_limit(spec.job, spec.max_bad_records, report, spec.folder)
    return outcomes.job_failed(spec.job, report, spec.folder)
