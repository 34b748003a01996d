"""Tokens: by what a server knows its clients and workers.

The administrator's lies in a file that only its owner can read. Of all others (``gristmill token add``) the server
keeps no more than their SHA-256, in ``tokens.json``: they are random numbers of 256 bits, so that this cannot be turned
round. Looking one up takes the same time however many there are, and however much of it is right.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from gristmill.errors import UsageError
from gristmill.service.doors.roles import Caller, Role

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TOKEN = "token"
TOKENS = "tokens.json"
ADMIN = "admin"
"""The user whose token the server has drawn itself."""

GIVEN_ROLES = (Role.VIEWER, Role.SUBMITTER, Role.ADMIN, Role.WORKER)
"""What further tokens may be for."""

_MIN_CHARACTERS = 16
_MAX_CHARACTERS = 1024
_MAX_TOKENS = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class Entry:
    """What is kept of a token.

    Attributes:
        name: the user, or the worker, that it was made for.
        role: what it opens.
        digest: its SHA-256, in hexadecimal digits.
        made: when, in seconds since 1970.
    """

    name: str
    role: Role
    digest: str
    made: float = 0.0


class Tokens:
    """All that a running server knows. What is added or removed meanwhile counts from the next call on.

    Args:
        admin: the administrator's.
        path: the file of all others; there need not be one.
    """

    def __init__(self, admin: str, path: Path | None = None) -> None:
        self._path = path
        self._admin = Entry(ADMIN, Role.ADMIN, digest_of(admin))
        self._lock = Lock()
        self._seen: object = None
        self._known: dict[str, Entry] = {self._admin.digest: self._admin}

    def find(self, token: str) -> Entry | None:
        """What is known of a token; None: nothing. Any thread may call."""
        return self.holder(digest_of(token)) if 0 < len(token) <= _MAX_CHARACTERS else None

    def holder(self, digest: str) -> Entry | None:
        """Likewise, by the digest."""
        self._look()
        found = self._known.get(digest)
        return found if found is not None and secrets.compare_digest(found.digest, digest) else None

    def opens(self, token: str, role: Role) -> bool:
        """Whether this token is enough where a role is wanted."""
        found = self.find(token)
        return found is not None and found.role.opens(role)

    def _look(self) -> None:
        """Read the file again if it has changed. One that cannot be read opens nothing."""
        if self._path is None:
            return
        try:
            status = os.stat(self._path)  # noqa: PTH116 - once a call
            seen: object = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError as error:
            seen = error.errno
        if seen == self._seen:
            return
        with self._lock:
            entries: Sequence[Entry] = ()
            with suppress(UsageError):
                entries = read_tokens(self._path)
            self._known = {entry.digest: entry for entry in (*entries, self._admin)}
            self._seen = seen


def caller_with(entry: Entry) -> Caller:
    """Who calls with this token."""
    return Caller(entry.name, entry.role)


def digest_of(token: str) -> str:
    """The SHA-256 of a token."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def same(given: str, token: str) -> bool:
    """Whether this is the token, in a time that does not tell how much of it is."""
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())


def server_token(data_dir: Path, token_file: Path | None) -> str:
    """The server's own token. Without a file of the user's it is drawn when a server first runs on ``data_dir``.

    Raises:
        UsageError: the file cannot be read or written, or holds no token.
    """
    path = token_file or data_dir / TOKEN
    try:
        if token_file is None and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_private(path, f"{secrets.token_urlsafe(32)}\n", replace=False)
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"The token file {path} cannot be used: {error.strerror}.") from error
    if len(token) < _MIN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(f"{path} does not hold a token: at least {_MIN_CHARACTERS} characters, without spaces.")
    return token


# What ``gristmill token`` does.


def read_tokens(path: Path) -> list[Entry]:
    """What is kept of the tokens in a file; nothing if it is not there.

    Raises:
        UsageError: it cannot be read, or is not such a file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["tokens"]
        return [_entry(one) for one in found]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"The tokens in {path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} does not hold tokens as `gristmill token add` writes them: {error}.") from error


def add_token(path: Path, name: str, role: Role, now: float | None = None) -> str:
    """Draw a token for somebody; it is shown now, and kept nowhere.

    Raises:
        UsageError: the name is taken or no name, or the file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a name: up to 64 letters, digits, dots, dashes, underscores or @.")
    token = secrets.token_urlsafe(32)
    with _changing(path):
        entries = read_tokens(path)
        if name == ADMIN or any(entry.name == name for entry in entries):
            raise UsageError(f"There is a token for {name} already. Remove it first: gristmill token remove {name}")
        if len(entries) >= _MAX_TOKENS:
            raise UsageError(f"{path} holds {_MAX_TOKENS:,} tokens, and no more.")
        made = time.time() if now is None else now
        _write(path, [*entries, Entry(name, role, digest_of(token), made)])
    return token


def remove_token(path: Path, name: str) -> None:
    """Forget a token. Whoever brings it is refused from now on.

    Raises:
        UsageError: there is none for this name, or the file cannot be written.
    """
    with _changing(path):
        entries = read_tokens(path)
        left = [entry for entry in entries if entry.name != name]
        if name == ADMIN:
            raise UsageError(
                f"The administrator's token is in the file {path.parent / TOKEN}: delete that, and start the server "
                "again, for another one."
            )
        if len(left) == len(entries):
            known = ", ".join(entry.name for entry in entries) or "none"
            raise UsageError(f"There is no token for {name}. There are: {known}.")
        _write(path, left)


def _entry(value: dict[str, Any]) -> Entry:
    return Entry(str(value["name"]), Role(value["role"]), str(value["digest"]), float(value["made"]))


def _write(path: Path, entries: Sequence[Entry]) -> None:
    value = {"tokens": [{**asdict(entry), "role": entry.role.value} for entry in entries]}
    write_private(path, json.dumps(value, indent=1) + "\n")


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """One process changes the file at a time.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
    except OSError as error:
        raise UsageError(f"The tokens in {path} cannot be changed: {error.strerror}.") from error


def write_private(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a file of its owner's alone. No moment passes in which others could read it, or find it half full.

    Args:
        path: the file.
        text: what is to be in it.
        replace: whether one that is there gives way.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace or not path.exists():
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
