"""Seats for those who look on: streams that go on for as long as somebody listens.

There are so many in all, fewer than there may be connections, and each user has a share: however many streams one user
opens, others still get theirs. Some are left to those who have few.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

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
        own, taken = self._users.get(user, 0), sum(self._users.values())
        if own >= self.of_a_user:
            detail = f"{user or 'This user'} has {own:,} live streams open, as many as one user may. Close some."
        elif taken >= (self.most if own < _FEW else self.most * 7 // 8):
            detail = f"{taken:,} live streams are open, as many as this server has room for. Try again later."
        else:
            return self._seated(user, stream)
        raise HTTPException(429, detail, {"Retry-After": str(_RETRY_SECONDS)})

    async def _seated(self, user: str, stream: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
        self._users[user] = self._users.get(user, 0) + 1  # at its begin: one that breaks off before is never heard of
        try:
            async with aclosing(stream):
                async for part in stream:
                    yield part
        finally:
            self._users[user] -= 1
            if not self._users[user]:
                del self._users[user]
