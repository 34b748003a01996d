"""The agent: keeps executors up on one machine, gives them work, and tells what becomes of it.

It lives in a process that runs no user code of the job (the caller's, or a worker's), in one thread of its own. Every
call from outside only queues a request; everything is decided and done in that thread.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import selectors
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gristmill.config import format_duration
from gristmill.errors import FailureReport
from gristmill.runtime.attempts import prepare_folder, remove_scratch, scratch_path
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    Beat,
    FleetBroken,
    JobSpec,
    Post,
    Progress,
    SlotDown,
    SlotUp,
    TaskResult,
    TaskSpec,
)
from gristmill.runtime.logs import crash_frames, log_path, log_tail
from gristmill.runtime.processes import ProcessEnd, oom_kills, private_bytes
from gristmill.runtime.slots import Run, Slot
from gristmill.runtime.starters import Born, Died, Starter, StarterEvent, open_starter
from gristmill.runtime.watch import Death, Ending, Vitals, death_report, verdict
from gristmill.runtime.wire import order_frame
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo

_log = logging.getLogger(__name__)
_WAKE_BYTES = 4096
_CLOSE_SECONDS = 6.0
_DYING_SECONDS = 0.02  # how often to look whether a process has ended whose channel has


@dataclass(frozen=True)
class AgentSettings:
    """How often an agent looks, and how long it is patient."""

    beat_seconds: float = 1.0
    watch_seconds: float = 0.25
    stall_seconds: float = 1800.0  # without progress, until the attempt's stack is written to its log
    hello_seconds: float = 60.0  # from an executor's start until it must have reported
    orphan_seconds: float = 1.0  # from a channel's end until a process that still lives is ended
    start_attempts: int = 3  # in a row, until the fleet is broken


class Agent:
    """N executors on this machine.

    Args:
        executors: how many to keep up.
        worker: the name of this worker; slots are named after it.
        settings: how often to look, and how long to be patient.
    """

    def __init__(self, executors: int, *, worker: str = "w0", settings: AgentSettings | None = None) -> None:
        self._executors = executors
        self._worker = worker
        self._settings = settings or AgentSettings()
        self._requests: deque[Callable[[], None]] = deque()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._post: Post = _ignore
        # From here on: touched by the agent's thread alone, once it runs.
        self._starter: Starter | None = None
        self._starter_fd: int | None = None
        self._slots: dict[str, Slot] = {}
        self._jobs: dict[str, JobSpec] = {}
        self._count = 0  # of slots ever opened
        self._failed_starts = 0  # in a row
        self._broken = False
        self._oom_kills = oom_kills()  # that are accounted for

    # The fleet's contract. Any thread.

    def start(self, post: Post) -> None:
        """Begin to offer slots. Returns at once; executors come up meanwhile."""
        self._post = post
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self._drain_wake)
        self._start_starter()
        self._thread = threading.Thread(target=self._run, name=f"gristmill-agent-{self._worker}", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def add_job(self, job: JobSpec) -> None:
        """Make a job's code known before its first launch."""
        prepare_folder(job)
        self._ask(partial(self._jobs.__setitem__, job.job, job))

    def launch(self, slot: str, spec: TaskSpec) -> None:
        """Run an attempt in a slot."""
        self._ask(partial(self._launch, slot, spec))

    def cancel(self, attempt: AttemptId) -> None:
        """End an attempt with all it started. Its slot goes down."""
        self._ask(partial(self._cancel, attempt))

    def free(self, block: BlockInfo) -> None:
        """Delete a block."""
        self._ask(partial(_delete, block.path))

    def drop_job(self, job: str) -> None:
        """Forget a job's code."""
        self._ask(partial(self._drop_job, job))

    def close(self) -> None:
        """End every process, within 5 seconds, and the thread. May be called again."""
        atexit.unregister(self.close)
        thread, self._thread = self._thread, None
        self._closing = True
        if thread is None:
            if self._starter is None:  # never started
                self._close_sockets()
            return
        self._wake()
        thread.join(_CLOSE_SECONDS)

    def _ask(self, request: Callable[[], None]) -> None:
        self._requests.append(request)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake already; closed: nobody is there to be woken
            self._wake_writer.send(b"\0")

    # The agent's thread.

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:  # the thread's last line: nobody else would hear of it
            _log.exception("the agent of worker %s failed", self._worker)
            message = f"The agent of worker {self._worker} failed: {type(error).__name__}: {error}"
            self._post(FleetBroken(FailureReport("TaskError", message, log_tail=traceback.format_exc())))
        finally:
            for slot in list(self._slots.values()):
                slot.channel.close()
            if self._starter is not None:
                self._starter.close()
            for slot in self._slots.values():
                if slot.run is not None:
                    remove_scratch(scratch_path(slot.run.job, slot.run.spec))
            self._close_sockets()

    def _loop(self) -> None:
        settings = self._settings
        now = time.monotonic()
        next_watch, next_beat = now + settings.watch_seconds, now
        while not self._closing:
            self._fill_up(now)
            now = time.monotonic()
            pause = max(0.0, min(next_watch, next_beat) - now)
            if any(slot.silent_since is not None for slot in self._slots.values()):
                pause = min(pause, _DYING_SECONDS)
            for key, mask in self._selector.select(pause):
                key.data(mask)
            while self._requests and not self._closing:
                self._requests.popleft()()
            self._take_starter_events()
            now = time.monotonic()
            if now >= next_watch:
                self._watch(now)
                next_watch = now + settings.watch_seconds
            if now >= next_beat:
                self._beat()
                next_beat = now + settings.beat_seconds

    def _drain_wake(self, _mask: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_reader.recv(_WAKE_BYTES)

    def _close_sockets(self) -> None:
        self._selector.close()
        self._wake_reader.close()
        self._wake_writer.close()

    # Slots come and go.

    def _start_starter(self) -> None:
        self._starter = open_starter()
        self._starter_fd = self._starter.fileno()
        if self._starter_fd is not None:
            self._selector.register(self._starter_fd, selectors.EVENT_READ, _ignore)  # its events are taken every time
        self._fill_up(time.monotonic())

    def _fill_up(self, now: float) -> None:
        while self._starter and not self._broken and len(self._slots) < self._executors:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            self._count += 1
            slot = Slot(f"{self._worker}-{self._count}", ours, now)
            self._slots[slot.id] = slot
            self._selector.register(ours, selectors.EVENT_READ, partial(self._on_channel, slot))
            with theirs:
                self._starter.start_executor(slot.id, theirs)

    def _take_starter_events(self) -> None:
        assert self._starter is not None, "it is started before the thread"
        for event in self._starter.events():
            self._on_starter(event)

    def _on_starter(self, event: StarterEvent) -> None:
        if isinstance(event, Born):
            if slot := self._slots.get(event.slot):
                slot.pid = event.pid
        elif isinstance(event, Died):
            if slot := self._slots.get(event.slot):
                self._bury(slot, event.end)
        else:
            self._replace_starter()

    def _replace_starter(self) -> None:
        """The forkserver is gone, and so are its executors: begin anew."""
        gone = self._starter
        assert gone is not None, "it said that it is gone"
        _log.warning("the forkserver of worker %s died; starting another", self._worker)
        if self._starter_fd is not None:
            self._selector.unregister(self._starter_fd)
        slots = list(self._slots.values())
        if not any(slot.ready for slot in slots):
            self._count_failed_start(gone.output())
        for slot in slots:
            self._bury(slot, ProcessEnd(0, signal.SIGKILL), forkserver=True)
        gone.close()
        if not self._broken:
            self._start_starter()

    def _count_failed_start(self, output: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= self._settings.start_attempts and not self._broken:
            self._broken = True
            message = f"Executors cannot be started: {self._failed_starts} in a row ended before they were ready."
            advice = "What they said stands below. Is the Python environment whole?"
            self._post(FleetBroken(FailureReport("ExecutorDied", message, log_tail=output, advice=advice)))

    def _bury(self, slot: Slot, end: ProcessEnd, *, forkserver: bool = False) -> None:
        """A slot's process is gone: take its last words, report, clean up."""
        if slot.silent_since is None:
            self._selector.unregister(slot.channel)
            self._read(slot, time.monotonic())
        slot.channel.close()
        del self._slots[slot.id]
        if slot.run is not None:
            self._report_death(slot, slot.run, end)
        if slot.ready:
            self._post(SlotDown(slot.id))
        elif not forkserver and self._starter is not None:
            self._count_failed_start(self._starter.output())

    def _report_death(self, slot: Slot, run: Run, end: ProcessEnd) -> None:
        remove_scratch(scratch_path(run.job, run.spec))
        if slot.ending is Ending.CANCELLED:
            return
        tail = log_tail(log_path(run.job.folder, run.spec.attempt))
        death = Death(
            end=end,
            ending=slot.ending,
            oom=self._oom_struck(),
            seconds=time.monotonic() - run.started,
            peak_bytes=run.peak_bytes or end.peak_bytes,
            idle_bytes=slot.idle_bytes,
            log_tail=tail,
            frames=crash_frames(tail),
        )
        self._post(AttemptFailed(run.spec.attempt, death_report(run.job, run.spec, death)))

    def _oom_struck(self) -> bool:
        """Whether the kernel ended a process for want of memory since this was last asked."""
        before, self._oom_kills = self._oom_kills, oom_kills()
        return self._oom_kills > before

    def _end(self, slot: Slot, why: Ending) -> None:
        if slot.ending is None:
            slot.ending = why
            assert self._starter is not None, "it has started the slot's process"
            self._starter.end_executor(slot.id)

    # Channels.

    def _on_channel(self, slot: Slot, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._send(slot)
        if mask & selectors.EVENT_READ:
            self._read(slot, time.monotonic())
            if slot.silent_since is not None:
                self._selector.unregister(slot.channel)

    def _read(self, slot: Slot, now: float) -> None:
        for note in slot.read(now):
            self._on_note(slot, note, now)

    def _on_note(self, slot: Slot, note: dict[str, Any], now: float) -> None:
        kind, run = note.get("type"), slot.run
        if kind == "hello":
            slot.pid, slot.idle_bytes, slot.ready = note["pid"], note["idle_bytes"], True
            self._failed_starts = 0
            self._post(SlotUp(slot.id, self._worker))
        elif run is None or note.get("attempt") != str(run.spec.attempt) or slot.ending is not None:
            return  # too late: the attempt is reported, or about to be, as what ended it
        elif kind == "progress":
            run.take_progress(tuple(note["progress"]), now)
        elif kind == "done":
            slot.run = None
            self._post(AttemptDone(run.spec.attempt, TaskResult.from_json(note["result"])))
        elif kind == "failed":
            slot.run = None
            self._post(AttemptFailed(run.spec.attempt, FailureReport.from_json(note["report"])))

    def _send(self, slot: Slot, *orders: tuple[str, Any]) -> None:
        slot.send(b"".join(order_frame(order) for order in orders))
        if slot.silent_since is None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if slot.has_unsent else 0)
            if self._selector.get_key(slot.channel).events != events:
                self._selector.modify(slot.channel, events, partial(self._on_channel, slot))

    # Requests.

    def _launch(self, slot_id: str, spec: TaskSpec) -> None:
        slot, job = self._slots.get(slot_id), self._jobs.get(spec.attempt.job)
        if job is None or slot is None or slot.ending or slot.run:
            # The slot went down while the launch was on its way.
            message = f"Slot {slot_id} was gone before the attempt began."
            self._post(AttemptFailed(spec.attempt, FailureReport("ExecutorDied", message)))
            return
        now = time.monotonic()
        slot.run = Run(job, spec, now, moved=now)
        orders = [("job", job)] if job.job not in slot.jobs else []
        slot.jobs.add(job.job)
        self._send(slot, *orders, ("task", spec))

    def _cancel(self, attempt: AttemptId) -> None:
        for slot in self._slots.values():
            if slot.run is not None and slot.run.spec.attempt == attempt:
                self._end(slot, Ending.CANCELLED)

    def _drop_job(self, job: str) -> None:
        self._jobs.pop(job, None)
        for slot in self._slots.values():
            if job in slot.jobs:
                slot.jobs.discard(job)
                self._send(slot, ("drop", job))

    # Time passes.

    def _watch(self, now: float) -> None:
        for slot in list(self._slots.values()):
            if slot.ending is not None:
                continue
            if slot.silent_since is not None:
                if now - slot.silent_since > self._settings.orphan_seconds:
                    self._end(slot, Ending.UNREACHABLE)
            elif not slot.ready:
                if now - slot.requested > self._settings.hello_seconds:
                    self._end(slot, Ending.UNREACHABLE)
            elif slot.run is not None:
                self._watch_run(slot, slot.run, now)

    def _watch_run(self, slot: Slot, run: Run, now: float) -> None:
        memory = private_bytes(slot.pid)
        run.peak_bytes = max(run.peak_bytes, memory)
        why = verdict(run.job, Vitals(now - run.started, memory, slot.idle_bytes))
        if why is not None:
            self._end(slot, why)
        elif now - run.moved > self._settings.stall_seconds and not run.stalled:
            run.stalled = True
            self._dump_stack(slot, run, now)

    def _dump_stack(self, slot: Slot, run: Run, now: float) -> None:
        if hasattr(signal, "SIGUSR1"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(slot.pid, signal.SIGUSR1)
        log = log_path(run.job.folder, run.spec.attempt)
        quiet = format_duration(now - run.moved)
        _log.warning("attempt %s has made no progress for %s; its stack is in %s", run.spec.attempt, quiet, log)

    def _beat(self) -> None:
        runs = [slot.run for slot in self._slots.values() if slot.run is not None and slot.ending is None]
        attempts = {run.spec.attempt: Progress(run.progress.records_in, run.progress.bytes_in) for run in runs}
        self._post(Beat(self._worker, attempts))


def _delete(path: str) -> None:
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        _log.warning("block %s cannot be deleted: %s", path, error)


def _ignore(_: object) -> None:
    """Takes what nobody wants yet."""
