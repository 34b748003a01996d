"""The jobs that a journal knows, a row each: kept beside the facts, in the same transactions, and made of nothing else.

Lists, look-ups by key and the next start of a server read these rows, and need not fold all facts for that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import PurePath
from typing import Any

from gristmill.errors import GristmillError, JobCancelled, JobFailed, plain
from gristmill.runtime.journal.facts import (
    Fact,
    JobAccepted,
    JobBegun,
    JobEnded,
    JobLate,
    JobRequested,
    JobTakenUp,
)
from gristmill.scheduling.commands import JobState as JobState  # for whoever reads summaries, too

_ERROR_LETTERS = 2000
_MOST = (1 << 63) - 1  # that SQLite takes
FINAL = tuple(state.value for state in JobState if state.is_final)
_GOING = tuple(state.value for state in JobState if not state.is_final)
PRUNED = "pruned"
"""Stands in the place of a job's state while the job is being removed."""

_LOADS = "code of "

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    job TEXT PRIMARY KEY, name TEXT NOT NULL, user TEXT NOT NULL, state TEXT NOT NULL, submitted REAL NOT NULL,
    begun REAL, ended REAL, output TEXT, format TEXT NOT NULL DEFAULT '', session TEXT NOT NULL DEFAULT '',
    driver INTEGER NOT NULL DEFAULT 0, priority INTEGER NOT NULL DEFAULT 0, deadline_seconds REAL,
    late INTEGER NOT NULL DEFAULT 0, key TEXT NOT NULL DEFAULT '', request TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '', records_in INTEGER NOT NULL DEFAULT 0, bytes_in INTEGER NOT NULL DEFAULT 0,
    since REAL NOT NULL DEFAULT 0, seconds REAL, hidden INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_by_time ON jobs (submitted, job);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, submitted, job);
