"""Pages that change while somebody looks: what has changed is rendered once, and sent to all who see it.

There is one feed for each thing that is looked at, and it runs as long as somebody does. A client that is slow misses
what was in between, and gets what is: nothing piles up. Feeds are rendered one after another, and the longer that takes
the rarer each is: all of them together take a tenth of a processor.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field

from fastapi.concurrency import run_in_threadpool

_log = logging.getLogger(__name__)

_BETWEEN_SECONDS = 0.5
_REST_SECONDS = 1.0  # between two questions whether something that is at rest has moved
_SHARE = 10  # at most one part in so many of the time is spent on rendering
_HEARTBEAT_SECONDS = 15.0
_LINES = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Look:
    """How something looks now.

    Attributes:
        parts: HTML, by the id of the element that holds it.
        marks: names of events, and what must change for one to be sent; each is sent at the beginning as well, for it
            may have changed since the page was made.
        over: nothing will change any more.
        still: tells cheaply whether all is as it was; None: that is found out by another look.
    """

    parts: Mapping[str, str]
    marks: Mapping[str, object] = field(default_factory=dict)
    over: bool = False
    still: Callable[[], bool] | None = None


@dataclass(eq=False)
class _Client:
    parts: set[str] = field(default_factory=set)  # that it has not seen
    events: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class _Feed:
    """What is sent to all who look at one thing. Lives in the event loop."""

    def __init__(self, look: Callable[[], Look], is_closing: Callable[[], bool], turn: asyncio.Lock) -> None:
        self._look = look
        self._turn = turn
        self._is_closing = is_closing
        self.clients: set[_Client] = set()
        self.now: Look | None = None
        self.ended = False
        self._encoded: dict[frozenset[str], bytes] = {}
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self.clients and not self._is_closing():
                began = time.monotonic()
                async with self._turn:
                    look = await run_in_threadpool(self._look)
                self._changed(look)
                if look.over:
                    break
                await asyncio.sleep(max(_BETWEEN_SECONDS, _SHARE * (time.monotonic() - began)))
                await self._rest(look)
        except Exception:  # the last line of this task: whoever looks comes again, and finds out
            _log.exception("a live page cannot be rendered")
        finally:
            self.ended = True
            for client in self.clients:
                client.wake.set()

    async def _rest(self, look: Look) -> None:
        """Wait until something moves again, if it is at rest."""
        while look.still is not None and self.clients and not self._is_closing():
            if not await run_in_threadpool(look.still):
                return
            await asyncio.sleep(_REST_SECONDS)

    def _changed(self, look: Look) -> None:
        before, self.now = self.now or Look({}), look
        self._encoded.clear()
        parts = {name for name, html in look.parts.items() if before.parts.get(name) != html}
        events = {name for name, mark in look.marks.items() if before.marks.get(name) != mark}
        for client in self.clients:
            client.parts |= parts
            client.events |= events
            if client.parts or client.events:
                client.wake.set()

    def join(self) -> _Client:
        """Somebody begins to look."""
        client = _Client()
        if self.now is not None:
            client.parts, client.events = set(self.now.parts), set(self.now.marks)
            client.wake.set()
        self.clients.add(client)
        return client

    def message(self, names: set[str]) -> bytes:
        """Parts as one message; made once for all who have missed the same."""
        assert self.now is not None
        key = frozenset(names)
        if key not in self._encoded:
            self._encoded[key] = partials({name: self.now.parts[name] for name in sorted(names)})
        return self._encoded[key]


class Live:
    """All feeds of a server.

    Args:
        is_closing: whether the server is about to end: nobody is to be kept waiting.
    """

    def __init__(self, is_closing: Callable[[], bool]) -> None:
        self._is_closing = is_closing
        self._feeds: dict[str, _Feed] = {}
        self._turn = asyncio.Lock()

    async def stream(self, name: str, look: Callable[[], Look]) -> AsyncGenerator[bytes]:
        """What one client is sent, until nothing changes any more.

        Args:
            name: of the thing: the same for all who see the same.
            look: how it looks; called in a thread.
        """
        feed = self._feeds.get(name)
        if feed is None or feed.ended:
            feed = self._feeds[name] = _Feed(look, self._is_closing, self._turn)
        client = feed.join()
        try:
            yield b"retry: 1000\n\n"
            while True:
                try:
                    await asyncio.wait_for(client.wake.wait(), _HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield b": nothing new\n\n"
                    continue
                client.wake.clear()
                parts, events = client.parts, client.events
                client.parts, client.events = set(), set()
                if parts:
                    yield feed.message(parts)
                for event in sorted(events):
                    yield f"event: {event}\ndata:\n\n".encode()
                if feed.ended and not client.parts:
                    if feed.now is not None and feed.now.over:
                        yield b"event: over\ndata:\n\n"
                    return
        finally:
            feed.clients.discard(client)
            if not feed.clients and self._feeds.get(name) is feed:
                del self._feeds[name]


def partials(parts: Mapping[str, str]) -> bytes:
    """Some parts as one message. Each says where it belongs; what is there already stays as it is."""
    html = "".join(
        f'<hx-partial hx-target="#{name}" hx-swap="innerMorph">{text}</hx-partial>' for name, text in parts.items()
    )
    return "".join(f"data: {line}\n" for line in _LINES.split(html)).encode("utf-8", "replace") + b"\n"
