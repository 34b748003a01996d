"""Files and folders that are their owner's alone, whatever the umask says."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from gristmill.errors import UsageError

_BESIDE = ("", "-wal", "-shm")


def make_folder(path: Path) -> None:
    """Make a folder that others cannot look into, unless there is one: then it is left as it is.

    Raises:
        OSError: it cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def claim_folder(path: Path) -> str:
    """Have a folder that others cannot look into; one that is there is closed to them.

    Returns:
        Why they may get at what is in it all the same, in a sentence; empty if all is well.

    Raises:
        UsageError: it cannot be made, or is everybody's.
    """
    try:
        make_folder(path)
        if path.stat().st_mode & stat.S_ISVTX:
            raise UsageError(
                f"The data directory {path} is everybody's. Name one of your own, such as {path / 'gristmill'}."
            )
        close_folder(path)
        status = path.stat()
    except OSError as error:
        raise UsageError(
            f"The data directory {path} cannot be made: {error.strerror or error}; name another."
        ) from error
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return f"The data directory {path} belongs to another user, who can replace what is in it."
    if _is_open(status):
        return f"The data directory {path} cannot be closed to other users: its file system does not do that."
    return ""


def close_folder(path: Path) -> None:
    """Close a folder to others, if that is ours to do and its file system knows of such things.

    Raises:
        OSError: it cannot be looked at.
    """
    status = path.stat()
    if _is_open(status) and _is_ours(status):
        with suppress(OSError):
            path.chmod(0o700)


def claim_database(path: Path) -> None:
    """Have a file for SQLite that others cannot read; what SQLite puts beside it gets the same mode.

    Raises:
        OSError: it cannot be made.
    """
    with suppress(FileExistsError):  # one that is there is not opened: closing it would undo SQLite's locks on it
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600))
    for suffix in _BESIDE:
        one = path.with_name(f"{path.name}{suffix}")
        with suppress(OSError):  # it is gone meanwhile; or another user's, who has let us write it
            if _is_open(one.stat()):
                one.chmod(0o600)


def _is_open(status: os.stat_result) -> bool:
    """Whether others may do anything with it."""
    return bool(stat.S_IMODE(status.st_mode) & 0o077)


def _is_ours(status: os.stat_result) -> bool:
    """Whether this process may close it to others. Where there are no such users, everything is ours."""
    user = os.geteuid() if hasattr(os, "geteuid") else status.st_uid
    return user in (0, status.st_uid)
