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
from threading import Lock, Timer

from gristmill.service.doors.roles import Role
from gristmill.service.doors.tokens import Entry, Tokens, digest_of, write_private

LOGINS = "logins.json"
LOGIN_SECONDS = 7 * 86400
_MOST = 20  # logins by one token; its oldest gives way, and nobody else's
_WRITE_SECONDS = 1.0  # between two times that logins are kept, if they come fast


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
        self._written = float("-inf")  # when, of a monotonic clock
        self._later: Timer | None = None  # writes what was not written at once

    def begin(self, token: str) -> str | None:
        """Log in: the value of the cookie; None if the token is not known, or not one for people."""
        found = self._tokens.find(token)
        if found is None or found.role is Role.WORKER:
            return None
        value = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            known = {key: one for key, one in self._known.items() if one[1] > now and self._tokens.holder(one[0])}
            own = [key for key, login in known.items() if login[0] == found.digest]
            for key in own[: max(0, len(own) - _MOST + 1)]:
                del known[key]
            self._known = {**known, digest_of(value): (found.digest, now + LOGIN_SECONDS)}
            self._write_soon()
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

    def _write_soon(self) -> None:
        """Keep what is known: at once, or with those that come in the next moment, as each time waits for the disk."""
        wait = self._written + _WRITE_SECONDS - time.monotonic()
        if wait <= 0:
            self._write()
        elif self._later is None:
            self._later = Timer(wait, self._write_later)
            self._later.daemon = True
            self._later.start()

    def _write_later(self) -> None:
        with self._lock:
            self._write()

    def _write(self) -> None:
        self._later, self._written = None, time.monotonic()
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
