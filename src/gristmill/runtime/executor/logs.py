"""The log of an attempt: what user code wrote to stdout and stderr, one file an attempt below the job's folder.

Most attempts write nothing, and making a file costs more than a small task. So an executor writes into a file of its
own, its **spool**, which becomes the log of the attempt that first wrote something: by the executor when the attempt
ends or has run for a while, by the agent when the executor died.
"""

from __future__ import annotations

import contextlib
import linecache
import os
import re
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from gristmill.errors import Frame
from gristmill.runtime.contracts import JobSpec, TaskSpec
from gristmill.scheduling.ids import AttemptId
from gristmill.shuffle.opening import open_file

_LOGS = "logs"
_TAIL_LINES = 20
_CRASH = "Fatal Python error: "
_FRAME = re.compile(r'^  File "(.+)", line (\d+) in (.+)$', re.MULTILINE)
_ENGINE = str(Path(__file__).resolve().parents[2])
_TAIL_BYTES = 8192
SENT_BYTES = 64 * 1024  # of a log at a time, from its end


def log_path(job: JobSpec, spec: TaskSpec) -> Path:
    """Where an attempt's log stands, if it wrote anything."""
    return Path(spec.folder or job.folder, _LOGS, f"{job.file_name(spec.attempt)}.log")


def log_to_send(folder: str, job: JobSpec, attempt: AttemptId, after: int = 0) -> tuple[bytes, int]:
    """The end of an attempt's log, for whoever does not see this machine's files; and where in the log that begins.

    Args:
        folder: of the job, on the disk where the attempt runs.
        job: the attempt's job.
        attempt: which one.
        after: so much is not needed any more.
    """
    path = f"{folder}/{_LOGS}/{job.file_name(attempt)}.log"
    if not os.access(path, os.F_OK):  # most have none, and to find that out by opening it takes ten times as long
        return b"", after
    try:
        with open_file(path) as file:
            start = max(after, file.seek(0, os.SEEK_END) - SENT_BYTES)
            file.seek(start)
            return file.read(SENT_BYTES), start
    except OSError:  # most likely there is none
        return b"", after


