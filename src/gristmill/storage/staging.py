"""Staging folders: hidden, beside the output, each locked by the process that it belongs to.

A staging folder whose process is gone is litter; or an exchange of old and new output that was cut short in its
middle; or what a job that can be taken up again has done. :func:`recover_output` sees to the first two and leaves the
third alone: it is needed for as long as the job's own folder is there, and the output has not been put in place. The
lock is the system's (``flock``): it ends with the process however that ends, and is mistaken neither by a later process
with the same number nor by a clock that is set.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gristmill.storage import append, manifest
from gristmill.storage.append import APPEND
from gristmill.storage.disk import is_own_folder, open_plain, read_plain, sync_file, sync_folder
from gristmill.storage.failpoints import failpoint

try:
    import fcntl
except ImportError:  # Windows: only the process number tells whether an owner lives
    fcntl = None  # type: ignore[assignment]

FINAL = "final"  # the new output, as it will be
READY = "ready"  # the same, whole, about to change places with the old output; afterwards it is the old one
OLD = "old"  # the old output, once it was moved away by the first of two steps
SWAP = "swap.json"  # says that the two steps have begun; without it FINAL is not known to be whole
ATTEMPTS = "attempts"  # where attempts write
_OWNER = "owner.json"
_NEW = ".new"
_REMOVE_TRIES = 5
_MAX_OWNER_BYTES = 1 << 20
_IN_PLACE = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class Staging:
    """The staging folder of a living job."""

    def __init__(self, path: Path, lock: int | None) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def make(cls, output: Path, job: str, needed_by: Path | None = None, made_parents: Sequence[Path] = ()) -> Staging:
        """Make a job's staging folder beside its output, with ``attempts/`` in it.

        Args:
            output: the output.
            job: the job's id.
            needed_by: while this path exists, the job may be taken up again by another process.
            made_parents: folders that were made for the output, innermost first.

        Raises:
            OSError: it cannot be made there.
        """
        path = staging_path(output, job)
        # It gets its name when its owner is in it, and locked; until then the owner is in its name.
        unfinished = path.with_name(f"{path.name}.{os.getpid()}{_NEW}")
        unfinished.mkdir()
        lock = None
        try:
            (unfinished / ATTEMPTS).mkdir()
            owner = {
                "output": output.name,
                "job": job,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "needed_by": "" if needed_by is None else str(needed_by),
                "made_parents": [str(folder) for folder in made_parents],
            }
            (unfinished / _OWNER).write_text(json.dumps(owner) + "\n", "utf-8")
            lock = _lock(unfinished)
            failpoint("prepare.staging-unnamed")
            unfinished.rename(path)
        except OSError:
            _unlock(lock)
            with suppress(OSError):
                remove_tree(unfinished)
            raise
        return cls(path, lock)

    @classmethod
    def take_over(cls, path: Path) -> Staging:
        """Become the owner of the staging folder of a process that is gone.

        Raises:
            OSError: it is not there, its owner lives, or another user has made it.
        """
        if os.path.lexists(path) and not is_own_folder(path):
            raise PermissionError(errno.EPERM, "another user has made it", str(path))
        lock = _lock(path)
        try:
            owner = {**(_read_owner(path) or {}), "host": socket.gethostname(), "pid": os.getpid()}
            # In place: the lock is on this file.
            with os.fdopen(open_plain(path / _OWNER, _IN_PLACE), "r+", encoding="utf-8") as file:
                file.write(json.dumps(owner) + "\n")
                file.truncate()
            (path / ATTEMPTS).mkdir(exist_ok=True)
            for begun in (SWAP, APPEND):  # neither had begun, or it would have been completed
                (path / begun).unlink(missing_ok=True)
        except OSError:
            _unlock(lock)
            raise
        return cls(path, lock)

    @property
    def made_parents(self) -> list[Path]:
        """The folders that were made for the output, innermost first."""
        return [Path(folder) for folder in (_read_owner(self.path) or {}).get("made_parents", ())]

    def release(self) -> None:
        """Own it no more. May be called again."""
        _unlock(self._lock)
        self._lock = None

    def remove(self) -> None:
        """Remove it and all within. May be called again.

        Raises:
            OSError: something cannot be removed.
        """
        try:
            _remove_staging(self.path)
        finally:  # whatever is left, another run may remove
            self.release()


def recover_output(output: Path, *, clear: bool = False) -> None:
    """Put right what runs that died have left beside ``output``.

    An exchange of old and new output that was cut short is completed if the old one was moved away already, and
    forgotten if not. Files that were being added to the output are added, if that can still be done. Staging folders of
    processes that are gone are removed, but for those of jobs that can be taken up again; all others are left alone.

    Args:
        output: the output.
        clear: remove those of jobs that can be taken up again as well: there is a newer output.

    Raises:
        OSError: what was cut short cannot be completed.
    """
    for path in _stagings(output):
        with _seized(path) as seized:
            if seized:
                if (path / SWAP).exists():
                    _complete_swap(path, output)
                if (path / APPEND).exists():
                    _complete_append(path, output)
                if clear or not _is_needed(path, output):
                    with suppress(OSError):  # of another user, say: it is in nobody's way
                        _remove_staging(path)


def is_published(output: Path, job: str) -> bool:
    """Whether the output is there, and this job's files are in it."""
    try:
        found = manifest.load(output)
    except OSError:
        return False
    return found is not None and found.holds(job)


def state_of(output: Path) -> str:
    """Tells what is in an output's place from what was there, or will be; empty when nothing is, or can be seen.

    No number of the file system is in it: those may change when it is mounted anew.
    """
    try:
        changed_ns = output.lstat().st_mtime_ns
    except OSError:
        return ""
    try:
        found = manifest.load(output)
    except OSError:
        found = None
    job = "" if found is None else found.content.get("job_id", "")
    return f"changed at {changed_ns} {job}".rstrip()


