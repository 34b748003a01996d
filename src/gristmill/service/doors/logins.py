"""Browsers that have logged in: each has a cookie, a random value that stands for a token and is not one.

Only the SHA-256 of the values is kept, in memory and in ``logins.json``, so that a server that is started again still
knows its users. A login ends when its user logs out, its token is removed, or its time is over.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock

from gristmill.service.doors.roles import Role
from gristmill.service.doors.tokens import Entry, Tokens, digest_of, write_private

LOGINS = "logins.json"
LOGIN_SECONDS = 7 * 86400
_MOST = 1000  # logins; the oldest gives way


class Logins:
    """All logins of a server. Any thread may call.

    Args:
        tokens: what the server knows.
        path: where to keep them; None: nowhere.
        clock: seconds since 1970.
    """

    def __init__(self, tokens: Tokens, path: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._tokens = tokens
        self._path = path
        self._clock = clock
        self._lock = Lock()
        self._known = _read(path)

    def begin(self, token: str) -> str | None:
        """Log in: the value of the cookie; None if the token is not known, or not one for people."""
        found = self._tokens.find(token)
        if found is None or found.role is Role.WORKER:
            return None
        value = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            self._known = {key: login for key, login in self._known.items() if login[1] > now}
            while len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            self._known[digest_of(value)] = (found.digest, now + LOGIN_SECONDS)
            self._write()
        return value

    def find(self, value: str) -> Entry | None:
        """The token that a cookie stands for, if that is still known."""
        login = self._known.get(digest_of(value)) if value else None
        if login is None or login[1] <= self._clock():
            return None
        return self._tokens.holder(login[0])

    def end(self, value: str) -> None:
        """Log out."""
        with self._lock:
            if self._known.pop(digest_of(value), None) is not None:
                self._write()

    def _write(self) -> None:
        if self._path is not None:
            with suppress(OSError):  # a server whose disk is full can still be looked at
                write_private(self._path, json.dumps({"logins": self._known}) + "\n")


def _read(path: Path | None) -> dict[str, tuple[str, float]]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["logins"]
        return {str(key): (str(digest), float(until)) for key, (digest, until) in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # whoever was logged in logs in again
