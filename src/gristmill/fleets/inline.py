"""The inline fleet: one slot, which is the caller's own thread. For debuggers and tiny work."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from bdb import BdbQuit
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from gristmill.errors import FailureReport
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    Beat,
    FleetEvent,
    JobAdmitted,
    JobSpec,
    Post,
    Progress,
    SlotUp,
    TaskSpec,
    WorkerUp,
)
from gristmill.runtime.executor.attempts import prepare_folder, run_attempt
from gristmill.runtime.process.processes import children, descendants, kill
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.store import delete

WORKER = "inline"
SLOT = "inline-1"


class InlineFleet:
    """Runs each task within ``launch``. See :class:`~gristmill.runtime.contracts.Fleet`.

    There is no process to end here: time-outs and memory limits do not hold, and what ends the process ends the job.
    """

    def __init__(self) -> None:
        self._post: Post = _unheard
        self._jobs: dict[str, JobSpec] = {}

    def start(self, post: Post) -> None:
        """Offer the one slot."""
        self._post = post
        post(WorkerUp(WORKER))
        post(SlotUp(SLOT, WORKER))

    def add_job(self, job: JobSpec) -> None:
        """Make a job's code known before its first launch."""
        prepare_folder(job)
        self._jobs[job.job] = job
        self._post(JobAdmitted(job.job))

    def launch(self, slot: str, spec: TaskSpec) -> None:
        """Run an attempt, here and now. A KeyboardInterrupt passes through."""
        assert slot == SLOT, "there is one slot"
        progress = Progress()
        job = self._jobs[spec.attempt.job]
        begun = time.monotonic()
        with _user_output(), _import_paths(job), _no_child_left():
            outcome = run_attempt(job, spec, progress)
            if isinstance(outcome, FailureReport) and outcome.exception == BdbQuit.__name__:
                raise KeyboardInterrupt  # somebody has left the debugger
        self._post(Beat(WORKER, {}))  # nothing else could be said while the task ran
        if isinstance(outcome, FailureReport):
            self._post(AttemptFailed(spec.attempt, outcome, slot_leaves=False))
        else:
            self._post(AttemptDone(spec.attempt, replace(outcome, seconds=time.monotonic() - begun)))

    def cancel(self, attempt: AttemptId, recalled: bool = False) -> None:
        """Nothing: no attempt runs while anything else does."""

    def free(self, block: BlockInfo) -> None:
        """Delete a block that nothing will read again."""
        with contextlib.suppress(OSError):
            delete(block.path)

    def drop_job(self, job: str) -> None:
        """Forget a job's code."""
        self._jobs.pop(job, None)

    def keep_job(self, job: str) -> None:
        """Forget a job's code; its blocks stay."""
        self.drop_job(job)

    def drop_worker(self, worker: str) -> None:
        """Nothing: the one worker is the caller."""

    def drain_worker(self, worker: str) -> None:
        """Nothing: likewise."""

    def close(self) -> None:
        """There is nothing to end."""


def _unheard(_event: FleetEvent) -> None:
    """Stands in for whoever listens until ``start`` names one."""


@contextmanager
def _user_output() -> Iterator[None]:
    """What user code prints goes to stderr, for stdout is for data. On a terminal nothing is moved: pdb wants it so."""
    if sys.stdout.isatty():
        yield
    else:
        with contextlib.redirect_stdout(sys.stderr):
            yield


@contextmanager
def _no_child_left() -> Iterator[None]:
    """End what user code has started, if it is interrupted. What the caller had started before is the caller's."""
    before = set(children(os.getpid()))
    try:
        yield
    except BaseException:
        for child in children(os.getpid()):
            if child not in before:
                for pid in (child, *descendants(child)):
                    kill(pid)
        raise


@contextmanager
def _import_paths(job: JobSpec) -> Iterator[None]:
    """Let imports find the job's own modules first."""
    before = list(sys.path)
    sys.path[:] = [*job.import_paths, *(path for path in before if path not in job.import_paths)]
    try:
        yield
    finally:
        sys.path[:] = before
