"""The environment in which executors start: the user's, without what is ours and what opens doors.

User code needs much of it (PATH, HOME, proxies, credentials of the stores that hold its data), and nobody can list
what. So what is kept back is listed: Gristmill's own settings, which hold tokens and the secrets of a service, and what
the system gives to a service for itself. An operator may keep back more, or pass on some of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase

PASSED = ("GRISTMILL_DEBUG", "GRISTMILL_FULL_TRACEBACKS", "GRISTMILL_FAILPOINT", "GRISTMILL_START",
          "GRISTMILL_TLS_CA", "GRISTMILL_TLS_NAME", "GRISTMILL_TLS_PEERS_CA")  # fmt: skip
"""Variables of ours that executors get: they say how to behave, and whom to believe, and hold no secrets."""

DROPPED = (
    "GRISTMILL_*",
    "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID",  # of systemd, for a service
)  # fmt: skip
"""Patterns of variables that no executor gets."""

DROPPED_BY_WORKERS = ("SSH_AUTH_SOCK", "SSH_AGENT_PID", "GPG_AGENT_INFO", "DBUS_SESSION_BUS_ADDRESS")
"""Doors to the operator's own keys: who submits jobs to a worker is somebody else. In a local run it is the user."""

_for_this_process: set[str] = set()  # variables that we have set, and that are no business of user code
_drop: list[str] = list(DROPPED)
_pass: list[str] = list(PASSED)


def set_for_this_process(name: str, value: str) -> None:
    """Set an environment variable that executors do not inherit. One that the user has set stays, and is inherited."""
    if name not in os.environ:
        os.environ[name] = value
        _for_this_process.add(name)


def hide_from_executors(*patterns: str) -> None:
    """Let executors not inherit variables of these names, in which ``*`` stands for anything."""
    _drop.extend(patterns)


def pass_to_executors(*patterns: str) -> None:
    """Let executors inherit variables of these names after all."""
    _pass.extend(patterns)


def inherited() -> dict[str, str]:
    """The variables of this process that executors get."""
    return {name: value for name, value in os.environ.items() if name not in _for_this_process and not _is_hidden(name)}


def _is_hidden(name: str) -> bool:
    return _matches(name, _drop) and not _matches(name, _pass)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
