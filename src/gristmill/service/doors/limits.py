"""What one caller can take of the server: guesses, time, and room."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address, ip_address

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Send

from gristmill.config import KIB, MIB, format_size

MAX_BODY_BYTES = 1025 * MIB
"""No call brings more; most of them much less: see the routes."""

_BURST = 200  # wrong tokens of one address at once …
_PER_SECOND = 10.0  # … and after that
_MAX_ADDRESSES = 10_000
_BODY_SECONDS = 30.0  # for the first part of a body, and for any pause in it
_BODY_BYTES_PER_SECOND = KIB  # slower than that over all is too slow
_SEND_SECONDS = 60.0  # for a part of an answer to be taken
_LOOK_SECONDS = 1.0  # how often a long answer sees whether its caller is still known


class Guesses:
    """Wrong tokens, by address: those that come too fast are not even answered that they are wrong.

    A right token is always let in, whoever else guesses from its address: there is nothing to lock anybody out with.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address → guesses left, when

    def is_too_fast(self, address: str) -> bool:
        """Note a wrong one; whether there were too many."""
        address, now = _network(address), self._clock()
        left, then = self._left.pop(address, (float(_BURST), now))
        left = min(left + (now - then) * _PER_SECOND, _BURST) - 1.0
        self._left[address] = (max(left, -1.0), now)
        while len(self._left) > _MAX_ADDRESSES:
            self._left.popitem(last=False)
        return left < 0


def _network(address: str) -> str:
    """What one machine can take addresses of its own from."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found) if not isinstance(found, IPv6Address) else str(found.packed[:8].hex())


class Exchange:
    """A call and its answer: neither may stall, and both end when the caller is known no more.

    Args:
        receive: gives the call's body.
        send: takes the answer.
        is_known: whether the caller may still be answered.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        is_known: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._receive, self._send = receive, send
        self._is_known = is_known
        self._clock = clock
        self._began = self._looked = clock()
        self._size = 0
        self._whole = False  # the body has come
        self._over = asyncio.Event()

    async def receive(self) -> Message:
        """The next part of the body, or the news that the caller has gone.

        Raises:
            HTTPException: 408, 413: the body is too slow or too large.
        """
        if self._whole:
            return await self._news()
        left = self._began + _BODY_SECONDS + self._size / _BODY_BYTES_PER_SECOND - self._clock()
        try:
            message = None if left <= 0 else await asyncio.wait_for(self._receive(), min(left, _BODY_SECONDS))
        except TimeoutError:
            message = None
        if message is None:
            raise HTTPException(408, "The request's body does not come, or too slowly.")
        self._size += len(message.get("body", b""))
        if self._size > MAX_BODY_BYTES:
            raise HTTPException(413, f"A request has at most {format_size(MAX_BODY_BYTES)}.")
        self._whole = not message.get("more_body", False)
        return message

    async def _news(self) -> Message:
        """Wait for the caller to go, or to be told to."""
        if self._over.is_set():
            return {"type": "http.disconnect"}
        both = [asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._over.wait())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            with suppress(asyncio.InvalidStateError):
                return both[0].result()  # type: ignore[return-value]
            return {"type": "http.disconnect"}
        finally:
            for one in both:
                one.cancel()

    async def send(self, message: Message) -> None:
        """Send a part of the answer, unless it is over."""
        if self._over.is_set():
            return
        if message["type"] == "http.response.body" and message.get("more_body", False):
            now = self._clock()
            if now - self._looked > _LOOK_SECONDS:
                self._looked = now
                if not self._is_known():
                    self._over.set()
                    return
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await self._send(message)
        except TimeoutError:
            self._over.set()
