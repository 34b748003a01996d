"""One server on a data directory at a time."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from gristmill.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FACTS = "server.json"
"""Says where the server of a data directory listens."""
_LOCK = "server.lock"


_TRIES = 20
_PAUSE_SECONDS = 0.005


def _take(descriptor: int) -> None:
    """Lock a file. Whoever looks whether a server lives has it for an instant (``jobfolder.tidy``)."""
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def lock_data_dir(data_dir: Path) -> int:
    """Keep other servers away from this directory, for as long as this process lives or until it is closed.

    Returns:
        A descriptor.

    Raises:
        UsageError: a server runs there, or nothing can be written.
    """
    path = data_dir / _LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise UsageError(f"The data directory {data_dir} cannot be written: {error.strerror}.") from error
    if fcntl is not None:
        try:
            _take(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            with suppress(OSError, ValueError, KeyError):
                other = json.loads((data_dir / FACTS).read_text(encoding="utf-8"))
                raise UsageError(
                    f"A server runs on {data_dir} already: {other['url']}, process {other['pid']}. "
                    "Name another --data-dir."
                ) from None
            raise UsageError(f"A server runs on {data_dir} already. Name another --data-dir.") from None
        except OSError:  # a file system without locks
            pass
    return descriptor
