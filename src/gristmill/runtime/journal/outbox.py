"""What others are to be told of jobs: noted with the facts that are the reason, in the same transaction.

So nothing is forgotten by a restart between the two, and nothing is told of what did not happen. What is told is
removed after that: if we end in between, it is told again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from gristmill.runtime.journal.facts import Fact
from gristmill.runtime.journal.journal_file import connect, failed

MOST = 10_000
"""So many are kept for a channel that cannot be reached: the oldest go."""


class Message(NamedTuple):
    """Something to be told.

    Attributes:
        number: grows.
        channel: by which way.
        kind: what it is about.
        job: which.
        at: seconds since the epoch.
    """

    number: int
    channel: str
    kind: str
    job: str
    at: float


Address = Callable[[Fact], Iterable[tuple[str, str]]]
"""Says of a fact by which channels it is told, and as what kind. Quick, and must not fail."""


def post(connection: sqlite3.Connection, facts: Iterable[Fact], address: Address) -> None:
    """Note what is to be told of facts that are being written."""
    rows = [
        (channel, kind, fact.job, getattr(fact, "at", 0.0))
        for fact in facts
        if fact.kind != "task done"  # they are many, and nobody is told of them
        for channel, kind in address(fact)
    ]
    if rows:
        connection.executemany("INSERT INTO outbox (channel, kind, job, at) VALUES (?, ?, ?, ?)", rows)
        connection.execute(
            "DELETE FROM outbox WHERE number <= (SELECT number FROM outbox ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (MOST,),
        )


def pending(path: Path, channel: str, limit: int = 100) -> list[Message]:
    """What is to be told by a channel, the oldest first.

    Raises:
        JournalFailed: the journal cannot be read.
    """
    try:
        with closing(connect(path)) as connection:
            rows = connection.execute(
                "SELECT number, channel, kind, job, at FROM outbox WHERE channel = ? ORDER BY number LIMIT ?",
                (channel, limit),
            )
            return [Message(*row) for row in rows]
    except (sqlite3.Error, OSError) as error:
        raise failed(path, error, "read") from error


def told(path: Path, number: int) -> None:
    """This one was told, or is given up.

    Raises:
        JournalFailed: the journal cannot be written.
    """
    try:
        with closing(connect(path)) as connection, connection:
            connection.execute("DELETE FROM outbox WHERE number = ?", (number,))
    except (sqlite3.Error, OSError) as error:
        raise failed(path, error) from error
