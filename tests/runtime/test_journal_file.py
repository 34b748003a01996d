"""The journal: what is added is durable, in order, and read again; what cannot be written or read has a name."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import gristmill
from gristmill.errors import FailureReport, JobFailed, JournalFailed
from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.coordinator.job_records import fold
from gristmill.runtime.journal.facts import (
    JobAccepted,
    JobCancelling,
    JobCommitting,
    JobEnded,
    JobTakenUp,
    TaskDone,
    from_row,
    to_rows,
)
from gristmill.runtime.journal.journal import Journal
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import JobView, StageView
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.events import TaskId
from gristmill.shuffle.contracts import BlockInfo, PackedSegments, SegmentInfo
from gristmill.storage.contracts import PartFile

ACCEPTED = JobAccepted("j", "Job", 1.0, "key", "boot", ((), (0,)), {"spec": {}, "plan": []})


def done(stage: int, index: int, number: int = 1, crc: int = 7, job: str = "j") -> TaskDone:
    block = BlockInfo(f"{job}-{stage}-{index}-{number}", (SegmentInfo(0, 9, 2, crc), SegmentInfo(9, 0, 0, 0)), "w#1")
    return TaskDone(job, stage, index, number, 0, TaskResult(records_in=5, counters={"g": {"n": 2}}, block=block))


def reduced(index: int, number: int = 1) -> TaskDone:
    part = PartFile(f"attempts/{index}", f"part-r-{index:05d}", 3, 33)
    return TaskDone("j", 1, index, number, 0, TaskResult(parts=(part,), seconds=0.5))


def outcome(state: JobState = JobState.SUCCEEDED) -> Outcome:
    report = FailureReport("UserCodeError", "no", record="'x'")
    stage = StageView(0, "map", False, 1, 1, 0, 5, 50, 50)
    view = JobView("j", "Job", state, 2.5, (stage,), attempts=3, counters={"g": {"n": 1}}, failures=(report,))
    return Outcome(view, None if state is JobState.SUCCEEDED else JobFailed("it failed", report, "/folder"))


@pytest.mark.parametrize(
    "fact",
    [
        ACCEPTED,
        JobTakenUp("j", 2, 5.0, "boot"),
        done(0, 3),
        reduced(1),
        TaskDone("j", 0, 0, 1, 2, TaskResult(bad_records=1, last_bad=FailureReport("UserCodeError", "bad"))),
        JobCancelling("j", 2.5),
        JobCommitting("j", 3.0, (PartFile("a", "b", 1, 2),), "what was there"),
        JobEnded("j", 4.0, outcome()),
    ],
    ids=lambda fact: fact.kind,
)
def test_facts_come_back_as_they_were(fact: JobAccepted) -> None:
    (row,) = to_rows([fact])
    assert from_row(*row) == [fact]


def test_the_segments_of_many_partitions_come_back_packed() -> None:
    segments = tuple(SegmentInfo(9 * index, 9, 2, 2**32 - 1 - index) for index in range(100))
    (row,) = to_rows([TaskDone("j", 0, 0, 1, 0, TaskResult(block=BlockInfo("path", segments)))])
    [fact] = from_row(*row)
    assert isinstance(fact, TaskDone) and fact.result.block is not None
    assert isinstance(fact.result.block.segments, PackedSegments)
    assert tuple(fact.result.block.segments) == segments
    assert [*to_rows([fact])] == [row]


def test_facts_of_one_kind_that_come_together_make_one_row_up_to_a_size_and_stay_in_order() -> None:
    facts = [ACCEPTED, *(done(index, 3) for index in range(300)), JobTakenUp("j", 2, 5.0, "boot"), done(300, 3)]
    rows = list(to_rows(facts))
    assert [row[1] for row in rows] == ["job accepted", "task done", "task done", "job taken up", "task done"]
    assert [fact for row in rows for fact in from_row(*row)] == facts


def test_a_failure_comes_back_with_its_class_and_its_cause() -> None:
    fact = JobEnded("j", 4.0, outcome(JobState.FAILED))
    ((back,),) = (from_row(*row) for row in to_rows([fact]))
    assert isinstance(back, JobEnded)
    error = back.outcome.error
    assert isinstance(error, JobFailed)
    assert (str(error), error.report, error.job_folder) == (
        "it failed",
        FailureReport("UserCodeError", "no", record="'x'"),
        "/folder",
    )
    assert type(error.__cause__).__name__ == "UserCodeError"


@pytest.mark.parametrize(
    ("kind", "version", "data", "words"),
    [
        ("task done", 2, "[]", "newer"),
        ("job teleported", 1, "[]", "newer"),
        ("task done", 1, "[[1, 2]]", "damaged"),
        ("task done", 1, "{", "damaged"),
    ],
)
def test_facts_of_others_are_refused(kind: str, version: int, data: str, words: str) -> None:
    with pytest.raises(JournalFailed, match=words):
        from_row("j", kind, version, data)


def test_what_is_added_is_read_again_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "journal.db")
    assert journal.facts() == journal.jobs() == []
    assert journal.blobs("j") == {}
    facts = [
        ACCEPTED,
        *(done(0, index) for index in range(100)),
        done(0, 0, job="other"),
        JobEnded("j", 2.0, outcome()),
    ]
    numbers = [journal.add(fact, {"code": b"\x00code"} if fact is ACCEPTED else None) for fact in facts[:-1]]
    assert numbers == list(range(1, len(facts)))
    journal.durable(numbers[-1], timeout=60)
    assert journal.is_durable(numbers[-1])
    assert journal.blobs("j") == {"code": b"\x00code"}
    journal.add(facts[-1])
    journal.close()
    journal.close()
    again = Journal(tmp_path / "deep" / "journal.db")
    assert again.facts() == facts
    assert again.facts("other") == [done(0, 0, job="other")]
    assert again.jobs() == [facts[0], facts[-1]]
    assert again.blobs("j") == {}, "the code of a job that has succeeded is of no use"
    assert again.add(ACCEPTED) == 1
    again.close()


def test_the_code_of_a_job_that_failed_is_kept_for_replay(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.add(ACCEPTED, {"code": b"x"})
    journal.add(JobEnded("j", 2.0, outcome(JobState.FAILED)))
    journal.close()
    assert journal.blobs("j") == {"code": b"x"}


def test_nothing_that_was_durable_is_lost_by_a_kill(tmp_path: Path) -> None:
    script = (
        "import sys, os, pathlib; sys.path.insert(0, sys.argv[2])\n"
        "from test_journal_file import ACCEPTED, done\n"
        "from gristmill.runtime.journal.journal import Journal\n"
        "journal = Journal(pathlib.Path(sys.argv[1]))\n"
        "journal.add(ACCEPTED)\n"
        "for index in range(50):\n"
        "    number = journal.add(done(0, index))\n"
        "journal.durable(number)\n"
        "journal.add(done(0, 99))\n"
        "os._exit(9)\n"
    )
    path = tmp_path / "journal.db"
    command = [sys.executable, "-c", script, str(path), str(Path(__file__).parent)]
    source = str(Path(gristmill.__path__[0]).parent)
    assert subprocess.run(command, env={"PYTHONPATH": source}, timeout=60, check=False).returncode == 9
    facts = Journal(path).facts()
    assert facts[:51] == [ACCEPTED, *(done(0, index) for index in range(50))]
    assert len(facts) <= 52


def test_many_threads_add(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")

    def add(job: str) -> None:
        for index in range(50):
            journal.add(done(0, index, job=job))

    threads = [threading.Thread(target=add, args=(f"j{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    journal.durable(200, timeout=60)
    for number in range(4):
        assert journal.facts(f"j{number}") == [done(0, index, job=f"j{number}") for index in range(50)]
    journal.close()


# What goes wrong


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "journal.db").mkdir()
    journal = Journal(tmp_path / "journal.db", patience_seconds=0.1)
    told: list[JournalFailed] = []
    journal.when_failed(told.append)
    number = journal.add(ACCEPTED)
    with pytest.raises(JournalFailed, match=r"cannot be written"):
        journal.durable(number, timeout=60)
    assert told == [journal.failure]
    lost = journal.add(ACCEPTED)
    assert not journal.is_durable(lost), "what rests on it must not be done"
    journal.essential = False
    assert journal.is_durable(lost), "nobody may wait for what will never come"
    journal.when_failed(told.append)
    assert len(told) == 2
    journal.close()


def test_a_disk_that_is_full_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path, patience_seconds=60)
    journal.durable(journal.add(ACCEPTED), timeout=60)
    with sqlite3.connect(path) as other:  # as good as a full disk: nothing can be written
        other.execute("BEGIN EXCLUSIVE")
        number = journal.add(done(0, 1))
        with pytest.raises(JournalFailed, match="within"):
            journal.durable(number, timeout=0.1)
        other.rollback()
    other.close()
    journal.durable(number, timeout=60)
    journal.close()
    assert journal.facts()[-1] == done(0, 1)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", patience_seconds=0.0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # as good as a full disk
    try:
        number = journal.add(ACCEPTED, {"code": b"x" * 100_000})
        with pytest.raises(JournalFailed, match=r"journal\.db cannot be written"):
            journal.durable(number, timeout=60)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    journal.close()


def damage(path: Path, kind: str) -> None:
    if kind == "garbage":
        path.write_bytes(b"\x00" * 5000)
    elif kind == "another program's":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE theirs (a)")
        connection.close()
    elif kind == "newer":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        data = bytearray(path.read_bytes())
        data[4096:] = b"\xff" * (len(data) - 4096)
        path.write_bytes(data)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("garbage", "damaged|cannot be read"),
        ("another program's", "not a journal"),
        ("newer", "newer version"),
        ("torn", "damaged"),
    ],
)
def test_a_journal_that_cannot_be_read_says_why(tmp_path: Path, kind: str, words: str) -> None:
    path = tmp_path / "journal.db"
    if kind != "another program's":
        journal = Journal(path)
        journal.add(ACCEPTED, {"code": b"y" * 20_000})
        journal.close()
    damage(path, kind)
    with pytest.raises(JournalFailed, match=words):
        Journal(path).facts()


# The fold


def test_how_a_job_stands() -> None:
    facts = [ACCEPTED, done(0, 0), done(0, 1), JobTakenUp("j", 1, 9.0, "boot 2"), reduced(0), done(0, 5, job="nobody")]
    record = fold(facts)["j"]
    assert (record.epoch, record.boots, record.ended, record.committing) == (1, {0: "boot", 1: "boot 2"}, None, None)
    assert not record.cancelled
    assert sorted(record.done) == [TaskId("j", 0, 0), TaskId("j", 0, 1), TaskId("j", 1, 0)]
    record.add(JobCommitting("j", 1.0, ()))
    record.add(JobEnded("j", 1.0, outcome(JobState.FAILED)))
    assert record.committing
    assert record.ended is not None
    record.add(JobTakenUp("j", 2, 9.0, "boot 2"))
    assert record.ended is None
    assert record.committing is not None, "what its commit was to replace is still of interest"
    record.add(JobCancelling("j", 1.0))
    record.add(JobTakenUp("j", 3, 9.0, "boot 2"))
    assert record.cancelled, "the wish is to outlive one who dies before it is fulfilled"
    assert "nobody" not in fold(facts)


def test_the_same_data_made_again_changes_nothing() -> None:
    record = fold([ACCEPTED, done(0, 0), reduced(0), done(0, 0, number=2)])["j"]
    assert record.done[TaskId("j", 1, 0)] == reduced(0)
    assert record.done[TaskId("j", 0, 0)].number == 2


def test_what_has_read_other_data_does_not_count() -> None:
    facts = [ACCEPTED, done(0, 0), done(0, 1), reduced(0), reduced(1), done(0, 0, number=2, crc=8)]
    record = fold(facts)["j"]
    assert sorted(record.done) == [TaskId("j", 0, 0), TaskId("j", 0, 1)]
    record.add(reduced(0, number=2))
    assert record.done[TaskId("j", 1, 0)].number == 2


def test_whoever_follows_sees_each_fact_once_in_order_and_may_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal, seen = Journal(tmp_path / "journal.db"), []

    def fails(_facts: object) -> None:
        raise ValueError("a defect")

    journal.follow(fails)
    journal.follow(seen.extend)
    facts = [ACCEPTED, *(done(0, index) for index in range(500))]
    for fact in facts:
        journal.add(fact)
    journal.close()
    assert seen == facts == journal.facts()
    assert "a defect" in caplog.text
