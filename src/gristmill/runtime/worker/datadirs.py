"""The data directories of a worker: which one the next attempt writes to, and what is lost when one fails.

A directory is *healthy* until it fails; a *full* one is passed over until it has room again, and its blocks can be
read meanwhile; a *retired* one is never used again, and all blocks in it count as gone at once. What is in a retired
directory is known without reading it, for it may not be readable.

The time is passed in; only probes and the look for free space touch the disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gristmill.config import MIB
from gristmill.errors import UsageError
from gristmill.runtime.process.private import close_folder, make_folder
from gristmill.shuffle.shelf import clear

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MIN_FREE_BYTES = 16 * MIB  # a directory with less is full …
FULL_SECONDS = 10.0  # … and is looked at again so much later
ROOM_SECONDS = 0.1  # one that had room is looked at again so much later: attempts may be much shorter
PROBE_SECONDS = 1.0  # a directory that was tried is not tried again so soon: many blocks may be missed at once
_PROBE_BYTES = 4096
LOCK = "worker.lock"
"""The file in a data directory that whoever uses it holds a lock on."""
_FULL = {errno.ENOSPC} | ({errno.EDQUOT} if hasattr(errno, "EDQUOT") else set())


@dataclass
class _Directory:
    path: Path
    lock: int = -1
    retired: str = ""  # why; empty: it is in use
    full_until: float = 0.0  # not before then is it looked at again
    room_until: float = 0.0  # likewise; it had room
    tried_at: float | None = None  # when it was last found to be healthy
    blocks: dict[str, str] = field(default_factory=dict)  # path → job


class DataDirs:
    """A worker's data directories. Made by :meth:`open`. One thread at a time may change them; others may ask.

    Args:
        paths: absolute, without links.
        free_bytes: how much room a directory has.
    """

    def __init__(self, paths: Sequence[Path], free_bytes: Callable[[Path], int] | None = None) -> None:
        self._directories = [_Directory(path) for path in paths]
        self._changing = threading.Lock()  # of blocks: several threads make, free and list them
        self._free_bytes = free_bytes or _free_bytes
        self._next = 0

    @classmethod
    def open(cls, paths: Iterable[Path]) -> DataDirs:
        """Make the directories where they are missing, and lock them, so that no other worker uses them.

        Raises:
            UsageError: another worker uses one, one is named twice, or none can be written.
        """
        resolved = [path.absolute().resolve() for path in paths]
        if len(set(resolved)) < len(resolved):
            raise UsageError("A data directory is named twice.")
        dirs = cls(resolved)
        try:
            for directory in dirs._directories:
                if reason := _take(directory):
                    directory.retired = reason
        except UsageError:
            dirs.close()
            raise
        if not dirs.healthy:
            reasons = "; ".join(f"{directory.path}: {directory.retired}" for directory in dirs._directories)
            raise UsageError(f"No data directory can be written: {reasons}. Name another with --data-dir.")
        for directory in dirs._directories:
            if not directory.retired:
                directory.blocks = _found_blocks(directory.path)
        return dirs

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them, retired ones too."""
        return tuple(directory.path for directory in self._directories)

    @property
    def healthy(self) -> tuple[Path, ...]:
        """Those that are not retired."""
        return tuple(directory.path for directory in self._directories if not directory.retired)

    @property
    def retired(self) -> dict[Path, str]:
        """Those that are, and why."""
        return {directory.path: directory.retired for directory in self._directories if directory.retired}

    def choose(self, now: float) -> Path | None:
        """The directory for the next attempt: each in turn, full ones left out. None if all are retired.

        If all are full it is the one with the most room: the attempt may be small, and says so if it is not.
        """
        usable = [directory for directory in self._directories if not directory.retired]
        for step in range(len(usable)):
            directory = usable[(self._next + step) % len(usable)]
            if self._has_room(directory, now):
                self._next = (self._next + step + 1) % len(usable)
                return directory.path
        return max(usable, key=self._room).path if usable else None

    def mark_full(self, path: str | Path, now: float) -> None:
        """An attempt found no room where ``path`` lies: leave that directory alone for a while."""
        if directory := self._holding(path):
            directory.full_until = now + FULL_SECONDS

    def retire(self, path: str | Path, reason: str) -> tuple[str, ...]:
        """Never use the directory again in which ``path`` lies.

        Returns:
            The blocks that are gone with it; none if it was retired before, or is none of these directories.
        """
        directory = self._holding(path)
        if directory is None or directory.retired:
            return ()
        directory.retired = reason
        with self._changing:
            gone = tuple(directory.blocks)
            directory.blocks.clear()
        return gone

    def check(self, path: str | Path, now: float) -> tuple[str, ...]:
        """Try whether the directory in which ``path`` lies can be written and read, and retire it if not.

        Asked for when an attempt failed there, or when a block from there was missing or damaged.

        Returns:
            The blocks that are gone with it.
        """
        directory = self._holding(path)
        if directory is None or directory.retired:
            return ()
        if directory.tried_at is not None and now < directory.tried_at + PROBE_SECONDS:
            return ()
        try:
            _probe(directory.path)
            directory.tried_at = now
        except OSError as error:
            if error.errno in _FULL:
                directory.full_until = now + FULL_SECONDS
                return ()
            return self.retire(path, error.strerror or str(error))
        return ()

    def add_block(self, job: str, path: str) -> None:
        """A block was made."""
        if (directory := self._holding(path)) and not directory.retired:
            with self._changing:
                directory.blocks[path] = job

    def remove_block(self, path: str) -> None:
        """A block was deleted."""
        if directory := self._holding(path):
            with self._changing:
                directory.blocks.pop(path, None)

    def remove_job(self, job: str) -> None:
        """Delete all that is there of a job. What cannot be deleted stays."""
        for directory in self._directories:
            with self._changing:
                directory.blocks = {path: of for path, of in directory.blocks.items() if of != job}
            if not directory.retired:
                clear(directory.path / "jobs" / job)
                shutil.rmtree(directory.path / "jobs" / job, ignore_errors=True)

    def inventory(self) -> dict[str, tuple[str, ...]]:
        """The paths of the blocks of each job, in directories that are in use."""
        jobs: dict[str, list[str]] = {}
        for directory in self._directories:
            with self._changing:
                blocks = list(directory.blocks.items())
            for path, job in blocks:
                jobs.setdefault(job, []).append(path)
        return {job: tuple(sorted(paths)) for job, paths in sorted(jobs.items())}

    def jobs(self) -> tuple[str, ...]:
        """The jobs of which there is a folder, with blocks or without."""
        found: set[str] = set()
        for directory in self._directories:
            if not directory.retired:
                with contextlib.suppress(OSError):
                    found.update(entry.name for entry in (directory.path / "jobs").iterdir() if entry.is_dir())
        return tuple(sorted(found))

    def close(self) -> None:
        """Let others use the directories. May be called again."""
        for directory in self._directories:
            if directory.lock >= 0:
                os.close(directory.lock)
                directory.lock = -1

    def _holding(self, path: str | Path) -> _Directory | None:
        """The directory in which a path lies."""
        inner = Path(path)
        return next((one for one in self._directories if inner == one.path or one.path in inner.parents), None)

    def _has_room(self, directory: _Directory, now: float) -> bool:
        if now < directory.full_until:
            return False
        if now < directory.room_until:
            return True
        if self._room(directory) < MIN_FREE_BYTES:
            directory.full_until = now + FULL_SECONDS
            return False
        directory.room_until = now + ROOM_SECONDS
        return True

    def _room(self, directory: _Directory) -> int:
        try:
            return self._free_bytes(directory.path)
        except OSError:
            return 0


