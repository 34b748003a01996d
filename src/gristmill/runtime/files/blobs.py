"""What jobs bring along, kept by content: one file a blob, named by the SHA-256 of its bytes.

A blob appears under its name when it is whole, so a name that is there is the right content, also after a crash; and
whoever is about to use one sees that nobody has altered it since.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gristmill.errors import UsageError

_NAME = re.compile(r"[0-9a-f]{64}")
_PARTIAL = "partial-"
_MOST_SEEN = 10_000
_seen: dict[Path, tuple[int, int, int]] = {}  # files that were found to be what their names say
MAX_AGE_SECONDS = 30 * 86400.0
_PARTIAL_SECONDS = 86400.0


def digest_of(data: bytes) -> str:
    """The name of a blob: its SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def is_blob_name(name: str) -> bool:
    """Whether this can be the name of a blob (and so no path that leads elsewhere)."""
    return _NAME.fullmatch(name) is not None


def checked(name: str, data: bytes) -> bytes:
    """The bytes of a blob.

    Raises:
        UsageError: they are not what its name says.
    """
    if digest_of(data) != name:
        raise UsageError(f"The blob {name[:12]}… has another SHA-256: it was damaged or altered. Submit the job again.")
    return data


def _state_of(path: Path) -> tuple[int, int, int]:
    """What changes when a file does, whoever changes it."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_ctime_ns


class BlobStore:
    """Blobs in one folder. Any number of threads and processes may use it at once.

    Args:
        folder: where; made when the first blob is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        """Where a blob is, or would be."""
        if not is_blob_name(name):
            raise UsageError(f"{name!r} is not the SHA-256 of a blob.")
        return self._folder / name

    def has(self, name: str) -> bool:
        """Whether a blob is here. If so it is young again: it was asked for."""
        try:
            os.utime(self.path(name))
        except OSError:
            return False
        return True

    def holds(self, name: str) -> bool:
        """As :meth:`has`, and it is what its name says. One that is not is removed: it comes again.

        A file that was looked at is not read again until it changes.
        """
        path = self.path(name)
        try:
            if _state_of(path) != _seen.get(path):
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                if found != name:
                    path.unlink(missing_ok=True)
                    return False
            os.utime(path)  # it is young again
            if len(_seen) >= _MOST_SEEN:
                _seen.clear()
            _seen[path] = _state_of(path)
        except OSError:
            return False
        return True

    def read(self, name: str) -> bytes:
        """A blob's bytes.

        Raises:
            UsageError: they are not what the name says.
            OSError: it is not here, or cannot be read.
        """
        return checked(name, self.path(name).read_bytes())

    def add(self, data: bytes) -> str:
        """Keep these bytes; their name."""
        name = digest_of(data)
        if not self.has(name):
            self.write(name, [data])
        return name

    def write(self, name: str, chunks: Iterable[bytes]) -> Path:
        """Keep a blob that comes in pieces.

        Raises:
            UsageError: the bytes are not those that the name says.
            OSError: it cannot be written.
        """
        with self.receive(name) as partial:
            for chunk in chunks:
                partial.write(chunk)
            return partial.finish()

    def receive(self, name: str) -> PartialBlob:
        """Begin to receive a blob. Use as a context manager: what was not finished is removed."""
        path = self.path(name)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return PartialBlob(path)

    def remove(self, name: str) -> None:
        """Delete a blob, if it is here."""
        self.path(name).unlink(missing_ok=True)

    def prune(self, now: float, max_age_seconds: float = MAX_AGE_SECONDS) -> None:
        """Delete what nobody has asked for in a long time, and what a dead process left unfinished."""
        with suppress(OSError):
            for entry in self._folder.iterdir():
                limit = _PARTIAL_SECONDS if _PARTIAL in entry.name else max_age_seconds
                with suppress(OSError):
                    if now - entry.stat().st_mtime <= limit:
                        continue
                    if entry.is_dir():  # a bundle that was unpacked; who needs it unpacks it again
                        shutil.rmtree(entry, ignore_errors=True)
                    else:
                        entry.unlink()


class PartialBlob:
    """A blob on its way in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        descriptor, name = tempfile.mkstemp(prefix=_PARTIAL, dir=path.parent)
        self._partial: Path | None = Path(name)
        self._file = os.fdopen(descriptor, "wb")

    def write(self, chunk: bytes) -> None:
        """The next bytes."""
        self._hash.update(chunk)
        self._file.write(chunk)

    def finish(self) -> Path:
        """All bytes are there: check them, and let the blob appear.

        Raises:
            UsageError: they are not those that the name says.
        """
        if self._hash.hexdigest() != self._path.name:
            raise UsageError(f"What came as {self._path.name[:12]}… has another SHA-256: it was damaged on its way.")
        assert self._partial is not None, "a blob is finished once"
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._path)
        self._partial = None
        return self._path

    def __enter__(self) -> PartialBlob:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)
