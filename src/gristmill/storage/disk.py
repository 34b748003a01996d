"""A full disk has a name, whoever meets it. Files where others may write are opened with care."""

from __future__ import annotations

import errno
import os
import stat
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

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_PLAIN = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


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


def open_plain(path: str | os.PathLike[str], flags: int = os.O_RDONLY | _NO_LINK) -> int:
    """Open a file in a place where others may write: not by a link, and never waiting for a pipe's other end.

    Raises:
        OSError: it is not there, or is no regular file.
    """
    descriptor = os.open(path, flags | _PLAIN)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no regular file", os.fspath(path))
    return descriptor


def read_plain(path: str | os.PathLike[str], most_bytes: int, *, links: bool = False) -> bytes:
    """All of such a file; by a link, if that is asked for.

    Raises:
        OSError: it is not there, is no regular file, or has more bytes.
    """
    with os.fdopen(open_plain(path, os.O_RDONLY if links else os.O_RDONLY | _NO_LINK), "rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"has more than {most_bytes:,} bytes", os.fspath(path))
    return data


def is_own_folder(path: str | os.PathLike[str]) -> bool:
    """Whether this is a folder, and no link to one, that the user of this process has made."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())


def sync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make a folder's names durable, where the system can."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # who may make files there need not be allowed to list them
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that does not know how: nothing more can be done
            raise
    finally:
        os.close(descriptor)
