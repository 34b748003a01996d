"""A copy of what a server knows is whole, whatever the server does meanwhile; a server made of it goes on."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from operations_kit import ask, finish, write_job

from gristmill.cli.main import main
from gristmill.errors import JournalFailed, OutputExists, UsageError
from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.coordinator.coordinator import QueueLimits
from gristmill.runtime.journal.facts import JobAccepted, TaskDone
from gristmill.runtime.journal.journal import JOURNAL, Journal
from gristmill.service.backup import back_up, restore
from gristmill.service.server import Server, ServeSettings

COUNT = """
from gristmill import MapReduce

class Count(MapReduce):
    def mapper(self, _, line):
        yield line, 1

    def reducer(self, word, counts):
        yield word, sum(counts)
"""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "data" / JOURNAL)
    yield journal
    journal.close()


def accepted(job: str) -> JobAccepted:
    return JobAccepted(job, "Job", 1.0, "", "boot", ((),), {"spec": {}, "plan": []})


def test_a_server_that_is_made_of_a_copy_goes_on_with_what_was_not_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir, words = tmp_path / "data", tmp_path / "words.txt"
    words.write_text("a\nb\na\n")
    job = write_job(tmp_path / "count.py", COUNT)
    with Server(ServeSettings(port=0, data_dir=data_dir, limits=QueueLimits(jobs=0))) as server:  # nothing begins here
        token = ["--token-file", str(server.token_file)]
        for number in range(2):
            output = str(tmp_path / f"out{number}")
            assert main(["submit", job, str(words), "-o", output, "--server", server.url, *token]) == 0
        known = {one["id"] for one in ask(server, "GET", "/api/v1/jobs").json["jobs"]}
        assert main(["backup", str(tmp_path / "copy"), "--data-dir", str(data_dir)]) == 0
        assert "2 jobs, 2 of them not over" in capsys.readouterr().err
        with pytest.raises(UsageError, match="runs on"):
            restore(tmp_path / "copy", data_dir, overwrite=True)
        secret = server.token_file.read_text()
    shutil.rmtree(data_dir)  # the machine is lost
    there = tmp_path / "restored"
    assert main(["restore", str(tmp_path / "copy"), "--data-dir", str(there)]) == 0
    assert (there / "token").read_text() == secret
    for name in ("token", "signing-key", JOURNAL):
        assert stat.S_IMODE((there / name).stat().st_mode) == 0o600, name
    with Server(ServeSettings(port=0, data_dir=there, executors=1)) as server:
        assert {one["id"] for one in ask(server, "GET", "/api/v1/jobs").json["jobs"]} == known
        assert {finish(server, one) for one in known} == {"succeeded"}
    assert sorted((tmp_path / "out0" / "part-r-00000").read_text().splitlines()) == ["a\t2", "b\t1"]


def test_a_copy_is_whole_while_facts_are_written(journal: Journal, tmp_path: Path) -> None:
    stop, noted = threading.Event(), [0]
    journal.durable(journal.add(accepted("j")))

    def write() -> None:
        while not stop.is_set():
            journal.durable(journal.add(TaskDone("j", 0, noted[0], 1, 0, TaskResult())))
            noted[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(5):
            before = noted[0]
            copied = back_up(tmp_path / "data", tmp_path / f"copy{number}")
            assert (copied.jobs, copied.unfinished) == (1, 1)
            facts = Journal(tmp_path / f"copy{number}" / JOURNAL).facts("j")
            indexes = [fact.index for fact in facts if isinstance(fact, TaskDone)]
            assert indexes == list(range(len(indexes))) and before <= len(indexes) <= noted[0] + 1
            assert sorted(path.name for path in (tmp_path / f"copy{number}").iterdir()) == [JOURNAL]
            while noted[0] == before and thread.is_alive():
                time.sleep(0.001)
    finally:
        stop.set()
        thread.join(60)
    assert noted[0] >= 5


def test_what_is_there_is_replaced_only_if_that_is_said(journal: Journal, tmp_path: Path) -> None:
    data_dir, copy = tmp_path / "data", tmp_path / "copy"
    journal.durable(journal.add(accepted("first")))
    back_up(data_dir, copy)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    journal.durable(journal.add(accepted("second")))
    with pytest.raises(OutputExists, match="--overwrite"):
        back_up(data_dir, copy)
    assert back_up(data_dir, copy, overwrite=True).jobs == 2
    (tmp_path / "photos").mkdir()
    with pytest.raises(OutputExists, match="no copy"):
        back_up(data_dir, tmp_path / "photos", overwrite=True)
    other = Journal(tmp_path / "other" / JOURNAL)
    other.durable(other.add(accepted("third")))
    other.close()
    with pytest.raises(OutputExists, match="--overwrite"):
        restore(copy, tmp_path / "other")
    for name in ("tokens.json", "logins.json"):
        (tmp_path / "other" / name).write_text("{}")  # they opened the old one
    assert restore(copy, tmp_path / "other", overwrite=True).jobs == 2
    assert not {"tokens.json", "logins.json"} & {path.name for path in (tmp_path / "other").iterdir()}
    restored = Journal(tmp_path / "other" / JOURNAL)
    assert {one.job for one in restored.page_of_jobs()} == {"first", "second"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "data", "other", "photos"]


def test_what_is_no_copy_or_damaged_is_refused(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no journal"):
        back_up(tmp_path / "data", tmp_path / "copy")
    with pytest.raises(UsageError, match="no copy"):
        restore(tmp_path, tmp_path / "new")
    journal.durable(journal.add(accepted("j"), {"code": bytes(500_000)}))
    back_up(tmp_path / "data", tmp_path / "copy")
    whole = (tmp_path / "copy" / JOURNAL).read_bytes()
    (tmp_path / "copy" / JOURNAL).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(JournalFailed, match="damaged"):
        restore(tmp_path / "copy", tmp_path / "new")
    with closing(sqlite3.connect(tmp_path / "copy" / "x.db")) as other:
        other.execute("CREATE TABLE x (y)")
    (tmp_path / "copy" / "x.db").replace(tmp_path / "copy" / JOURNAL)
    with pytest.raises(JournalFailed, match="not a journal"):
        restore(tmp_path / "copy", tmp_path / "new")
    assert not (tmp_path / "new" / JOURNAL).exists()
