"""One folder a job: ``DATA_DIR/jobs/ID/``. Its blocks, logs, spills and facts are here and nowhere else.

The folder is removed when the job succeeded and kept when it did not. What is kept is pruned by later runs, by age and
by size; a folder whose process lives is never touched. Two signs tell that it lives: a lock on the file ``lock``, which
the system releases at death (and which works between containers, where process ids mean nothing), and the id and
start time of the process in ``job.json`` (for file systems and platforms without such locks).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gristmill.config import GIB
from gristmill.errors import UsageError
from gristmill.runtime.process.private import make_folder
from gristmill.shuffle.opening import open_file
from gristmill.shuffle.shelf import clear, sweep
from gristmill.shuffle.store import delete_job

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MAX_AGE_SECONDS = 7 * 86400.0
MAX_TOTAL_BYTES = 10 * GIB
_FACTS = "job.json"
LOGS = "logs"
_LOCK = "lock"
_WORKER_LOCK = "worker.lock"  # of the whole data directory, held by ``gristmill worker``
_SERVER_LOCK = "server.lock"  # of the server that lives on a data directory
_LOCK_TRIES, _LOCK_PAUSE_SECONDS = 5, 0.005
_MOST_FACTS_BYTES = 1 << 20
_SIZE = "size"
_claimed: deque[str] = deque(maxlen=10_000)  # the last ids that this process has used: none is used twice
_SETTLING_SECONDS = 60.0  # a folder without facts may be one that is just being made


def new_job_id(now: float) -> str:
    """An id such as ``20261120-132501-a3f9``: sorts by time (UTC), and two of the same second differ."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(2)}"


def claim_job(data_dir: Path, now: float) -> str:
    """The id of a job that is to have its folder later.

    Args:
        data_dir: where all jobs' folders are.
        now: seconds since the epoch.

    Raises:
        UsageError: the data directory cannot be written.
    """
    jobs = data_dir.absolute() / "jobs"
    try:
        make_folder(jobs.parent)
        make_folder(jobs)
        job = _claim_id(jobs, now)
        (jobs / job).rmdir()  # the id is not given away again: its time passes
    except OSError as error:
        raise _unwritable(data_dir, error) from error
    return job


class JobFolder:
    """The folder of a job of this process. Use :meth:`create`.

    Attributes:
        job: the job's id.
        path: the folder.
    """

    def __init__(self, job: str, path: Path, lock: int) -> None:
        self.job = job
        self.path = path
        self._lock = lock
        self._pid = os.getpid()
        self._facts: dict[str, Any] = {}

    @classmethod
    def create(cls, data_dir: Path, facts: Mapping[str, Any], now: float, job: str = "") -> JobFolder:
        """Make the folder of a new job.

        Args:
            data_dir: where all jobs' folders are.
            facts: what to write into ``job.json``: name, inputs, output, options; values that json takes.
            now: seconds since the epoch.
            job: its id, if it has one (:func:`claim_job`). A folder of that name is taken over.

        Raises:
            UsageError: the data directory cannot be written.
        """
        jobs = data_dir.absolute() / "jobs"
        try:
            make_folder(jobs.parent)
            make_folder(jobs)
            if job:
                (jobs / job).mkdir(mode=0o700, exist_ok=True)
            else:
                job = _claim_id(jobs, now)
            lock = _take_lock(jobs / job / _LOCK)
            folder = cls(job, jobs / job, -1 if lock is None else lock)  # the process id must do
            folder.update(job=job, created=now, state="running", **_this_process(), **facts)
        except OSError as error:
            raise _unwritable(data_dir, error) from error
        return folder

    @classmethod
    def adopt(cls, path: Path, facts: Mapping[str, Any] | None = None) -> JobFolder | None:
        """Take over the folder of a job whose process is gone; None if it lives, or there is no such folder.

        Args:
            path: the folder.
            facts: what to write into ``job.json`` if that is lost; without these the job counts as not there.

        Raises:
            OSError: the folder cannot be written.
        """
        found = _read_facts(path) or dict(facts or {})
        if not found or (lock := _seize(path)) is None:
            return None
        folder = cls(path.name, path, lock)
        folder._facts = found
        (path / _SIZE).unlink(missing_ok=True)  # it will not stay that size
        folder.update(state="running", error="", failure=None, **_this_process())
        return folder

    @property
    def facts(self) -> Mapping[str, Any]:
        """What ``job.json`` says."""
        return self._facts

    def update(self, **facts: Any) -> None:
        """Add facts to ``job.json``, or change them. Readers see the old or the new file, whole."""
        self._facts.update(facts)
        new = self.path / f"{_FACTS}.new"
        new.write_text(json.dumps(self._facts, indent=1, default=str), encoding="utf-8")
        new.replace(self.path / _FACTS)

    def release(self) -> None:
        """This process is done with the folder; later runs may prune it. May be called again."""
        _release(self._lock)
        self._lock = -1

    def remove_but_logs(self) -> None:
        """Delete the folder of a job that has succeeded, but for what its attempts printed, if they did.

        The last logs may come while this goes on: nothing is deleted together with what is in it, where one may be.
        """
        _delete_elsewhere(self.path)
        for entry in self.path.iterdir():
            if entry.name not in (_FACTS, _LOCK, LOGS):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)
        try:
            with suppress(FileNotFoundError):
                (self.path / LOGS).rmdir()
            for name in (_FACTS, _LOCK):
                (self.path / name).unlink(missing_ok=True)
            self.path.rmdir()
        except OSError:  # there are some
            self.update(state="succeeded", pid=None)  # nobody uses it: it may be pruned
        finally:
            self.release()

    def remove(self) -> None:
        """Delete the folder with all that it holds. May be called again; a fork of this process does not."""
        if os.getpid() != self._pid:
            return
        self.release()
        _delete(self.path)


