"""The rows of jobs beside the facts: they follow them, come up to date, are read by page, and old ones go."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gristmill.errors import JobFailed
from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.coordinator.job_records import fold
from gristmill.runtime.journal.facts import (
    Fact,
    JobAccepted,
    JobBegun,
    JobEnded,
    JobLate,
    JobRequested,
    JobTakenUp,
    TaskDone,
    WorkerJoined,
)
from gristmill.runtime.journal.forgetting import KeepHistory, forget_old_jobs
from gristmill.runtime.journal.journal import JOURNAL, Journal
from gristmill.runtime.journal.summaries import loader_name
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import JobView
from gristmill.scheduling.commands import JobState

PREPARED = {
    "spec": {"session": "s", "driver": True},
    "plan": [{"sink": ["OutputSink", {"format": "jsonl"}]}],
    "output_path": "/out",
    "priority": 2,
}
EARLIER = """
CREATE TABLE facts (
    number INTEGER PRIMARY KEY, job TEXT NOT NULL, kind TEXT NOT NULL, version INTEGER NOT NULL, data TEXT NOT NULL
);
CREATE INDEX facts_of_job ON facts (job);
CREATE INDEX facts_of_kind ON facts (kind) WHERE kind != 'task done';
CREATE TABLE blobs (job TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (job, name)) WITHOUT ROWID;
PRAGMA application_id = 1735551347;
PRAGMA user_version = 1;
"""


def accepted(job: str, at: float = 1.0, **others: object) -> JobAccepted:
    return replace(JobAccepted(job, f"Job {job}", at, "", "boot", ((),), PREPARED, user="ann"), **others)  # type: ignore[arg-type]


def ended(job: str, at: float, state: JobState = JobState.SUCCEEDED) -> JobEnded:
    view = JobView(job, "Job", state, 1.0, (), records_in=7, bytes_in=70)
    return JobEnded(job, at, Outcome(view, None if state is JobState.SUCCEEDED else JobFailed("it failed")))


def write(journal: Journal, *facts: Fact) -> None:
    for fact in facts:
        number = journal.add(fact)
    journal.durable(number)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / JOURNAL)
    yield journal
    journal.close()


def test_a_row_follows_the_facts_of_its_job(journal: Journal) -> None:
    assert journal.page_of_jobs() == [] and journal.summary("a") is None and journal.job_of_key("") is None

    def row(*facts: Fact) -> tuple[str, float | None, float | None]:
        write(journal, *facts)
        found = journal.summary("a")
        assert found is not None
        return found.state.value, found.begun, found.ended

    assert row(JobRequested("a", "job.py", "ann", 1.0, {}, "/out", "key", "digest")) == ("queued", None, None)
    assert row(JobBegun("a", 2.0)) == ("running", 2.0, None)
    assert row(accepted("a", 3.0)) == ("running", 2.0, None)
    found = journal.summary("a")
    assert found is not None and journal.job_of_key("key") == found and journal.job_of_key("") is None
    assert (found.name, found.user, found.output, found.format) == ("Job a", "ann", "/out", "jsonl")
    assert (found.session, found.driver, found.priority, found.submitted) == ("s", True, 2, 1.0)
    assert (found.key, found.request, found.late) == ("key", "digest", False)
    assert row(JobLate("a", 4.0), ended("a", 5.0, JobState.FAILED)) == ("failed", 2.0, 5.0)
    found = journal.summary("a")
    assert found is not None and found.late and (found.error, found.records_in) == ("it failed", 7)
    assert (found.since, found.seconds) == (1.0, ended("a", 5.0).outcome.view.seconds)
    assert row(JobTakenUp("a", 1, 6.0, "boot", True)) == ("queued", None, None)
    found = journal.summary("a")
    assert found is not None and (found.since, found.seconds, found.late) == (6.0, None, False)
    assert row(JobBegun("a", 7.0), ended("a", 8.0)) == ("succeeded", 7.0, 8.0)
    assert row(accepted("b", 1.0, queued=True), accepted("a", 1.0)) is not None
    assert [one.job for one in journal.unfinished()] == ["a", "b"]


def test_the_rows_of_an_earlier_versions_journal_are_made_of_its_facts(tmp_path: Path) -> None:
    new = Journal(tmp_path / "new.db")
    facts = [accepted("a"), ended("a", 2.0), accepted("b", 3.0, key="k"), TaskDone("b", 0, 0, 1, 0, TaskResult())]
    write(new, *facts, accepted("c", 4.0, queued=True))
    new.close()
    with closing(sqlite3.connect(tmp_path / JOURNAL)) as old:
        old.executescript(EARLIER)
        old.execute("ATTACH ? AS new", (str(tmp_path / "new.db"),))
        old.execute("INSERT INTO facts SELECT * FROM new.facts")
        old.commit()
    journal = Journal(tmp_path / JOURNAL)
    assert journal.facts() == new.facts()
    assert journal.page_of_jobs() == new.page_of_jobs() and len(journal.page_of_jobs()) == 3
    write(journal, ended("b", 5.0))
    assert [one.job for one in journal.unfinished()] == ["c"]
    journal.close()
    with closing(sqlite3.connect(tmp_path / JOURNAL)) as made:
        assert made.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_the_rows_of_version_2_are_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / JOURNAL)
    write(journal, accepted("a"), replace(accepted("b"), name=loader_name("a")), ended("a", 2.0))
    rows, counts = journal.page_of_jobs(), journal.counts()
    journal.close()
    with closing(sqlite3.connect(journal.path)) as old:
        old.execute("DROP INDEX jobs_hidden")
        for column in ("since", "seconds", "hidden"):
            old.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
        old.execute("PRAGMA user_version = 2")
        old.commit()
    again = Journal(journal.path)
    assert again.page_of_jobs() == [replace(row, seconds=None) for row in rows]
    assert again.counts() == counts and counts[JobState.RUNNING] == 0 and counts[JobState.SUCCEEDED] == 1
    write(again, ended("b", 3.0))
    assert again.counts()[JobState.SUCCEEDED] == 1
    again.close()


def test_pages_join_without_gap_and_filter(journal: Journal) -> None:
    write(
        journal,
        *(accepted(f"j{place:02}", float(place // 3), user="ann" if place % 2 else "bob") for place in range(20)),
    )
    write(journal, *(ended(f"j{place:02}", 50.0, JobState.FAILED) for place in range(10)))
    whole = [one.job for one in journal.page_of_jobs()]
    assert whole == sorted(whole, reverse=True) and len(whole) == 20
    pages, before = [], None
    while some := journal.page_of_jobs(before=before, limit=3):
        pages += [one.job for one in some]
        before = pages[-1]
    assert pages == whole
    assert {one.user for one in journal.page_of_jobs(user="bob")} == {"bob"}
    failed = journal.page_of_jobs(states=[JobState.FAILED, JobState.CANCELLED], user="ann")
    assert [one.job for one in failed] == ["j09", "j07", "j05", "j03", "j01"]
    assert [one.job for one in journal.page_of_jobs(name="B J1", since=6.0)] == ["j19", "j18"]
    assert journal.page_of_jobs(name="%") == [] == journal.page_of_jobs(before="nobody")
    assert journal.counts()[JobState.FAILED] == 10 and journal.counts()[JobState.RUNNING] == 10


def test_old_jobs_go_whole_and_those_that_are_not_over_stay(journal: Journal) -> None:
    write(journal, accepted("waits", queued=True), accepted("runs"), accepted("again"), ended("again", 2.0))
    write(journal, JobTakenUp("again", 1, 3.0, "boot"))
    for job, at in (("old", 10.0), ("spared", 11.0), ("young", 90.0)):
        journal.add(accepted(job, key=job), {"code": b"x" * 1000})
        write(journal, *(TaskDone(job, 0, index, 1, 0, TaskResult()) for index in range(50)))
        write(journal, ended(job, at, JobState.FAILED))
    keep = KeepHistory(max_age_seconds=50.0, max_bytes=None)
    assert list(forget_old_jobs(journal.path, keep, 100.0, spare="spared".__eq__)) == ["old"]
    assert journal.facts("old") == [] and journal.blobs("old") == {} and journal.job_of_key("old") is None
    assert sorted(fold(journal.facts())) == ["again", "runs", "spared", "waits", "young"]
    assert list(forget_old_jobs(journal.path, KeepHistory(None, 1), 100.0)) == []  # too young
    assert list(forget_old_jobs(journal.path, KeepHistory(None, 1), 3650.0)) == ["spared"]
    assert list(forget_old_jobs(journal.path, KeepHistory(None, 1), 3700.0)) == ["young"]
    assert sorted(one.job for one in journal.page_of_jobs()) == ["again", "runs", "waits"]
    assert list(forget_old_jobs(journal.path, KeepHistory(0.0, 1), 100.0)) == []


def test_the_file_shrinks_to_what_may_be_kept_and_the_oldest_go_first(journal: Journal) -> None:
    code = {"code": bytes(200_000)}
    for place in range(20):
        journal.add(accepted(f"j{place:02}"), code)
        write(journal, ended(f"j{place:02}", float(place), JobState.FAILED))
    limit = 1_000_000
    gone = list(forget_old_jobs(journal.path, KeepHistory(None, limit), 10_000.0))
    assert gone == [f"j{place:02}" for place in range(len(gone))] and 14 <= len(gone) <= 17
    journal.close()
    with closing(sqlite3.connect(journal.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert journal.path.stat().st_size < 1.1 * limit


def test_what_was_left_half_removed_is_not_seen_and_goes_the_next_time(journal: Journal) -> None:
    write(journal, accepted("old"))
    for index in range(500):  # each a row of its own
        write(journal, *(TaskDone("old", 0, index, 1, 0, TaskResult()), WorkerJoined("", 1.0, "w", "h")) * 2)
    write(journal, ended("old", 1.0))
    steps = iter([True, False])
    keep = KeepHistory(0.0, None)
    assert list(forget_old_jobs(journal.path, keep, 100.0, goes_on=lambda: next(steps), step_seconds=0.0)) == []
    assert journal.summary("old") is None and journal.page_of_jobs() == [] and journal.unfinished() == []
    assert sum(journal.counts().values()) == 0
    assert journal.facts("old") != []
    assert list(forget_old_jobs(journal.path, keep, 100.0)) == ["old"]
    assert journal.facts("old") == []


def test_others_write_while_old_jobs_go(journal: Journal) -> None:
    for place in range(300):
        journal.add(accepted(f"j{place:03}"), {"code": bytes(20_000)})
        journal.add(ended(f"j{place:03}", 1.0, JobState.FAILED))
    write(journal, accepted("now"))
    gone: list[str] = []
    keep = KeepHistory(0.0, None)
    thread = threading.Thread(target=lambda: gone.extend(forget_old_jobs(journal.path, keep, 100.0)))
    thread.start()
    longest = 0.0
    while thread.is_alive():
        began = time.monotonic()
        write(journal, TaskDone("now", 0, 0, 1, 0, TaskResult()))
        longest = max(longest, time.monotonic() - began)
        thread.join(0.01)
    assert len(gone) == 300 and longest < 20.0
    assert [one.job for one in journal.page_of_jobs()] == ["now"]


def test_nothing_is_made_where_no_journal_is(tmp_path: Path) -> None:
    assert list(forget_old_jobs(tmp_path / JOURNAL, KeepHistory(), 100.0)) == []
    assert list(tmp_path.iterdir()) == []
