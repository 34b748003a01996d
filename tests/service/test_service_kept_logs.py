"""Logs live as long as the history of their job, within a size; they are listed as they came."""

from __future__ import annotations

import os
import time
from pathlib import Path

from gristmill.errors import FailureReport
from gristmill.runtime.files.jobfolder import JobFolder, tidy
from gristmill.runtime.journal.facts import Span
from gristmill.runtime.journal.forgetting import KeepHistory
from gristmill.runtime.journal.history import AttemptRow
from gristmill.runtime.journal.journal import Journal
from gristmill.service.lock import lock_data_dir
from gristmill.service.looking.history import Histories
from gristmill.service.looking.lookup import log_order
from gristmill.service.looking.shown import attempt_row
from gristmill.service.operations import HistoryKeeper

DAY = 86400.0


def logs_of(data_dir: Path, age_days: float) -> str:
    """The folder of a job that is over for so long, with a log of about 100 kB; the job."""
    at = time.time() - age_days * DAY
    folder = JobFolder.create(data_dir, {}, at)
    (folder.path / "logs").mkdir()
    (folder.path / "logs" / f"{folder.job}-s0-t00000-a1.log").write_bytes(b"x" * 100_000)
    folder.remove_but_logs()
    os.utime(folder.path / "job.json", (at, at))
    return folder.job


def test_logs_go_by_age_with_their_job_and_by_size_before(tmp_path: Path) -> None:
    ages = (40.0, 20.0, 10.0, 1.0)
    oldest, older, old, young = (logs_of(tmp_path, age) for age in ages)
    journal = Journal(tmp_path / "journal.db", essential=True)
    try:

        def pruned(keep: KeepHistory, size: int) -> tuple[str, ...]:
            return HistoryKeeper(journal, keep, tmp_path, Histories(journal), logs_bytes=size).prune()

        assert pruned(KeepHistory(None, None), 10**9) == ()
        assert pruned(KeepHistory(), 10**9) == (oldest,)
        assert pruned(KeepHistory(), 250_000) == (older,)
        assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == sorted([old, young])
    finally:
        journal.close()


def test_logs_of_a_task_come_by_epoch_then_by_number() -> None:
    names = ["j-s10-t00000-a1", "j-s0-t00001-a1", "j-s0-t00000-a1-e1", "j-s0-t00000-a10", "j-s0-t00000-a2", "odd"]
    assert sorted(names, key=log_order) == [
        "j-s0-t00000-a2", "j-s0-t00000-a10", "j-s0-t00000-a1-e1", "j-s0-t00001-a1", "j-s10-t00000-a1", "odd",
    ]  # fmt: skip


def test_an_attempt_that_failed_took_as_long_as_it_was_in_its_slot() -> None:
    report = FailureReport("ExecutorDied", "gone")
    lost = AttemptRow(0, 0, 1, 0, "lost", Span("w-0", 1.0, 2.0, 4.5), report=report)
    assert attempt_row("j", lost)["seconds"] == 2.5
    assert attempt_row("j", AttemptRow(0, 0, 1, 0, "done", Span("w-0", 1.0, 2.0, 4.5), 2.25))["seconds"] == 2.25


def test_who_runs_a_job_beside_a_server_leaves_its_logs_alone(tmp_path: Path) -> None:
    logs = logs_of(tmp_path, age_days=20.0)
    lock = lock_data_dir(tmp_path)
    assert tidy(tmp_path, time.time()) == ()
    os.close(lock)
    assert tidy(tmp_path, time.time()) == (logs,)