def _unwritable(data_dir: Path, error: OSError) -> UsageError:
    return UsageError(
        f"The data directory {data_dir} cannot be written: {error.strerror or error}. "
        f"Name another with --data-dir or GRISTMILL_DATA_DIR."
    )


def is_settled(path: Path) -> bool:
    """Whether a job has succeeded, and nothing but its logs is kept in its folder."""
    facts = _read_facts(path)
    return facts.get("state") == "succeeded" and facts.get("pid") is None


def dead_jobs(data_dir: Path) -> list[tuple[Path, Mapping[str, Any]]]:
    """The folders of jobs whose processes are gone, the youngest first, and what their ``job.json`` says."""
    found = [(folder.path, _read_facts(folder.path)) for folder in _dead_folders(data_dir.absolute() / "jobs")]
    return sorted(((path, facts) for path, facts in found if facts), key=lambda item: item[0].name, reverse=True)


@dataclass(frozen=True)
class _Dead:
    """The folder of a dead job."""

    path: Path
    touched: float
    passes: bool  # nobody can use it any more: it was of a session, or of a job of one, that was killed


def tidy(data_dir: Path, now: float) -> tuple[str, ...]:
    """As :func:`prune`, by whoever begins a job here. A server that lives here sees to that by rules of its own."""
    return () if _is_locked(data_dir / _SERVER_LOCK) else prune(data_dir, now)


def prune(
    data_dir: Path, now: float, max_age_seconds: float = MAX_AGE_SECONDS, max_total_bytes: int = MAX_TOTAL_BYTES
) -> tuple[str, ...]:
    """Delete folders of dead jobs that are too old; then the oldest, until the rest is small enough.

    What a killed program has left of its session goes at once: nobody can take that up.
    What cannot be read or deleted is left for another time: housekeeping must not fail a job.

    Returns:
        The ids of the jobs whose folders were deleted.
    """
    kept = sorted(_dead_folders(data_dir / "jobs", now), key=lambda folder: (folder.touched, folder.path.name))
    sizes = {folder.path: _size_of(folder.path) for folder in kept}
    total = sum(sizes.values())
    pruned = []
    for folder in sorted(kept, key=lambda folder: not folder.passes):
        if not folder.passes and now - folder.touched <= max_age_seconds and total <= max_total_bytes:
            break  # what follows is younger still
        try:
            lock = _seize(folder.path)
        except OSError:
            continue
        if lock is None:
            continue  # somebody took the job up while we looked at the others
        staging = _read_facts(folder.path).get("staging")
        _delete(folder.path)
        _release(lock)
        if staging:  # nobody will take the job up now
            from gristmill.storage.outputs import remove_dead

            remove_dead(staging)
        total -= sizes[folder.path]
        pruned.append(folder.path.name)
    sweep(now)
    return tuple(pruned)


