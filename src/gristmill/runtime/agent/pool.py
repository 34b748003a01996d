"""The executors of an agent: started, given work, listened to, watched, and replaced when they die.

Everything here happens in the agent's one thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from gristmill.config import format_duration
from gristmill.errors import FailureReport
from gristmill.runtime.agent.aftermath import clear_away, last_answers
from gristmill.runtime.agent.slots import KnownJob, Run, Slot
from gristmill.runtime.agent.starters import Born, Died, Starter, StarterEvent, open_starter
from gristmill.runtime.answers import failure_of, hello_of, progress_of, result_of
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
    TaskSpec,
)
from gristmill.runtime.executor.logs import log_path, name_spool, remove_spools
from gristmill.runtime.process.limits import DEAD_SHARE
from gristmill.runtime.process.processes import ProcessEnd, children, dead_among, descendants, family_bytes, oom_kills
from gristmill.runtime.process.watch import (
    AgentSettings,
    Ending,
    Vitals,
    look_again,
    memory_limit,
    not_begun,
    start_pause,
    verdict,
)
from gristmill.runtime.process.wire import Order, order_frame, task_order
from gristmill.scheduling.events import AttemptId

_log = logging.getLogger(__name__)
_END_SECONDS = 10.0  # for a process that was told to end, and for all that it has started
_SHORT_BYTES = 1024
_WELL_SUPPLIED = 32  # attempts in a slot: some milliseconds of work, or they would not have been sent ahead


class ExecutorPool:
    """N executors on this machine.

    Args:
        executors: how many to keep up.
        worker: the name of this worker; slots are named after it.
        settings: how often to look, and how long to be patient.
        post: who is told what happens.
        selector: where channels are registered, each with a function that takes the event mask.
    """

    def __init__(
        self, executors: int, worker: str, settings: AgentSettings, post: Post, selector: selectors.BaseSelector
    ) -> None:
        self._executors = executors
        self._worker = worker
        self._settings = settings
        self._post = post
        self._selector = selector
        self._slots: dict[str, Slot] = {}
        self._unsent: dict[str, list[Order]] = {}  # by slot
        self._jobs: dict[str, JobSpec] = {}
        self._count = 0  # of slots ever opened
        self._failed_starts = 0  # in a row
        self._next_start = 0.0  # not before this time
        self._broken = False
        self.next_watch = 0.0  # not before this time
        self._oom_kills = oom_kills(), oom_kills()  # as of the last beat but one, and the last
        self._starter_has_news = False
        self._starter = self._open_starter()

    # Slots come and go.

    def _open_starter(self) -> Starter:
        starter = open_starter(self._settings.limits)
        self._starter_fd = starter.fileno()
        if self._starter_fd is not None:
            self._selector.register(self._starter_fd, selectors.EVENT_READ, self._on_starter_readable)
        return starter

    def fill_up(self, now: float) -> None:
        """Start what is missing."""
        while not self._broken and now >= self._next_start and self._count_for_tasks() < self._executors:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            self._count += 1
            slot = Slot(f"{self._worker}-{self._count}", ours, now)
            self._slots[slot.id] = slot
            self._selector.register(ours, selectors.EVENT_READ, partial(self._on_channel, slot))
            with theirs:
                self._starter.start_executor(slot.id, theirs)

    def _count_for_tasks(self) -> int:
        """Slots but for those of drivers, which wait for the tasks of others most of the time."""
        return sum(not slot.drives for slot in self._slots.values())

    def _on_starter_readable(self, _mask: int) -> None:
        self._starter_has_news = True  # taken when all channels have been read

    def take_starter_events(self) -> None:
        """Take note of who was born and who died."""
        if self._starter_fd is not None and not self._starter_has_news:
            return
        self._starter_has_news = False
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
        _log.warning("the forkserver of worker %s died; starting another", self._worker)
        if self._starter_fd is not None:
            self._selector.unregister(self._starter_fd)
            self._starter_fd = None
        slots = list(self._slots.values())
        if not any(slot.ready for slot in slots):
            self._count_failed_start(gone.output())
        for slot in slots:
            self._bury(slot, ProcessEnd(0, signal.SIGKILL), forkserver=True)
        gone.close()
        if not self._broken:
            self._starter = self._open_starter()

    def _count_failed_start(self, output: str) -> None:
        self._failed_starts += 1
        self._next_start = time.monotonic() + start_pause(self._failed_starts)
        alive = any(slot.ready for slot in self._slots.values())
        if self._failed_starts >= self._settings.start_attempts and not alive and not self._broken:
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
        clear_away(slot)
        limits = self._settings.limits
        for answer in last_answers(slot, end, self._oom_struck(), limits, time.monotonic()):
            self._post(answer)
        if slot.ready:
            self._post(SlotDown(slot.id))
        elif not forkserver:
            self._count_failed_start(self._starter.output())

    def _oom_struck(self) -> bool:
        """Whether the kernel ended a process for want of memory within the last beat or two."""
        return oom_kills() > self._oom_kills[0]

    def _end(self, slot: Slot, why: Ending) -> None:
        if slot.ending is None:
            slot.ending, slot.ending_since = why, time.monotonic()
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
            try:
                self._on_note(slot, note, now)
            except ValueError as error:  # user code has written into the channel, by its descriptor
                _log.warning("executor %s sent what makes no sense: %s", slot.id, error)
                slot.complaint = slot.complaint or str(error)
                self._end(slot, Ending.FORGED)

    def _on_note(self, slot: Slot, note: dict[str, Any], now: float) -> None:
        kind, run = note.get("type"), slot.run
        if kind == "hello":
            if slot.ready:
                raise ValueError("it said hello twice")
            slot.pid, slot.idle_bytes = hello_of(note)
            slot.ready = True
            self._failed_starts = 0
            self._post(SlotUp(slot.id, self._worker, self._settings.depth))
        elif run is None or note.get("attempt") != list(run.spec.attempt):
            return
        elif slot.ending is not None and not run.cancelled:
            return  # too late: the attempt is about to be reported as what ended it
        elif kind == "progress":
            seen, run.printed = progress_of(note)
            run.take_progress(seen, now)
        elif kind == "done":
            result, said = result_of(note.get("result")), note["said"]
            slot.pop(now)
            # What is long may be mere blanks: whoever passes it on writes it anew.
            short = said if len(said) < _SHORT_BYTES else b""
            self._post(AttemptDone(run.spec.attempt, result, short, note.get("printed") is not False))
            self._end_driver(slot)
        elif kind == "failed":
            report = failure_of(note.get("report"))
            slot.pop(now)
            self._post(AttemptFailed(run.spec.attempt, report, slot_leaves=slot.drives))
            self._end_driver(slot)
        elif kind == "recalled":
            slot.pop(now)
            self._post(AttemptFailed(run.spec.attempt, not_begun(run.spec, "was recalled"), slot_leaves=False))

    def _end_driver(self, slot: Slot) -> None:
        """A driver's process may hold anything, and is one too many now."""
        if slot.drives:
            self._end(slot, Ending.CANCELLED)

    def _send(self, slot: Slot) -> None:
        slot.send()
        if slot.silent_since is None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if slot.has_unsent else 0)
            if events != slot.events:
                slot.events = events
                self._selector.modify(slot.channel, events, partial(self._on_channel, slot))

    def _order(self, slot: Slot, order: Order) -> None:
        self._unsent.setdefault(slot.id, []).append(order)

    def flush(self) -> None:
        """Send the orders that have come together."""
        for slot_id, orders in self._unsent.items():
            if slot := self._slots.get(slot_id):
                slot.put(order_frame(*orders))
                self._send(slot)
        self._unsent.clear()

    # Requests.

    def add_job(self, job: JobSpec) -> None:
        """Make a job's code known before its first launch."""
        self._jobs[job.job] = job

    def launch(self, slot_id: str, spec: TaskSpec) -> None:
        """Run an attempt in a slot, after those that were launched there before."""
        slot, job = self._slots.get(slot_id), self._jobs.get(spec.attempt.job)
        if job is None or slot is None or slot.ending:
            # The slot went down while the launch was on its way.
            self._post(AttemptFailed(spec.attempt, not_begun(spec, "came too late for its executor"), slot_leaves=True))
            return
        known = slot.jobs.get(job.job)
        if known is None:
            known = slot.jobs[job.job] = KnownJob()
            self._order(slot, ("job", job))
            for path in job.broadcasts:  # what it loads of them outlives the job, but not the session
                slot.jobs.setdefault(job.session, KnownJob())
                slot.jobs.setdefault(f"{job.session}/{Path(path).name}", KnownJob())
        if spec.stage.id not in known.stages:
            known.stages.add(spec.stage.id)
            self._order(slot, ("stage", (job.job, spec.stage)))
        known.folders.add(spec.folder or job.folder)
        slot.drives = slot.drives or job.driver
        now, run = time.monotonic(), Run(job, spec)
        if not slot.queue:
            self._watch_from_the_start(slot, run, now)
        slot.last_job = job
        slot.push(run, now)
        self._order(slot, task_order(spec))

    def cancel(self, attempt: AttemptId, recalled: bool = False) -> None:
        """End an attempt with all it started. One that has not begun is called back, and its slot stays.

        One that was called back too late is ended at the next look: most likely it is short, and done by then.
        """
        for slot in self._slots.values():
            for run in slot.queue:
                if run.spec.attempt == attempt:
                    run.cancelled = True
                    if run is slot.run and not recalled:
                        self._end(slot, Ending.CANCELLED)
                    elif run is not slot.run and slot.ending is None:
                        self._order(slot, ("recall", attempt))

    def drop_job(self, job: str) -> None:
        """Forget a job's code."""
        self._jobs.pop(job, None)
        for slot in self._slots.values():
            if (known := slot.jobs.pop(job, None)) is not None:
                self._order(slot, ("drop", job))
                remove_spools(slot.pid, known.folders)
                if sys.platform == "linux":  # elsewhere that takes long, and nobody adopts what hides
                    slot.leftovers = slot.leftovers or bool(children(slot.pid))
                if slot.last_job is not None and slot.last_job.job == job and not slot.leftovers:
                    slot.last_job = None

    # Time passes.

    def watch(self, now: float) -> None:
        """Look after every executor for which it is time."""
        if now < self.next_watch:
            return
        self.next_watch = now + self._settings.watch_seconds
        for slot in list(self._slots.values()):
            if slot.look_at <= now:
                slot.look_at = now + self._settings.watch_seconds
                self._look_after(slot, now)
            self.next_watch = min(self.next_watch, slot.look_at)

    def _look_after(self, slot: Slot, now: float) -> None:
        if slot.ending is not None:
            return
        if slot.silent_since is not None:
            if now - slot.silent_since > self._settings.orphan_seconds:
                self._end(slot, Ending.UNREACHABLE)
        elif not slot.ready:
            if now - slot.requested > self._settings.hello_seconds:
                self._end(slot, Ending.UNREACHABLE)
        elif slot.run is not None:
            self._watch_run(slot, slot.run, now)
        elif slot.last_job is not None:
            self._watch_leftovers(slot, slot.last_job)

    def _watch_run(self, slot: Slot, run: Run, now: float) -> None:
        if run.cancelled and now - run.started >= self._settings.watch_seconds:  # or its answer may be on the way
            self._end(slot, Ending.CANCELLED)  # it was called back too late: it runs
            return
        limits = self._settings.limits
        memory, run.processes = self._size(slot)
        run.peak_bytes = max(run.peak_bytes, memory)
        vitals = Vitals(now - run.started, memory, slot.idle_bytes, run.processes)
        slot.look_at = now + look_again(run.job, vitals, limits, self._settings.watch_seconds)
        why = verdict(run.job, vitals, limits)
        if why is not None:
            self._end(slot, why)
        elif run.stalled:
            name_spool(slot.pid, run.job, run.spec)  # the executor itself may not come to it
        elif now - run.moved > self._settings.stall_seconds and not run.job.driver:
            run.stalled = True
            self._dump_stack(slot, run, now)

    def _size(self, slot: Slot) -> tuple[int, int]:
        """How large an executor is with all that it has started, and how many processes run below it.

        Of those that are too many the memory is not looked at: that takes time, in which they become more.
        """
        most = self._settings.limits.processes
        below = descendants(slot.pid, enough=most * (DEAD_SHARE + 1))
        count = len(below)
        if count > most:
            dead = dead_among(below)
            count += dead // DEAD_SHARE - dead
        return (0 if count > most else family_bytes(slot.pid, below)), count

    def _watch_leftovers(self, slot: Slot, last: JobSpec) -> None:
        """Processes that attempts have left may serve the next one, but not another job, and they have limits, too."""
        if not children(slot.pid):
            slot.leftovers = False
            return
        memory, processes = self._size(slot)
        if memory > memory_limit(last, slot.idle_bytes) or processes > self._settings.limits.processes:
            _log.warning("job %s has left %d processes behind, which are too much; they are ended", last.job, processes)
            self._end(slot, Ending.PROCESSES)
        elif slot.leftovers:
            self._end(slot, Ending.PROCESSES)

    def _watch_from_the_start(self, slot: Slot, run: Run, now: float) -> None:
        """An idle executor is looked at rarely, and has just been given something to do."""
        vitals, settings = Vitals(0.0, slot.idle_bytes, slot.idle_bytes), self._settings
        slot.look_at = min(slot.look_at, now + look_again(run.job, vitals, settings.limits, settings.watch_seconds))
        self.next_watch = min(self.next_watch, slot.look_at)

    def _dump_stack(self, slot: Slot, run: Run, now: float) -> None:
        if hasattr(signal, "SIGUSR1"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(slot.pid, signal.SIGUSR1)
        log = log_path(run.job, run.spec)
        quiet = format_duration(now - run.moved)
        _log.warning("attempt %s has made no progress for %s; its stack is in %s", run.spec.attempt, quiet, log)

    def beat(self, now: float) -> None:
        """Say that this worker lives, and how far its attempts are.

        What ends may take a while (much memory to give back, say), and is to be reported with its reason. But what
        does not end is given up.
        """
        self._oom_kills = self._oom_kills[1], oom_kills()
        slots = [slot for slot in self._slots.values() if slot.ending is None or now - slot.ending_since < _END_SECONDS]
        runs = [run for slot in slots for run in slot.queue]
        attempts = {
            run.spec.attempt: Progress(run.progress.records_in, run.progress.bytes_in, run.printed) for run in runs
        }
        self._post(Beat(self._worker, attempts, now))

    @property
    def is_well_supplied(self) -> bool:
        """Every executor has enough to do that none waits for us within the next moment."""
        return bool(self._slots) and all(len(slot.queue) >= _WELL_SUPPLIED for slot in self._slots.values())

    @property
    def is_settled(self) -> bool:
        """No executor is known to be dying."""
        return all(slot.silent_since is None for slot in self._slots.values())

    def close(self) -> None:
        """End every process. Bounded."""
        for slot in self._slots.values():
            if slot.silent_since is None:
                self._selector.unregister(slot.channel)
            slot.channel.close()
        if self._starter_fd is not None:
            self._selector.unregister(self._starter_fd)
        self._starter.close()
        for slot in self._slots.values():
            clear_away(slot)
        self._slots.clear()
