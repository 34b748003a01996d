"""The log of an attempt: what user code wrote to stdout and stderr, one file an attempt below the job's folder."""

from __future__ import annotations

import contextlib
import linecache
import os
import re
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from gristmill.errors import Frame
from gristmill.runtime.contracts import JobSpec, TaskSpec

_TAIL_LINES = 20
_CRASH = "Fatal Python error: "
_FRAME = re.compile(r'^  File "(.+)", line (\d+) in (.+)$', re.MULTILINE)
_ENGINE = str(Path(__file__).resolve().parents[1])
_TAIL_BYTES = 8192


def log_path(job: JobSpec, spec: TaskSpec) -> Path:
    """Where an attempt's log stands, if it wrote anything."""
    return Path(spec.folder or job.folder, "logs", f"{job.file_name(spec.attempt)}.log")


def log_tail(path: Path) -> str:
    """The last lines of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
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


class OutputRedirect:
    """Sends what this process writes to stdout and stderr, by whatever means, to the log of its attempt.

    The descriptors themselves are replaced: C extensions and child processes write there too.
    """

    def __init__(self) -> None:
        self._flush_c = _c_flush()

    def open(self, path: Path) -> None:
        """From now on, write to ``path``. Without it (a full disk, say) output is lost and the attempt goes on."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            log = os.open(path, flags, 0o644)
        except OSError:
            log = os.open(os.devnull, os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if log > 2:
            os.close(log)

    def flush(self) -> None:
        """Write out what Python and C hold back."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # user code may have closed or replaced it
                stream.flush()
        self._flush_c()

    def finish(self, path: Path) -> None:
        """The attempt is over: complete its log, or remove it if nothing was written."""
        self.flush()
        with contextlib.suppress(OSError):
            if os.fstat(2).st_size == 0:
                path.unlink()


def _c_flush() -> Callable[[], object]:
    """``fflush`` of everything: C extensions buffer on their own."""
    if os.name != "posix":
        return lambda: None
    import ctypes

    fflush = ctypes.CDLL(None).fflush
    return lambda: fflush(None)
