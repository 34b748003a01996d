"""The workers that are there, and what each of them was told. Lives in the thread of the agents' server.

What the coordinator wants becomes orders to workers; what workers say becomes fleet events.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gristmill.config import PYTHON_VERSION, VERSION
from gristmill.errors import FailureReport, PathNotShared
from gristmill.fleets.admission import Admission, AdmitJob, AdmitWorker, GiveUpWorker, RefuseWorker, RejectJob, Verdict
from gristmill.plan.stages import Stage
from gristmill.runtime.answers import report_of, result_of
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    Beat,
    BlocksGone,
    FleetEvent,
    JobAdmitted,
    JobRejected,
    JobSpec,
    Post,
    Progress,
    SlotDown,
    SlotUp,
    TaskResult,
    TaskSpec,
    Usage,
    WorkerDown,
    WorkerLeaving,
    WorkerUp,
)
from gristmill.runtime.files.joblogs import LogKeeper
from gristmill.runtime.files.opening import is_block_of
from gristmill.runtime.process.plain import read_json
from gristmill.runtime.process.watch import answer_invalid, not_begun
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.protocol.convert import attempt_id, attempt_message, job_message, launch_order, stage_message
from gristmill.runtime.transport.link import Link, Server
from gristmill.runtime.worker.front import version_mismatch
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, BlockSource
from gristmill.shuffle.store import delete, is_job_block
from gristmill.storage.contracts import is_written
from gristmill.storage.targets import is_object_uri

_log = logging.getLogger(__name__)

ANSWER_SECONDS = 30.0  # for a worker to say whether it sees what a job needs
_LATE_ANSWER_SECONDS = 60.0  # for one that has just come: it has to look at all running jobs, and to fetch their code
_BLOCK_BYTES = 150  # about what one block takes in a launch


@dataclass
class _Worker:
    """A worker in one of its sessions."""

    link: Link
    up: WorkerUp
    source: BlockSource
    held: list[FleetEvent] | None = field(default_factory=list)  # what it said until it was admitted; then None
    stages: dict[tuple[str, int], Stage] = field(default_factory=dict)  # those that it was told of
    running: set[AttemptId] = field(default_factory=set)  # launched and not answered
    listed: dict[AttemptId, Progress] = field(default_factory=dict)  # in its last beat
    freed: list[str] = field(default_factory=list)  # blocks that it is about to be told to delete


@dataclass(frozen=True)
class _Job:
    spec: JobSpec
    message: pb.AddJob


class Roster:
    """Implements :class:`~gristmill.runtime.transport.link.Desk`. All calls come from the server's thread.

    Args:
        post: who is told what happens.
        beat_seconds: how often agents say that they live.
        lost_seconds: without that for so long they are lost.
        awaited: jobs that are not there yet, but will be: workers keep their blocks.
        logs: keeps what attempts print; None: nobody does.
        patient: a job waits for the first worker, which says whether it sees the job's files.
    """

    def __init__(
        self,
        post: Post,
        beat_seconds: float,
        lost_seconds: float,
        awaited: Iterable[str] = (),
        logs: LogKeeper | None = None,
        *,
        patient: bool = False,
    ) -> None:
        self._post = post
        self._logs = logs
        self._beat_seconds, self._lost_seconds = beat_seconds, lost_seconds
        self._awaited = set(awaited)
        self._kept: set[str] = set()  # jobs that are over and may be tried again
        self._server: Server | None = None
        self._admission = Admission(patient=patient)
        self._workers: dict[str, _Worker] = {}
        self._sources: dict[str, BlockSource] = {}
        self._jobs: dict[str, _Job] = {}
        self._slots: dict[str, _Worker] = {}
        self._places: dict[AttemptId, _Worker] = {}  # of what was launched and is not answered
        self._count = 0  # of workers, ever
        self._dismissed = False
        self._chores: set[asyncio.Task[None]] = set()

    @property
    def block_sources(self) -> tuple[BlockSource, ...]:
        """Where the blocks of each worker that is there can be asked for. From any thread."""
        return tuple(self._sources.values())

    def serve_with(self, server: Server) -> None:
        """Name the server whose desk this is."""
        self._server = server

    # What the coordinator wants.

    def add_job(self, job: JobSpec, code: str) -> None:
        """Tell all workers of a job. ``code`` is the SHA-256 of its code."""
        self._awaited.add(job.job)
        chore = asyncio.ensure_future(self._add_job(job, code))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _add_job(self, job: JobSpec, code: str) -> None:
        probe, text = "", secrets.token_hex(16)
        if job.staging and not is_object_uri(job.staging):  # an object store is the same for all
            probe = str(Path(job.staging, "probe"))
            try:
                await asyncio.to_thread(Path(probe).write_text, text)
            except OSError as error:
                message = f"The output's folder cannot be written: {error.strerror or error}: {probe}."
                self._post(JobRejected(job.job, FailureReport("PathNotShared", message)))
                return
        if job.job not in self._awaited:
            return  # it is over already: nobody is to be asked about it
        self._jobs[job.job] = _Job(job, job_message(job, code, probe, text))
        self._awaited.discard(job.job)
        asked, verdicts = self._admission.add_job(job.job, known=job.epoch > 0)
        for worker in asked:
            self._workers[worker].link.say(pb.Order(add_job=self._jobs[job.job].message), 1000)
        self._follow(verdicts)
        self._later(ANSWER_SECONDS, lambda: self._admission.time_out_job(job.job))

    def launch(self, slot: str, spec: TaskSpec) -> None:
        """Run an attempt in a slot. If the slot's worker is gone, its loss was told or will be."""
        worker = self._slots.get(slot)
        if worker is None:
            if slot.rpartition("-")[0] in self._workers:  # slots are named after their workers: only the slot is gone
                self._post(AttemptFailed(spec.attempt, not_begun(spec, "came too late for its slot"), slot_leaves=True))
            return
        key = spec.attempt.job, spec.stage.id
        known = worker.stages.get(key)
        if known is not spec.stage and known != spec.stage:
            worker.stages[key] = spec.stage
            worker.link.say(pb.Order(add_stage=stage_message(spec.attempt.job, spec.stage)))
        worker.running.add(spec.attempt)
        self._places[spec.attempt] = worker
        worker.link.say(launch_order(slot, spec, self._sources), 200 + _BLOCK_BYTES * len(spec.blocks))

    def cancel(self, attempt: AttemptId, recalled: bool = False) -> None:
        """End an attempt."""
        if worker := self._answered(attempt):
            named = attempt_message(attempt)
            worker.link.say(pb.Order(recall=named) if recalled else pb.Order(cancel=named))

    def free(self, block: BlockInfo) -> None:
        """Let its worker delete a block; one on shared storage is deleted from here."""
        if block.path and not block.worker:
            asyncio.get_running_loop().run_in_executor(None, _delete_shared, block.path)
            return
        worker = self._workers.get(block.worker)
        if worker is None or not block.path:
            return
        if not worker.freed:
            asyncio.get_running_loop().call_soon(self._tell_freed, worker)
        worker.freed.append(block.path)

    def _tell_freed(self, worker: _Worker) -> None:
        paths, worker.freed = worker.freed, []
        worker.link.say(pb.Order(free=pb.Free(paths=paths)), _BLOCK_BYTES * len(paths))

    def drop_job(self, job: str) -> None:
        """Forget a job."""
        self._kept.discard(job)
        self._forget_job(job, pb.Order(drop_job=job))

    def keep_job(self, job: str) -> None:
        """Forget a job for now: it may be tried again, so its blocks stay where they are."""
        self._kept.add(job)
        self._forget_job(job, pb.Order(keep_job=job))

    def _forget_job(self, job: str, order: pb.Order) -> None:
        self._awaited.discard(job)
        self._jobs.pop(job, None)
        for attempt in [attempt for attempt in self._places if attempt.job == job]:
            self._answered(attempt)
        for worker in self._workers.values():
            for key in [key for key in worker.stages if key[0] == job]:
                del worker.stages[key]
            worker.link.say(order)
        self._follow(self._admission.drop_job(job))

    def drop_worker(self, name: str) -> None:
        """A worker is lost."""
        if worker := self._workers.get(name):
            reason = f"No sign of life came from worker {name} for {self._lost_seconds:g} s."
            _log.warning("%s It counts as lost.", reason)
            self._end(worker, pb.Refusal.FENCED, reason)

    def drain_worker(self, name: str) -> None:
        """A worker is to take no new work, and to leave when it has done what it runs."""
        if worker := self._workers.get(name):
            worker.link.say(pb.Order(drain=pb.Drain(reason="An administrator asked for it.")))
            self._say(worker, WorkerLeaving(name))  # from now on, not only once it has heard of it

    def dismiss(self) -> None:
        """Let all workers leave, now and later."""
        self._dismissed = True
        for worker in list(self._workers.values()):
            self._end(worker, pb.Refusal.DISMISSED, "The work is done.")

    # What workers say.

    def join(self, link: Link, join: pb.Join) -> pb.Welcome | pb.Refusal:
        """A worker wants in: see :class:`~gristmill.runtime.transport.link.Desk`."""
        if self._dismissed:
            return pb.Refusal(kind=pb.Refusal.DISMISSED, reason="The work is done.")
        if (join.python, join.version) != (PYTHON_VERSION, VERSION):
            reason = version_mismatch("This worker", join.python, join.version, "the coordinator")
            return pb.Refusal(kind=pb.Refusal.VERSION, reason=reason)
        self._count += 1
        link.worker = name = f"{join.name or 'worker'}#{self._count}"
        up = WorkerUp(
            worker=name,
            host=join.host,
            rack=join.rack,
            cpus=join.cpus or None,
            memory_bytes=join.memory_bytes or None,
            suspect_seconds=self._lost_seconds / 2,
            lost_seconds=self._lost_seconds,
            kept={kept.job: tuple(kept.paths) for kept in join.kept},
        )
        worker = self._workers[name] = _Worker(link, up, BlockSource(name, join.flight, join.machine))
        self._sources[name] = worker.source
        asked, verdicts = self._admission.add_worker(name)
        for job in asked:
            link.say(pb.Order(add_job=self._jobs[job].message), 1000)
        self._follow(verdicts)
        self._later(_LATE_ANSWER_SECONDS, lambda: self._admission.time_out_worker(name))
        return pb.Welcome(
            worker=name,
            beat_seconds=self._beat_seconds,
            lost_seconds=self._lost_seconds,
            jobs=sorted(self._jobs.keys() | self._awaited | self._kept),
        )

    def hear(self, link: Link, events: Sequence[pb.Event]) -> None:
        """A worker tells what happened there."""
        worker = self._workers[link.worker]
        for event in events:
            if link.refusal is not None:
                return  # it has ended the session, or lost it
            self._hear(worker, event)

    def _hear(self, worker: _Worker, event: pb.Event) -> None:
        match event.WhichOneof("event"):
            case "done":
                done = event.done
                attempt = attempt_id(done.attempt)
                self._answered(attempt)
                if printed := done.log:
                    self._keep_log(attempt, printed, done.log_start)
                self._say(worker, self._done(worker, attempt, done.result))
            case "failed":
                failed = event.failed
                attempt = attempt_id(failed.attempt)
                self._answered(attempt)
                self._keep_log(attempt, failed.log, failed.log_start)
                leaves = failed.slot_leaves if failed.HasField("slot_leaves") else None
                report = report_of(read_json(failed.report))
                self._say(worker, AttemptFailed(attempt, report, leaves))
            case "slot_up":
                self._slots[event.slot_up.slot] = worker
                self._say(worker, SlotUp(event.slot_up.slot, worker.up.worker, max(1, event.slot_up.depth)))
            case "slot_down":
                self._slots.pop(event.slot_down, None)
                self._say(worker, SlotDown(event.slot_down))
            case "admitted":
                refusal = event.admitted.refusal
                why = _refusal(worker.up.worker, refusal) if refusal else None
                self._follow(self._admission.answer(worker.up.worker, event.admitted.job, why))
            case "log":
                log = event.log
                self._keep_log(attempt_id(log.attempt), log.data, log.start, last=log.last, epoch=log.epoch)
            case "blocks_gone":
                self._say(worker, BlocksGone(worker.up.worker, tuple(event.blocks_gone.paths)))
            case "leaving":
                _log.info("worker %s takes no new work: it is leaving", worker.up.worker)
                self._say(worker, WorkerLeaving(worker.up.worker))
            case "goodbye":
                _log.info("worker %s has left: %s", worker.up.worker, event.goodbye.reason)
                self._end(worker, pb.Refusal.DISMISSED, "You said goodbye.")
                self._tell_down(worker, event.goodbye.reason, event.goodbye.idle, left=not event.goodbye.failed)

    def _keep_log(
        self, attempt: AttemptId, data: bytes, start: int, *, last: bool = True, epoch: int | None = None
    ) -> None:
        """Keep a part of what an attempt printed; ``epoch`` is that of a coordinator of before, if it launched it."""
        job = self._jobs.get(attempt.job)
        if data and job is not None and self._logs is not None:
            spec = job.spec if epoch is None else replace(job.spec, epoch=epoch)
            self._logs.keep(spec.folder, spec.file_name(attempt), data, start, last=last)

    def _done(self, worker: _Worker, attempt: AttemptId, data: bytes) -> AttemptDone | AttemptFailed:
        """What an answer means. User code may have written it: what makes no sense is its job's loss, not the worker's.

        The worker has seen that it is a result at all.
        """
        try:
            return AttemptDone(attempt, self._owned(worker, attempt.job, data))
        except ValueError as error:
            _log.warning("worker %s: attempt %s sent what makes no sense: %s", worker.up.worker, attempt, error)
            return AttemptFailed(attempt, answer_invalid(f"attempt {attempt}", str(error)), slot_leaves=None)

    def _owned(self, worker: _Worker, job: str, data: bytes) -> TaskResult:
        """A result whose block says who keeps it, unless it lies on storage that all share.

        Raises:
            ValueError: it names files that are not the job's, which this machine would move or delete.
        """
        result = result_of(read_json(data))
        if not all(is_written(part) for part in result.parts):
            raise ValueError(f"parts that are not in the folder of job {job}")
        known, block = self._jobs.get(job), result.block
        if block is None or not block.path:
            return result
        if known is None:  # the job is over, and so are its blocks
            result.block = None
            return result
        if known.spec.shuffle_dir:
            own, keeper = is_job_block(block.path, known.spec.shuffle_dir, job), ""
        else:
            own, keeper = is_block_of(block.path, (job, known.spec.session)), worker.up.worker
        if not own:
            raise ValueError(f"{block.path} is not a block of job {job}")
        result.block = BlockInfo(block.path, block.segments, keeper)
        return result

    def beat(self, link: Link, beat: pb.Beat) -> None:
        """A worker lives. If results that it sent before are still on their way, its list is taken up later."""
        worker = self._workers[link.worker]
        if beat.after <= link.session.heard:
            worker.listed = {
                attempt_id(running.attempt): Progress(running.records_in, running.bytes_in) for running in beat.running
            }
        running = {attempt: progress for attempt, progress in worker.listed.items() if attempt in worker.running}
        usage = None
        if beat.HasField("usage"):
            seen = beat.usage
            usage = Usage(seen.cpu_percent, seen.used_bytes, seen.free_bytes, seen.disk_bytes)
        self._say(worker, Beat(worker.up.worker, running, usage=usage))

    def lose(self, link: Link, reason: str) -> None:
        """A session has ended through a fault."""
        if worker := self._workers.get(link.worker):
            self._forget(worker)
            self._tell_down(worker, reason)

    # Both.

    def _say(self, worker: _Worker, event: FleetEvent) -> None:
        """Tell the coordinator; of a worker that is not admitted yet, later."""
        if worker.held is None:
            self._post(event)
        else:
            worker.held.append(event)

    def _tell_down(self, worker: _Worker, reason: str, idle: bool = False, left: bool = False) -> None:
        if worker.held is None:  # else it was never told to be up
            self._post(WorkerDown(worker.up.worker, reason, idle, left))

    def _answered(self, attempt: AttemptId) -> _Worker | None:
        """Where an attempt ran until now."""
        worker = self._places.pop(attempt, None)
        if worker is not None:
            worker.running.discard(attempt)
        return worker

    def _end(self, worker: _Worker, kind: int, reason: str) -> None:
        """End a worker's session."""
        if self._server is not None:
            self._server.end(worker.link, kind, reason)
        self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        name = worker.up.worker
        self._workers.pop(name, None)
        self._sources.pop(name, None)
        for attempt in worker.running:
            self._places.pop(attempt, None)
        for slot in [slot for slot, of in self._slots.items() if of is worker]:
            del self._slots[slot]
        self._follow(self._admission.drop_worker(name))

    def _follow(self, verdicts: Iterable[Verdict]) -> None:
        for verdict in verdicts:
            match verdict:
                case AdmitJob(job):
                    self._post(JobAdmitted(job))
                case RejectJob(job, report):
                    self._jobs.pop(job, None)
                    self._post(JobRejected(job, report))
                case AdmitWorker(name):
                    worker = self._workers[name]
                    _log.info("worker %s has joined (CPUs: %g)", name, worker.up.cpus or 0)
                    held, worker.held = worker.held or [], None
                    for event in (worker.up, *held):
                        self._post(event)
                case RefuseWorker(name, reason):
                    _log.warning("worker %s is refused: %s", name, reason)
                    worker = self._workers[name]
                    self._end(worker, pb.Refusal.NOT_SHARED, reason)
                    self._tell_down(worker, reason)
                case GiveUpWorker(name):
                    reason = f"Worker {name} does not say whether it sees the files of a job."
                    worker = self._workers[name]
                    self._end(worker, pb.Refusal.FENCED, reason)
                    self._tell_down(worker, reason)

    def _later(self, seconds: float, call: Callable[[], Iterable[Verdict]]) -> None:
        asyncio.get_running_loop().call_later(seconds, lambda: self._follow(call()))


def _refusal(worker: str, data: bytes) -> FailureReport:
    """Why a worker cannot run a job, with its name."""
    report = report_of(read_json(data))
    message = f"Worker {worker} does not see what the coordinator sees: {report.message}."
    if report.error != PathNotShared.__name__:
        message = f"Worker {worker} cannot run this: {report.message}."
    return replace(report, message=message, details={**report.details, "worker": worker})


def _delete_shared(path: str) -> None:
    try:
        delete(path)
    except OSError as error:
        _log.warning("block %s cannot be deleted: %s", path, error)
