"""A full disk has a name, whoever meets it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gristmill.errors import DiskFull, FailureReport

_REASONS = {
    errno.ENOSPC: "No space is left on the device",
    errno.EFBIG: "The limit on the size of a file is reached",
}
if hasattr(errno, "EDQUOT"):  # not on Windows
    _REASONS[errno.EDQUOT] = "The disk quota is used up"


@contextmanager
def translate_os_error(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the errors of a full disk into :class:`DiskFull`, which names ``path``; let all others pass.

    Raises:
        DiskFull: no space, a used-up quota, or a file at its size limit.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        reason = _REASONS[error.errno or 0]
        raise DiskFull(
            FailureReport(
                error="DiskFull",
                message=f"{reason}, while writing {os.fspath(path)}.",
                source=os.fspath(path),
                advice="Make room there, or name another place with --output or --data-dir.",
            )
        ) from error


def is_disk_full(error: OSError) -> bool:
    """Whether an error says that no space is left, a quota is used up, or a file is at its size limit."""
    return error.errno in _REASONS


def sync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make a folder's names durable, where the system can."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # who may make files there need not be allowed to list them
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that does not know how: nothing more can be done
            raise
    finally:
        os.close(descriptor)
