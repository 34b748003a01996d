"""The token by which a server knows its clients and workers: a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from gristmill.errors import UsageError

TOKEN = "token"
_MIN_CHARACTERS = 16


def server_token(data_dir: Path, token_file: Path | None) -> str:
    """The server's token. Without a file of the user's it is drawn when a server first runs on ``data_dir``.

    Raises:
        UsageError: the file cannot be read or written, or holds no token.
    """
    path = token_file or data_dir / TOKEN
    try:
        if token_file is None:
            _make(path)
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"The token file {path} cannot be used: {error.strerror}.") from error
    if len(token) < _MIN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(f"{path} does not hold a token: at least {_MIN_CHARACTERS} characters, without spaces.")
    return token


def _make(path: Path) -> None:
    """Draw a token, unless there is one. No moment passes in which others could read the file, or find it half full."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if not path.exists():
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def same(given: str, token: str) -> bool:
    """Whether this is the token, in a time that does not tell how much of it is."""
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())
