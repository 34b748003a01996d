"""Calls that cost the server much: some at a time, and of each user few, so that nobody keeps the others waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

from gristmill.config import MIB
from gristmill.errors import ServerFull
from gristmill.service.doors.roles import Caller

P = ParamSpec("P")
T = TypeVar("T")

_AT_ONCE = 6
_OF_A_USER = 2
_WAITING = 2000
_ROOM_BYTES = 320 * MIB
_ROOM_OF_A_USER_BYTES = 160 * MIB


class Room:
    """Bodies of requests that are being read or wait for their turns. Belongs to one event loop.

    Only bytes that have come count: whoever says that many will, and sends none, takes no room.

    Args:
        in_all: bytes.
        of_a_user: likewise, of one.
    """

    def __init__(self, in_all: int = _ROOM_BYTES, of_a_user: int = _ROOM_OF_A_USER_BYTES) -> None:
        self._in_all, self._of_a_user = in_all, of_a_user
        self._users: dict[str, int] = {}

    @contextmanager
    def hold(self, caller: Caller) -> Iterator[Callable[[int], None]]:
        """Room for a body: what is given is called with each further number of its bytes.

        Raises:
            ServerFull: from that call: there is no room now.
        """
        user, held = _user_of(caller), 0

        def take(size: int) -> None:
            nonlocal held
            if self._users.get(user, 0) + size > self._of_a_user or sum(self._users.values()) + size > self._in_all:
                raise ServerFull("As much is being sent as this server can take. Try again.")
            self._users[user] = self._users.get(user, 0) + size
            held += size

        try:
            yield take
        finally:
            left = self._users.pop(user, 0) - held
            if left > 0:
                self._users[user] = left


class Turns:
    """Runs what is costly in threads. Belongs to one event loop.

    Attributes:
        room: for the requests that wait.
    """

    def __init__(self, at_once: int = _AT_ONCE, of_a_user: int = _OF_A_USER, waiting: int = _WAITING) -> None:
        self._at_once, self._of_a_user, self._most = at_once, of_a_user, waiting
        self._all: anyio.CapacityLimiter | None = None  # made where its event loop is
        self._users: dict[str, tuple[anyio.CapacityLimiter, int]] = {}
        self._waiting = 0
        self.room = Room()

    async def take(self, caller: Caller, call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """As :meth:`run`, for whoever calls. A driver has turns of its own: what its user submits does not hold it up.

        Raises:
            ServerFull: too many wait.
        """
        return await self.run(_user_of(caller), call, *args, **named)

    async def run(self, user: str, call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call something in a thread, when it is the user's turn.

        Raises:
            ServerFull: too many wait.
        """
        if self._waiting >= self._most:
            raise ServerFull("As many jobs are being submitted as this server can take. Try again.")
        if self._all is None:
            self._all = anyio.CapacityLimiter(self._at_once)
        own, others = self._users.get(user) or (anyio.CapacityLimiter(self._of_a_user), 0)
        self._users[user] = own, others + 1
        self._waiting += 1
        try:
            async with own, self._all:
                return await anyio.to_thread.run_sync(lambda: call(*args, **named), limiter=anyio.CapacityLimiter(1))
        finally:
            self._waiting -= 1
            own, others = self._users.pop(user)
            if others > 1:
                self._users[user] = own, others - 1


def _user_of(caller: Caller) -> str:
    return f"driver {caller.driver}" if caller.driver else caller.user
