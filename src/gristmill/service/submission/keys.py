"""Idempotency keys: of those who come with the same one, one is taken in after another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gristmill.service.submission.checks import check_key

_ADMIN = "admin"


class OneByOne:
    """One after another, of those with the same name; those without one wait for nobody."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Wait for those of this name that are before."""
        if not name:
            yield
            return
        with self._lock:
            mine, others = self._turns.get(name, (threading.Lock(), 0))
            self._turns[name] = mine, others + 1
        try:
            with mine:
                yield
        finally:
            with self._lock:
                mine, others = self._turns.pop(name)
                if others > 1:
                    self._turns[name] = mine, others - 1


def key_of(key: str, user: str) -> str:
    """An idempotency key as it is noted: those of different users are never the same.

    Raises:
        UsageError: it is none.
    """
    check_key(key)
    # No key has a newline in it.
    return f"{user}\n{key}" if key and user not in ("", _ADMIN) else key
