"""Seats for those who look on: streams that go on for as long as somebody listens, and calls that wait for a job.

There are so many in all, fewer than there may be connections, and each user has a share: however many streams one user
opens, others still get theirs. Some are left to those who have few.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager

from starlette.exceptions import HTTPException

from gristmill.service.doors.connections import most_connections

_FEW = 8
_RETRY_SECONDS = 5


class Seats:
    """Who looks on. Belongs to one event loop.

    Args:
        most: so many may look on at a time; None: three of four connections.
        of_a_user: so many of one user; None: a third of all. The last eighth of the seats is for users who have few.
    """

    def __init__(self, most: int | None = None, of_a_user: int | None = None) -> None:
        self.most = most_connections() * 3 // 4 if most is None else most
        self.of_a_user = max(1, self.most // 3) if of_a_user is None else of_a_user
        self._users: dict[str, int] = {}

    def seated(self, user: str, stream: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
        """A stream whose reader, one of a user's, has a seat from its begin to its end.

        Raises:
            HTTPException: 429: not now.
        """
        if full := self._full(user):
            raise HTTPException(429, full, {"Retry-After": str(_RETRY_SECONDS)})
        return self._seated(user, stream)

    @contextmanager
    def seat_if_free(self, user: str) -> Iterator[bool]:
        """Whether there is a seat for one of a user's, and if so, have it meanwhile."""
        if self._full(user):
            yield False
        else:
            with self._seat(user):
                yield True

    def _full(self, user: str) -> str:
        """Why there is no seat; empty: there is one."""
        own, taken = self._users.get(user, 0), sum(self._users.values())
        if own >= self.of_a_user:
            return f"{user or 'This user'} has {own:,} live streams open, as many as one user may. Close some."
        if taken >= (self.most if own < _FEW else self.most * 7 // 8):
            return f"{taken:,} live streams are open, as many as this server has room for. Try again later."
        return ""

    async def _seated(self, user: str, stream: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
        with self._seat(user):  # at its begin: one that breaks off before is never heard of
            async with aclosing(stream):
                async for part in stream:
                    yield part

    @contextmanager
    def _seat(self, user: str) -> Iterator[None]:
        self._users[user] = self._users.get(user, 0) + 1
        try:
            yield
        finally:
            self._users[user] -= 1
            if not self._users[user]:
                del self._users[user]
