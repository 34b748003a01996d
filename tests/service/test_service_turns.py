"""Costly calls have turns, so that nobody keeps others waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from gristmill import MapReduce
from gristmill.api.loading import job_of_class
from gristmill.api.messages import VERSION_HEADERS, SubmitRequest
from gristmill.api.pickling import pickle_code
from gristmill.api.prepare import Submission
from gristmill.config import JobOptions
from gristmill.errors import ServerUnreachable
from gristmill.plan.stages import InputSpec
from gristmill.runtime.files.blobs import digest_of
from gristmill.service.doors.roles import Caller, Role
from gristmill.service.server import Server, ServeSettings
from gristmill.service.submission.turns import Turns


def test_of_each_user_few_run_at_a_time_and_nobody_waits_for_anothers() -> None:
    go = threading.Event()
    lock = threading.Lock()
    running: dict[str, int] = {}
    most: dict[str, int] = {}

    def call(user: str, wait: bool) -> str:
        with lock:
            running[user] = running.get(user, 0) + 1
            most[user] = max(most.get(user, 0), running[user])
        if wait:
            assert go.wait(60)
        with lock:
            running[user] -= 1
        return user

    async def main() -> None:
        turns = Turns(at_once=4, of_a_user=2)
        slow = [asyncio.ensure_future(turns.run("ada", call, "ada", True)) for _ in range(10)]
        await asyncio.sleep(0)
        quick = [turns.run("bob", call, "bob", False) for _ in range(10)]
        assert await asyncio.wait_for(asyncio.gather(*quick), 20) == ["bob"] * 10
        assert not any(one.done() for one in slow)
        go.set()
        assert await asyncio.wait_for(asyncio.gather(*slow), 20) == ["ada"] * 10
        assert not turns._users

    asyncio.run(main())
    assert most["ada"] == 2 and most["bob"] <= 2


def test_too_many_that_wait_are_told_to_come_later() -> None:
    go = threading.Event()

    async def main() -> None:
        turns = Turns(waiting=3)
        waiting = [asyncio.ensure_future(turns.run("ada", go.wait, 20)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(ServerUnreachable, match="Try again"):
            await turns.run("bob", go.wait, 20)
        go.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        assert await turns.run("bob", go.is_set)

    asyncio.run(main())


def test_an_error_is_the_callers() -> None:
    async def main() -> None:
        turns = Turns()
        with pytest.raises(ZeroDivisionError):
            await turns.run("ada", lambda: 1 // 0)
        assert not turns._users and not turns._waiting

    asyncio.run(main())


class Words(MapReduce):
    """Counts lines."""

    def mapper(self, _: None, line: str) -> Iterator[tuple[str, int]]:
        yield line, 1

    def reducer(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)


def test_wherever_jobs_are_submitted_they_share_turns(tmp_path: Path) -> None:
    """Submissions that take long (a slow disk under a pattern, say) leave all other calls their threads."""
    (tmp_path / "in.txt").write_text("a\n")
    go, lock, inside, most = threading.Event(), threading.Lock(), [0], [0]

    def slow(_paths: Iterable[str]) -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        assert go.wait(60)
        with lock:
            inside[0] -= 1

    with Server(ServeSettings(port=0, data_dir=tmp_path / "data", executors=0)) as server, ExitStack() as close:
        headers = {"Authorization": f"Bearer {server.token_file.read_text().strip()}"}
        limits = httpx.Limits(max_connections=100)
        client = close.enter_context(httpx.Client(base_url=server.url, headers=headers, timeout=40, limits=limits))
        job = job_of_class(Words)
        code = pickle_code(job.code, stable=True)
        assert client.put(f"/api/v1/blobs/{digest_of(code)}", content=code).status_code == 201
        sessions = [client.post("/api/v1/sessions").json()["id"] for _ in range(4)]
        server.jobs.check_paths = slow
        threads = close.enter_context(ThreadPoolExecutor(60))
        close.callback(go.set)

        def of_session(session: str) -> int:
            output = tmp_path / f"of {session}"
            options = job.resolve(JobOptions(), output)
            submission = Submission(
                name=job.name, code=b"", plan=job.plan(options, private=False), output=str(output), options=options,
                inputs=(InputSpec((str(tmp_path / "in.txt"),)),),
            )  # fmt: skip
            wanted = SubmitRequest(submission, digest_of(code)).to_json()
            path = f"/api/v1/sessions/{session}/jobs"
            return client.post(path, json=wanted, headers=dict(VERSION_HEADERS)).status_code

        def by_page(number: int) -> int:
            fields = {"job": "wordcount", "inputs": str(tmp_path / "in.txt"), "output": str(tmp_path / f"out{number}")}
            return client.post("/submit", data=fields).status_code

        of_sessions = [threads.submit(of_session, session) for session in sessions]
        give_up = time.monotonic() + 60
        while inside[0] < 2:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        by_pages = [threads.submit(by_page, number) for number in range(50)]
        for _ in range(10):
            assert client.get("/api/v1/jobs").status_code == 200
        go.set()
        assert [one.result(40) for one in of_sessions] == [201] * 4
        assert [one.result(40) for one in by_pages] == [303] * 50
        assert most[0] == 2


def test_a_driver_does_not_wait_for_what_its_user_submits() -> None:
    go = threading.Event()

    async def main() -> None:
        turns = Turns()
        slow = [asyncio.ensure_future(turns.take(Caller("ada", Role.SUBMITTER), go.wait, 20)) for _ in range(2)]
        await asyncio.sleep(0)
        driver = Caller("ada", Role.SUBMITTER, "job-1")
        assert await asyncio.wait_for(turns.take(driver, str.upper, "x"), 10) == "X"
        go.set()
        assert await asyncio.gather(*slow) == [True, True]

    asyncio.run(main())
