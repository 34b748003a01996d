"""The logs of a server's jobs: what attempts printed, wherever they ran, kept below the job's folder on the server.

Workers send what attempts print while they run, and the rest with the answer. It is kept in **pieces**: files that
begin at some offset of the attempt's output. ``ATTEMPT.log`` begins at 0, ``ATTEMPT.log+700`` at 700. Pieces are only
appended to, so readers need no lock and may follow by offset. What is missing between two of them was left out.

Files are written by a thread of its own: whoever hears workers must not wait for a disk.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gristmill.config import KIB, MIB
from gristmill.runtime.files.jobfolder import LOGS
from gristmill.shuffle.opening import open_file

_log = logging.getLogger(__name__)

MAX_JOB_BYTES = 64 * MIB
MAX_ATTEMPT_BYTES = MIB
_PIECE_SHARE = 8  # of what is kept of an attempt, so much is a piece at most
_MAX_WAITING = 1000  # parts of logs, of at most 64 KiB each
_MAX_KNOWN = 10_000  # attempts of which we remember what is kept
_CLOSE_SECONDS = 5.0
_LOOK_SECONDS = 0.005
_SHOWN_BYTES = 256 * KIB  # of one attempt's log, from its end
_READ_BYTES = 256 * KIB
_APPEND_TRIES = 10  # each removal of a folder costs two at most
_PIECE = re.compile(r"(.+-s\d+-t\d+[^+]*)\.log(?:\+(\d+))?")  # spools of executors have other names

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

Listener = Callable[[str, bytes], None]


class Piece(NamedTuple):
    """A part of an attempt's output that is kept: from ``start``, counted in what it printed."""

    start: int
    size: int
    path: Path

    @property
    def end(self) -> int:
        """Where what comes after it begins."""
        return self.start + self.size


@dataclass(frozen=True)
class LogInfo:
    """The log of an attempt.

    Attributes:
        attempt: as its files are named.
        end: how much it has printed, as far as is known here.
        kept_bytes: how much of that is kept.
    """

    attempt: str
    end: int
    kept_bytes: int


@dataclass
class _Kept:
    """What is kept of an attempt: its pieces' starts and sizes, in order."""

    pieces: list[list[int]] = field(default_factory=list)
    total: int = 0

    @property
    def end(self) -> int:
        return sum(self.pieces[-1]) if self.pieces else 0

    def dispensable(self, most: int) -> int | None:
        """Which piece to delete, if there is too much: the first after the first half; None if there is none."""
        if self.total <= most:
            return None
        half = 0
        for place, (_, size) in enumerate(self.pieces[:-1]):
            half += size
            if half > most // 2:
                return place
        return None