def remove_dead(path: Path) -> None:
    """Remove a staging folder, unless its owner lives. What cannot be removed stays."""
    with suppress(OSError), _seized(path) as seized:
        if seized:
            _remove_staging(path)


def remove_ownerless(path: Path) -> None:
    """Remove what came into a staging folder when it had just been removed. What cannot be removed stays."""
    if is_own_folder(path) and not os.path.lexists(path / _OWNER):
        with suppress(OSError):
            remove_tree(path)


def staging_path(output: Path, job: str) -> Path:
    """Where a job's staging folder is."""
    return output.with_name(_prefix(output) + job)


def _is_needed(staging: Path, output: Path) -> bool:
    """Whether the job of a staging folder may still be taken up again."""
    owner = _read_owner(staging) or {}
    needed_by = owner.get("needed_by")
    if not needed_by or is_published(output, str(owner.get("job"))):
        return False
    return owner.get("host") != socket.gethostname() or os.path.lexists(needed_by)


def write_durably(path: Path, content: Any) -> None:
    """Write a JSON file that is there after a power failure."""
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    sync_file(path)
    sync_folder(path.parent)


def remove_tree(path: Path, folder: int | None = None) -> None:
    """Remove a folder, a file or a link, if it is there.

    Args:
        path: what to remove.
        folder: the open folder that ``path`` is a name in; None: none.

    Raises:
        OSError: it cannot be removed.
    """
    for attempt in range(_REMOVE_TRIES):
        try:
            if stat.S_ISDIR(os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode):
                shutil.rmtree(path, dir_fd=folder)
            else:
                os.unlink(path, dir_fd=folder)
            return
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not _is_there(path, folder):
                return
            # Somebody else removes it too, or a process that is being ended wrote into it one last time.
            if attempt == _REMOVE_TRIES - 1:
                raise
            time.sleep(0.02)


def _is_there(path: Path, folder: int | None) -> bool:
    try:
        os.stat(path, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _complete_swap(staging: Path, output: Path) -> None:
    old_moved = os.path.lexists(staging / OLD)
    if old_moved and not os.path.lexists(output) and is_own_folder(staging / FINAL):
        (staging / FINAL).rename(output)
        sync_folder(output.parent)


def _complete_append(staging: Path, output: Path) -> None:
    final = staging / FINAL
    try:
        append.complete(staging, final, output)
        (staging / APPEND).unlink()
    except FileNotFoundError:  # the output was removed or replaced meanwhile, and with it some of the files
        append.undo(staging, final, output)


def _remove_staging(path: Path) -> None:
    """Remove a staging folder, its owner last: a removal that is cut short can be taken up by the next run.

    Whoever may write beside the output could put a link in its place, at any moment: none is followed.
    """
    if not is_own_folder(path):
        return
    if os.scandir not in os.supports_fd or not shutil.rmtree.avoids_symlink_attacks:  # Windows
        for entry in path.iterdir():
            if entry.name != _OWNER:
                remove_tree(entry)
    else:
        folder = os.open(path, _FOLDER)
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if entry.name != _OWNER]
            for name in names:
                remove_tree(Path(name), folder)
        finally:
            os.close(folder)
    remove_tree(path)


def _prefix(output: Path) -> str:
    return f".{output.name}.gristmill-"


def _stagings(output: Path) -> Iterator[Path]:
    """All staging folders of an output that this process's user has made: others may make what looks like them."""
    prefix = _prefix(output)
    try:
        names = sorted(entry.name for entry in output.parent.iterdir() if entry.name.startswith(prefix))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for name in names:
        # The output "a" and another one "a.gristmill-b" share a prefix; a job's id has no such part.
        path = output.with_name(name)
        if ".gristmill-" not in name.removeprefix(prefix) and is_own_folder(path):
            yield path


@contextmanager
def _seized(path: Path) -> Iterator[bool]:
    """Whether a staging folder is ours, its owner is gone, and nobody else is about to remove it."""
    owner = _read_owner(path)
    if not is_own_folder(path):  # whoever has made it says in it what he likes
        yield False
    elif owner is None:
        yield _is_gone(_pid_in_name(path.name)) if path.name.endswith(_NEW) else _is_empty(path)
    elif fcntl is None:
        yield _is_gone(owner.get("pid"))
    else:
        try:
            lock = _lock(path)
        except OSError:  # it lives; or locks do not work here, and nothing is known
            yield False
        else:
            try:
                yield True
            finally:
                _unlock(lock)


def _lock(staging: Path) -> int | None:
    """Lock a staging folder for this process.

    Raises:
        OSError: another process has it.
    """
    if fcntl is None:
        return None
    descriptor = open_plain(staging / _OWNER, _IN_PLACE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _read_owner(staging: Path) -> dict[str, Any] | None:
    try:
        # One line. Behind it may be the end of a longer one, if whoever took the folder over was killed just then.
        text = read_plain(staging / _OWNER, _MAX_OWNER_BYTES).decode()
        owner = json.loads(text.partition("\n")[0])
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _pid_in_name(name: str) -> int | None:
    pid = name.removesuffix(_NEW).rpartition(".")[2]
    return int(pid) if pid.isdecimal() else None


def _is_gone(pid: object) -> bool:
    import psutil

    return isinstance(pid, int) and not psutil.pid_exists(pid)


def _is_empty(path: Path) -> bool:
    """Whether nothing is left of a staging folder but itself; one in use is never empty."""
    return is_own_folder(path) and not any(path.iterdir())