def log_tail(path: Path) -> str:
    """The last lines of a log; empty when there is none."""
    try:
        with open_file(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            return tail_of(file.read())
    except OSError:
        return ""


def tail_of(data: bytes) -> str:
    """The last lines of some output; if the interpreter crashed, the lines about that."""
    text = data[-_TAIL_BYTES:].decode(errors="backslashreplace")
    _, crash, rest = text.rpartition(_CRASH)
    if crash:
        return "\n".join((crash + rest).splitlines()[:_TAIL_LINES])
    return "\n".join(text.splitlines()[-_TAIL_LINES:])


def crash_frames(text: str) -> tuple[Frame, ...]:
    """The user's frames, outermost first, in what ``faulthandler`` wrote when the interpreter crashed."""
    paths = sysconfig.get_paths()
    folders = (_ENGINE, *(paths[name] for name in ("stdlib", "purelib", "platlib")))
    others = (*(folder + os.sep for folder in folders), "<frozen")
    if _CRASH not in text:
        return ()
    found = [(match[1], int(match[2]), match[3]) for match in _FRAME.finditer(text)]
    return tuple(
        Frame(file, line, function, linecache.getline(file, line).strip())
        for file, line, function in reversed(found)
        if not file.startswith(others)
    )


def spool_path(folder: str, pid: int) -> Path:
    """Where the executor with this process id writes before it is known to be an attempt's log."""
    return Path(folder, _LOGS, f"executor-{pid}.log")


def name_spool(pid: int, job: JobSpec, spec: TaskSpec) -> None:
    """Make what an executor has written the log of an attempt, if it has written anything."""
    spool = spool_path(spec.folder or job.folder, pid)
    with contextlib.suppress(OSError):  # there is none: the log has its name, or nobody could write it
        if spool.stat().st_size:
            spool.replace(log_path(job, spec))


def remove_spools(pid: int, folders: Iterable[str]) -> None:
    """Leave no spool of an executor that is gone, or will write there no more."""
    for folder in folders:
        with contextlib.suppress(OSError):
            spool_path(folder, pid).unlink()


class OutputRedirect:
    """Sends what this process writes to stdout and stderr, by whatever means, to the log of its attempt.

    The descriptors themselves are replaced: C extensions and child processes write there too.
    """

    def __init__(self) -> None:
        self._flush_c = _c_flush()
        self._lock = threading.Lock()  # the attempt's end against ``show``
        self._spools: dict[str, int] = {}  # folder of attempts → the spool below it
        self._running: tuple[JobSpec, TaskSpec] | None = None

    def open(self, job: JobSpec, spec: TaskSpec) -> None:
        """From now on, what is written belongs to this attempt.

        Where nothing can be written (a full disk, say), output is lost and the attempt goes on.
        """
        folder = spec.folder or job.folder
        try:
            _redirect(self._spools[folder])  # every time: user code may have closed or replaced stdout and stderr
        except (KeyError, OSError):  # there is none yet, or user code has closed it
            self._spools[folder] = _open_spool(folder)
            _redirect(self._spools[folder])
        self._running = job, spec

    def flush(self) -> None:
        """Write out what Python and C hold back."""
        for stream in (sys.stdout, sys.stderr):
            try:  # contextlib.suppress() takes longer than the rest of this
                stream.flush()
            except (OSError, ValueError, AttributeError):  # user code may have closed or replaced it
                pass
        self._flush_c()

    def show(self, attempt: AttemptId) -> int:
        """Let an attempt have a log of its name while it runs; how large that is. Any thread may ask for it."""
        if os.name == "nt":
            return 0  # a file that is open cannot be renamed there
        with self._lock:
            if self._running is None or self._running[1].attempt != attempt:
                return 0
            self._name(*self._running)
            try:
                return log_path(*self._running).stat().st_size
            except OSError:  # it has printed nothing
                return 0

    def finish(self) -> bool:
        """The attempt is over: complete its log, if it wrote anything. Returns whether it may have a log."""
        self.flush()
        with self._lock:
            printed = self._running is not None and self._name(*self._running)
            self._running = None
        return printed

    def _name(self, job: JobSpec, spec: TaskSpec) -> bool:
        """Let what there is have the attempt's name. Returns whether there is, or has been, anything."""
        folder = spec.folder or job.folder
        spool = self._spools.get(folder)
        if spool is None:  # it has its name
            return True
        try:
            if not os.lseek(spool, 0, os.SEEK_END):  # its size, in a fourth of fstat()'s time
                return False
            del self._spools[folder]
            os.close(spool)  # stdout and stderr are duplicates
            if os.name == "nt":
                _redirect(nothing := os.open(os.devnull, os.O_WRONLY))
                os.close(nothing)
            spool_path(folder, os.getpid()).replace(log_path(job, spec))
        except OSError:  # the agent may have named it
            pass
        return True

    def close(self) -> None:
        """Leave no spool behind."""
        for folder, spool in self._spools.items():
            with contextlib.suppress(OSError):
                os.close(spool)
                spool_path(folder, os.getpid()).unlink(missing_ok=True)
        self._spools.clear()


def _open_spool(folder: str) -> int:
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        return os.open(spool_path(folder, os.getpid()), flags, 0o644)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)  # which stays empty, and so never becomes a log


def _redirect(file: int) -> None:
    """Let stdout and stderr write there."""
    os.dup2(file, 1)
    os.dup2(file, 2)


def _c_flush() -> Callable[[], object]:
    """``fflush`` of everything: C extensions buffer on their own."""
    if os.name != "posix":
        return lambda: None
    import ctypes

    fflush = ctypes.CDLL(None).fflush
    return lambda: fflush(None)
