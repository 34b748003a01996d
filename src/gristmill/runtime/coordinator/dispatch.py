"""Between the fleet and the scheduler: fleet events become the scheduler's, and its commands are carried out.

Nothing here waits, and nothing is decided here but what the scheduler does not know of: which slot an attempt is in,
which result belongs to it, and which workers still keep what an earlier coordinator's tasks made.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from gristmill.errors import (
    AttemptNotBegun,
    FailureKind,
    FailureReport,
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
from gristmill.runtime.coordinator import replanning
from gristmill.runtime.coordinator.crew import Crew
from gristmill.runtime.coordinator.event_log import EventLog
from gristmill.runtime.coordinator.job_events import beginning, digest, has_block, remains, sizes
from gristmill.runtime.coordinator.jobs import Job
from gristmill.runtime.coordinator.keeping import Keeping
from gristmill.runtime.coordinator.tally import Fate
from gristmill.runtime.journal.facts import AttemptOver, Fact, How, Span, TaskDone, WorkerGone, WorkerJoined
from gristmill.runtime.process.watch import answer_invalid
from gristmill.scheduling import commands, events
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.events import AttemptId, TaskId
from gristmill.scheduling.state import SchedulerState
from gristmill.scheduling.step import step
from gristmill.storage.targets import remove_part

if TYPE_CHECKING:
    from gristmill.runtime.coordinator.resumption import Resumption

_DRAIN_SECONDS = 5.0  # how long a job's end waits for its cancelled attempts to be gone


class Dispatcher:
    """Runs the tasks of jobs on a fleet. The coordinator's loop calls it, and nobody else.

    Args:
        fleet: where slots live.
        jobs: those that are not over, by id; the loop adds and removes them.
        clock: seconds, monotonic.
        threaded: whether attempts run while the loop does.
        rejoin_seconds: how long a job that is taken up waits for the workers that had blocks of it.
        note: takes facts that belong to no job, if anybody keeps them.
        wall: seconds since the epoch, for people.

    Attributes:
        wake_at: when the scheduler wants to be called again; None if only for news.
        broken: why the fleet cannot go on; None if it can.
        events: what the scheduler was told last.
        keeping: what sessions keep; others may ask it for blocks of jobs that are over.
        workers_since: since when workers may come.
        crew: the workers as people see them.
    """

    def __init__(
        self,
        fleet: Fleet,
        jobs: Mapping[str, Job],
        clock: Callable[[], float],
        *,
        threaded: bool,
        rejoin_seconds: float,
        note: Callable[[Fact], object] = lambda _fact: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._fleet = fleet
        self._jobs = jobs
        self._clock = clock
        self._threaded = threaded
        self._rejoin_seconds = rejoin_seconds
        self._note, self._wall = note, wall
        self._scheduler = SchedulerState()
        self.events = EventLog()
        self.keeping = Keeping()
        self._commands: deque[commands.Command] = deque()
        self._workers: dict[str, WorkerUp] = {}
        self.crew = Crew(wall)
        self._worker_of: dict[str, str] = {}  # slot → worker
        # slot → what was launched in it, the first one runs; of each, when that was, whether it is a copy, and since
        # when its task could have run
        self._attempts_in: dict[str, dict[AttemptId, tuple[float, bool, float]]] = {}
        self._slot_of: dict[AttemptId, str] = {}  # the inverse
        self._turn_at: dict[str, float] = {}  # slot → when the first one's turn came
        self._arrived: dict[AttemptId, tuple[TaskResult, Span | None]] = {}  # what the scheduler has yet to judge
        # Attempts of jobs that are over whose slots may still answer for them. A job that is tried again uses their
        # names again, so it waits until they are gone.
        self._strays: dict[AttemptId, str] = {}
        self.workers_since = clock()
        self.wake_at: float | None = None
        self.broken: FailureReport | None = None

    def take(self, event: FleetEvent) -> None:
        """Handle what the fleet says."""
        if self.broken is not None:
            return  # all jobs are over, and nothing can be launched any more
        match event:
            case AttemptDone(attempt, result):  # first, for there are many of these
                self._attempt_done(attempt, result)
            case WorkerUp():
                self._worker_up(event)
            case WorkerLeaving(worker):
                self._feed(events.WorkerDraining(worker))
            case WorkerDown(worker, reason, idle, left):
                self._worker_down(worker, reason, idle, left)
            case BlocksGone(_, paths):
                self._blocks_gone(paths)
            case JobAdmitted(name):
                if job := self._jobs.get(name):
                    self._begin(job)
            case JobRejected(name, report):
                if (job := self._jobs.get(name)) and not job.begun and job.state is JobState.RUNNING:
                    job.refuse(outcomes.job_rejected(name, report, job.prepared.spec.folder))
            case SlotUp(slot, worker, depth):
                if worker not in self._scheduler.dropped:
                    self._worker_of[slot] = worker
                    self._feed(events.SlotJoined(slot, worker, depth))
            case SlotDown(slot):
                self._forget_slot(slot)
                self._feed(events.SlotLeft(slot))
            case AttemptFailed(attempt, report, slot_leaves):
                self._attempt_failed(attempt, report, slot_leaves)
            case Beat(worker, attempts, began):
                self.crew.heard(event)
                self._beat(worker, attempts, began)
            case FleetBroken(report):
                self.broken = report

    def cancel(self, job: Job) -> None:
        """End a job."""
        if not job.begun and job.state is JobState.RUNNING:
            job.state = JobState.CANCELLED  # the scheduler never heard of it
        self._feed(events.JobCancelled(job.id))

    def forget(self, session: str, kept: str) -> None:
        """Free what a session keeps under a name; all that it keeps, if that is empty."""
        for block in self.keeping.forget(session, kept):
            self._fleet.free(block)

    def worker_views(self) -> list[views.WorkerView]:
        """How the workers are."""
        busy = [slot for slot, attempts in self._attempts_in.items() if attempts]
        return self.crew.views(self._scheduler.workers, self._worker_of, busy, self._clock())

    def running_of(self, job: str) -> list[views.RunningView]:
        """What runs of a job, or waits in a slot behind what runs there; by slots."""
        held = self._jobs.get(job)
        found = []
        for slot, attempts in self._attempts_in.items() if held is not None else ():
            for place, (attempt, (launched, speculative, _)) in enumerate(attempts.items()):
                if attempt.job == job and held is not None:
                    began = max(launched, self._turn_at[slot]) if place == 0 else 0.0
                    found.append(held.tally.running_view(attempt, Span(slot, launched, began, 0.0, speculative)))
        return found

    def time_passed(self, now: float) -> None:
        """Do what was put off until now."""
        if self.broken is None and self.wake_at is not None and now >= self.wake_at:
            self._feed(events.TimePassed())

    def look_after(self, job: Job, now: float) -> None:
        """Do what of a job waits for others, and for time."""
        if job.frees and job.state is JobState.RUNNING:
            self._free_durable(job)
        found = job.resumption
        if found is not None and job.begun and (found.is_complete or now >= found.wait_until):
            if not any(stray.job == job.id for stray in self._strays):
                self._release(job, found)

    def strays(self, job: Job) -> None:
        """A job is over that may be tried again, though some of its attempts have not been heard of."""
        self._strays.update(job.draining)

    def _begin(self, job: Job) -> None:
        """The fleet can run the job: it begins."""
        if job.begun or job.state is not JobState.RUNNING:
            return
        job.begun = True
        if job.resumption is None and job.prepared.spec.session:
            for stage, decision in self.keeping.decisions(job.prepared, job.tally.task_counts()):
                for _ in replanning.carry_out(job, stage, decision):
                    pass  # the scheduler does not know of the stage
        for event in beginning(job):
            self._feed(event)
        job.announced = True
        for whole in range(len(job.prepared.plan.stages)):  # one without tasks is whole at once
            if job.tally.are_whole((whole,)):
                self._cut_readers(job, whole)
        if job.resumption is not None:
            for worker in self._workers.values():
                job.resumption.keeps(worker.worker, worker.kept.get(job.id, ()))
                job.resumption.stays(worker.worker)
            job.resumption.wait_until = self.workers_since + self._rejoin_seconds
        elif job.prepared.spec.session:
            job.tally.done_before(self.keeping.done_before(job.prepared, job.tally.task_counts()))
            awaiting = {one.id for one in job.prepared.plan.stages if replanning.awaits(job, one)}
            counts = job.tally.task_counts()
            for event, result in self.keeping.known(job.prepared, counts, self._workers, awaiting):
                if result is not None:
                    job.tally.kept(event.attempt, result)
                self._feed(event)
            self._feed(events.JobReleased(job.id))

    def _release(self, job: Job, resumption: Resumption) -> None:
        """What is left of a job is known, as far as it can be: it goes on."""
        job.resumption = None
        shared = bool(job.prepared.spec.shuffle_dir)
        for event, result, is_there in remains(resumption, shared=shared, anyone=next(iter(self._workers), "")):
            job.tally.restored(event.attempt, result, has_block=is_there)
            self._feed(event)
        job.bad_records = job.tally.bad_records
        self._feed(events.JobReleased(job.id))

    def conclude(self, job: Job, resumption: Resumption) -> None:
        """End a job that an earlier coordinator had all but ended: no worker is needed for that, and no input."""
        job.resumption = None
        for done in resumption.done.values():
            job.tally.restored(done.attempt, done.result, has_block=False)
        job.state = JobState.SUCCEEDED

    def note_on(self, job: Job) -> str:
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
        if worker.worker in self._scheduler.dropped:
            return  # it was on its way, and nobody will say that it is down
        self._workers[worker.worker] = worker
        self.crew.joined(worker)
        self._note(
            WorkerJoined("", self._wall(), worker.worker, worker.host, worker.rack, worker.cpus, worker.memory_bytes)
        )
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

    def _forget_slot(self, slot: str, lost: str = "") -> None:
        """Settle what was in a slot that is gone; with its worker, if that is named."""
        if self._strays:
            self._strays = {stray: where for stray, where in self._strays.items() if where != slot}
        # The first one ran; the others waited for their turn, and nothing happened to them.
        fate = Fate.LOST
        for attempt in list(self._attempts_in.get(slot, ())):
            span = self._leave_slot(attempt)
            job = self._jobs.get(attempt.job)
            if job is not None and job.tally.ended(attempt, fate, span) and fate is Fate.LOST:
                report = outcomes.lost_report(attempt, job.stage_name(attempt), lost)
                job.tally.failed(report)
                job.last_failure = (attempt, report)
                _note_end(job, attempt, "lost", span, report)
            fate = Fate.WAITED
        self._attempts_in.pop(slot, None)
        self._turn_at.pop(slot, None)
        for job in self._jobs.values():
            for drained in [drained for drained, where in job.draining.items() if where == slot]:
                del job.draining[drained]
                if not lost:
                    self._note_late(job, drained)
                    job.tally.outlived(drained)
        self._worker_of.pop(slot, None)

    def _worker_down(self, worker: str, reason: str, idle: bool = False, left: bool = False) -> None:
        """A worker is gone: so are its slots, and what ran in them. One that was ``idle`` ran nothing."""
        self.crew.gone(worker, reason, left)
        if self._workers.pop(worker, None) is not None:
            self._note(WorkerGone("", self._wall(), worker, reason, left))
        for job in self._jobs.values():
            if job.resumption is not None:
                job.resumption.lost(worker)
        for slot in [slot for slot, of in self._worker_of.items() if of == worker]:
            for attempt in list(self._attempts_in.get(slot, ())) if idle else ():
                self._not_begun(attempt, slot_leaves=True)  # its launch came too late
            self._forget_slot(slot, lost=worker)
        self._feed(events.WorkerLost(worker))

    def _blocks_gone(self, paths: Sequence[str]) -> None:
        for path in paths:
            for job in self._jobs.values():
                if job.resumption is not None:
                    job.resumption.gone(path)
                elif (task := job.tally.maker_of(path)) is not None:
                    self._feed(events.BlockLost(task))

    def _attempt_done(self, attempt: AttemptId, result: TaskResult) -> None:
        known = self._jobs.get(attempt.job)
        if known is not None and (why := known.tally.misfit(attempt, result)):
            who = f"{known.stage_name(attempt)} task {attempt.index}, attempt {attempt.number}"
            self._attempt_failed(attempt, answer_invalid(who, why), None)
            return
        job, span = self._answered(attempt)
        self._arrived[attempt] = result, span
        if job is not None:
            job.bad_records = job.tally.bad_records + result.bad_records
            if result.last_bad is not None:
                job.last_bad = outcomes.of_attempt(result.last_bad, attempt, job.stage_name(attempt))
        self._feed(
            events.TaskFinished(
                attempt,
                has_block=has_block(result),
                partition_bytes=sizes(result),
                bad_records=result.bad_records,
                digest=digest(result),
                shared=job is not None and bool(job.prepared.spec.shuffle_dir),
                seconds=result.seconds or None,
            )
        )
        self._discard(attempt)  # nothing to do if it was accepted

    def _attempt_failed(self, attempt: AttemptId, report: FailureReport, slot_leaves: bool | None) -> None:
        if report.error == AttemptNotBegun.__name__:
            self._not_begun(attempt, slot_leaves)
            return
        lost: tuple[TaskId, ...] = ()
        kind = task_error(report).kind
        job, span = self._answered(attempt, slot_leaves=bool(slot_leaves))
        if job is not None:
            report = outcomes.of_attempt(report, attempt, job.stage_name(attempt))
            job.tally.failed(report)
            _note_end(job, attempt, "failed", span, report)
            job.last_failure = (attempt, report)
            if job.prepared.deaths_expected and report.error == TaskTimeout.__name__:
                kind = FailureKind.DEATH  # who is so late may as well be dead
            if kind is FailureKind.FETCH:
                paths = [report.details.get("block", ""), *str(report.details.get("blocks", "")).split("\n")]
                makers = [job.tally.maker_of(str(path)) for path in dict.fromkeys(paths)]
                lost = tuple(maker for maker in makers if maker is not None)
        self._feed(events.TaskFailed(attempt, kind, lost, slot_leaves))

    def _not_begun(self, attempt: AttemptId, slot_leaves: bool | None) -> None:
        """What was launched has come back, or never arrived. It costs its task nothing."""
        self._answered(attempt, begun=False, slot_leaves=bool(slot_leaves))
        self._feed(events.TaskFailed(attempt, AttemptNotBegun.kind, (), slot_leaves, begun=False))

    def _answered(
        self, attempt: AttemptId, *, begun: bool = True, slot_leaves: bool = False
    ) -> tuple[Job | None, Span | None]:
        """The job of an attempt that ran until now, None if it was not known to run; and where it did."""
        if self._strays:
            self._strays.pop(attempt, None)
        span = self._leave_slot(attempt)
        if slot_leaves and span is not None:
            for waiting in list(self._attempts_in[span.slot]):  # they never begin; their answers are on the way
                left = self._leave_slot(waiting)
                if waits_in := self._jobs.get(waiting.job):
                    waits_in.tally.ended(waiting, Fate.WAITED, left)
        job = self._jobs.get(attempt.job)
        if job is None:
            return None, span
        job.draining.pop(attempt, None)  # it was cancelled, and has answered after all
        if span is None and begun:
            self._note_late(job, attempt)
        return (job if job.tally.answered(attempt, begun=begun) else None), span

    def _note_late(self, job: Job, attempt: AttemptId) -> None:
        """An attempt that was called back had begun after all."""
        if (span := job.tally.untold(attempt)) is not None:
            _note_end(job, attempt, "cancelled", span._replace(ended=self._wall()))

    def _leave_slot(self, attempt: AttemptId) -> Span | None:
        """Where the attempt was, and since when; None if it was in no slot."""
        slot = self._slot_of.pop(attempt, None)
        if slot is None:
            return None
        now, attempts = self._wall(), self._attempts_in[slot]
        first = next(iter(attempts)) == attempt
        launched, speculative, ready = attempts.pop(attempt)
        began = now
        if first:  # else it waited: the first one goes on
            began, self._turn_at[slot] = max(launched, self._turn_at[slot]), now
        return Span(slot, launched, began, now, speculative, ready)

    # What the scheduler says.

    def _feed(self, event: events.Event) -> None:
        if isinstance(event, events.TimePassed):
            self.wake_at = None
        now = self._clock()
        self.events.add(now, event)
        self._commands += step(self._scheduler, event, now)
        while self._commands:
            self._carry_out(self._commands.popleft())

    def _carry_out(self, command: commands.Command) -> None:
        match command:
            case commands.Launch(attempt, slot, speculative, waited):
                tally = self._jobs[attempt.job].tally
                launched, attempts = self._wall(), self._attempts_in.setdefault(slot, {})
                if not attempts:
                    self._turn_at[slot] = launched
                attempts[attempt] = launched, speculative, launched - waited
                self._slot_of[attempt] = slot
                tally.launched(attempt)
                self._fleet.launch(slot, tally.spec_for(attempt))
            case commands.Cancel(attempt, slot, recalled):
                job = self._jobs[attempt.job]
                span = self._leave_slot(attempt)
                if job.tally.ended(attempt, Fate.WAITED if recalled else Fate.CANCELLED, span) and not recalled:
                    _note_end(job, attempt, "cancelled", span)
                job.draining[attempt] = slot
                self._fleet.cancel(attempt, recalled)
            case commands.AcceptOutput(attempt):
                self._accept(self._jobs[attempt.job], attempt)
            case commands.DiscardOutput(attempt):
                self._discard(attempt)
            case commands.RevokeOutput(task):
                job = self._jobs[task.job]
                if (revoked := job.tally.revoked(task)) is not None:
                    self._remove(revoked, job)
            case commands.FreeBlock(task):
                job = self._jobs[task.job]
                blocks = job.tally.freed(task, kept=self.keeping.is_kept(job.prepared, task))
                job.frees += [(job.noted, block) for block in blocks]
                self._free_durable(job)
            case commands.ReportStage(name, stage, made):
                self._stage_is_whole(self._jobs[name], stage, made)
            case commands.DropWorker(worker):
                self._fleet.drop_worker(worker)
                self._worker_down(worker, "silent for too long")
            case commands.WakeAt(when):
                self.wake_at = when
            case commands.EndJob(name, state, cause):
                job = self._jobs[name]
                job.state, job.cause = state, cause
                # Without threads nothing runs while the loop does.
                job.drain_until = self._clock() + (_DRAIN_SECONDS if self._threaded else 0.0)

    def _stage_is_whole(self, job: Job, stage: int, made: tuple[int, ...]) -> None:
        job.tally.stage_is_whole(stage, made)
        if job.announced:
            self._cut_readers(job, stage)

    def _cut_readers(self, job: Job, stage: int) -> None:
        """A stage is whole: its readers are cut by what it has made, if they can be, and go on."""
        for reader, decision in replanning.decisions(job, stage):
            self.keeping.decided(job.prepared, reader, decision)
            for event in replanning.carry_out(job, reader, decision):
                self._feed(event)

    def _discard(self, attempt: AttemptId) -> None:
        """Nothing may remain of a result that does not count."""
        if (arrived := self._arrived.pop(attempt, None)) is not None:
            job = self._jobs.get(attempt.job)
            self._remove(arrived[0], job)
            if job is not None:
                _note_end(job, attempt, "superseded", arrived[1])

    def _remove(self, result: TaskResult, job: Job | None) -> None:
        """Delete what an attempt made. The staging folder of a job that is over is gone already."""
        if result.block is not None and result.block.path:
            self._fleet.free(result.block)
        if job is not None:
            for part in result.parts:
                remove_part(job.prepared.spec.staging, part)

    def _accept(self, job: Job, attempt: AttemptId) -> None:
        result, span = self._arrived.pop(attempt)
        job.tally.accepted(attempt, result)
        if job.prepared.spec.session:
            self.keeping.accepted(job.prepared, job.tally.task_counts()[attempt.stage], attempt, result)
        if job.journal is not None:
            epoch = job.prepared.spec.epoch
            job.note(TaskDone(job.id, attempt.stage, attempt.index, attempt.number, epoch, result, span))

    def _free_durable(self, job: Job) -> None:
        """Free blocks, once it is durable that nothing needs them: else they would be missed after a crash."""
        while job.frees and (job.journal is None or job.journal.is_durable(job.frees[0][0])):
            self._fleet.free(job.frees.popleft()[1])


def _note_end(job: Job, attempt: AttemptId, how: How, span: Span | None, report: FailureReport | None = None) -> None:
    """Take note of an attempt that does not count, for people."""
    if job.journal is not None and span is not None:
        epoch = job.prepared.spec.epoch
        job.note(AttemptOver(job.id, attempt.stage, attempt.index, attempt.number, epoch, how, span, report))
