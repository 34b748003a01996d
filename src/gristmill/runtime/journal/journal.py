"""The journal: facts in a SQLite file, durable before anything that is answered rests on them.

Whoever adds a fact does not wait. A thread of the journal writes what has come in groups, each a transaction of its own
and one ``fsync``, at most 10 ms after the first of them. :meth:`Journal.durable` waits for a fact to be on the disk.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from gristmill.errors import JournalFailed
from gristmill.runtime.journal import outbox, summaries
from gristmill.runtime.journal.facts import ROW_FACTS, Fact, JobEnded, JobTakenUp, from_row, to_rows
from gristmill.runtime.journal.journal_file import SCHEMA_VERSION, check, connect, failed, open_for_writing, version_of
from gristmill.runtime.journal.summaries import JobSummary
from gristmill.scheduling.commands import JobState

JOURNAL = "journal.db"
"""The file's name, in a job's folder or a server's data directory."""

_log = logging.getLogger(__name__)
_GROUP_SECONDS = 0.008
_RETRY_SECONDS = 0.2
_CLOSE_SECONDS = 10.0
_DURABLE_SECONDS = 30.0
_WAIT_SECONDS = 1.0
_PLACE_BITS = 8  # of a fact's number: its place in its row
_PLACES = ROW_FACTS - 1
_Blobs = Mapping[str, bytes]


