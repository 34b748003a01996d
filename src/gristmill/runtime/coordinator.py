"""The coordinator: one loop between a fleet, which acts, and the scheduler, which decides.

Fleet events and requests come in through one queue. The loop turns them into the scheduler's events, calls ``step``
and carries out what it says. It never unpickles and never runs user code; only an inline fleet does that, within
``launch``, and then the loop runs in the thread of whoever waits, so that a debugger works there.

What must outlive this process is noted in a journal. Nothing is answered that is not durable: that a job is accepted,
and how it ended.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from gristmill.errors import (
    AttemptNotBegun,
    BadRecordLimit,
    FailureKind,
    FailureReport,
    GristmillError,
    JournalFailed,
    ServerUnreachable,
    TaskTimeout,
    task_error,
)
from gristmill.runtime import outcome as outcomes
from gristmill.runtime import views
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
    Progress,
    SlotDown,
    SlotUp,
    TaskResult,
    WorkerDown,
    WorkerLeaving,
    WorkerUp,
)
from gristmill.runtime.ending import Ending, wind_up
from gristmill.runtime.facts import TaskDone
from gristmill.runtime.jobs import Job, PreparedJob
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.registry import KnownJob, Registry, RunningJob
from gristmill.runtime.tally import JobTally, digest_of
from gristmill.runtime.views import Observer
from gristmill.scheduling import commands, events
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.events import AttemptId, TaskId
from gristmill.scheduling.state import SchedulerState
from gristmill.scheduling.step import step

if TYPE_CHECKING:
    from gristmill.runtime.jobfolder import JobFolder
    from gristmill.runtime.journal import Journal
    from gristmill.runtime.recovery import Resumption

__all__ = ["Coordinator", "RunningJob"]

_VIEW_SECONDS = 0.1
_WAIT_SECONDS = 1.0  # no wait is longer, whatever the scheduler wants
_DRAIN_SECONDS = 5.0  # how long a job's end waits for its cancelled attempts to be gone
_JOIN_SECONDS = 10.0
_REJOIN_SECONDS = 10.0


@dataclass(frozen=True)
class _Submit:
    job: Job


@dataclass(frozen=True)
class _CancelJob:
    job: str


@dataclass(frozen=True)
class _Ended:
    """Another thread is done with the end of a job."""

    job: Job
    outcome: Outcome | None
    crash: Exception | None = None


@dataclass(frozen=True)
class _JournalBroken:
    failure: JournalFailed


@dataclass(frozen=True)
class _Stop:
    pass


_Item = FleetEvent | _Submit | _CancelJob | _Ended | _JournalBroken | _Stop


class Coordinator:
    """Runs jobs on a fleet.

    Args:
        fleet: where slots live; the coordinator starts and closes it.
        threaded: False to run the loop within :meth:`RunningJob.wait` instead of a thread of its own.
        clock: seconds, monotonic.
        journal: where all jobs are noted. A job of this machine may bring its own instead.
        rejoin_seconds: how long a job that is taken up waits for the workers that had blocks of it.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        threaded: bool = True,
        clock: Callable[[], float] = time.monotonic,
        journal: Journal | None = None,
        rejoin_seconds: float = _REJOIN_SECONDS,
    ) -> None:
        self._fleet = fleet
        self._clock = clock
        self._journal = journal
        self._rejoin_seconds = rejoin_seconds
        self._registry = Registry(journal)
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._scheduler = SchedulerState()
        self._commands: deque[commands.Command] = deque()
        self._jobs: dict[str, Job] = {}
        self._workers: dict[str, WorkerUp] = {}
        self._worker_of: dict[str, str] = {}  # slot → worker
        self._attempts_in: dict[str, dict[AttemptId, None]] = {}  # slot → what was launched in it, the first one runs
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
        self._enders: set[threading.Thread] = set()

    def start(self) -> None:
        """Let the fleet come up. Returns at once."""
        self._fleet.start(self._queue.put)
        if self._journal is not None:
            self._journal.when_failed(lambda failure: self._queue.put(_JournalBroken(failure)))
        if self._threaded:
            self._thread.start()

    def submit(
        self,
        prepared: PreparedJob,
        observer: Observer | None = None,
        *,
        key: str = "",
        journal: Journal | None = None,
        folder: JobFolder | None = None,
    ) -> KnownJob:
        """Begin a job. If the journal is essential, the job is durable when this returns.

        Args:
            prepared: the job.
            observer: is told how it stands.
            key: an idempotency key. If a job came with it before, that one is returned, and this one is not begun.
            journal: the job's own.
            folder: the job's folder, if it is to end with the job: removed if it succeeds, else released.

        Raises:
            JournalFailed: it cannot be noted; it does not begin.
        """
        job = self._new_job(prepared, observer, journal, folder)
        running = RunningJob(self, job)
        known = self._registry.add(running, key)
        if known is not running:
            known.wait_accepted()
            return known
        if job.journal is not None:
            from gristmill.runtime.recovery import accepted

            job.note(*accepted(prepared, key, job.submitted))
            try:
                running.wait_accepted()
            except JournalFailed:
                self._registry.forget(job.id, key)
                raise
        self._queue.put(_Submit(job))
        return running

    def resume(
        self,
        prepared: PreparedJob,
        resumption: Resumption,
        observer: Observer | None = None,
        *,
        journal: Journal | None = None,
        folder: JobFolder | None = None,
        refused: GristmillError | None = None,
    ) -> RunningJob:
        """Go on with a job of a coordinator that is gone. The arguments are those of :meth:`submit`; ``refused`` is why
        it cannot go on after all: then it fails.

        Raises:
            JournalFailed: it cannot be noted.
        """
        from gristmill.runtime.recovery import taken_up

        job = self._new_job(prepared, observer, journal, folder)
        job.resumption, job.submitted, job.refused = resumption, resumption.record.accepted.at, refused
        running = RunningJob(self, job)
        self._registry.add(running, "")
        job.note(taken_up(resumption.record, time.time()))
        running.wait_accepted()
        self._queue.put(_Submit(job))
        return running

    def resume_all(self) -> list[RunningJob]:
        """Go on with every job that the journal says was accepted and has not ended. To be called before ``start``.

        Raises:
            JournalFailed: the journal cannot be read or written.
        """
        from gristmill.runtime.recovery import reopen

        assert self._journal is not None, "there is nothing to resume from"
        resumed = []
        for record in self._registry.load():
            prepared, resumption, folder, refused = reopen(record, self._journal.blobs(record.job))
            resumed.append(self.resume(prepared, resumption, folder=folder, refused=refused))
        return resumed

    def _new_job(
        self, prepared: PreparedJob, observer: Observer | None, journal: Journal | None, folder: JobFolder | None
    ) -> Job:
        tally = JobTally(prepared.spec.job, prepared.name, prepared.plan, prepared.splits)
        view = tally.view(JobState.RUNNING, 0.0)
        return Job(prepared, tally, observer, self._clock(), view, journal or self._journal, folder, time.time())

    def find(self, job: str) -> KnownJob | None:
        """A job by its id, be it one that runs or one of earlier."""
        return self._registry.find(job)

    def find_by_key(self, key: str) -> KnownJob | None:
        """The job that was submitted with an idempotency key."""
        return self._registry.find_key(key)

    def jobs(self) -> list[KnownJob]:
        """All jobs, the youngest first."""
        return self._registry.all()

    @property
    def crash(self) -> Exception | None:
        """What ended the loop; None if it runs. A server must end then: its jobs go on when it is started again."""
        return self._crash

    def close(self) -> None:
        """End every process of the fleet. May be called again.

        Jobs that still run are cancelled; but those of an essential journal are left as they are, for the next
        coordinator to go on with.
        """
        if self._closed:
            return
        self._closed = True
        self._queue.put(_Stop())
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)
        for thread in list(self._enders):  # an output that is being put in its place must not be disturbed
            thread.join(_JOIN_SECONDS)
        self._fleet.close()
        if self._thread.is_alive():
            return
        with suppress(queue.Empty):
            while True:  # jobs that were submitted too late to begin, or ended just now
                item = self._queue.get_nowait()
                if isinstance(item, _Submit):
                    self._jobs[item.job.id] = item.job
                elif isinstance(item, _Ended):
                    self._ended(item)
        self._end_all(JobState.CANCELLED, None)
        if self._journal is not None:
            self._journal.close()

    def request_cancel(self, job: Job) -> None:
        """Queue a cancellation."""
        self._queue.put(_CancelJob(job.id))

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
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Nothing can be decided any more. What is in the journal is for the next coordinator."""
        self._crash, self._stopping = error, True
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
        for job in list(self._jobs.values()):
            self._look_after(job, now)
        if now - self._viewed_at >= _VIEW_SECONDS:
            self._viewed_at = now
            for job in self._jobs.values():
                job.view = job.tally.view(JobState.RUNNING, now - job.began, self._note_on(job))
                if job.observer is not None:
                    job.observer(job.view)

    def _look_after(self, job: Job, now: float) -> None:
        """What of a job waits for others, and for time."""
        if job.frees and job.state is JobState.RUNNING:
            self._free_durable(job)
        if (
            job.resumption is not None
            and job.begun
            and (job.resumption.is_complete or now >= job.resumption.wait_until)
        ):
            self._release(job, job.resumption)
        if job.state is not JobState.RUNNING and not job.ending and (not job.draining or now >= job.drain_until):
            self._finish(job)

    def _patience(self, limit: float) -> float:
        times = [self._viewed_at + _VIEW_SECONDS] if self._jobs else []
        if self._wake_at is not None:
            times.append(self._wake_at)
        for job in self._jobs.values():
            if job.state is not JobState.RUNNING and not job.ending:
                times.append(job.drain_until if job.draining else 0.0)
        return max(0.0, min(limit, min(times, default=limit + self._clock()) - self._clock()))

    def _handle(self, item: _Item) -> None:
        if self._broken is not None and not isinstance(item, (_Submit, _Stop, _Ended, _JournalBroken)):
            return  # all jobs are over, and nothing can be launched any more
        match item:
            case WorkerUp():
                self._worker_up(item)
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
                if (job := self._jobs.get(name)) and not job.begun and job.state is JobState.RUNNING:
                    job.state = JobState.FAILED
                    self._end(job, outcomes.job_rejected(name, report, job.prepared.spec.folder))
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
                self._beat(worker, attempts, began)
            case FleetBroken(report):
                self._broken = report
                self._end_all(JobState.FAILED, report)
            case _Submit(job):
                self._begin(job)
            case _CancelJob(name):
                self._cancel(name)
            case _Ended():
                self._ended(item)
            case _JournalBroken(failure):
                self._give_up(failure)
            case _Stop():
                self._stopping = True

    def _begin(self, job: Job) -> None:
        spec = job.prepared.spec
        self._jobs[spec.job] = job
        if self._broken is not None:
            self._end_all(JobState.FAILED, self._broken)
            return
        if job.refused is not None:
            job.state = JobState.FAILED
            self._end(job, job.refused)
            return
        job.added = True
        self._fleet.add_job(spec)

    def _cancel(self, name: str) -> None:
        job = self._jobs.get(name)
        if job is not None and not job.begun and job.state is JobState.RUNNING:
            job.state, job.drain_until = JobState.CANCELLED, self._clock()  # the scheduler never heard of it
        self._feed(events.JobCancelled(name))

    def _admitted(self, job: Job) -> None:
        """The fleet can run the job: it begins."""
        if job.begun or job.state is not JobState.RUNNING:
            return
        job.begun = True
        prepared, spec = job.prepared, job.prepared.spec
        self._feed(
            events.JobSubmitted(
                spec.job,
                seed=crc32(spec.job.encode()),
                policy=events.RetryPolicy(
                    user_attempts=prepared.max_attempts, deaths_expected=prepared.deaths_expected
                ),
                max_bad_records=spec.max_bad_records,
                priority=prepared.priority,
                task_cpus=prepared.task_cpus,
                task_memory_bytes=prepared.task_memory_bytes,
                speculation=events.SpeculationPolicy() if prepared.speculation else None,
                held=job.resumption is not None,
            )
        )
        stages = prepared.plan.stages
        for stage, tasks in zip(stages, job.tally.task_counts(), strict=True):
            final = stage is stages[-1]
            self._feed(events.StageAdded(spec.job, stage.id, stage.parents, tasks, final))
        if job.resumption is not None:
            for worker in self._workers.values():
                job.resumption.keeps(worker.worker, worker.kept.get(spec.job, ()))
            job.resumption.wait_until = self._clock() + self._rejoin_seconds

    def _release(self, job: Job, resumption: Resumption) -> None:
        """What is left of a job is known, as far as it can be: it goes on."""
        job.resumption = None
        shared = bool(job.prepared.spec.shuffle_dir)
        anyone = next(iter(self._workers), "")
        for task, done in resumption.done.items():
            result, block = done.result, resumption.block_of(task)
            has_block = result.block is not None and bool(result.block.path)
            if block is not None:
                result = replace(result, block=block)
            job.tally.restored(done.attempt, result, has_block=block is not None)
            self._feed(
                events.TaskRestored(
                    done.attempt,
                    None if block is None and has_block else (block.worker if block is not None else "") or anyone,
                    has_block,
                    _sizes(result),
                    result.bad_records,
                    _digest(result),
                    shared,
                )
            )
        job.bad_records = job.tally.bad_records
        self._feed(events.JobReleased(job.id))

    def _note_on(self, job: Job) -> str:
        """Why nothing happens, or what else should be known of a job."""
        if job.resumption is not None:
            return "Waiting for the workers that keep what was done of the job." if job.begun else ""
        if job.journal is not None and job.journal.failure is not None:
            return f"{job.journal.failure} The job goes on, but could not be taken up with --resume."
        if job.tally.is_running or job.state is not JobState.RUNNING:
            return ""
        return views.waiting_note(job.prepared.task_cpus, job.prepared.task_memory_bytes, self._offers())

    def _offers(self) -> list[tuple[float, int | None]]:
        """The CPUs and the memory of each worker that has slots."""
        slots = Counter(self._worker_of.values())
        found = []
        for name, count in slots.items():
            worker = self._workers.get(name)
            cpus = float(count) if worker is None or worker.cpus is None else worker.cpus
            found.append((cpus, None if worker is None else worker.memory_bytes))
        return found

    # What the fleet says.

    def _worker_up(self, worker: WorkerUp) -> None:
        self._workers[worker.worker] = worker
        for name, paths in worker.kept.items():
            if (job := self._jobs.get(name)) and job.resumption is not None:
                job.resumption.keeps(worker.worker, paths)
        self._feed(
            events.WorkerJoined(
                worker.worker,
                worker.host,
                worker.rack,
                worker.cpus,
                worker.memory_bytes,
                worker.suspect_seconds,
                worker.lost_seconds,
            )
        )

    def _beat(self, worker: str, attempts: Mapping[AttemptId, Progress], began: float | None) -> None:
        fractions = []
        for attempt, progress in attempts.items():
            job = self._jobs.get(attempt.job)
            if job is not None:
                job.tally.progressed(attempt, progress)
            fractions.append(0.0 if job is None else job.tally.fraction(attempt))
        self._feed(events.Heartbeat(worker, tuple(attempts), began, tuple(fractions)))

    def _slot_down(self, slot: str) -> None:
        # The first one ran; the others waited for their turn, and nothing happened to them.
        for place, attempt in enumerate(self._attempts_in.pop(slot, ())):
            self._slot_of.pop(attempt, None)
            job = self._jobs.get(attempt.job)
            if job is not None and job.tally.stopped(attempt) and place == 0:
                report = outcomes.lost_report(attempt, _stage_name(job, attempt))
                job.tally.failed(report)
                job.last_failure = (attempt, report)
        for job in self._jobs.values():
            for drained in [drained for drained, where in job.draining.items() if where == slot]:
                del job.draining[drained]
        self._worker_of.pop(slot, None)
        self._feed(events.SlotLeft(slot))

    def _worker_down(self, worker: str) -> None:
        """A worker is gone: so are its slots, and what ran in them."""
        self._workers.pop(worker, None)
        for job in self._jobs.values():
            if job.resumption is not None:
                job.resumption.lost(worker)
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
        self._feed(
            events.TaskFinished(
                attempt,
                has_block=result.block is not None and bool(result.block.path),  # a task without rows makes no file
                partition_bytes=_sizes(result),
                bad_records=result.bad_records,
                digest=_digest(result),
                shared=job is not None and bool(job.prepared.spec.shuffle_dir),
                seconds=result.seconds or None,
            )
        )
        self._discard(attempt)  # nothing to do if it was accepted

    def _attempt_failed(self, attempt: AttemptId, report: FailureReport, slot_leaves: bool | None) -> None:
        lost: tuple[TaskId, ...] = ()
        kind = task_error(report).kind
        job = self._stopped(attempt)
        if job is not None and report.error == AttemptNotBegun.__name__:
            job.tally.not_begun()
        elif job is not None:
            report = outcomes.of_attempt(report, attempt, _stage_name(job, attempt))
            job.tally.failed(report)
            job.last_failure = (attempt, report)
            if job.prepared.deaths_expected and report.error == TaskTimeout.__name__:
                kind = FailureKind.DEATH  # who is so late may as well be dead
            if kind is FailureKind.FETCH:
                paths = [report.details.get("block", ""), *str(report.details.get("blocks", "")).split("\n")]
                makers = [job.tally.maker_of(str(path)) for path in dict.fromkeys(paths)]
                lost = tuple(maker for maker in makers if maker is not None)
        self._feed(events.TaskFailed(attempt, kind, lost, slot_leaves))

    def _stopped(self, attempt: AttemptId) -> Job | None:
        """The job of an attempt that ran until now; None if it was not known to run."""
        slot = self._slot_of.pop(attempt, None)
        if slot is not None:
            self._attempts_in[slot].pop(attempt, None)
        job = self._jobs.get(attempt.job)
        if job is None:
            return None
        job.draining.pop(attempt, None)  # it was cancelled, and has answered after all
        return job if job.tally.stopped(attempt) else None

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
                self._attempts_in.setdefault(slot, {})[attempt] = None
                self._slot_of[attempt] = slot
                tally.launched(attempt)
                self._fleet.launch(slot, tally.spec_for(attempt))
            case commands.Cancel(attempt, slot):
                self._stopped(attempt)
                if self._threaded:  # else nothing runs while the loop does
                    self._jobs[attempt.job].draining[attempt] = slot
                self._fleet.cancel(attempt)
            case commands.AcceptOutput(attempt):
                self._accept(self._jobs[attempt.job], attempt)
            case commands.DiscardOutput(attempt):
                self._discard(attempt)
            case commands.FreeBlock(task):
                job = self._jobs[task.job]
                block = job.tally.freed(task)
                if block is not None and block.path:
                    job.frees.append((job.noted, block))
                    self._free_durable(job)
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
        if result.block is not None and result.block.path:
            self._fleet.free(result.block)
        if job := self._jobs.get(attempt.job):  # the staging folder of a job that is over is gone already
            for part in result.parts:
                with suppress(OSError):
                    (Path(job.prepared.spec.staging) / part.staged).unlink(missing_ok=True)

    def _accept(self, job: Job, attempt: AttemptId) -> None:
        result = self._arrived.pop(attempt)
        job.tally.accepted(attempt, result)
        if job.journal is not None:
            epoch = job.prepared.spec.epoch
            job.note(TaskDone(job.id, attempt.stage, attempt.index, attempt.number, epoch, result))

    def _free_durable(self, job: Job) -> None:
        """Free blocks, once it is durable that nothing needs them: else they would be missed after a crash."""
        while job.frees and (job.journal is None or job.journal.is_durable(job.frees[0][0])):
            self._fleet.free(job.frees.popleft()[1])

    # The end of a job.

    def _finish(self, job: Job) -> None:
        """All of the job's attempts are over: put its output in place, or leave nothing of it."""
        spec = job.prepared.spec
        if job.state is JobState.SUCCEEDED:
            self._end(job, None)
        elif job.state is JobState.CANCELLED:
            self._end(job, outcomes.job_cancelled(spec.job, spec.folder))
        else:
            self._end(job, _failure_of(job))

    def _end(self, job: Job, error: GristmillError | None) -> None:
        """Begin the end of a job, which waits for disks: in a thread of its own, if there are threads."""
        job.ending = True
        view = job.tally.view(job.state, self._clock() - job.began)
        ending = Ending(job, view, job.tally.parts() if error is None else (), error)
        if not self._threaded or self._closed:
            self._ended(_wound_up(ending))
            return
        thread = threading.Thread(target=lambda: self._queue.put(_wound_up(ending)), name="gristmill-end", daemon=True)
        self._enders = {other for other in self._enders if other.is_alive()} | {thread}
        thread.start()

    def _ended(self, item: _Ended) -> None:
        """A job is over: whoever waits for it is told."""
        job = item.job
        if item.outcome is None:
            assert item.crash is not None
            self._give_up(item.crash)
            return
        self._jobs.pop(job.id, None)
        if item.outcome.error is None:
            while job.frees:
                self._fleet.free(job.frees.popleft()[1])
        if job.added and not self._closed:
            self._fleet.drop_job(job.id)
        job.view = item.outcome.view
        job.outcome = item.outcome
        try:
            if job.observer is not None and self._crash is None:
                job.observer(job.view)
        finally:
            job.over.set()

    def _end_all(self, state: JobState, report: FailureReport | None) -> None:
        """End every job without the scheduler: the fleet is gone or is about to go."""
        for job in list(self._jobs.values()):
            if job.ending:
                continue
            if self._closed and job.journal is not None and job.journal.essential:
                self._leave(job)
                continue
            spec = job.prepared.spec
            job.state = state
            cancelled = outcomes.job_cancelled(spec.job, spec.folder)
            self._end(job, outcomes.job_failed(spec.job, report, spec.folder) if report else cancelled)

    def _leave(self, job: Job) -> None:
        """Leave a job to the next coordinator."""
        self._crash = self._crash or ServerUnreachable("The server ends; its jobs go on when it is started again.")
        if job.folder is not None:
            job.folder.release()
        job.over.set()


