"""An executor: a process that runs one task at a time. User code lives only here.

The main thread reads an order, carries it out, and answers before it begins the next: so the agent knows which attempt
runs, however many wait. A second thread reports progress while a task runs; when
it finds the agent gone, the process ends with all it started. What user code prints goes to the attempt's log and never
touches the channel.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import os
import signal
import socket
import sys
import threading
import time
from operator import length_hint
from typing import Any, NoReturn

from gristmill.config import format_size
from gristmill.errors import FailureReport, GristmillError
from gristmill.plan.stages import Stage
from gristmill.runtime.answers import bounded
from gristmill.runtime.contracts import JobSpec, Progress, TaskResult, TaskSpec
from gristmill.runtime.executor import broadcasts, parcels
from gristmill.runtime.executor.attempts import LoadedCode, unforeseen_report
from gristmill.runtime.executor.logs import OutputRedirect, log_path, log_tail
from gristmill.runtime.executor.modules import JobModules
from gristmill.runtime.process.limits import Limits, limit_this_process, user_processes
from gristmill.runtime.process.processes import (
    become_subreaper,
    collect_garbage_rarely,
    descendants,
    kill,
    private_bytes,
)
from gristmill.runtime.process.watch import EXIT_CHANNEL_LOST, task_name
from gristmill.runtime.process.wire import (
    MAX_NOTE_BYTES,
    ChannelClosed,
    OrderReader,
    attempt_of,
    note_frame,
    spec_of,
)
from gristmill.scheduling.ids import AttemptId

REPORT_SECONDS = 0.5
_PRELOAD = ("pyarrow", "pyarrow.compute", "cloudpickle", "gristmill.runtime.executor.task")


def preload() -> None:
    """Import what tasks need. Must leave the process with one thread, or it could not be forked."""
    for name in _PRELOAD:
        importlib.import_module(name)
    importlib.import_module("gristmill.runtime.executor.arrow_alone").defer_pandas()


class _Jobs:
    """The jobs this process knows."""

    def __init__(self) -> None:
        self._specs: dict[str, tuple[JobSpec, LoadedCode]] = {}
        self._stages: dict[tuple[str, int], Stage] = {}
        self._modules = JobModules()

    def add(self, job: JobSpec) -> None:
        self._specs[job.job] = parcels.settled(job), LoadedCode()

    def add_stage(self, job: str, stage: Stage) -> None:
        self._stages[job, stage.id] = stage

    def find(self, job: str, stage: int) -> tuple[JobSpec, LoadedCode, Stage]:
        return *self._specs[job], self._stages[job, stage]

    def enter(self, job: JobSpec) -> None:
        """Let imports find the job's own modules first."""
        self._modules.enter(job)

    def drop(self, job: str) -> None:
        """Forget a job, and the modules it brought along: the next job may have others of the same names."""
        self._specs.pop(job, None)
        self._stages = {name: stage for name, stage in self._stages.items() if name[0] != job}
        self._modules.drop(job)


