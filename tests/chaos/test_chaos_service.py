"""The service is killed at random instants, under many jobs that run and wait: each is done, once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from chaos_cluster_jobs import expected_spread, write_ranges
from chaos_cluster_kit import CLUSTER_JOBS, Site, read_rows, site, split_size

from gristmill.api.client import connect
from gristmill.api.loading import load_job
from gristmill.api.remote import submit_to
from gristmill.config import JobOptions
from gristmill.runtime.facts import Fact, JobAccepted, JobBegun, JobCommitting, JobEnded, TaskDone
from gristmill.runtime.joblogs import list_logs, read_log
from gristmill.runtime.journal import JOURNAL, Journal

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")

NUMBERS, KEYS, TASKS = 4800, 101, 8
SETTLED_SECONDS = 3.0  # so long before a kill, what an attempt printed has reached the server's disk


class Clients:
    """So many, each of which submits a job and waits for it, again and again, until they are told that it is enough.

    Attributes:
        done: the jobs, by their outputs: the id under which each was accepted.
        failed: what went wrong.
    """

    def __init__(self, s: Site, count: int) -> None:
        self._site = s
        self._count = count
        self._enough = threading.Event()
        self._lock = threading.Lock()
        self.done: dict[Path, str] = {}
        self.failed: list[str] = []
        self._ranges = write_ranges(s.folder / "ranges.txt", NUMBERS, 240)
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(600)
        assert not any(thread.is_alive() for thread in self._threads), self._site.said()

    def _run(self, number: int) -> None:
        for turn in range(1000):
            if turn and self._enough.is_set():
                return
            output = self._site.folder / f"out-{number}-{turn}"
            try:
                self._submit(output)
            except Exception as error:  # shown by whoever waits for us
                self.failed.append(f"{output.name}: {error!r}")
                return

    def _submit(self, output: Path) -> None:
        job = load_job(f"{CLUSTER_JOBS}:Chatty", {"keys": str(KEYS), "pause": "0.05"})
        size = int(split_size(self._ranges, TASKS)[1])
        options = replace(JobOptions(), reducers=2, split_bytes=size, token_file=self._site.token_file)
        options = job.resolve(options, output)
        server = connect(self._site.url, self._site.token_file, self._site.folder / "client", expected=True)
        handle = submit_to(server, job, [str(self._ranges)], output, options, key=output.name)
        handle.finish(600)
        with self._lock:
            self.done[output] = handle.job_id


@pytest.mark.parametrize(
    ("kills", "jobs"),
    [(2, 6), pytest.param(50, 20, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
def test_a_service_that_is_killed_at_random_instants(
    kills: int, jobs: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(kills)
    killed: list[float] = []
    limits = ["--max-jobs", str(jobs if jobs >= 20 else jobs // 2), "--session-lease", "5s"]
    with site(tmp_path, workers=2, executors=1, beat="0.2s", limit="3s", serve_options=limits) as s:
        with Clients(s, jobs) as clients:
            s.wait_until(lambda: clients.failed or facts_of(s, JobBegun, JobAccepted))
            for _ in range(kills):
                time.sleep(chance.uniform(0.05, 1.5))
                killed.append(time.time())
                s.kill_server()
                s.start_server()
        assert clients.failed == []
        assert len(clients.done) >= jobs
        logs = check(s, clients.done, killed)
        waited = len(facts_of(s, JobBegun))
        s.end()
    record_property("note", f"{kills} kills, {len(clients.done)} jobs, {waited} of them waited, {logs} logs read")


def facts_of(s: Site, *kinds: type[Fact]) -> list[Fact]:
    """The facts of these kinds in the server's journal."""
    return [fact for fact in Journal(s.data_dir / JOURNAL).facts() if isinstance(fact, kinds)]


def check(s: Site, done: dict[Path, str], killed: list[float]) -> int:
    """Each job that was accepted is done, right, and committed once; how many logs of attempts were read."""
    expected = expected_spread(NUMBERS, KEYS)
    for output in done:
        assert {int(key): value for key, value in read_rows(output).items()} == expected
    accepted = [fact for fact in facts_of(s, JobAccepted) if isinstance(fact, JobAccepted)]
    assert sorted(fact.job for fact in accepted) == sorted(done.values()), "one job for each key, and none is lost"
    journal, logs = Journal(s.data_dir / JOURNAL), 0
    for output, job in done.items():
        facts = journal.facts(job)
        [end] = [fact for fact in facts if isinstance(fact, JobEnded)]
        assert facts[-1] is end, "nothing happens to a job that is over"
        assert end.outcome.error is None
        committing = [fact for fact in facts if isinstance(fact, JobCommitting)]
        assert len({fact.parts for fact in committing}) == 1, "what is put in place is the same, however often"
        epochs = [fact.epoch for fact in facts if isinstance(fact, TaskDone)]
        assert epochs == sorted(epochs)
        parts = {part.final for part in committing[-1].parts}
        assert {path.name for path in output.glob("part-*")} == parts
        logs += read_logs(s.data_dir / "jobs" / job, facts, killed)
    return logs


def read_logs(folder: Path, facts: list[Fact], killed: list[float]) -> int:
    """See that what map tasks printed in each life of the service can still be read."""
    there = {log.attempt for log in list_logs(folder)}
    found = 0
    for fact in facts:
        if not isinstance(fact, TaskDone) or fact.stage != 0:
            continue
        name = f"{fact.attempt}-e{fact.epoch}" if fact.epoch else str(fact.attempt)
        ended = 0.0 if fact.span is None else fact.span.ended
        if name not in there and any(0 <= at - ended < SETTLED_SECONDS for at in killed):
            continue  # it was on its way when the service was killed
        assert name in there, f"what {name} printed is lost"
        assert b"a task begins" in read_log(folder, name)[0]
        found += 1
    return found
