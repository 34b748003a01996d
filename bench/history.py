"""A server with many jobs of earlier: how long it takes to start, to list and to forget them, and its memory.

    python bench/history.py [--jobs 100000] [--write]

Each job is one that has succeeded, with the facts of a small one: accepted, four tasks, committing, ended. The server
is `gristmill serve` as a process of its own, without executors, on the journal of few jobs and on that of many.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from results import table, write_section

from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.journal.facts import JobAccepted, JobCommitting, JobEnded, Span, TaskDone
from gristmill.runtime.journal.forgetting import KeepHistory, forget_old_jobs
from gristmill.runtime.journal.journal import JOURNAL, Journal
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import JobView, StageView
from gristmill.scheduling.commands import JobState
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.storage.contracts import PartFile

_FEW = 100
_PATIENCE_SECONDS = 120.0
_PREPARED: dict[str, Any] = {
    "spec": {"session": "", "driver": False, "folder": "/nowhere", "inputs": [["/data/words.txt", 1_000_000]]},
    "plan": [
        {"name": "map", "sink": ["ShuffleSink", {}]}, {"name": "reduce", "sink": ["OutputSink", {"format": "text"}]},
    ],
    "output_path": "/data/out", "priority": 0, "ingredients": {f"module {n}": "0" * 64 for n in range(20)},
}  # fmt: skip


class Figures(NamedTuple):
    """What was measured with a journal."""

    jobs: int
    journal_mb: float
    start_seconds: float
    start_cpu_seconds: float
    list_ms: float
    search_ms: float
    key_ms: float
    rss_mb: float


def fill(folder: Path, jobs: int) -> None:
    """Make a journal of so many jobs that are over."""
    journal = Journal(folder / JOURNAL)
    journal.open()
    stages = (StageView(0, "map", False, 2, 2, 0, 1000, 10**6, 10**6), StageView(1, "reduce", True, 2, 2, 0, 900, 0, 0))
    begin = time.time() - jobs
    for number in range(jobs):
        job, at = f"20260101-{number:06d}-{number % 65536:04x}", begin + number
        user = f"user{number % 20}"
        journal.add(
            JobAccepted(job, f"Job {number % 50}", at, f"key-{number}", "boot", ((), (0,)), _PREPARED, "r", user)
        )
        for task in range(4):
            block = BlockInfo("p", (SegmentInfo(0, 99, 9, 7),) * 2, "w#1") if task < 2 else None
            result = TaskResult(records_in=500, seconds=0.4, block=block)
            span = Span("w#1-0", at, at, at + 0.5)
            journal.add(TaskDone(job, task // 2, task % 2, 1, 0, result, span))
        journal.add(JobCommitting(job, at + 1, (PartFile("a", "part-r-00000", 10, 99),) * 2))
        view = JobView(job, "Job", JobState.SUCCEEDED, 1.0, stages, attempts=4, records_in=1000)
        last = journal.add(JobEnded(job, at + 1, Outcome(view)))
        if number % 1000 == 999:
            journal.durable(last, 100)
    journal.close()


def measure(folder: Path, jobs: int) -> Figures:
    """A server on this journal."""
    command = [sys.executable, "-m", "gristmill.cli.main", "serve", "--port", "0", "--executors", "0"]
    keep = ["--keep-history", "1000d", "--keep-history-size", "100GiB", "--data-dir", str(folder)]
    began = time.monotonic()
    server = subprocess.Popen([*command, *keep], stderr=subprocess.DEVNULL)
    try:
        facts = folder / "server.json"
        while not facts.exists():
            assert server.poll() is None and time.monotonic() - began < _PATIENCE_SECONDS
            time.sleep(0.005)
        started = time.monotonic() - began
        used = psutil.Process(server.pid).cpu_times()
        url, token = json.loads(facts.read_text())["url"], (folder / "token").read_text().strip()

        def ask(path: str) -> float:
            request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {token}"})
            times = []
            for _ in range(9):
                asked = time.perf_counter()
                with urllib.request.urlopen(request, timeout=60) as answer:
                    answer.read()
                times.append(time.perf_counter() - asked)
            return 1000 * sorted(times)[len(times) // 2]

        listed = ask("/api/v1/jobs?limit=50")
        searched = ask("/api/v1/jobs?limit=50&user=user7&name=job%2017&state=succeeded")
        ask("/metrics")
        rss = psutil.Process(server.pid).memory_info().rss / 2**20
    finally:
        server.terminate()
        server.wait(30)
    journal = Journal(folder / JOURNAL)
    asked = time.perf_counter()
    assert journal.job_of_key(f"key-{jobs // 2}") is not None
    keyed = 1000 * (time.perf_counter() - asked)
    size = (folder / JOURNAL).stat().st_size / 2**20
    return Figures(jobs, size, started, used.user + used.system, listed, searched, keyed, rss)


def forget(folder: Path, jobs: int) -> str:
    """Forget all but a tenth, while somebody writes facts and waits for each."""
    waits: list[float] = []
    stop = threading.Event()
    journal = Journal(folder / JOURNAL)

    def write() -> None:
        one = replace(JobAccepted("now", "Now", time.time(), "", "boot", ((),), _PREPARED))
        journal.durable(journal.add(one))
        while not stop.wait(0.01):
            asked = time.perf_counter()
            journal.durable(journal.add(TaskDone("now", 0, 0, 1, 0, TaskResult())))
            waits.append(time.perf_counter() - asked)

    thread = threading.Thread(target=write)
    thread.start()
    began = time.monotonic()
    keep = KeepHistory(max_age_seconds=jobs / 10, max_bytes=None)

    def goes_on() -> bool:
        journal.wait_idle(0.2)  # as in a server
        return True

    gone = sum(1 for _ in forget_old_jobs(journal.path, keep, time.time(), goes_on=goes_on))
    seconds = time.monotonic() - began
    stop.set()
    thread.join(30)
    journal.close()
    size = (folder / JOURNAL).stat().st_size / 2**20
    waits.sort()
    return (
        f"{gone:,} jobs forgotten in {seconds:.1f} s, the journal has {size:,.0f} MiB then; meanwhile facts were "
        f"durable after {1000 * waits[len(waits) // 2]:.1f} ms (half), {1000 * waits[int(len(waits) * 0.99)]:.0f} ms "
        f"(99 %), {1000 * waits[-1]:.0f} ms (longest)"
    )


def main() -> None:
    """Measure, print, and put it into RESULTS.md if that is said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    jobs = given.jobs
    folder = Path(tempfile.mkdtemp(prefix="bench-history-", dir=os.environ.get("TMPDIR")))
    try:
        rows = [("jobs", "journal MiB", "start s", "of CPU s", "list ms", "search ms", "by key ms", "server MiB")]
        for count in (min(_FEW, jobs), jobs):
            fill(folder / str(count), count)
            one = measure(folder / str(count), count)
            rows.append(
                (
                    f"{one.jobs:,}", f"{one.journal_mb:.1f}", f"{one.start_seconds:.2f}",
                    f"{one.start_cpu_seconds:.2f}", f"{one.list_ms:.1f}",
                    f"{one.search_ms:.1f}", f"{one.key_ms:.1f}", f"{one.rss_mb:.0f}",
                )
            )  # fmt: skip
        about = (
            "A server on a journal of so many jobs that are over: from its start to its first answer, a page of 50 of "
            "them by REST, one that is searched by user, name and state, a look-up by idempotency key, and its memory "
            "after that (resident). Other work ran on the machine."
        )
        load = f"Load of the machine: {os.getloadavg()[1]:.1f}."
        section = "\n\n".join(["## Jobs of earlier", about, table(rows), f"{forget(folder / str(jobs), jobs)}. {load}"])
        print(section)
        if given.write:
            write_section("history", section)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