class _Executor:
    """The process's state. One task at a time; ``_running`` is None between tasks."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._orders = OrderReader(channel)
        self._jobs = _Jobs()
        self._redirect = OutputRedirect()
        self._sending = threading.Lock()
        self._running: tuple[AttemptId, Progress] | None = None

    def serve(self) -> NoReturn:
        """Carry out orders until the agent is gone."""
        threading.Thread(target=self._report, name="gristmill-reporter", daemon=True).start()
        with contextlib.suppress(ChannelClosed):
            self._send({"type": "hello", "pid": os.getpid(), "idle_bytes": private_bytes(os.getpid())})
            while True:
                self._carry_out(*self._orders.read())
        _end_everything()

    def _carry_out(self, verb: str, subject: Any) -> None:
        if verb == "task":
            attempt = attempt_of(subject)
            job, code, stage = self._jobs.find(attempt.job, attempt.stage)
            self._run(job, code, spec_of(subject, stage))
        elif verb == "job":
            self._jobs.add(subject)
        elif verb == "stage":
            self._jobs.add_stage(*subject)
        elif verb == "recalled":
            self._send({"type": "recalled", "attempt": subject})
        elif verb == "drop":
            self._jobs.drop(subject)
            broadcasts.forget(subject)
            self._redirect.close()
        else:
            raise GristmillError(f"unknown order {verb!r}")

    def _run(self, job: JobSpec, code: LoadedCode, spec: TaskSpec) -> None:
        begun = time.monotonic()
        self._redirect.open(job, spec)
        attempt, progress = spec.attempt, Progress()
        self._running = attempt, progress
        outcome: TaskResult | FailureReport
        try:
            self._jobs.enter(job)
            outcome = parcels.run_and_pack(job, spec, progress, code.load)
        except BaseException as error:  # a KeyboardInterrupt, say: nobody but user code raises it here
            outcome = unforeseen_report(spec, error)
        self._running = None
        printed = self._redirect.finish()
        if isinstance(outcome, FailureReport):
            report = bounded(outcome).to_json()
            if outcome.exception == "BdbQuit":
                report["advice"] = "There is no terminal here for a debugger: run the job with --on inline."
            report["log_tail"] = report["log_tail"] or log_tail(log_path(job, spec))
            data = note_frame({"type": "failed", "attempt": attempt, "report": report})
            gc.collect()  # the exception and its frames hold each other, and all the data that the attempt had
        else:
            result = {**outcome.to_json(), "seconds": time.monotonic() - begun}
            data = note_frame({"type": "done", "attempt": attempt, "printed": printed}, result)
        if len(data) > MAX_NOTE_BYTES:
            data = note_frame({"type": "failed", "attempt": attempt, "report": _too_long(spec, len(data)).to_json()})
        self._send_frame(data)

    def _report(self) -> None:
        """Say how far the task is and how much it has printed, and name its log. The thread ends with the process."""
        while True:
            time.sleep(REPORT_SECONDS)
            running = self._running
            if running is None:
                continue
            attempt, now = running
            printed = self._redirect.show(attempt)
            # What is left of the block in work tells a slow record function from one that hangs.
            left = length_hint(now.current) if now.current is not None else 0
            progress = [now.records_in, now.bytes_in, left]
            note = {"type": "progress", "attempt": attempt, "progress": progress, "printed": printed}
            try:
                self._send(note)
            except ChannelClosed:
                _end_everything()

    def _send(self, note: dict[str, Any]) -> None:
        self._send_frame(note_frame(note))

    def _send_frame(self, data: bytes) -> None:
        try:
            with self._sending:
                self._channel.sendall(data)
        except OSError as error:
            raise ChannelClosed("the agent is gone") from error


def _too_long(spec: TaskSpec, size_bytes: int) -> FailureReport:
    message = f"The answer has {format_size(size_bytes)}; it may have {format_size(MAX_NOTE_BYTES)}."
    advice = "Most likely the task counts under too many names, or writes too many files."
    return FailureReport("AnswerInvalid", f"{task_name(spec).capitalize()}: {message}", advice=advice)


def _end_everything() -> NoReturn:
    """End what user code has started, then this process."""
    for child in descendants(os.getpid()):
        kill(child)
    os._exit(EXIT_CHANNEL_LOST)


def serve_channel(channel: socket.socket) -> NoReturn:
    """Be an executor: make this process fit for it, then take orders from ``channel``."""
    become_subreaper()  # a daemon that user code starts stays below us, where it can be found
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for stream in (sys.stdout, sys.stderr):
        # A process that is killed must not take its last lines along.
        stream.reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    faulthandler.enable(file=2, all_threads=False)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, file=2, all_threads=True, chain=False)
    _use_one_core()
    collect_garbage_rarely()
    gc.freeze()
    channel.settimeout(None)
    if hasattr(os, "register_at_fork"):
        # A fork of the executor must neither speak for it nor keep the channel open when it is gone.
        os.register_at_fork(after_in_child=channel.close)
    _Executor(channel).serve()


def _use_one_core() -> None:
    """An executor is one core: Arrow must not start threads for the others."""
    import pyarrow

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)


def main() -> NoReturn:
    """Entry of a spawned executor: ``python -m gristmill.runtime.executor.executor CHANNEL LIMITS``."""
    if sys.platform == "win32":
        channel = socket.fromshare(sys.stdin.buffer.read())
    else:
        channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    preload()
    limit_this_process(Limits.from_text(sys.argv[2]), user_processes())
    serve_channel(channel)


if __name__ == "__main__":
    main()
