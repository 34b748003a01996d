"""The key with which a server signs the jobs that it accepts: ``DATA_DIR/signing-key``, for its owner alone."""

from __future__ import annotations

import secrets
from pathlib import Path

from gristmill.errors import UsageError
from gristmill.runtime.journal.signing import SIGNING_KEY, read_key
from gristmill.service.doors.tokens import write_private

_BYTES = 32


def signing_key(data_dir: Path) -> bytes:
    """The server's key, which is drawn when a server first runs on ``data_dir``.

    Raises:
        UsageError: the file cannot be read or written, or holds no key.
    """
    path = data_dir / SIGNING_KEY
    try:
        if not path.exists():
            write_private(path, secrets.token_hex(_BYTES) + "\n", replace=False)
        key = read_key(data_dir)
    except OSError as error:
        raise UsageError(f"The signing key {path} cannot be used: {error.strerror or error}.") from error
    except ValueError:
        key = b""
    if len(key) < _BYTES:
        raise UsageError(
            f"{path} does not hold a signing key. If it was damaged, remove it: another one is drawn, and jobs that "
            "were accepted and are not over are refused then."
        )
    return key
