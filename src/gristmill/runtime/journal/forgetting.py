"""Old jobs leave the journal: by age, and by how large the file is. Only whole jobs that are over, in small steps.

Others write meanwhile: no step holds the file for long, and after each it is theirs for a moment.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Self

from gristmill.config import GIB
from gristmill.runtime.journal.journal_file import connect, failed, open_for_writing
from gristmill.runtime.journal.summaries import FINAL, PRUNED

DEFAULT_MAX_AGE_SECONDS = 30 * 86400.0
DEFAULT_MAX_BYTES = GIB

_ROWS = 200  # at a time
_PAGES = 128
_JOBS = 100
_YOUNG_SECONDS = 3600.0  # so long a job is known after its end, however large the file is: somebody may wait for it
_FACTS_OF_NO_JOB = 10_000  # rows, of workers that came and went
_STEP_SECONDS = 0.01
_REST = 2.0  # so long, for each second of work
_LEAST_REST_SECONDS = 0.001


@dataclass(frozen=True)
class KeepHistory:
    """What of ended jobs is kept.

    Attributes:
        max_age_seconds: since their end; None: any.
        max_bytes: of all that the journal holds; None: any. Jobs that are not over, or were not an hour ago, are kept,
            however large.
    """

    max_age_seconds: float | None = DEFAULT_MAX_AGE_SECONDS
    max_bytes: int | None = DEFAULT_MAX_BYTES


def forget_old_jobs(
    path: Path,
    keep: KeepHistory,
    now: float,
    *,
    spare: Callable[[str], bool] = lambda _job: False,
    goes_on: Callable[[], bool] = lambda: True,
    step_seconds: float = _STEP_SECONDS,
) -> Iterator[str]:
    """Remove old jobs, the oldest ends first. What was left half done is finished by the next call.

    Args:
        path: the journal.
        keep: what stays.
        now: seconds since the epoch.
        spare: jobs that must not go now.
        goes_on: asked after each step; if not, this ends.
        step_seconds: about how long a step takes.

    Yields:
        Each job, once it is gone.

    Raises:
        JournalFailed: the journal cannot be read or written.
    """
    if not path.exists():
        return
    try:
        open_for_writing(path).close()  # it may be of an earlier version
        with closing(connect(path)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")  # what is not removed for good is removed again
            old = _old_jobs(connection, keep, now, spare)
            job = next(old, None)
            while job is not None:
                gone: list[str] = []
                with _Step(connection) as step:
                    while job is not None and (not gone or not step.is_over(step_seconds)):
                        left = _remove_some(connection, job)
                        if left is not _Left.SOME:
                            gone += [job] if left is _Left.NOTHING else []
                            job = next(old, None)
                        elif step.is_over(step_seconds):
                            break
                yield from gone
                if not goes_on():
                    return
            for _ in _compacting(connection):
                if not goes_on():
                    return
    except (sqlite3.Error, OSError) as error:
        raise failed(path, error) from error


def _old_jobs(
    connection: sqlite3.Connection, keep: KeepHistory, now: float, spare: Callable[[str], bool]
) -> Iterator[str]:
    """Each is to be removed before the next is asked for."""
    yield from [job for (job,) in connection.execute("SELECT job FROM jobs WHERE state = ?", (PRUNED,))]
    last: tuple[float, str] = (-1.0, "")
    states = ", ".join("?" * len(FINAL))
    while True:
        rows = connection.execute(
            f"SELECT ended, job FROM jobs WHERE ended IS NOT NULL AND (ended, job) > (?, ?) AND state IN ({states}) "
            "ORDER BY ended, job LIMIT ?",
            (*last, *FINAL, _JOBS),
        ).fetchall()
        if not rows:
            return
        for ended, job in rows:
            last = ended, job
            too_old = keep.max_age_seconds is not None and ended < now - keep.max_age_seconds
            if not too_old and (
                keep.max_bytes is None or ended > now - _YOUNG_SECONDS or _used_bytes(connection) <= keep.max_bytes
            ):
                return
            if not spare(job):
                yield job


def _used_bytes(connection: sqlite3.Connection) -> int:
    pages, free, size = (_pragma(connection, name) for name in ("page_count", "freelist_count", "page_size"))
    return (pages - free) * size


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


class _Left(Enum):
    """What there is of a job."""

    ALL = "all"  # it was taken up just now
    SOME = "some"
    NOTHING = "nothing"


def _remove_some(connection: sqlite3.Connection, job: str) -> _Left:
    """Remove some of a job. Its row goes last: so it is found again if we end before that."""
    states = (*FINAL, PRUNED)
    changed = connection.execute(
        f"UPDATE jobs SET state = ? WHERE job = ? AND state IN ({', '.join('?' * len(states))})", (PRUNED, job, *states)
    )
    if not changed.rowcount:
        return _Left.ALL
    facts = connection.execute(
        "DELETE FROM facts WHERE number IN (SELECT number FROM facts WHERE job = ? LIMIT ?)", (job, _ROWS)
    )
    if facts.rowcount == _ROWS:
        return _Left.SOME
    connection.execute("DELETE FROM blobs WHERE job = ?", (job,))
    connection.execute("DELETE FROM jobs WHERE job = ?", (job,))
    return _Left.NOTHING


def _compacting(connection: sqlite3.Connection) -> Iterator[None]:
    """Give back to the system what nothing needs any more."""
    with _Step(connection):
        connection.execute(
            "DELETE FROM facts WHERE job = '' AND number <= "
            "(SELECT number FROM facts WHERE job = '' ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (_FACTS_OF_NO_JOB,),
        )
    free = _pragma(connection, "freelist_count")
    while free:
        yield
        began = time.monotonic()
        connection.executescript(f"PRAGMA incremental_vacuum({_PAGES})")  # execute() would stop after a page
        _rest(began)
        before, free = free, _pragma(connection, "freelist_count")
        if free >= before:
            return  # others fill it, or the file cannot shrink


class _Step:
    """One transaction, and a rest after it in which others write."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._began = 0.0

    def __enter__(self) -> Self:
        self._connection.execute("BEGIN IMMEDIATE")
        self._began = time.monotonic()
        return self

    def is_over(self, seconds: float) -> bool:
        """Whether it has taken so long."""
        return time.monotonic() - self._began >= seconds

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._connection.commit()
        else:
            self._connection.rollback()
        _rest(self._began)


def _rest(began: float) -> None:
    time.sleep(max(_LEAST_REST_SECONDS, _REST * (time.monotonic() - began)))
