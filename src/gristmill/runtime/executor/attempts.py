"""One attempt in this process: its scratch folder, the task, and a report for every way in which it can fail."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from gristmill.errors import FailureReport, TaskError, UserCodeError
from gristmill.plan.functions import JobCode
from gristmill.runtime.contracts import JobSpec, Progress, TaskEnvironment, TaskResult, TaskSpec
from gristmill.runtime.process.private import make_folder
from gristmill.runtime.process.watch import memory_report, task_name

_TRACEBACK_CHARACTERS = 8000


def prepare_folder(job: JobSpec, folder: str = "") -> None:
    """Make what attempts of a job write into: in its folder, or in one that stands in for it."""
    path = Path(folder or job.folder)
    make_folder(path)
    for name in ("blocks", "logs", "scratch"):
        (path / name).mkdir(exist_ok=True)


def environment_of(job: JobSpec, spec: TaskSpec) -> TaskEnvironment:
    """Where an attempt may write. Its own folder is made by what first spills into it."""
    folder, name = spec.folder or job.folder, job.file_name(spec.attempt)
    return TaskEnvironment(job, name, f"{folder}/scratch/{name}", f"{folder}/blocks")


def remove_scratch(env: TaskEnvironment) -> None:
    """Remove an attempt's own folder, if there is one."""
    if os.access(env.scratch_folder, os.F_OK):  # os.path.exists() takes six times as long when there is none
        shutil.rmtree(env.scratch_folder, ignore_errors=True)


def load_code(job: JobSpec) -> JobCode:
    """The job's functions, unpickled in this process.

    Raises:
        UserCodeError: they cannot be.
    """
    try:
        code = pickle.loads(job.code)
    except Exception as error:  # unpickling imports the user's modules: anything may come out of it
        raise UserCodeError(_load_report(error)) from error
    if not isinstance(code, JobCode):
        raise TypeError(f"a job's code is {type(code).__name__}, not JobCode")
    code.introduce_classes()
    return code


class LoadedCode:
    """The code of one job, for attempts that follow each other in this process."""

    def __init__(self) -> None:
        self._kept: JobCode | None = None

    def load(self, job: JobSpec) -> JobCode:
        """The job's functions, of which no attempt before can have changed anything.

        Raises:
            UserCodeError: they cannot be unpickled.
        """
        from gristmill.compute.state import keeps_nothing

        if self._kept is not None:
            return self._kept
        code = load_code(job)
        if keeps_nothing(code):
            self._kept = code
        return code


def run_attempt(
    job: JobSpec, spec: TaskSpec, progress: Progress, load: Callable[[JobSpec], JobCode] = load_code
) -> TaskResult | FailureReport:
    """Run one attempt to its end. Its scratch folder, if it came to make one, is gone after.

    A KeyboardInterrupt passes through; every other failure becomes a report.

    Args:
        job: the attempt's job.
        spec: what to do.
        progress: kept up to date while the task runs.
        load: gives the job's functions.
    """
    from gristmill.runtime.executor import here
    from gristmill.runtime.executor.task import run_task

    env = environment_of(job, spec)
    try:
        here.enter(env)
        return run_task(load(job), spec, env, progress)
    except TaskError as error:
        if isinstance(error.__cause__, MemoryError):
            return _out_of_memory(job, spec, error.__cause__)
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EFBIG:
            return _file_too_large(error.__cause__, error.report)
        return error.report
    except MemoryError as error:
        return _out_of_memory(job, spec, error)
    except (Exception, SystemExit) as error:  # the last line before the process boundary
        return unforeseen_report(spec, error)
    finally:
        remove_scratch(env)


def _out_of_memory(job: JobSpec, spec: TaskSpec, error: MemoryError) -> FailureReport:
    from gristmill.compute.guard import is_users, user_frames

    frames = user_frames(error.__traceback__) if is_users(error) else ()
    return replace(memory_report(job, spec, _peak_bytes(), job.memory_bytes), frames=frames)


def _file_too_large(error: OSError, found: FailureReport | None = None) -> FailureReport:
    """``found`` is what is known of it as an exception of user code."""
    from gristmill.runtime.executor.disks import file_too_large

    report = file_too_large(str(error.filename or ""))
    if found is None:
        return report
    return replace(found, error=report.error, message=report.message, details=report.details, advice=report.advice)


def unforeseen_report(spec: TaskSpec, error: BaseException) -> FailureReport:
    """A report on an exception that the task did not translate: a user's if it came out of user code, else ours."""
    from gristmill.compute.guard import is_users, user_frames

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        path = str(error.filename or "the job's folder")
        return FailureReport("DiskFull", f"No space is left for {path}.", details={"path": path})
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return _file_too_large(error)
    text = "".join(traceback.format_exception(error))[-_TRACEBACK_CHARACTERS:]
    what = "".join(traceback.format_exception_only(error)).strip()
    if is_users(cast(Exception, error)):
        frames = user_frames(error.__traceback__)
        return FailureReport("UserCodeError", what, frames=frames, exception=type(error).__name__, log_tail=text)
    return FailureReport(
        "TaskError",
        f"The engine failed in {task_name(spec)}: {what}",
        exception=type(error).__name__,
        log_tail=text,
        advice="This is a bug in Gristmill; please report it with the traceback in the log.",
    )


def _load_report(error: Exception) -> FailureReport:
    from gristmill.compute.guard import user_frames

    return FailureReport(
        "UserCodeError",
        f"The job's code cannot be loaded in an executor: {type(error).__name__}: {error}",
        frames=user_frames(error.__traceback__),
        exception=type(error).__name__,
        log_tail="".join(traceback.format_exception(error))[-_TRACEBACK_CHARACTERS:],
        advice="Modules that the job imports must be installed, or lie beside its script.",
    )


def _peak_bytes() -> int:
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    from gristmill.runtime.process.processes import process_end

    return process_end(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss).peak_bytes
