"""What an error of a disk means for an attempt: whose disk it is decides whether another place can do better."""

from __future__ import annotations

import errno
from pathlib import Path

from gristmill.config import format_size
from gristmill.errors import DataDirFailed, DiskFull, FailureReport, FileTooLarge, TaskError, UsageError
from gristmill.runtime.contracts import TaskEnvironment, TaskSpec
from gristmill.runtime.process.limits import file_limit
from gristmill.shuffle import store

_NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def mark_shared(shuffle_dir: str, job: str) -> None:
    """Make a job's folder on shared storage.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        store.mark(shuffle_dir, job)
    except (OSError, ValueError) as error:  # a URI of a kind that does not exist is a ValueError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"The storage for the shuffle, {shuffle_dir}, cannot be written: {reason}.") from error


def is_full(error: OSError) -> bool:
    """Whether no space is left."""
    return error.errno in _NO_SPACE


def is_own(path: str, env: TaskEnvironment) -> bool:
    """Whether a file is one that this very attempt has written for itself."""
    return bool(path) and _lies_in(path, env.scratch)


def failure_of(error: OSError, spec: TaskSpec, env: TaskEnvironment) -> TaskError | None:
    """The failure that an OSError is; None if it is none of a disk that is ours.

    On a worker a data directory that fails is one of several, and other workers have theirs: the attempt is made again
    elsewhere. A disk that is the same wherever the attempt runs (the only one of a local run, the output's, shared
    storage for blocks) ends the job when it is full.
    """
    if error.errno == errno.EFBIG:
        return FileTooLarge(file_too_large(str(error.filename or "")))
    path = str(error.filename or (env.scratch if is_full(error) else ""))
    reason = error.strerror or str(error)
    if spec.folder and path and _lies_in(path, Path(spec.folder)):
        if is_full(error):
            return data_dir_failed(path, f"No space is left for {path}: {reason}.", spec, full=True)
        return data_dir_failed(path, f"{path} cannot be written or read: {reason}.", spec)
    if is_full(error):
        return DiskFull(
            FailureReport(
                error="DiskFull",
                message=f"No space is left for {path}: {reason}.",
                details={"path": path},
                advice="Free some space there, or name another disk with --data-dir (spills) or --output (the result).",
            )
        )
    shared = env.job.shuffle_dir and store.job_folder(env.job.shuffle_dir, env.job.job)
    if shared and path.startswith(shared):
        return data_dir_failed(path, f"The shared storage fails: {path}: {reason}.", spec)
    return None


def file_too_large(path: str = "") -> FailureReport:
    """A file has become larger than it may: than this machine's administrator allows, or the disk can hold."""
    limit = file_limit()
    what = f"A file grew beyond the limit{f' of {format_size(limit)}' if limit is not None else ' of its file system'}"
    return FailureReport(
        "FileTooLarge",
        f"{what}: {path}." if path else f"{what}.",
        details={"path": path, "limit_bytes": limit or 0},
        advice="Write less into a file (more --reducers, a smaller --split-size), or allow more by --max-file-size.",
    )


def data_dir_failed(path: str, why: str, spec: TaskSpec, *, full: bool = False) -> DataDirFailed:
    """An attempt's own files cannot be written, or are not what was written. Another directory may do."""
    details: dict[str, int | float | str] = {"path": path, "folder": spec.folder, "full": int(full)}
    return DataDirFailed(FailureReport(error="DataDirFailed", message=why, details=details))


def _lies_in(path: str, folder: Path) -> bool:
    return folder == Path(path) or folder in Path(path).parents