def _wound_up(ending: Ending) -> _Ended:
    try:
        return _Ended(ending.job, wind_up(ending))
    except Exception as error:  # of the journal, or a defect of ours: the loop's to handle
        return _Ended(ending.job, None, error)


def _sizes(result: TaskResult) -> tuple[int, ...]:
    return () if result.block is None else tuple([segment.length for segment in result.block.segments])


def _digest(result: TaskResult) -> int:
    return 0 if result.block is None else digest_of(result.block)


def _stage_name(job: Job, attempt: AttemptId) -> str:
    return job.prepared.plan.stages[attempt.stage].name


def _failure_of(job: Job) -> GristmillError:
    """Why a job failed: by one attempt, or by too many bad records in all."""
    spec, cause, last = job.prepared.spec, job.cause, job.last_failure
    if cause is None:
        return outcomes.too_many_bad_records(spec.job, job.bad_records, spec.max_bad_records, job.last_bad, spec.folder)
    report = last[1] if last is not None and last[0] == cause else outcomes.lost_report(cause, _stage_name(job, cause))
    report = outcomes.with_replay(report, job.prepared.replay, f"{_stage_name(job, cause)}/{cause.index}")
    if report.error == BadRecordLimit.__name__:
        return outcomes.bad_record_limit(spec.job, spec.max_bad_records, report, spec.folder)
    return outcomes.job_failed(spec.job, report, spec.folder)
