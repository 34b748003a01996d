"""What a worker does in one session: carries out orders with an agent and its executors, and tells what happens.

Orders come in the stream's thread, news of executors in the agent's. What may take long (looking at files, fetching
code, deleting) is done by a third one, in order, so that neither waits: the chores.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gristmill.errors import FailureReport, GristmillError
from gristmill.plan.stages import Stage
from gristmill.runtime.agent.agent import Agent, AgentSettings
from gristmill.runtime.contracts import (
    KEPT_SHARE,
    AttemptDone,
    AttemptFailed,
    Beat,
    FleetBroken,
    FleetEvent,
    JobSpec,
    Progress,
    SlotDown,
    SlotUp,
    TaskSpec,
    Usage,
)
from gristmill.runtime.executor.attempts import prepare_folder
from gristmill.runtime.executor.disks import is_full
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.protocol.convert import (
    attempt_id,
    attempt_message,
    fill_attempt,
    job_spec,
    json_bytes,
    launch_spec,
    stage_of,
)
from gristmill.runtime.worker import logsending
from gristmill.runtime.worker.jobcode import CodeFetcher, job_folder
from gristmill.runtime.worker.logsending import LogSender, Printing
from gristmill.runtime.worker.look import look
from gristmill.runtime.worker.premises import Premises
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, owner_of
from gristmill.shuffle.tickets import ticket_of

_log = logging.getLogger(__name__)

_MOST_TOLD = 64  # logs that are sent again to a coordinator that comes back
_CHORES_SECONDS = 5.0  # for the one in work when a session ends


@dataclass(frozen=True)
class Broken:
    """This worker cannot go on."""

    report: FailureReport


@dataclass(frozen=True)
class DrainOrdered:
    """The coordinator wants this worker to leave."""

    reason: str


class Voice(logsending.Voice, Protocol):
    """What a workplace needs of its session."""

    def beat(self, attempts: dict[AttemptId, Progress], usage: Usage | None = None) -> None: ...


class _Place(NamedTuple):  # made for each task: a dataclass takes three times as long
    """Where an attempt runs."""

    slot: str
    root: Path  # its data directory


class Workplace:
    """One session's work. Made when the coordinator has said welcome.

    Args:
        premises: what there is to work with.
        welcome: what the coordinator said.
        voice: where to tell what happens.
        news: gets Broken and DrainOrdered.
        cut_off: attempts of an earlier session that ended with it. The rest of their logs is sent.
    """

    def __init__(
        self,
        premises: Premises,
        welcome: pb.Welcome,
        voice: Voice,
        news: queue.SimpleQueue[Any],
        cut_off: Sequence[Printing] = (),
    ) -> None:
        self._premises = premises
        self._voice = voice
        self._news = news
        self._stages: dict[tuple[str, int], Stage] = {}
        self._places: dict[AttemptId, _Place] = {}  # of attempts that run
        self._cancelled: dict[AttemptId, _Place] = {}  # of those whose slots have yet to go down
        self._logs = LogSender(voice)
        self._code = CodeFetcher(premises.dirs, premises.front)
        # Those whose logs have yet to be sent, of jobs that go on; the chores' own:
        self._cut_off = [log for log in cut_off if log.attempt.job in welcome.jobs]
        self._told: deque[Printing] = deque(maxlen=_MOST_TOLD)  # of those whose logs were sent last, to the end
        self._job_folders: dict[tuple[Path, str], str] = {}  # by data directory and job
        self._specs: dict[str, JobSpec] = {}
        self._made: deque[tuple[str, str]] = deque()  # blocks that the chores have yet to take note of, and their jobs
        self._jobs: set[str] = set()  # the chores' own
        self._put_by: set[str] = set()  # likewise: jobs that are over, and may be tried again
        self._closing = False
        self._chores: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._chores_thread = threading.Thread(target=self._do_chores, name="gristmill-chores", daemon=True)
        self._chores_thread.start()
        self._chores.put(lambda: self._tidy(set(welcome.jobs)))
        premises.blocks.on_trouble = lambda path: self._chores.put(lambda: self._retire_if_bad(path))
        settings = AgentSettings(beat_seconds=welcome.beat_seconds, limits=premises.limits, depth=premises.depth)
        self._agent = Agent(premises.executors, worker=welcome.worker, settings=settings)
        self._agent.start(self._post)

    @property
    def running(self) -> int:
        """Attempts that were launched here and are not answered."""
        return len(self._places)

    cut_off: Sequence[Printing] = ()
    """Attempts that ended because this was closed, or so shortly before that the coordinator may not have heard of it.
    """

    @property
    def is_tidying(self) -> bool:
        """Whether something is still being done in the data directories, though this was closed."""
        return self._chores_thread.is_alive()

    def close(self, *, delete: bool) -> None:
        """End all attempts and executors, and forget all jobs; ``delete`` their blocks too. Bounded."""
        self._closing = True
        self._code.close()
        if not delete:
            found = [self._printing(attempt, place) for attempt, place in {**self._places, **self._cancelled}.items()]
            self.cut_off = [*self._cut_off, *self._told, *filter(None, found)]
        self._agent.close()
        if delete:
            self._chores.put(lambda: self._tidy(set()))
        self._chores.put(None)
        self._chores_thread.join(_CHORES_SECONDS)
        for job in list(self._jobs):
            self._premises.blocks.forget(job)

    # Orders: in the stream's thread.

    def hear(self, orders: Sequence[pb.Order]) -> None:
        """Carry these out, in order."""
        for order in orders:
            self._carry_out(order)

    def _carry_out(self, order: pb.Order) -> None:
        match order.WhichOneof("order"):
            case "launch":
                self._launch(order.launch)
            case "add_stage":
                stage = order.add_stage
                self._stages[stage.job, stage.id] = stage_of(stage)
            case "cancel":
                attempt = attempt_id(order.cancel)
                self._give_up(attempt)
                self._agent.cancel(attempt)
            case "recall":
                attempt = attempt_id(order.recall)
                self._give_up(attempt)  # it may stay unanswered
                self._agent.cancel(attempt, recalled=True)
            case "free":
                paths = tuple(order.free.paths)
                self._chores.put(lambda: self._free(paths))
            case "add_job":
                job = order.add_job
                self._chores.put(lambda: self._add_job(job))
            case "drain":
                self._news.put(DrainOrdered(order.drain.reason))
            case "drop_job":
                name = order.drop_job
                self._forget_job(name)
                self._chores.put(lambda: self._drop_job(name))
            case "keep_job":
                kept = order.keep_job
                self._forget_job(kept)
                self._chores.put(lambda: self._keep_job(kept))

    def _forget_job(self, job: str) -> None:
        self._specs.pop(job, None)
        self._stages = {key: stage for key, stage in self._stages.items() if key[0] != job}
        self._job_folders = {key: path for key, path in self._job_folders.items() if key[1] != job}
        self._agent.drop_job(job)

    def _launch(self, launch: pb.Launch) -> None:
        attempt = attempt_id(launch.attempt)
        root = self._premises.dirs.choose(time.monotonic())
        if root is None:
            message = "No data directory of this worker can be used any more."
            report = FailureReport("DataDirFailed", message)
            self._say_failed(AttemptFailed(attempt, report, slot_leaves=False))
            self._news.put(Broken(report))
            return
        self._places[attempt] = _Place(launch.slot, root)
        stage = self._stages[attempt.job, attempt.stage]
        folder = self._job_folders.get((root, attempt.job))
        if folder is None:
            folder = self._job_folders[root, attempt.job] = str(job_folder(root, attempt.job))
        spec = launch_spec(launch, attempt, stage, folder, self._premises.machine)
        if spec.sources:
            spec = self._with_tickets(spec)
        self._agent.launch(launch.slot, spec)

    def _with_tickets(self, spec: TaskSpec) -> TaskSpec:
        """An attempt that reads at other workers: with what opens its job's blocks there, and nothing else."""
        job, attempt, now = self._specs[spec.attempt.job], str(spec.attempt), time.time()
        session = ticket_of(job.session_ticket, job.session, attempt, now) if job.session else ""
        sources = spec.sources
        if relay := self._premises.relay:
            sources = tuple(replace(source, via=relay) for source in sources)
        return replace(
            spec, sources=sources, ticket=ticket_of(job.ticket, job.job, attempt, now), session_ticket=session
        )

    def _give_up(self, attempt: AttemptId) -> None:
        if (place := self._places.pop(attempt, None)) is not None:
            self._cancelled[attempt] = place

    # News of executors: in the agent's thread.

    def _post(self, event: FleetEvent) -> None:
        match event:
            case AttemptDone(attempt, result, data, printed):
                log, start = self._rest_of_log(attempt, self._leave(attempt), printed)
                if result.block is not None and result.block.path:
                    self._note_block(result.block)
                said = pb.Event()
                done, data = said.done, data or json_bytes(result)
                fill_attempt(done.attempt, attempt)
                done.result, done.log, done.log_start = data, log, start
                self._voice.say(said, len(data) + len(log))
            case AttemptFailed(attempt, report):
                place = self._leave(attempt)
                self._say_failed(event, *self._rest_of_log(attempt, place))
                self._chores.put(lambda: self._check_dirs(report, None if place is None else place.root))
            case Beat(_, attempts):
                self._send_logs(attempts)
                self._voice.beat(dict(attempts), self._premises.usage())
            case SlotUp(slot, _, depth):
                self._voice.say(pb.Event(slot_up=pb.SlotUp(slot=slot, depth=depth)))
            case SlotDown(slot):
                self._send_last_logs(slot)
                self._voice.say(pb.Event(slot_down=slot))
            case FleetBroken(report) if not self._closing:
                self._news.put(Broken(report))

    def _note_block(self, block: BlockInfo) -> None:
        self._made.append((owner_of(block), block.path))
        if len(self._made) == 1:
            self._chores.put(self._note_made)

    def _say_failed(self, event: AttemptFailed, log: bytes = b"", start: int = 0) -> None:
        data = json_bytes(event.report)
        attempt = attempt_message(event.attempt)
        failed = pb.Failed(attempt=attempt, report=data, slot_leaves=event.slot_leaves, log=log, log_start=start)
        self._voice.say(pb.Event(failed=failed), len(data) + len(log))

    def _leave(self, attempt: AttemptId) -> _Place | None:
        """Where an attempt ran that is answered."""
        return self._places.pop(attempt, None) or self._cancelled.pop(attempt, None)

    def _printing(self, attempt: AttemptId, place: _Place) -> Printing | None:
        job = self._specs.get(attempt.job)
        folder = self._job_folders.get((place.root, attempt.job))
        return None if job is None or folder is None else Printing(attempt, job, folder)

    def _send_logs(self, attempts: Mapping[AttemptId, Progress]) -> None:
        """What attempts that run have printed since the last beat."""
        for attempt, progress in attempts.items():
            if progress.printed and (place := self._places.get(attempt) or self._cancelled.get(attempt)):
                if (log := self._printing(attempt, place)) is not None:
                    self._logs.printed(log, progress.printed)

    def _rest_of_log(self, attempt: AttemptId, place: _Place | None, printed: bool = True) -> tuple[bytes, int]:
        """What an attempt printed besides: its log was complete before its end was told here."""
        log = None if place is None or not printed else self._printing(attempt, place)
        if log is None:
            self._logs.forget(attempt)
            return b"", 0
        data, start = self._logs.rest(log)
        if data or start:
            self._told.append(log)
        return data, start

    def _send_last_logs(self, slot: str) -> None:
        """A slot is gone: what was cancelled in it will not be answered any more."""
        for attempt, place in list(self._cancelled.items()):
            if place.slot == slot:
                del self._cancelled[attempt]
                if (log := self._printing(attempt, place)) is not None:
                    self._send_last_log(log)

    def _send_last_log(self, log: Printing) -> None:
        self._logs.send_rest(log)
        self._told.append(log)

    # Chores: in their own thread.

    def keeps_blocks(self) -> bool:
        """Whether blocks are kept here that somebody reads: others are for another try of a job that is over."""
        return any(job not in self._put_by for job in self._premises.dirs.inventory())

    def _do_chores(self) -> None:
        while (chore := self._chores.get()) is not None:
            try:
                chore()
            except Exception as error:  # the thread's last line: nobody else would hear of it
                _log.exception("a chore failed")
                self._news.put(
                    Broken(FailureReport("TaskError", f"The worker failed: {type(error).__name__}: {error}"))
                )

    def _note_made(self) -> None:
        while self._made:  # the last one stays in until it is noted: who adds to it then leaves it to us
            self._premises.dirs.add_block(*self._made[0])
            self._made.popleft()

    def _tidy(self, living: set[str]) -> None:
        """Delete what is kept of all other jobs."""
        for job in self._premises.dirs.jobs():
            if job not in living:
                self._premises.dirs.remove_job(job)

    def _add_job(self, job: pb.AddJob) -> None:
        report = look(job) or self._take_job(job)
        refusal = b"" if report is None else json_bytes(report)
        self._voice.say(pb.Event(admitted=pb.Admitted(job=job.job, refusal=refusal)))
        for log in [log for log in self._cut_off if log.attempt.job == job.job]:
            self._cut_off.remove(log)
            self._send_last_log(log)

    def _take_job(self, job: pb.AddJob) -> FailureReport | None:
        """Fetch a job's code and make its folders; or why that cannot be."""
        dirs = self._premises.dirs
        try:
            code = self._code.code(job.code, job.session)
            bundles = [str(self._code.blob(name, job.session)) for name in job.bundles]
            broadcasts = [str(self._code.blob(name, job.session)) for name in job.broadcasts]
        except OSError as error:
            what = f"the code of job {job.job} cannot be kept in {dirs.paths[0]}: {error.strerror or error}"
            return FailureReport("DiskFull" if is_full(error) else "DataDirFailed", what)
        except GristmillError as error:
            return FailureReport("TaskError", f"a worker cannot fetch the code of job {job.job}: {error}")
        folder = str(job_folder(dirs.paths[0], job.job))
        memory = self._premises.executor_memory_bytes
        kept = memory * self._premises.executors // KEPT_SHARE
        spec = job_spec(job, code, bundles, broadcasts, folder, memory)
        spec = replace(spec, keep_bytes=kept, begun=time.time(), server=self._premises.front.url)
        for root in dirs.healthy:
            try:
                prepare_folder(spec, str(job_folder(root, job.job)))
            except OSError:
                self._retire_if_bad(str(root))
        self._jobs.add(job.job)
        self._put_by.discard(job.job)
        self._specs[job.job] = spec
        # The secrets are not for executors. A driver's is what its token is made of.
        self._agent.add_job(replace(spec, ticket=spec.ticket if spec.driver else "", session_ticket=""))
        self._premises.blocks.allow(job.job, job.ticket)
        if job.session:
            self._jobs.add(job.session)
            self._premises.blocks.allow(job.session, job.session_ticket)
        return None

    def _drop_job(self, job: str) -> None:
        session, _, broadcast = job.partition("/")
        if broadcast:
            self._code.forget(broadcast, session)
            return
        self._jobs.discard(job)
        self._put_by.discard(job)
        self._premises.blocks.forget(job)
        self._premises.dirs.remove_job(job)

    def _keep_job(self, job: str) -> None:
        """Its blocks stay, but nobody can ask for them."""
        self._jobs.discard(job)
        self._put_by.add(job)
        self._premises.blocks.forget(job)

    def _free(self, paths: Sequence[str]) -> None:
        for path in paths:
            self._agent.free(BlockInfo(path, ()))
            self._premises.dirs.remove_block(path)

    def _check_dirs(self, report: FailureReport, root: Path | None) -> None:
        """An attempt failed: is it a data directory's fault?"""
        if root is None:
            return
        if report.error == "DiskFull" or report.details.get("full"):
            self._premises.dirs.mark_full(str(report.details.get("path", root)), time.monotonic())
        suspects = []
        if report.error == "DataDirFailed":
            suspects = [str(root)]
        elif report.error in ("BlockCorrupt", "BlockMissing"):
            suspects = [str(report.details.get("block", "")), *str(report.details.get("blocks", "")).split("\n")]
        for suspect in filter(None, suspects):
            self._retire_if_bad(suspect)

    def _retire_if_bad(self, path: str) -> None:
        """Try the data directory in which a path lies. If it failed, its blocks are gone, all at once."""
        dirs = self._premises.dirs
        before = len(dirs.retired)
        gone = dirs.check(path, time.monotonic())
        if len(dirs.retired) > before:
            _log.warning("a data directory failed and is not used any more: %s", dirs.retired)
        if gone:
            self._voice.say(pb.Event(blocks_gone=pb.BlocksGone(paths=gone)), sum(map(len, gone)))
