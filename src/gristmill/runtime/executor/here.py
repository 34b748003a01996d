"""The job whose task runs in this process now: for what user code may ask without having been told."""

from __future__ import annotations

from pathlib import Path

from gristmill.runtime.contracts import JobSpec, TaskEnvironment

_here: TaskEnvironment | None = None


def enter(env: TaskEnvironment) -> None:
    """From now on a task of this job runs here, until another one does."""
    global _here
    _here = env


def job_here() -> JobSpec | None:
    """The job; None where no task ever ran."""
    return None if _here is None else _here.job


def scratch_here() -> Path | None:
    """The attempt's own folder, which need not be there; None where no task ever ran."""
    return None if _here is None else _here.scratch
