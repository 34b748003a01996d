"""Run a job for a command: with progress on the screen, and Ctrl-C at any moment."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from gristmill.errors import JobCancelled

if TYPE_CHECKING:
    from gristmill.api.job import Job
    from gristmill.api.result import JobResult
    from gristmill.cli.display import ProgressDisplay
    from gristmill.config import JobOptions


def run_interruptibly(
    job: Job, inputs: Sequence[str], output: str | None, options: JobOptions, display: ProgressDisplay
) -> JobResult:
    """Run a job and wait for it; SIGINT and SIGTERM cancel it, and nothing that it started or wrote stays behind.

    Raises:
        JobCancelled: its exit code is that of an interrupted program only if this one was.
        GristmillError: as ``run_job`` does.
    """

    def heard() -> None:
        display.first = "Interrupted: the job ends as soon as it has begun. Interrupt again to end at once."

    with Interrupts(heard) as interrupts, display:
        from gristmill.api.job import start_job

        handle = start_job(job, inputs, output, options, display)
        with handle:
            if notice := getattr(handle, "notice", ""):
                click.echo(notice, err=True)  # bars begin later, and what goes to stderr appears above them
            if interrupts.release():
                handle.cancel()
            try:
                return handle.wait()
            except JobCancelled as error:
                if not interrupts.came:
                    error.exit_code = 1  # somebody else did it, on a server
                raise


class Interrupts:
    """Holds the first SIGINT or SIGTERM back until :meth:`release`; after that they raise KeyboardInterrupt.

    Starting a job makes folders and processes, and an interruption between making one and noting it would leave it
    behind. Starting is short; whoever is in a greater hurry interrupts again.

    Args:
        heard: called when one is held back.

    Attributes:
        came: whether there was one.
    """

    def __init__(self, heard: Callable[[], None] | None = None) -> None:
        self.came = False
        self._heard = heard
        self._held = True
        self._pending = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in (signal.SIG_IGN, None):
                continue  # as under nohup: whoever started us wants it ignored; or it is not Python's to handle
            try:
                self._before[number] = signal.signal(number, self._on_signal)
            except ValueError:  # not the main thread: signals are somebody else's
                break
        return self

    def release(self) -> bool:
        """From now on interrupts are raised at once. Returns whether one came before."""
        self._held = False
        return self._pending

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True
        if self._held and not self._pending:
            self._pending = True
            if self._heard is not None:
                self._heard()
            return
        raise KeyboardInterrupt