class LogKeeper:
    """Writes logs. What does not fit is left out: of a job the logs of its first attempts stay, of an attempt the first
    half and the last.

    Args:
        max_job_bytes: of all logs of a job together.
        max_attempt_bytes: of one attempt.

    Attributes:
        listener: hears of each part of a log, by its attempt's name, in the thread that writes.
    """

    def __init__(self, max_job_bytes: int = MAX_JOB_BYTES, max_attempt_bytes: int = MAX_ATTEMPT_BYTES) -> None:
        self.listener: Listener | None = None
        self._max_job_bytes, self._max_attempt_bytes = max_job_bytes, max_attempt_bytes
        self._waiting: queue.Queue[tuple[str, str, int, bytes, bool] | None] = queue.Queue(_MAX_WAITING)
        self._used: dict[str, int] = {}  # bytes below each job's folder; the thread's own, as is what follows
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()  # of attempts that run and have printed
        self._thread = threading.Thread(target=self._run, name="gristmill-logs", daemon=True)
        self._thread.start()

    def keep(self, folder: str, name: str, data: bytes, start: int = 0, *, last: bool = True) -> None:
        """Take a part of the log of an attempt. Any thread may call; returns at once.

        Args:
            folder: of the job.
            name: the attempt, as its files are named.
            data: what it printed.
            start: where that begins in all that it printed. What was kept before is passed over.
            last: nothing follows.
        """
        try:
            self._waiting.put_nowait((folder, name, start, data, last))
        except queue.Full:
            _log.warning("logs come faster than they can be written; some of that of %s is left out", name)

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

    # The thread's own.

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            try:
                self._take(*item)
            except OSError as error:  # a full disk, say: a log must not fail a job
                _log.warning("the log of %s cannot be kept: %s", item[1], error)
            except Exception:  # the listener's: the logs that follow are still wanted
                _log.exception("the log of %s was not told", item[1])
            finally:
                self._waiting.task_done()
        self._waiting.task_done()

    def _take(self, folder: str, name: str, start: int, data: bytes, last: bool) -> None:
        try:
            self._put(folder, name, start, data, last)
        finally:
            if self.listener is not None:
                self.listener(name, data)

    def _put(self, folder: str, name: str, start: int, data: bytes, last: bool) -> None:
        logs = Path(folder, LOGS)
        if folder not in self._used:
            self._used[folder] = _used_below(logs)
            while len(self._used) > _MAX_WAITING:  # of jobs that are long over; else it is counted again
                del self._used[next(iter(self._used))]
        key = folder, name
        kept = self._kept.pop(key, None) or _kept_of(logs, name, fresh=last and start == 0)
        if start < kept.end:
            data, start = data[kept.end - start :], kept.end
        if data and self._used[folder] + len(data) <= self._max_job_bytes:
            self._write(folder, logs, name, kept, start, data)
        if not last:
            self._kept[key] = kept
            if len(self._kept) > _MAX_KNOWN:
                self._kept.popitem(last=False)

    def _write(self, folder: str, logs: Path, name: str, kept: _Kept, start: int, data: bytes) -> None:
        most = max(1, self._max_attempt_bytes // _PIECE_SHARE)
        while data:
            if not kept.pieces or kept.end != start or kept.pieces[-1][1] >= most:
                kept.pieces.append([start, 0])
            piece = kept.pieces[-1]
            now, data = data[: most - piece[1]], data[most - piece[1] :]
            if not _append(logs / _piece_name(name, piece[0]), now, piece[1]):
                kept.pieces, kept.total, data = [], 0, now + data  # they were pruned: what comes now is kept
                continue
            piece[1] += len(now)
            start += len(now)
            kept.total += len(now)
            self._used[folder] += len(now)
            while (place := kept.dispensable(self._max_attempt_bytes)) is not None:
                gone, size = kept.pieces.pop(place)
                (logs / _piece_name(name, gone)).unlink(missing_ok=True)
                kept.total -= size
                self._used[folder] -= size


def _append(path: Path, data: bytes, before: int) -> bool:
    """Write at the end of a file of ``before`` bytes; False if there is none any more.

    Its folder is made for it, as often as somebody removes that, being empty. The end of a job does
    (:meth:`JobFolder.remove_but_logs`): once the folder of logs, and once that of the job.
    """
    for left in reversed(range(_APPEND_TRIES)):
        try:
            descriptor = os.open(path, _APPEND, 0o600)
            break
        except FileNotFoundError:
            if not left:
                raise
        with suppress(FileNotFoundError):  # the first is gone again
            for folder in (path.parent.parent, path.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(descriptor, "wb") as file:
        if before and not os.fstat(descriptor).st_size:
            return False
        file.write(data)
    return True


def _used_below(logs: Path) -> int:
    """How many bytes the logs of a job have. Any of them may be gone when it is looked at, and their folder, too."""
    return sum(piece.size for pieces in _all_pieces(logs).values() for piece in pieces)


def _kept_of(logs: Path, name: str, *, fresh: bool) -> _Kept:
    """What is kept of an attempt already. Of one whose whole log comes at once, nothing."""
    kept = _Kept()
    if not fresh or (logs / f"{name}.log").exists():
        kept.pieces = [[piece.start, piece.size] for piece in _pieces(logs, name)]
        kept.total = sum(size for _, size in kept.pieces)
    return kept


def _piece_name(attempt: str, start: int) -> str:
    return f"{attempt}.log+{start}" if start else f"{attempt}.log"


def _pieces(logs: Path, attempt: str) -> list[Piece]:
    return _all_pieces(logs, attempt).get(attempt, [])


def _all_pieces(logs: Path, only: str = "") -> dict[str, list[Piece]]:
    """The pieces of each attempt, in order."""
    found: dict[str, list[Piece]] = {}
    try:
        with os.scandir(logs) as entries:
            for entry in entries:
                if entry.name.startswith(only) and (match := _PIECE.fullmatch(entry.name)):
                    try:
                        size = entry.stat(follow_symlinks=False).st_size
                    except OSError:  # it was deleted meanwhile
                        continue
                    found.setdefault(match[1], []).append(Piece(int(match[2] or 0), size, Path(entry.path)))
    except OSError:  # there are no logs
        return {}
    return {name: sorted(found[name]) for name in sorted(found)}


def list_logs(folder: Path) -> list[LogInfo]:
    """The logs in a job's folder, by attempt."""
    return [
        LogInfo(name, pieces[-1].end, sum(piece.size for piece in pieces))
        for name, pieces in _all_pieces(folder / LOGS).items()
    ]


def read_log(folder: Path, attempt: str, after: int = 0, limit: int = _READ_BYTES) -> tuple[bytes, int]:
    """A part of an attempt's log, and where the next one begins: to be called again with that.

    Where something was left out, a line says how many bytes. At the end, what comes back is empty, and the offset the
    same; if the attempt still runs, there may be more later.

    Args:
        folder: of the job.
        attempt: as its files are named. One that has no log has an empty one.
        after: offset in what the attempt printed.
        limit: how many bytes to read; a line about those left out comes on top.
    """
    if not _PIECE.fullmatch(f"{attempt}.log") or "/" in attempt or os.sep in attempt:
        return b"", after
    found, at = bytearray(), after
    for piece in _pieces(folder / LOGS, attempt):
        if piece.end <= at or limit <= 0:
            continue
        if piece.start > at:
            found += _left_out(piece.start - at, first=at == 0)
            at = piece.start
        data = _read(piece, at, limit)
        found += data
        at, limit = at + len(data), limit - len(data)
    return bytes(found), at


def _left_out(count: int, *, first: bool) -> bytes:
    return b"[the first %d bytes are left out]\n" % count if first else b"\n[%d bytes are left out]\n" % count


def _read(piece: Piece, at: int, limit: int) -> bytes:
    try:
        with open_file(piece.path) as file:  # a job may reach this folder, if a worker of this machine runs it
            file.seek(at - piece.start)
            return file.read(min(limit, piece.end - at))
    except OSError:  # deleted meanwhile, or cannot be read
        return b""


def logs_below(folder: Path) -> Iterator[tuple[str, str]]:
    """The end of each log in a job's folder, by attempt."""
    for info in list_logs(folder):
        if info.end <= _SHOWN_BYTES or info.kept_bytes <= _SHOWN_BYTES:
            data = read_log(folder, info.attempt, 0, _SHOWN_BYTES)[0]
        else:
            data = read_log(folder, info.attempt, info.end - _SHOWN_BYTES, _SHOWN_BYTES)[0]
        yield info.attempt, data.decode(errors="backslashreplace")
