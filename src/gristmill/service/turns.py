"""Calls that cost the server much: some at a time, and of each user few, so that nobody keeps the others waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

from gristmill.errors import ServerUnreachable
from gristmill.service.doors.roles import Caller

P = ParamSpec("P")
T = TypeVar("T")

_AT_ONCE = 6
_OF_A_USER = 2
_WAITING = 2000


class Turns:
    """Runs what is costly in threads. Belongs to one event loop."""

    def __init__(self, at_once: int = _AT_ONCE, of_a_user: int = _OF_A_USER, waiting: int = _WAITING) -> None:
        self._at_once, self._of_a_user, self._most = at_once, of_a_user, waiting
        self._all: anyio.CapacityLimiter | None = None  # made where its event loop is
        self._users: dict[str, tuple[anyio.CapacityLimiter, int]] = {}
        self._waiting = 0

    async def take(self, caller: Caller, call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """As :meth:`run`, for whoever calls. A driver has turns of its own: what its user submits does not hold it up.

        Raises:
            ServerUnreachable: too many wait.
        """
        return await self.run(f"driver {caller.driver}" if caller.driver else caller.user, call, *args, **named)

    async def run(self, user: str, call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call something in a thread, when it is the user's turn.

        Raises:
            ServerUnreachable: too many wait.
        """
        if self._waiting >= self._most:
            raise ServerUnreachable("As many jobs are being submitted as this server can take. Try again.")
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