CREATE INDEX IF NOT EXISTS jobs_by_user ON jobs (user, submitted, job);
CREATE INDEX IF NOT EXISTS jobs_by_key ON jobs (key) WHERE key != '';
CREATE INDEX IF NOT EXISTS jobs_by_end ON jobs (ended) WHERE ended IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_hidden ON jobs (state, hidden) WHERE hidden;
"""
ADDED = (
    "ALTER TABLE jobs ADD COLUMN since REAL NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN seconds REAL",
    "ALTER TABLE jobs ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0",
    f"UPDATE jobs SET since = submitted, hidden = driver AND substr(name, 1, {len(_LOADS)}) = '{_LOADS}'",
)
"""What brings the rows of version 2 up to date."""


@dataclass(frozen=True, slots=True)
class JobSummary:
    """One job, as the journal knows it. Times are seconds since the epoch.

    Attributes:
        state: as the journal has it: at most some milliseconds late.
        begun: when its turn came last; None: it waits.
        ended: None: it has not.
        output: where its result appears; None: nowhere of its own.
        format: what that holds.
        session: that it belongs to; empty: none.
        driver: it is a program that submits jobs itself.
        late: it has outlived its deadline.
        key: the idempotency key of its submission; empty when there was none.
        request: tells the request that came with the key from others.
        error: why it failed, in short; empty if it did not.
        records_in: at its end.
        bytes_in: likewise.
        since: its deadline counts from here: its submission, or when it was tried again last.
        seconds: how long it ran, by its last view; None: it is not over, or that was not noted.
    """

    job: str
    name: str
    user: str
    state: JobState
    submitted: float
    begun: float | None
    ended: float | None
    output: str | None
    format: str
    session: str
    driver: bool
    priority: int
    deadline_seconds: float | None
    late: bool
    key: str
    request: str
    error: str
    records_in: int
    bytes_in: int
    since: float
    seconds: float | None

    @property
    def deadline(self) -> float | None:
        """When it is late, in seconds since the epoch."""
        return None if self.deadline_seconds is None else self.since + self.deadline_seconds

    @classmethod
    def from_row(cls, row: Iterable[Any]) -> JobSummary:
        """A row of the table."""
        values = dict(zip(_COLUMNS, row, strict=True))
        state, driver, late = JobState(values.pop("state")), bool(values.pop("driver")), bool(values.pop("late"))
        return cls(state=state, driver=driver, late=late, **values)


_COLUMNS = tuple(one.name for one in fields(JobSummary))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM jobs"


def loader_name(job: str) -> str:
    """The name of a job that loads the code of another one."""
    return _LOADS + job


def is_loader(name: str, driver: bool) -> bool:
    """Whether a job only loads the code of another one, so that nobody wants to see it in a list, or counted."""
    return driver and name.startswith(_LOADS)


# Writing


def note(connection: sqlite3.Connection, facts: Iterable[Fact]) -> None:
    """Take in facts that are being written, in their order."""
    for fact in facts:
        if (taken := _NOTED.get(fact.kind)) is not None:
            statement, values = taken(fact)
            connection.execute(statement, [plain(value) if isinstance(value, str) else value for value in values])


_Statement = tuple[str, tuple[Any, ...]]


def _requested(fact: JobRequested) -> _Statement:
    return (
        "INSERT OR REPLACE INTO jobs (job, name, user, state, submitted, output, priority, deadline_seconds, key, "
        "request, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            fact.job,
            fact.name,
            fact.user,
            JobState.QUEUED.value,
            fact.at,
            fact.output,
            fact.priority,
            fact.deadline_seconds,
            fact.key,
            fact.digest,
            fact.at,
        ),
    )


def _accepted(fact: JobAccepted) -> _Statement:
    prepared = fact.prepared
    spec: Mapping[str, Any] = prepared.get("spec", {})
    state = JobState.QUEUED if fact.queued else JobState.RUNNING
    return (
        "INSERT INTO jobs (job, name, user, state, submitted, begun, output, format, session, driver, priority, "
        "deadline_seconds, key, request, since, hidden) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (job) DO UPDATE SET name = excluded.name, state = excluded.state, "
        "begun = coalesce(begun, excluded.begun), output = excluded.output, format = excluded.format, "
        "session = excluded.session, driver = excluded.driver, priority = excluded.priority",  # it was requested
        (
            fact.job,
            fact.name,
            fact.user,
            state.value,
            fact.at,
            None if fact.queued else fact.at,
            prepared.get("output_path"),
            _format(prepared),
            spec.get("session", ""),
            bool(spec.get("driver", False)),
            prepared.get("priority", 0),
            fact.deadline_seconds,
            fact.key,
            fact.request,
            fact.at,
            is_loader(fact.name, spec.get("driver", False)),
        ),
    )


def _format(prepared: Mapping[str, Any]) -> str:
    """What the job's output holds."""
    try:
        return str(prepared["plan"][-1]["sink"][1].get("format", ""))
    except (KeyError, IndexError, TypeError, AttributeError):
        return ""


def _begun(fact: JobBegun) -> _Statement:
    return "UPDATE jobs SET state = ?, begun = ? WHERE job = ?", (JobState.RUNNING.value, fact.at, fact.job)


def _taken_up(fact: JobTakenUp) -> _Statement:
    set_ = "ended = NULL, seconds = NULL, error = '', records_in = 0, bytes_in = 0"
    if fact.queued:
        return (
            f"UPDATE jobs SET state = ?, begun = NULL, since = ?, late = 0, {set_} WHERE job = ?",
            (JobState.QUEUED.value, fact.at, fact.job),
        )
    return (
        f"UPDATE jobs SET state = ?, begun = coalesce(begun, ?), {set_} WHERE job = ?",
        (JobState.RUNNING.value, fact.at, fact.job),
    )


def _late(fact: JobLate) -> _Statement:
    return "UPDATE jobs SET late = 1 WHERE job = ?", (fact.job,)


