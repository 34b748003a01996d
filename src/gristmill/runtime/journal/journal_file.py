"""The SQLite file of a journal: how it is opened, what tells it from others, and how it comes up to date."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gristmill.errors import JournalFailed
from gristmill.runtime.journal import summaries
from gristmill.runtime.journal.facts import from_row
from gristmill.runtime.process.private import claim_database, make_folder

_APPLICATION = 0x67726973  # "gris": says whose file it is
SCHEMA_VERSION = 3  # 1 had no rows of jobs, and no outbox; 2 had less in the rows
_BUSY_SECONDS = 5.0
_LATER = (
    summaries.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, kind TEXT NOT NULL, job TEXT NOT NULL,
    at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_by_channel ON outbox (channel, number);
"""
)
_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS facts (
    number INTEGER PRIMARY KEY, job TEXT NOT NULL, kind TEXT NOT NULL, version INTEGER NOT NULL, data TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS facts_of_job ON facts (job);
CREATE INDEX IF NOT EXISTS facts_of_kind ON facts (kind) WHERE kind != 'task done';
CREATE TABLE IF NOT EXISTS blobs (
    job TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (job, name)
) WITHOUT ROWID;
"""
    + _LATER
)
_SIGNED = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {SCHEMA_VERSION};"
_MOST_COMPACTED_BYTES = 1 << 30  # a file of an earlier version that is larger is left as it is


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level="DEFERRED")


def open_for_writing(path: Path) -> sqlite3.Connection:
    make_folder(path.parent)
    claim_database(path)  # facts hold what opens other jobs' data
    connection = connect(path)
    try:
        new = not check(connection, path)
        if new:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if new:
            connection.executescript(f"BEGIN; {_SCHEMA} {_SIGNED} COMMIT;")
        elif version_of(connection) < SCHEMA_VERSION:
            _bring_up_to_date(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """Give a journal of an earlier version the rows of its jobs, and let it shrink when jobs are removed."""
    version = version_of(connection)
    if version == 1 and path.stat().st_size < _MOST_COMPACTED_BYTES:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        if version_of(connection) == SCHEMA_VERSION:
            return  # another process was first
        for statement in (*(summaries.ADDED if version > 1 else ()), *filter(str.strip, _LATER.split(";"))):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        if version > 1:
            return
        kinds = ", ".join("?" * len(summaries.NOTED))
        rows = connection.execute(
            f"SELECT job, kind, version, data FROM facts WHERE kind != 'task done' AND kind IN ({kinds}) "
            "ORDER BY number",
            summaries.NOTED,
        )
        for row in rows:
            summaries.note(connection, from_row(*row))


def version_of(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def check(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is a journal; False if it is new, and empty.

    Raises:
        JournalFailed: it is something else, or a newer version's.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if version > SCHEMA_VERSION and application == _APPLICATION:
        raise JournalFailed(
            f"The journal {path} was written by a newer version of Gristmill. Use that one, or another --data-dir."
        )
    if application == _APPLICATION:
        return True
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
        raise JournalFailed(f"{path} is not a journal of Gristmill. Name another --data-dir.")
    return False


def failed(path: Path, error: Exception, verb: str = "written") -> JournalFailed:
    if isinstance(error, JournalFailed):
        return error
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return JournalFailed(f"The journal {path} is damaged: {error}. Move it away, or name another --data-dir.")
    advice = "Make room there, or name another --data-dir." if "full" in str(error) else "Name another --data-dir."
    return JournalFailed(f"The journal {path} cannot be {verb}: {error}. {advice}")
