"""The service is killed at random instants, under many jobs that run and wait: each is done, once."""

from __future__ import annotations

import math
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from chaos_cluster_jobs import expected_spread, write_ranges
from chaos_cluster_kit import CLUSTER_JOBS, Site, read_rows, site, split_size

from gristmill.api.client import connect
from gristmill.api.loading import load_job
from gristmill.api.remote import submit_to
from gristmill.config import JobOptions
from gristmill.runtime.journal.facts import Fact, JobAccepted, JobBegun, JobCommitting, JobEnded, TaskDone
from gristmill.runtime.journal.journal import JOURNAL, Journal

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")

NUMBERS, KEYS, TASKS, REDUCERS = 4800, 101, 8, 2
SETTLED_SECONDS = 3.0  # what was printed so long before a kill has reached the server's disk


class Clients:
    """So many, each of which submits a job and waits for it, again and again, until they are told that it is enough.

    Attributes:
        done: the jobs, by their outputs: the id under which each was accepted.
        failed: what went wrong.
        witness: what attempts have printed, and when, by their own account.
    """

    def __init__(self, s: Site, count: int) -> None:
        self._site = s
        self._count = count
        self._enough = threading.Event()
        self._lock = threading.Lock()
        self.done: dict[Path, str] = {}
        self.failed: list[str] = []
        self.witness = s.folder / "witness"
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

    def printed(self) -> dict[str, float]:
        """The names under which attempts have said that they have begun, and when."""
        try:
            lines = self.witness.read_text().splitlines()
        except FileNotFoundError:  # nobody has yet
            return {}
        return {name: float(at) for name, at in map(str.split, lines)}

    def just_printed(self) -> bool:
        """Whether there is something to lose: attempts that have said something a moment ago."""
        since = time.time() - SETTLED_SECONDS / 2
        return sum(at > since for at in self.printed().values()) >= 2

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
        params = {"keys": str(KEYS), "pause": "0.05", "witness": str(self.witness)}
        job = load_job(f"{CLUSTER_JOBS}:Chatty", params)
        size = int(split_size(self._ranges, TASKS)[1])
        options = replace(JobOptions(), reducers=REDUCERS, split_bytes=size, token_file=self._site.token_file)
        options = job.resolve(options, output)
        server = connect(self._site.url, self._site.token_file, self._site.folder / "client", expected=True)
        handle = submit_to(server, job, [str(self._ranges)], output, options, key=output.name)
        handle.finish(600)
        with self._lock:
            self.done[output] = handle.job_id


class Life(NamedTuple):
    """A server's, from when it listened until it was killed."""

    began: float
    ended: float


def torment(s: Site, clients: Clients, kills: int, chance: random.Random) -> tuple[list[Life], int]:
    """Kill the server so often, at random instants, and others of it while they start or take up what there is.

    The first two times it is killed when attempts have just said something, however busy the machine is.

    Returns: the lives that it had, the last of which goes on, and how many did not even begin.
    """
    lives, unborn, began = [], 0, 0.0
    for number in range(kills):
        time.sleep(chance.uniform(0.05, 1.5) if number % 5 != 4 else chance.uniform(1.2, 1.6) * SETTLED_SECONDS)
        if number < 2:
            s.wait_until(lambda: clients.failed or clients.just_printed())
        lives.append(Life(began, time.time()))
        s.kill_server()
        if number % 3 == 0:
            s.spawn_server()
            time.sleep(chance.uniform(0.0, 0.3) if number % 2 == 0 else chance.uniform(0.3, 1.0))
            unborn += not s.listens()
            s.kill_server()
        s.start_server()
        began = time.time()
    return [*lives, Life(began, math.inf)], unborn


@pytest.mark.parametrize(
    ("kills", "jobs"),
    [(2, 4), pytest.param(50, 20, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
def test_a_service_that_is_killed_at_random_instants(
    kills: int, jobs: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    limits = ["--max-jobs", str(jobs if jobs >= 20 else jobs // 2), "--session-lease", "5s"]
    with site(tmp_path, workers=2, executors=1, beat="0.2s", limit="3s", serve_options=limits) as s:
        with Clients(s, jobs) as clients:
            s.wait_until(lambda: clients.failed or facts_of(s, JobBegun, JobAccepted))
            lives, unborn = torment(s, clients, kills, random.Random(kills))
        assert clients.failed == []
        assert len(clients.done) >= jobs
        assert unborn >= kills // 10
        check(s, clients.done)
        read = check_logs(s, clients, lives)
        waited = len(facts_of(s, JobBegun))
        s.end()
    note = f"{kills} kills, {unborn} more before it listened; {len(clients.done)} jobs, {waited} waited; logs: {read}"
    record_property("note", note)
    print(note)


def facts_of(s: Site, *kinds: type[Fact]) -> list[Fact]:
    """The facts of these kinds in the server's journal."""
    return [fact for fact in Journal(s.data_dir / JOURNAL).facts() if isinstance(fact, kinds)]


def check(s: Site, done: dict[Path, str]) -> None:
    """Each job that was accepted is done, right, and committed once."""
    expected = expected_spread(NUMBERS, KEYS)
    for output in done:
        assert {int(key): value for key, value in read_rows(output).items()} == expected
    accepted = [fact for fact in facts_of(s, JobAccepted) if isinstance(fact, JobAccepted)]
    assert sorted(fact.job for fact in accepted) == sorted(done.values()), "one job for each key, and none is lost"
    journal = Journal(s.data_dir / JOURNAL)
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


def check_logs(s: Site, clients: Clients, lives: list[Life]) -> str:
    """See that what attempts printed can be read: in whichever life, also if a kill has cut them off.

    All must be there that was printed while the server lived for another while. Of what was printed right before a
    kill, or while nobody listened, a line may be lost that the server had heard and not yet written.
    """
    printed = clients.printed()
    safe = {name for name, at in printed.items() if any(at >= b and e - at >= SETTLED_SECONDS for b, e in lives)}
    read: Counter[str] = Counter()

    def look() -> bool:
        read.clear()
        for job in clients.done.values():
            read.update(logs_of(s, job))
        return safe <= read.keys()

    s.wait_until(look)
    assert read.keys() <= printed.keys()
    assert set(read.values()) == {1}, "what comes twice counts once"
    lost = len(printed.keys() - read.keys())
    assert lost <= 1 + len(lives) // 5
    done = sum(isinstance(fact, TaskDone) for fact in facts_of(s, TaskDone))
    assert len(printed) >= done >= (TASKS + REDUCERS) * len(clients.done)
    assert len(safe) >= 10 and len(printed) - len(safe) >= len(lives), "there was something to lose"
    cut_off = len(printed) - done
    return f"{len(printed)} attempts printed, {cut_off} of them cut off, {len(safe)} long before a kill; {lost} lost"


def logs_of(s: Site, job: str) -> list[str]:
    """Under which names attempts of a job said that they had begun."""
    headers = {"Authorization": f"Bearer {s.token_file.read_text().strip()}"}
    answer = httpx.get(f"{s.url}/api/v1/jobs/{job}/logs", params={"limit": 4 << 20}, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["left_out"] == 0
    return [name for log in answer.json()["logs"] for name in re.findall(r"^a task begins: (.+)$", log["text"], re.M)]
