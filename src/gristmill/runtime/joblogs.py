"""The logs of a server's jobs: what attempts printed, wherever they ran, kept below the job's folder on the server.

Workers send the end of each log with its attempt's answer. Files are written by a thread of its own: whoever hears
workers must not wait for a disk.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gristmill.config import MIB
from gristmill.runtime.jobfolder import LOGS

_log = logging.getLogger(__name__)

MAX_JOB_BYTES = 64 * MIB
_MAX_WAITING = 1000  # logs, of at most 64 KiB each
_CLOSE_SECONDS = 5.0
_LOOK_SECONDS = 0.005
_SHOWN_BYTES = 256 * 1024  # of one attempt's log, from its end
_ATTEMPT = re.compile(r".*-s\d+-t\d+.*")  # spools of executors have other names

Listener = Callable[[str, bytes], None]


class LogKeeper:
    """Writes logs. What does not fit is left out: the logs of a job's first attempts stay.

    Args:
        max_job_bytes: of all logs of a job together.

    Attributes:
        listener: hears of each log, by its attempt's name, in the thread that writes.
    """

    def __init__(self, max_job_bytes: int = MAX_JOB_BYTES) -> None:
        self.listener: Listener | None = None
        self._max_job_bytes = max_job_bytes
        self._waiting: queue.Queue[tuple[str, str, bytes] | None] = queue.Queue(_MAX_WAITING)
        self._used: dict[str, int] = {}  # bytes below each job's folder; the thread's own
        self._thread = threading.Thread(target=self._run, name="gristmill-logs", daemon=True)
        self._thread.start()

    def keep(self, folder: str, name: str, data: bytes) -> None:
        """Take the log of an attempt. Any thread may call; returns at once.

        Args:
            folder: of the job.
            name: the attempt, as its files are named.
            data: what it printed.
        """
        try:
            self._waiting.put_nowait((folder, name, data))
        except queue.Full:
            _log.warning("logs come faster than they can be written; that of %s is left out", name)

    def settle(self, seconds: float) -> None:
        """Wait until what was taken is written, for a bounded time."""
        give_up = time.monotonic() + seconds
        while self._waiting.unfinished_tasks and self._thread.is_alive() and time.monotonic() < give_up:
            time.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Write what was taken, and end. Bounded; may be called again."""
        self.settle(_CLOSE_SECONDS)
        if self._thread.is_alive():
            try:
                self._waiting.put_nowait(None)
            except queue.Full:
                return  # the disk hangs; the thread is a daemon
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            try:
                self._write(*item)
            except OSError as error:  # a full disk, say: a log must not fail a job
                _log.warning("the log of %s cannot be kept: %s", item[1], error)
            except Exception:  # the listener's: the logs that follow are still wanted
                _log.exception("the log of %s was not told", item[1])
            finally:
                self._waiting.task_done()
        self._waiting.task_done()

    def _write(self, folder: str, name: str, data: bytes) -> None:
        if self.listener is not None:
            self.listener(name, data)
        logs = Path(folder, LOGS)
        if folder not in self._used:
            logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._used[folder] = sum(path.stat().st_size for path in logs.iterdir())
            while len(self._used) > _MAX_WAITING:  # of jobs that are long over; else it is counted again
                del self._used[next(iter(self._used))]
        if self._used[folder] + len(data) > self._max_job_bytes:
            return
        try:
            (logs / f"{name}.log").write_bytes(data)
        except FileNotFoundError:  # the job is over, and had printed nothing until now
            logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            (logs / f"{name}.log").write_bytes(data)
        self._used[folder] += len(data)


def logs_below(folder: Path) -> Iterator[tuple[str, str]]:
    """The logs in a job's folder, by attempt."""
    for path in sorted((folder / LOGS).glob("*.log")):
        if _ATTEMPT.fullmatch(path.stem):
            yield path.stem, _tail(path)


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _SHOWN_BYTES))
            return file.read().decode(errors="backslashreplace")
    except OSError as error:
        return f"(cannot be read: {error.strerror})"
