"""What jobs bring along is put into the store once, aside, before their members are told of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from ray_kit import ray_marks

pytestmark = ray_marks
PATIENCE = 60.0


class Store:
    """Keeps what is put into it; while it is shut, whoever puts waits."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Semaphore(0)

    def put(self, data: bytes) -> str:
        """The reference is the data's text."""
        self.asked.release()
        assert self.open.wait(PATIENCE)
        if data == b"too much":
            raise OSError("the store is full")
        self.kept.append(data)
        return data.decode()


class Job:
    """Somebody who waits for what a job needs."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def there(self) -> None:
        self.answer.set_result("there")

    def failed(self, error: Exception) -> None:
        self.answer.set_result(f"{type(error).__name__}: {error}")


def in_a_loop(test: Callable[[Store, Any], Coroutine[Any, Any, None]]) -> None:
    from gristmill.fleets.ray.blobs import Blobs

    async def run() -> None:
        store = Store()
        blobs = Blobs(store.put)
        try:
            await test(store, blobs)
        finally:
            store.open.set()
            closed = blobs.close()
        await asyncio.wait_for(asyncio.wrap_future(closed), PATIENCE)

    asyncio.run(run())


async def soon(answer: Awaitable[str]) -> str:
    return await asyncio.wait_for(answer, PATIENCE)


def test_each_is_put_once_and_told_to_all_that_are_there_or_come() -> None:
    async def test(store: Store, blobs: Any) -> None:
        early = blobs.begin("early")
        for job in ("one", "other"):
            waits = Job()
            blobs.bring(job, {"a": lambda: b"A", job: job.encode}, waits.there, waits.failed)
            assert await soon(waits.answer) == "there"
        assert store.kept == [b"A", b"one", b"other"]
        told = {"a": ["A"], "one": ["one"], "other": ["other"]}
        assert early == blobs.begin("late") == told
        blobs.forget("one")
        assert early["one"] is None and "one" not in blobs.begin("latest")

    in_a_loop(test)


def test_the_loop_goes_on_while_much_is_put() -> None:
    async def test(store: Store, blobs: Any) -> None:
        store.open.clear()
        waits = Job()
        blobs.bring("job", {"a": lambda: b"A"}, waits.there, waits.failed)
        assert await asyncio.to_thread(store.asked.acquire, True, PATIENCE)
        assert blobs.begin("member") == {} and not waits.answer.done()
        store.open.set()
        assert await soon(waits.answer) == "there"

    in_a_loop(test)


@pytest.mark.parametrize("name", ["too much", "gone"])
def test_what_cannot_be_put_is_told_and_holds_up_nobody(name: str) -> None:
    def read() -> bytes:
        if name == "gone":
            raise FileNotFoundError("no such file")
        return name.encode()

    async def test(store: Store, blobs: Any) -> None:
        unlucky, lucky = Job(), Job()
        blobs.bring("unlucky", {"a": read}, unlucky.there, unlucky.failed)
        blobs.bring("lucky", {"b": lambda: b"B"}, lucky.there, lucky.failed)
        assert await soon(unlucky.answer) in ("OSError: the store is full", "FileNotFoundError: no such file")
        assert await soon(lucky.answer) == "there"
        again = Job()
        blobs.bring("again", {"a": lambda: b"A"}, again.there, again.failed)
        assert await soon(again.answer) == "there", "it is tried anew"

    in_a_loop(test)


def test_nobody_is_told_of_a_job_that_is_given_up() -> None:
    async def test(store: Store, blobs: Any) -> None:
        store.open.clear()
        waits, other = Job(), Job()
        member = blobs.begin("member")
        blobs.bring("job", {"a": lambda: b"A"}, waits.there, waits.failed)
        assert await asyncio.to_thread(store.asked.acquire, True, PATIENCE)
        blobs.give_up("job")
        blobs.forget("a")
        blobs.bring("other", {"b": lambda: b"B"}, other.there, other.failed)
        store.open.set()
        assert await soon(other.answer) == "there"
        assert store.kept == [b"A", b"B"]
        assert not waits.answer.done() and member == {"b": ["B"]}

    in_a_loop(test)


def test_what_waits_for_its_turn_is_not_begun_once_it_is_closed() -> None:
    from gristmill.fleets.ray.aside import Aside

    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go_on.wait(PATIENCE)

    aside = Aside("test")
    first = aside.do(wait)
    second = aside.do(lambda: None)
    assert begun.wait(PATIENCE)
    over = aside.close()
    assert not over.done()
    go_on.set()
    assert over.result(PATIENCE) is None
    assert first.done() and not second.done()