class Journal:
    """One file of facts. Any thread may call.

    Args:
        path: the file; made with the first fact.
        essential: whether jobs must not go on without it. A server's are promised to survive it; for a job of this
            process it is there for a later run, and the job goes on if the journal cannot.
        patience_seconds: how long a write that fails is tried again.

    Attributes:
        address: says what others are to be told of facts, see ``runtime.outbox``; to be set before the first fact.
    """

    def __init__(self, path: Path, *, essential: bool = True, patience_seconds: float = 5.0) -> None:
        self.path = path
        self.essential = essential
        self._patience_seconds = patience_seconds
        self._changed = threading.Condition()
        self._queue: list[tuple[Fact, _Blobs]] = []
        self._added = self._written = 0  # facts, counted from when the journal was opened
        self._urgent = self._closing = False
        self._failure: JournalFailed | None = None
        self._on_failure: Callable[[JournalFailed], None] | None = None
        self._thread: threading.Thread | None = None
        self._followers: list[Callable[[Sequence[Fact]], None]] = []
        self.address: outbox.Address | None = None

    # Writing

    def add(self, fact: Fact, blobs: _Blobs | None = None) -> int:
        """Note a fact; returns at once. It will be durable soon, after all that were added before it.

        Args:
            fact: what happened.
            blobs: large bytes that belong to the job, by name, kept beside it.

        Returns:
            The fact's number, for :meth:`durable`.
        """
        with self._changed:
            self._added += 1
            if self._failure is None and not self._closing:
                self._queue.append((fact, blobs or {}))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="gristmill-journal", daemon=True)
                    self._thread.start()
                if len(self._queue) == 1:
                    self._changed.notify_all()
            return self._added

    def is_durable(self, number: int) -> bool:
        """Whether a fact is on the disk; or will never be, and whoever waits does without it."""
        return self._written >= number or (self._failure is not None and not self.essential)

    def durable(self, number: int, timeout: float = _DURABLE_SECONDS) -> None:
        """Wait until a fact is on the disk.

        Raises:
            JournalFailed: it cannot be written, or not within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._urgent = True
            self._changed.notify_all()
            while self._written < number and self._failure is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise JournalFailed(f"The journal {self.path} could not be written within {timeout:g} seconds.")
                self._changed.wait(min(left, _WAIT_SECONDS))
            if self._written < number and self._failure is not None:
                raise self._failure

    def wait_idle(self, timeout: float) -> None:
        """Wait until nothing is left to be written, for a bounded time: others can use the file then."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._written >= self._added or self._failure is not None or self._closing, timeout
            )

    @property
    def failure(self) -> JournalFailed | None:
        """Why nothing is written any more; None if all is well."""
        return self._failure

    def when_failed(self, call: Callable[[JournalFailed], None]) -> None:
        """Have this called, in the journal's thread, when it fails; or now, if it has failed."""
        with self._changed:
            self._on_failure = call
            failure = self._failure
        if failure is not None:
            call(failure)

    def follow(self, call: Callable[[Sequence[Fact]], None]) -> None:
        """Have this called with all facts that are written from now on, in order, by the journal's thread.

        It must return soon, for others wait, and must not fail.
        """
        with self._changed:
            self._followers.append(call)

    def close(self) -> None:
        """Write what was added, then end. May be called again."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    # The thread.

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        try:
            while batch := self._next_batch():
                connection = self._write(connection, batch)
                if connection is None:
                    return
        finally:
            if connection is not None:
                connection.close()

    def _next_batch(self) -> list[tuple[Fact, _Blobs]]:
        """The facts of the next group; none when the journal is closed."""
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait(_WAIT_SECONDS)
            if not self._urgent and not self._closing:
                self._changed.wait_for(lambda: self._urgent or self._closing, _GROUP_SECONDS)
            batch, self._queue, self._urgent = self._queue, [], False
            return batch

    def _write(
        self, connection: sqlite3.Connection | None, batch: list[tuple[Fact, _Blobs]]
    ) -> sqlite3.Connection | None:
        """Write a group, again and again while that fails; None if it is of no use."""
        give_up_at = time.monotonic() + self._patience_seconds
        while True:
            try:
                if connection is None:
                    connection = open_for_writing(self.path)
                _insert(connection, batch, self.address)
            except Exception as error:  # whatever it is, who waits for the facts must hear that they are not written
                if connection is not None:
                    connection.close()  # rolls back
                    connection = None
                may_pass = isinstance(error, (sqlite3.Error, OSError))
                if not may_pass or self._closing or time.monotonic() >= give_up_at:
                    if not may_pass:
                        _log.error("%s cannot take a fact.", self.path, exc_info=error)
                    self._fail(failed(self.path, error))
                    return None
                time.sleep(_RETRY_SECONDS)
            else:
                with self._changed:
                    self._written += len(batch)
                    self._changed.notify_all()
                    followers = tuple(self._followers)
                if followers:
                    _tell(followers, [fact for fact, _ in batch])
                return connection

    def _fail(self, failure: JournalFailed) -> None:
        with self._changed:
            self._failure = failure
            self._queue.clear()
            self._changed.notify_all()
            call = self._on_failure
        if call is not None:
            call(failure)

    # Reading

    def facts(self, job: str | None = None) -> list[Fact]:
        """What was noted, in order: of one job, or of all. Nothing if there is no journal yet.

        Raises:
            JournalFailed: it cannot be read.
        """
        where, values = ("WHERE job = ?", (job,)) if job is not None else ("", ())
        with self._reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(f"SELECT job, kind, version, data FROM facts {where} ORDER BY number", values)
            return [fact for row in rows for fact in from_row(*row)]

    def numbered(self, job: str | None = None, after: int = -1, most: int | None = None) -> list[tuple[int, Fact]]:
        """Facts with their numbers, in order: of one job, or of all, those of no job too.

        Numbers grow. They are unique as long as the job is remembered, and the same however often they are read.

        Args:
            job: whose.
            after: what comes after this number.
            most: about how many; None: all.

        Raises:
            JournalFailed: it cannot be read.
        """
        row, place = after >> _PLACE_BITS, after & _PLACES  # -1 is the last place of row -1
        where, values = ("job = ? AND ", (job,)) if job is not None else ("", ())
        found: list[tuple[int, Fact]] = []
        with self._reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(
                f"SELECT number, job, kind, version, data FROM facts WHERE {where} number >= ? ORDER BY number",
                (*values, row),
            )
            for number, *data in rows:
                first = number << _PLACE_BITS
                facts = enumerate(from_row(*data), first)
                found += facts if number > row else ((one, fact) for one, fact in facts if one - first > place)
                if most is not None and len(found) >= most:
                    break
        return found

    def jobs(self) -> list[Fact]:
        """As :meth:`facts`, but only how jobs began and ended."""
        with self._reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(
                "SELECT job, kind, version, data FROM facts WHERE kind != 'task done' "
                "AND kind IN ('job accepted', 'job taken up', 'job ended') ORDER BY number"
            )
            return [fact for row in rows for fact in from_row(*row)]

    def tries(self, job: str) -> list[JobTakenUp]:
        """As :meth:`facts`, but only when the job was taken up by another server, or tried again."""
        with self._reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(
                "SELECT job, kind, version, data FROM facts WHERE job = ? AND kind = ? ORDER BY number",
                (job, JobTakenUp.kind),
            )
            return [fact for row in rows for fact in from_row(*row) if isinstance(fact, JobTakenUp)]

    def open(self) -> None:
        """Make the file if it is not there, and bring one of an earlier version up to date, which may take a while.

        Raises:
            JournalFailed: it cannot be written.
        """
        try:
            open_for_writing(self.path).close()
        except (sqlite3.Error, OSError) as error:
            raise failed(self.path, error) from error

    def page_of_jobs(
        self,
        *,
        states: Iterable[JobState] = (),
        user: str | None = None,
        name: str | None = None,
        since: float | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[JobSummary]:
        """Some of the jobs that are remembered, the newest first. Takes as long with few jobs as with many.

        Args:
            states: those in one of these; none: in any.
            user: those of this one.
            name: those with this in their names, in small letters or large.
            since: those that were submitted at this time or later, in seconds since the epoch.
            before: those that come after this one in the list: the last one of the page before.
            limit: so many at most.

        Raises:
            JournalFailed: the journal cannot be read.
        """
        with self._summaries() as connection:
            return summaries.page(
                connection, states=states, user=user, name=name, since=since, before=before, limit=limit
            )

    def summary(self, job: str) -> JobSummary | None:
        """A job by its id; None if it is not remembered.

        Raises:
            JournalFailed: the journal cannot be read.
        """
        with self._summaries() as connection:
            return summaries.one(connection, job)

    def job_of_key(self, key: str) -> JobSummary | None:
        """The job that was submitted with an idempotency key; None if none is remembered.

        Raises:
            JournalFailed: the journal cannot be read.
        """
        with self._summaries() as connection:
            return summaries.of_key(connection, key)

    def unfinished(self) -> list[JobSummary]:
        """The jobs that wait or run, the oldest first.

        Raises:
            JournalFailed: the journal cannot be read.
        """
        with self._summaries() as connection:
            return summaries.unfinished(connection)

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state, without those that only load the code of others.

        Raises:
            JournalFailed: the journal cannot be read.
        """
        with self._summaries() as connection:
            return summaries.counts(connection)

    @contextmanager
    def _summaries(self) -> Iterator[sqlite3.Connection]:
        """A connection to a journal that has rows of jobs."""
        with self._reading() as connection:
            if connection is not None and version_of(connection) == SCHEMA_VERSION:
                yield connection
                return
        self.open()
        with self._reading() as connection:
            assert connection is not None, "it has just been made"
            yield connection

    def blobs(self, job: str) -> dict[str, bytes]:
        """The blobs of a job, by name.

        Raises:
            JournalFailed: the journal cannot be read.
        """
        with self._reading() as connection:
            if connection is None:
                return {}
            return dict(connection.execute("SELECT name, data FROM blobs WHERE job = ?", (job,)))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        if not self.path.exists():
            yield None
            return
        try:
            with closing(connect(self.path)) as connection:
                yield connection if check(connection, self.path) else None
        except (sqlite3.Error, OSError) as error:
            raise failed(self.path, error, "read") from error


def _tell(followers: Sequence[Callable[[Sequence[Fact]], None]], facts: Sequence[Fact]) -> None:
    for follower in followers:
        try:
            follower(facts)
        except Exception:  # a defect of whoever looks on must not keep facts from being written
            _log.exception("Facts were written, and somebody who follows them failed.")


def _insert(connection: sqlite3.Connection, batch: list[tuple[Fact, _Blobs]], address: outbox.Address | None) -> None:
    with connection:
        facts = [fact for fact, _ in batch]
        connection.executemany("INSERT INTO facts (job, kind, version, data) VALUES (?, ?, ?, ?)", to_rows(facts))
        summaries.note(connection, facts)
        if address is not None:
            outbox.post(connection, facts, address)
        for fact, blobs in batch:
            if isinstance(fact, JobEnded) and fact.outcome.error is None:
                connection.execute("DELETE FROM blobs WHERE job = ?", (fact.job,))
            if blobs:
                connection.executemany(
                    "INSERT OR REPLACE INTO blobs (job, name, data) VALUES (?, ?, ?)",
                    [(fact.job, name, data) for name, data in blobs.items()],
                )
