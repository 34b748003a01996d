"""Live pages: what changed is sent once to each, whoever is slow gets what is, and user's words stay words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from page_values import job

from gristmill.service.doors.roles import Caller, Role
from gristmill.service.page import live as live_module
from gristmill.service.page import render
from gristmill.service.page.live import Live, Look, partials


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "_BETWEEN_SECONDS", 0.01)


async def rest_of(stream: AsyncIterator[bytes]) -> str:
    return b"".join([chunk async for chunk in stream]).decode()


async def until(stream: AsyncIterator[bytes], text: str) -> str:
    async with asyncio.timeout(60):
        seen = ""
        while text not in seen:
            seen += (await anext(stream)).decode()
        return seen


def test_all_is_sent_first_then_what_changed_then_the_end() -> None:
    looks = iter([Look({"a": "1", "b": "x"}), Look({"a": "1", "b": "y"}), Look({"a": "2", "b": "y"}, over=True)])

    async def run() -> str:
        return await rest_of(Live(lambda: False).stream("job", lambda: next(looks)))

    text = asyncio.run(run())
    assert text.count('hx-target="#b"') == 2 and text.count('hx-target="#a"') == 2
    assert text.endswith("event: over\ndata:\n\n")


def test_marks_are_sent_as_events_when_they_change() -> None:
    looks = iter([Look({}, {"tasks": 1}), Look({}, {"tasks": 1}), Look({}, {"tasks": 2}), Look({}, {"tasks": 2}, True)])

    async def run() -> str:
        return await rest_of(Live(lambda: False).stream("job", lambda: next(looks)))

    assert asyncio.run(run()).count("event: tasks\n") == 2  # at the beginning, and once after


def test_all_who_look_at_one_thing_share_one_renderer() -> None:
    calls = 0
    stop = False

    def look() -> Look:
        nonlocal calls
        calls += 1
        return Look({"n": "same"}, over=stop)

    async def run() -> None:
        nonlocal stop
        live = Live(lambda: False)
        streams = [live.stream("job", look) for _ in range(200)]
        for stream in streams:
            await until(stream, "same")
        before = calls
        assert before < 200
        stop = True
        async with asyncio.timeout(60):
            ends = await asyncio.gather(*map(rest_of, streams))
        assert all("event: over" in end for end in ends)

    asyncio.run(run())


def test_a_slow_client_gets_the_newest_and_nothing_piles_up() -> None:
    number = 0

    def look() -> Look:
        nonlocal number
        number += 1
        return Look({"n": f"[{number}]"})

    async def run() -> None:
        stream = Live(lambda: False).stream("job", look)
        await until(stream, "[1]")
        give_up = time.monotonic() + 60
        while number < 10 and time.monotonic() < give_up:
            await asyncio.sleep(0.01)
        text = (await anext(stream)).decode()
        assert "[1]" not in text and "[2]" not in text  # one message, of late
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(run())


def test_a_feed_ends_when_nobody_looks_and_when_the_server_closes() -> None:
    closing = False
    calls = 0

    def look() -> Look:
        nonlocal calls
        calls += 1
        return Look({"n": str(calls)})

    async def run() -> None:
        nonlocal closing
        live = Live(lambda: closing)
        stream = live.stream("job", look)
        await until(stream, "hx-partial")
        feed = live._feeds["job"]
        await stream.aclose()  # type: ignore[attr-defined]
        async with asyncio.timeout(60):
            while not feed.ended:
                await asyncio.sleep(0.01)
        before = calls
        await asyncio.sleep(0.1)
        assert calls == before
        stream = live.stream("job", look)
        await until(stream, "hx-partial")
        closing = True
        async with asyncio.timeout(60):
            assert "event: over" not in await rest_of(stream)  # it is to come again, to the next server

    asyncio.run(run())


def test_what_is_at_rest_is_looked_at_again_when_it_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "_REST_SECONDS", 0.01)
    asked = 0

    def still() -> bool:
        nonlocal asked
        asked += 1
        return asked < 5

    looks = iter([Look({"n": "failed"}, still=still), Look({"n": "again"}, over=True)])

    async def run() -> str:
        async with asyncio.timeout(60):
            return await rest_of(Live(lambda: False).stream("job", lambda: next(looks)))

    text = asyncio.run(run())
    assert asked == 5 and text.index("failed") < text.index("again") < text.index("event: over")


def test_a_renderer_that_fails_ends_its_stream() -> None:
    def look() -> Look:
        raise ValueError("a defect")

    async def run() -> str:
        async with asyncio.timeout(60):
            return await rest_of(Live(lambda: False).stream("job", look))

    assert asyncio.run(run()) == "retry: 1000\n\n"


def test_lines_of_users_cannot_end_a_message() -> None:
    text = partials({"log": "a\r\revent: over\n\ndata: x"}).decode()
    assert all(line.startswith("data: ") for line in text.rstrip("\n").split("\n"))
    assert text.endswith("\n\n")


def test_what_users_say_is_escaped() -> None:
    evil = "<script>alert(1)</script><hx-partial hx-target='#main'>"
    parts = render.job_parts(job(name=evil))
    assert not any("<script" in html or "<hx-" in html for html in parts.values())
    assert "&lt;script&gt;" in parts["head"]


def test_pages_offer_what_the_caller_may_do() -> None:
    shown = {"id": "x", "can": {"cancel": True, "retry": False, "result": False}}
    actions = {
        role: render.page("job/actions.html", Caller("ada", role), "", **shown)
        for role in (Role.VIEWER, Role.SUBMITTER)
    }
    assert "Cancel" not in actions[Role.VIEWER] and "Cancel" in actions[Role.SUBMITTER]


def test_the_parts_of_a_large_job_are_small_and_quick() -> None:
    values = job(5000, 4990)
    began = time.process_time()
    parts = render.job_parts(values)
    assert sum(map(len, parts.values())) < 60_000
    assert time.process_time() - began < 2.0  # some tens of milliseconds on a quiet machine
