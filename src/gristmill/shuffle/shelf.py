"""Kept blocks in memory: files of the system's shared memory, for as long as there is room for them.

A session's folder on disk has a twin in shared memory. A kept block is known by its path on disk, and lies either there
or under the same name in the twin: whoever reads it looks for it in both. So it can be moved from memory to disk while
its readers and the coordinator know it by one name. What was used last stays longest; a block that the job at hand has
used is left alone.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SHARED_MEMORY = Path("/dev/shm")
_LOCK = ".lock"
_OF = ".of"  # a file that says whose twin it is
_FORGOTTEN_SECONDS = 600.0
_DROPPED = ".mem.block"  # the end of the names of blocks that are deleted, not moved, when there is no room
_BLOCK = ".block"


def twin_of(folder: str | os.PathLike[str]) -> Path | None:
    """The twin of a session's folder; None where there is no shared memory."""
    if fcntl is None or not SHARED_MEMORY.is_dir():
        return None
    digest = sha256(os.path.abspath(folder).encode("utf-8", "surrogateescape")).hexdigest()[:24]  # noqa: PTH100
    return SHARED_MEMORY / f"gristmill-{os.getuid()}-{digest}"


def located(path: str) -> str:
    """Where a kept block is now: its path, or that of its file in memory."""
    if os.path.exists(path):  # noqa: PTH110 - the same call, faster
        return path
    twin = _in_twin(path)
    return str(twin) if twin is not None and twin.exists() else path


def touch(path: str) -> None:
    """A block is used."""
    with suppress(OSError):
        os.utime(path)


def discard(path: str) -> None:
    """Delete the file in memory of a block that is not on disk, if there is one."""
    twin = _in_twin(path)
    if twin is not None:
        with suppress(OSError):
            twin.unlink(missing_ok=True)


def clear(folder: str | os.PathLike[str]) -> None:
    """Delete the twin of a folder, if it has one."""
    twin = twin_of(folder)
    if twin is not None and twin.is_dir():
        shutil.rmtree(twin, ignore_errors=True)


def sweep(now: float) -> None:
    """Delete this user's twins whose folder somebody has deleted by hand, if nobody has used them for a while."""
    if fcntl is None or not SHARED_MEMORY.is_dir():
        return
    for twin in SHARED_MEMORY.glob(f"gristmill-{os.getuid()}-*"):
        with suppress(OSError, UnicodeError):
            if not _is_ours(twin) or Path((twin / _OF).read_text("utf-8", "surrogateescape")).exists():
                continue
            if now - max(entry.stat().st_mtime for entry in os.scandir(twin)) > _FORGOTTEN_SECONDS:
                shutil.rmtree(twin, ignore_errors=True)


@dataclass(frozen=True)
class Shelf:
    """The room of one session in this machine's memory.

    Attributes:
        folder: the session's, on disk.
        budget_bytes: what all that is kept in memory may take.
        begun: what was used after that time (seconds since the epoch) is left alone.
    """

    folder: Path
    budget_bytes: int
    begun: float

    def place_for(self, name: str, *, droppable: bool) -> Path:
        """Where to write a block that is to be kept: in memory, or on disk if there is no memory to speak of.

        Args:
            name: of the block's file.
            droppable: it is to be deleted, not moved to disk, when there is no room for it any more.
        """
        name = name.removesuffix(_BLOCK) + (_DROPPED if droppable else _BLOCK)
        twin = twin_of(self.folder)
        if twin is not None and self._has_memory():
            with suppress(OSError):
                twin.mkdir(mode=0o700, exist_ok=True)
                if _is_ours(twin):
                    if not (twin / _OF).exists():
                        (twin / _OF).write_text(os.path.abspath(self.folder), "utf-8", "surrogateescape")  # noqa: PTH100
                    return twin / name
        (self.folder / "blocks").mkdir(parents=True, exist_ok=True)
        return self.folder / "blocks" / name

    def settle(self, written: Path, instead: Path) -> str:
        """Make room for a block that was written, or put it elsewhere.

        Args:
            written: where it is, from :meth:`place_for`.
            instead: where it goes if it is droppable and there is no room: it is then not kept.

        Returns:
            The path under which it is known.
        """
        known = self.folder / "blocks" / written.name
        if written == known:
            return str(known)
        known.parent.mkdir(parents=True, exist_ok=True)
        with _locked(written.parent):
            if not self._make_room(written):
                known = instead if written.name.endswith(_DROPPED) else known
                _move(written, known)
        return str(known)

    def _has_memory(self) -> bool:
        try:
            return shutil.disk_usage(SHARED_MEMORY).free > self.budget_bytes // 4
        except OSError:
            return False

    def _make_room(self, written: Path) -> bool:
        held = []
        for entry in os.scandir(written.parent):
            if entry.name.endswith(_BLOCK):
                with suppress(OSError):  # its session has just forgotten it
                    status = entry.stat()
                    held.append((status.st_mtime, entry.name, status.st_size))
        total = sum(size for _, _, size in held)
        for used, name, size in sorted(held):
            if total <= self.budget_bytes:
                break
            if used >= self.begun or name == written.name:
                continue
            if name.endswith(_DROPPED):
                (written.parent / name).unlink(missing_ok=True)
            else:
                _move(written.parent / name, self.folder / "blocks" / name)
            total -= size
        return total <= self.budget_bytes


def _in_twin(path: str) -> Path | None:
    place = Path(path)
    twin = twin_of(place.parent.parent)
    return twin / place.name if twin is not None and _is_ours(twin) else None


def _is_ours(twin: Path) -> bool:
    """Whether this user made it: everybody may make folders and links in shared memory."""
    try:
        status = twin.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def _move(source: Path, target: Path) -> None:
    """Readers find it in one place or the other at any time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.tmp")
    shutil.copyfile(source, partial)
    partial.replace(target)
    source.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
