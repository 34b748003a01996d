"""The folders of the members on a node, each locked by the one that uses it.

Who is killed leaves its folder behind, and nobody comes back to it: the next member there deletes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from gristmill.runtime.process.private import make_folder
from gristmill.runtime.worker.datadirs import LOCK, DataDirs
from gristmill.shuffle.shelf import clear

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_ALONE = "lock"  # held while a folder is made, and while one is looked at
_ALONE_SECONDS = 5.0  # to wait for it: whoever has it needs milliseconds, or was stopped
_PAUSE_SECONDS = 0.01
_OURS = "gristmill-*"


def open_folder(folder: Path) -> DataDirs:
    """Make a member's folder, and lock it."""
    make_folder(folder.parent)
    with _alone(folder.parent):
        return DataDirs.open([folder])


def sweep(base: Path) -> list[Path]:
    """Delete the folders below ``base`` that nobody uses; what cannot be deleted is left to others. Says which."""
    swept: list[Path] = []
    for folder in sorted(base.glob(_OURS)):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            with _alone(base) as alone:
                if not alone or not _is_forgotten(folder, held):
                    continue
            for job in (folder / "jobs").glob("*"):
                clear(job)  # what it keeps in memory
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder)
    return swept


def _is_forgotten(folder: Path, held: contextlib.ExitStack) -> bool:
    """Whether nobody uses a folder. It is ours then, until the stack is closed."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True  # it was half deleted: whoever uses one has locked it
    held.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _alone(base: Path) -> Iterator[bool]:
    """Let no other member make or look at folders meanwhile; False if that cannot be had."""
    if fcntl is None:
        yield False
        return
    lock = os.open(base / _ALONE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _locked(lock)
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    deadline = time.monotonic() + _ALONE_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE_SECONDS)
        except OSError:
            return False  # a file system without locks
        else:
            return True
