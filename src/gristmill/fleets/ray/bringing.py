"""Brings what attempts have written of an output whose folder their nodes do not see, before it is told that they are
done: to everybody else an attempt has then written into the staging folder, as anywhere.

What waits for that are a slot's answers, in their order, and the news of its end. Of each worker some parcels at a time
are brought; no more are on their way, and in memory, than these.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gristmill.config import MIB
from gristmill.errors import DiskFull, FailureReport, OutputUnreachable, TaskError
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    Beat,
    FleetEvent,
    JobSpec,
    Post,
    Progress,
    SlotDown,
    TaskResult,
    WorkerDown,
)
from gristmill.runtime.executor.disks import is_full
from gristmill.runtime.executor.parcels import MARK, if_seen
from gristmill.runtime.files.opening import is_block_of
from gristmill.runtime.process.watch import answer_invalid
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, BlockSource
from gristmill.shuffle.fetch import fetch_blocks
from gristmill.shuffle.tickets import ticket_of
from gristmill.shuffle.transfer import FetchSettings
from gristmill.storage.staging import remove_ownerless
from gristmill.storage.targets import is_object_uri

_log = logging.getLogger(__name__)

_THREADS = 4
_TURN_BYTES = 16 * MIB  # are brought of a worker at a time, if no parcel is larger
_MOST_AT_ONCE = 256
_TRIES = 2  # in vain: then the worker is as good as lost, and its task runs again
_COPIED_BYTES = MIB


class _Due(NamedTuple):
    """An answer whose parcel is to be brought, and the slot where it was made."""

    slot: str
    done: AttemptDone


class Bringer:
    """Stands between those who hear workers and the coordinator. Called in any thread.

    Args:
        post: who is told what happens.
        sources: says where workers are now.
        free: lets a worker delete what it keeps.
    """

    def __init__(
        self, post: Post, sources: Callable[[], Sequence[BlockSource]], free: Callable[[BlockInfo], None]
    ) -> None:
        self._post, self._sources, self._free = post, sources, free
        self._lock = threading.Lock()
        self._jobs: dict[str, JobSpec] = {}  # those whose output is a folder
        self._slot_of: dict[AttemptId, str] = {}  # of what was launched of them, and is not answered
        self._held: dict[str, deque[FleetEvent]] = {}  # by slots; the first is an answer whose parcel is not here yet
        self._due: dict[str, deque[_Due]] = {}  # by workers
        self._places = threading.Semaphore(_THREADS)
        self._closed = False

    def add_job(self, job: JobSpec) -> JobSpec:
        """The job as workers are to be told of it.

        Raises:
            OSError: its staging folder cannot be written.
        """
        if not job.staging or is_object_uri(job.staging):  # an object store is the same for all
            return job
        text = secrets.token_hex(16)
        Path(job.staging, MARK).write_text(text)
        job = replace(job, ticket=job.ticket or secrets.token_hex(16))
        with self._lock:
            self._jobs[job.job] = job
        return replace(job, staging=if_seen(job.staging, text))

    def drop_job(self, job: str) -> None:
        """A job is over: nothing more of it is brought."""
        with self._lock:
            self._jobs.pop(job, None)
            for attempt in [attempt for attempt in list(self._slot_of) if attempt.job == job]:
                self._slot_of.pop(attempt, None)

    def launched(self, attempt: AttemptId, slot: str) -> None:
        """An attempt is about to be launched. Called in the thread that adds and drops jobs."""
        if attempt.job in self._jobs:
            self._slot_of[attempt] = slot

    def hear(self, event: FleetEvent) -> None:
        """Something happened: it is told now, or when what came before it in its slot is here.

        Called in one thread, the only one that adds to what is held.
        """
        if not self._held and isinstance(event, AttemptDone) and event.result.parcel is None:
            self._slot_of.pop(event.attempt, None)  # there are many of these
            self._post(event)
            return
        with self._lock:
            if (told := self._take(event)) is not None:
                self._post(told)

    def close(self) -> None:
        """Bring nothing more. Does not wait for what is on its way. May be called again."""
        with self._lock:
            self._closed = True
            self._due.clear()

    # With the lock.

    def _take(self, event: FleetEvent) -> FleetEvent | None:
        match event:
            case AttemptDone(attempt, result):
                slot = self._slot_of.pop(attempt, "")
                parcel = result.parcel
                if parcel is not None and slot:
                    self._hold(slot, AttemptDone(attempt, replace(result, parcel=_kept_by(parcel, slot))))
                    return None
                result.parcel = None  # its job is over
                return self._behind(slot, event)
            case AttemptFailed(attempt):
                return self._behind(self._slot_of.pop(attempt, ""), event)
            case SlotDown(slot):
                return self._behind(slot, event)
            case WorkerDown(worker):
                self._due.pop(worker, None)
                self._held = {slot: events for slot, events in self._held.items() if _worker_of(slot) != worker}
                return event
            case Beat(worker, attempts):
                waiting = {attempt: progress for attempt, progress in self._waiting_at(worker)}
                return replace(event, attempts={**attempts, **waiting}) if waiting else event
        return event

    def _hold(self, slot: str, done: AttemptDone) -> None:
        self._held.setdefault(slot, deque()).append(done)
        worker = _worker_of(slot)
        if worker in self._due:
            self._due[worker].append(_Due(slot, done))
        elif not self._closed:
            self._due[worker] = deque([_Due(slot, done)])
            threading.Thread(target=self._bring_all, args=(worker,), name="gristmill-bring", daemon=True).start()

    def _behind(self, slot: str, event: FleetEvent) -> FleetEvent | None:
        """An event, unless another one of its slot waits."""
        if slot not in self._held:
            return event
        self._held[slot].append(event)
        return None

    def _waiting_at(self, worker: str) -> Iterator[tuple[AttemptId, Progress]]:
        """The attempts that count as running, though they are over."""
        for slot, events in self._held.items():
            if _worker_of(slot) == worker:
                for event in events:
                    if isinstance(event, AttemptDone):
                        yield event.attempt, Progress(event.result.records_in, event.result.bytes_in)

    def _settle(self, slot: str, done: AttemptDone, report: FailureReport | None) -> None:
        """An answer can be told, and what has waited for it."""
        events = self._held.get(slot)
        if events is None or self._closed:
            return  # its worker is lost
        events.popleft()
        parcel, done.result.parcel = done.result.parcel, None
        if parcel is not None and parcel.path:
            self._free(parcel)
        self._post(done if report is None else AttemptFailed(done.attempt, report, slot_leaves=False))
        while events and not _is_on_its_way(events[0]):
            self._post(events.popleft())
        if not events:
            del self._held[slot]

    # In a worker's own thread.

    def _bring_all(self, worker: str) -> None:
        """Bring what there is of a worker, and what is added meanwhile."""
        while True:
            with self._places:
                with self._lock:
                    due = self._due.get(worker)
                    if not due:
                        self._due.pop(worker, None)
                        return
                    some = _some_of(due)
                    job = self._jobs.get(some[0].done.attempt.job)
                made = [one.done for one in some]
                reports = self._bring(made, job) if job is not None else [None] * len(made)
            with self._lock:
                for one, report in zip(some, reports, strict=True):
                    if due:
                        due.popleft()
                    self._settle(one.slot, one.done, report)

    def _bring(self, some: Sequence[AttemptDone], job: JobSpec) -> list[FailureReport | None]:
        """Bring parcels of one worker and job; of each, what went wrong."""
        scratch = Path(job.staging, f"brought-{secrets.token_hex(8)}")
        try:
            self._bring_into(scratch, some, job)
        except (TaskError, OSError, ValueError) as error:
            if len(some) == 1:
                _log.info("what attempt %s has written cannot be brought: %s", some[0].attempt, error)
                return [_report(error, some[0].attempt, job)]
            return [report for done in some for report in self._bring([done], job)]
        except Exception as error:  # the thread's last line: an answer that is never told would be waited for
            _log.exception("what attempts of job %s have written cannot be brought", job.job)
            return [_report(OSError(f"{type(error).__name__}: {error}"), done.attempt, job) for done in some]
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            remove_ownerless(Path(job.staging))  # the job may have ended meanwhile
        return [None] * len(some)

    def _bring_into(self, scratch: Path, some: Sequence[AttemptDone], job: JobSpec) -> None:
        parcels = [_checked(done.result, job.job) for done in some]
        scratch.mkdir()
        ticket = ticket_of(job.ticket, job.job, "coordinator", time.time())
        settings = FetchSettings(tries=_TRIES)
        near = fetch_blocks(parcels, 0, self._sources(), scratch, job=job.job, ticket=ticket, settings=settings)
        for done, block in zip(some, near, strict=True):
            _unpack(done.result, block, Path(job.staging))


def _worker_of(slot: str) -> str:
    return slot.rpartition("-")[0]  # slots are named after their workers


def _kept_by(parcel: BlockInfo, slot: str) -> BlockInfo:
    return replace(parcel, worker=_worker_of(slot))


def _is_on_its_way(event: FleetEvent) -> bool:
    return isinstance(event, AttemptDone) and event.result.parcel is not None


def _some_of(due: Sequence[_Due]) -> list[_Due]:
    """The first of them, and some more of its job."""
    some: list[_Due] = []
    size_bytes = 0
    for one in due:
        size_bytes += sum(part.size_bytes for part in one.done.result.parts)
        is_other = some and one.done.attempt.job != some[0].done.attempt.job
        if is_other or len(some) == _MOST_AT_ONCE or (some and size_bytes > _TURN_BYTES):
            break
        some.append(one)
    return some


def _checked(result: TaskResult, job: str) -> BlockInfo:
    """The parcel of a result.

    Raises:
        ValueError: it cannot be one: user code has spoken in its executor's name.
    """
    parcel = result.parcel
    assert parcel is not None, "there is none to be brought else"
    if parcel.path and (len(parcel.segments) != 1 or not is_block_of(parcel.path, (job,))):
        raise ValueError(f"{parcel.path} is not what an attempt of job {job} has packed")
    if parcel.size_bytes != sum(part.size_bytes for part in result.parts):
        raise ValueError("its files have other sizes than what it has packed")
    return parcel


def _unpack(result: TaskResult, block: BlockInfo, staging: Path) -> None:
    """Put the files of a parcel where an attempt that sees the staging folder would have written them."""
    offset = block.segment(0).offset
    for part in result.parts:
        target = staging / part.staged
        target.parent.mkdir(parents=True, exist_ok=True)
        if part.size_bytes and part.size_bytes == Path(block.path).stat().st_size:
            Path(block.path).replace(target)  # nothing else was brought along
        else:
            _cut_out(block.path, offset, part.size_bytes, target)
        offset += part.size_bytes


def _cut_out(path: str, offset: int, size_bytes: int, target: Path) -> None:
    """Copy a part of a file; ``path`` may be empty if that is."""
    with target.open("wb") as file:
        if not size_bytes:
            return
        with Path(path).open("rb") as source:
            source.seek(offset)
            while chunk := source.read(min(size_bytes, _COPIED_BYTES)):
                file.write(chunk)
                size_bytes -= len(chunk)


def _report(error: Exception, attempt: AttemptId, job: JobSpec) -> FailureReport:
    """Why an attempt has failed whose files cannot be had here."""
    if isinstance(error, TaskError):
        return error.report
    if isinstance(error, ValueError):
        return answer_invalid(f"attempt {attempt}", str(error))
    assert isinstance(error, OSError), "nothing else is caught"
    path = str(error.filename or job.staging)
    if is_full(error):
        return FailureReport(DiskFull.__name__, f"No space is left for {path}.", details={"path": path})
    what = f"What task {attempt.index} has written cannot be brought to {path}: {error.strerror or error}."
    return FailureReport(OutputUnreachable.__name__, what, details={"path": path})
