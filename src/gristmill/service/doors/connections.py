"""Connections to the web server: how many there may be, and how long one may say nothing whole.

A caller that opens connections and sends nothing, or a header byte by byte, holds a place. There are so many places;
when all are taken the connection that has waited longest for a whole request gives way to the new one. So a flood of
such callers never keeps out one that says at once what it wants. Calls that are being answered are not touched.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gristmill.config import KIB

HEADER_BYTES = 32 * KIB
"""No request has a longer head."""

_MOST = 1024
_HEADER_SECONDS = 10.0  # from the first moment to the end of a request's head; shorter between two of them: uvicorn's
_DESCRIPTORS_EACH = 3  # of those that the process may open: a place, and what answering it takes


class Places:
    """The connections of a server, those first that have waited longest for a request.

    Args:
        most: how many there may be.
        header_seconds: how long each may wait.
    """

    def __init__(self, most: int | None = None, header_seconds: float = _HEADER_SECONDS) -> None:
        self.most = most or most_connections()
        self.header_seconds = header_seconds
        self.count = 0
        self._waiting: OrderedDict[_Connection, None] = OrderedDict()

    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn is to speak HTTP with."""
        places = self

        class Connection(_Connection):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.places = places

        return Connection

    def wait(self, one: _Connection) -> None:
        """A connection has no request to be answered."""
        self._waiting[one] = None

    def go_on(self, one: _Connection) -> None:
        """It has one, or is gone."""
        self._waiting.pop(one, None)

    def make_room(self) -> None:
        """Let those that have waited longest give way."""
        while self.count > self.most and self._waiting:
            longest, _ = self._waiting.popitem(last=False)
            longest.drop()


class _Connection(H11Protocol):
    places: Places

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._late: asyncio.TimerHandle | None = None
        self._counts = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _send_at_once(transport)
        self._counts = True
        self.places.count += 1
        self._wait()
        self.places.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # what still comes of a call that was refused
        super().data_received(data)
        if self._is_answering():
            self._go_on()

    def on_response_complete(self) -> None:
        if not self.transport.is_closing():
            self._wait()
        super().on_response_complete()
        if self._is_answering():  # the next one had come already
            self._go_on()

    def drop(self) -> None:
        """Give the place up."""
        self._leave()
        self.transport.abort()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self.places.wait(self)
        if self._late is None:
            self._late = self.loop.call_later(self.places.header_seconds, self._give_up)

    def _go_on(self) -> None:
        self.places.go_on(self)
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _leave(self) -> None:
        self._go_on()
        if self._counts:
            self._counts = False
            self.places.count -= 1

    def _give_up(self) -> None:
        """No whole request has come in time."""
        self._late = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE:
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.transport.close()


def most_connections() -> int:
    """How many connections there may be, of those that this process may open."""
    return min(_MOST, _descriptors() // _DESCRIPTORS_EACH)


def run_loop(call: Coroutine[Any, Any, None]) -> None:
    """Run a web server to its end. Who does not come to an end with TLS's handshake is not waited for, either."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(call)


class _Loop(asyncio.SelectorEventLoop):
    """A loop whose servers do not wait a minute for a handshake."""

    async def create_server(self, *args: Any, **named: Any) -> Any:
        if named.get("ssl") is not None:
            named["ssl_handshake_timeout"] = _HEADER_SECONDS
        return await super().create_server(*args, **named)


def _send_at_once(transport: asyncio.Transport) -> None:
    """Let the second part of an answer not wait for a sign that the first has come: 40 ms, on Linux."""
    # asyncio does so itself for sockets that were made for TCP by name, and ours was not.
    if (plain := transport.get_extra_info("socket")) is not None and plain.family in (socket.AF_INET, socket.AF_INET6):
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _descriptors() -> int:
    """How many files this process may have open: as many as it is allowed to."""
    try:
        import resource
    except ImportError:  # Windows
        return 3 * _MOST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or soft < hard):
        wanted = 8 * _MOST if hard == resource.RLIM_INFINITY else min(hard, 8 * _MOST)
        if wanted > soft:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                soft = wanted
            except (OSError, ValueError):
                pass
    return 3 * _MOST if soft == resource.RLIM_INFINITY else soft