def _take(directory: _Directory) -> str:
    """Make a directory ready for use; why it cannot be used, or nothing.

    Raises:
        UsageError: another worker uses it.
    """
    try:
        make_folder(directory.path)
        close_folder(directory.path)  # an earlier version may have left it open
        make_folder(directory.path / "jobs")
        _probe(directory.path)
        if fcntl is None:
            return ""
        directory.lock = os.open(directory.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(directory.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"The data directory {directory.path} is used by another worker. Name another with --data-dir."
        ) from None
    except OSError as error:
        if directory.lock >= 0 or error.errno in _FULL:
            return ""  # a file system without locks; or one that may have room later
        return error.strerror or str(error)
    return ""


def _probe(folder: Path) -> None:
    """Write a small file, read it back, delete it.

    Raises:
        OSError: the directory cannot be used.
    """
    data = secrets.token_bytes(_PROBE_BYTES)
    path = folder / f"probe-{secrets.token_hex(8)}"
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else only the memory before the disk is tried
        if path.read_bytes() != data:
            raise OSError(errno.EIO, "what is written there is not what is read", str(path))
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _found_blocks(folder: Path) -> dict[str, str]:
    try:
        return {str(path): path.parent.parent.name for path in sorted(folder.glob("jobs/*/blocks/*.block"))}
    except OSError:
        return {}


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free
