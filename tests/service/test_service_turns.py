"""Costly calls have turns, so that nobody keeps others waiting."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gristmill.errors import ServerUnreachable
from gristmill.service.turns import Turns


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
            assert go.wait(20)
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
