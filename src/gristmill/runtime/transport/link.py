"""A worker's session, as the coordinator holds it, whatever carries it: gRPC's streams or calls of Ray's actors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.transport.session import Session


class Link:
    """One agent's session, as the coordinator holds it.

    Attributes:
        id: the session.
        worker: the worker's name in it.
    """

    def __init__(self, session: str) -> None:
        self.id = session
        self.worker = ""
        self.welcome = pb.Welcome()
        self.session: Session[pb.Order] = Session()
        self.stream: object | None = None  # which one carries the session now; None: none does
        self.refusal: pb.Refusal | None = None  # the session is over
        self.beat = 0  # the number of the last one that came
        self._echoed = 0
        self._wake = asyncio.Event()

    def say(self, order: pb.Order, size_bytes: int = 100) -> None:
        """Send an order, now or when the agent is back. It is lost if the session ends first."""
        if self.refusal is None:
            self.session.say(order, size_bytes)
            self._wake.set()

    def wake(self) -> None:
        """Let the stream's writer look again."""
        self._wake.set()

    def next_message(self, idle: bool) -> pb.ToAgent | None:
        """What is to be written now, if anything. ``idle``: nothing was written for a while."""
        if self.refusal is not None:
            return pb.ToAgent(refusal=self.refusal, heard=self.session.heard)
        if not (idle or self.session.has_more or self.beat > self._echoed):
            return None
        self._echoed = self.beat
        first, orders = self.session.take()
        return pb.ToAgent(heard=self.session.heard, first=first, orders=orders, beat=self.beat)

    async def wait(self, seconds: float) -> bool:
        """Wait until there may be something to write; False if nothing came in time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        woken = self._wake.is_set()
        self._wake.clear()
        return woken


class Desk(Protocol):
    """Who decides on what agents say. All calls come from the server's thread and return at once."""

    def join(self, link: Link, join: pb.Join) -> pb.Welcome | pb.Refusal:
        """A worker wants in."""
        ...

    def hear(self, link: Link, events: Sequence[pb.Event]) -> None:
        """A worker tells what happened there."""
        ...

    def beat(self, link: Link, beat: pb.Beat) -> None:
        """A worker lives."""
        ...

    def lose(self, link: Link, reason: str) -> None:
        """A session cannot go on, through a fault of one of its ends; it has ended."""
        ...


class Server(Protocol):
    """Whoever carries the sessions of a desk."""

    def end(self, link: Link, kind: int, reason: str) -> None:
        """End a session: nothing that it says counts from now on, and it is told so when it is heard."""
        ...