def _why(error: GristmillError, job: str) -> str:
    """What a list says of a failure: what happened, and in which line of the user's. The job's own id is beside it."""
    if not isinstance(error, JobFailed) or error.report is None:
        return str(error).removeprefix(f"Job {job} failed").lstrip(":. \n")
    frames = error.report.frames
    return error.report.what + (f" ({PurePath(frames[-1].file).name}:{frames[-1].line})" if frames else "")


def _ended(fact: JobEnded) -> _Statement:
    view, error = fact.outcome.view, fact.outcome.error
    words = "" if error is None or isinstance(error, JobCancelled) else _why(error, fact.job)[:_ERROR_LETTERS]
    figures = min(view.records_in, _MOST), min(view.bytes_in, _MOST)  # forged ones may add up to more
    change = "state = ?, ended = ?, seconds = ?, error = ?, records_in = ?, bytes_in = ?"
    if fact.refused:
        change += ", key = ''"
    return (
        f"UPDATE jobs SET {change} WHERE job = ?",
        (view.state.value, fact.at, view.seconds, words, *figures, fact.job),
    )


_NOTED: dict[str, Callable[[Any], _Statement]] = {
    JobRequested.kind: _requested,
    JobAccepted.kind: _accepted,
    JobBegun.kind: _begun,
    JobTakenUp.kind: _taken_up,
    JobLate.kind: _late,
    JobEnded.kind: _ended,
}
NOTED = tuple(_NOTED)
"""The kinds of facts that change a row."""


# Reading


def page(
    connection: sqlite3.Connection,
    *,
    states: Iterable[JobState] = (),
    user: str | None = None,
    name: str | None = None,
    since: float | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[JobSummary]:
    """See ``Journal.page_of_jobs``."""
    where, values = ["state != ?"], [PRUNED]
    bound: list[Any] = list(values)
    if wanted := [state.value for state in states]:
        where.append(f"state IN ({', '.join('?' * len(wanted))})")
        bound += wanted
    if user is not None:
        where.append("user = ?")
        bound.append(user)
    if name is not None:
        where.append("instr(lower(name), lower(?)) > 0")
        bound.append(name)
    if since is not None:
        where.append("submitted >= ?")
        bound.append(since)
    if before is not None:
        row = connection.execute("SELECT submitted FROM jobs WHERE job = ?", (before,)).fetchone()
        if row is None:  # it was pruned, so what came before it was as well
            return []
        where.append("(submitted, job) < (?, ?)")
        bound += [row[0], before]
    rows = connection.execute(
        f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY submitted DESC, job DESC LIMIT ?", (*bound, limit)
    )
    return list(map(JobSummary.from_row, rows))


def one(connection: sqlite3.Connection, job: str) -> JobSummary | None:
    """See ``Journal.summary``."""
    row = connection.execute(f"{_SELECT} WHERE job = ? AND state != ?", (job, PRUNED)).fetchone()
    return None if row is None else JobSummary.from_row(row)


def of_key(connection: sqlite3.Connection, key: str) -> JobSummary | None:
    """See ``Journal.job_of_key``."""
    row = connection.execute(
        f"{_SELECT} WHERE key = ? AND key != '' AND state != ? ORDER BY submitted DESC LIMIT 1", (key, PRUNED)
    ).fetchone()
    return None if row is None else JobSummary.from_row(row)


def unfinished(connection: sqlite3.Connection) -> list[JobSummary]:
    """See ``Journal.unfinished``."""
    rows = connection.execute(
        f"{_SELECT} WHERE state IN ({', '.join('?' * len(_GOING))}) ORDER BY submitted, job", _GOING
    )
    return list(map(JobSummary.from_row, rows))


def counts(connection: sqlite3.Connection) -> dict[JobState, int]:
    """See ``Journal.counts``."""
    found = dict.fromkeys(JobState, 0)
    for sign, which in ((1, ""), (-1, "AND hidden")):  # each by an index of its own
        rows = connection.execute(
            f"SELECT state, count(*) FROM jobs WHERE state != ? {which} GROUP BY state", (PRUNED,)
        )
        for state, count in rows:
            found[JobState(state)] += sign * count
    return found