def _dead_folders(jobs: Path, now: float | None = None) -> Iterator[_Dead]:
    try:
        folders = [entry for entry in jobs.iterdir() if entry.is_dir() and not entry.is_symlink()]
    except OSError:
        return
    a_worker_lives = _is_locked(jobs.parent / _WORKER_LOCK)
    for path in folders:
        facts = _read_facts(path)
        touched = _modified(path / _FACTS if facts else path)
        if touched is None or (not facts and now is not None and now - touched < _SETTLING_SECONDS):
            continue
        if not facts and a_worker_lives:
            continue  # it keeps blocks of a server's job there
        if not _is_locked(path / _LOCK) and not _is_running(facts):
            yield _Dead(path, touched, bool(facts.get("passes")) and facts.get("state") == "running")


def _this_process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "pid_started": _start_time(os.getpid())}


def _claim_id(jobs: Path, now: float) -> str:
    for _ in range(100):
        job = new_job_id(now)
        if job in _claimed:
            continue  # of a job that is over already, and whose folder is gone
        with suppress(FileExistsError):
            (jobs / job).mkdir(mode=0o700)  # it holds data of its user
            _claimed.append(job)
            return job
    raise OSError(f"no free job id below {jobs}")


def _seize(path: Path) -> int | None:
    """Lock the folder of a job whose process is gone; None if it lives. What was seen before may have changed since.

    Raises:
        OSError: the folder cannot be written.
    """
    lock = _take_lock(path / _LOCK)
    if lock is not None and _is_running(_read_facts(path)):
        _release(lock)
        return None
    return lock


def _take_lock(path: Path) -> int | None:
    """Lock a file for as long as this process lives; its descriptor, or -1 where there are no locks.

    None if another process has it. One that only looks has it for a moment.
    """
    if fcntl is None:
        return -1
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_SECONDS)
        except OSError:  # a file system without locks: the process id must do
            return descriptor
        else:
            return descriptor
    os.close(descriptor)
    return None


def _release(lock: int) -> None:
    if lock >= 0:
        os.close(lock)


def _is_locked(path: Path) -> bool:
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _is_running(facts: Mapping[str, Any]) -> bool:
    pid, started = facts.get("pid"), facts.get("pid_started")
    if facts.get("host") != socket.gethostname() or not isinstance(pid, int):
        return False
    if facts.get("state") not in ("running", "succeeded"):  # the folder of a success holds a result still in use
        return False
    return started is not None and _start_time(pid) == started


def _start_time(pid: int) -> float | None:
    """When a process began, in whatever unit: only ever compared with itself. None if it does not live."""
    try:
        # After the name in parentheses, which may hold anything: fields 3 (state) and 22 of proc(5), counted from 1.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else float(fields[19])  # it is dead, and nobody has asked how it died
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except (OSError, ValueError, IndexError):
        return None
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        with open_file(path / _FACTS) as file:  # user code may have put something else there
            facts = json.loads(file.read(_MOST_FACTS_BYTES))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _size_of(path: Path) -> int:
    """The bytes of a dead job's folder. They do not change: they are counted once, then known."""
    with suppress(OSError, ValueError):
        with open_file(path / _SIZE) as file:
            return int(file.read(_MOST_FACTS_BYTES))
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += (Path(folder) / name).lstat().st_size
    with suppress(OSError):
        (path / _SIZE).write_text(str(total))
    return total


def _delete(path: Path) -> None:
    """A job's folder here, and what belongs to it elsewhere."""
    _delete_elsewhere(path)
    shutil.rmtree(path, ignore_errors=True)


def _delete_elsewhere(path: Path) -> None:
    """A job's blocks on shared storage, and in this machine's memory."""
    if shuffle_dir := _read_facts(path).get("shuffle_dir"):
        with suppress(OSError, ValueError):  # housekeeping must not fail a job; the URI may be one of no storage
            delete_job(str(shuffle_dir), path.name)
    clear(path)
