"""What jobs bring along, fetched from the coordinator by its SHA-256 and kept in the worker's data directories."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from gristmill.errors import ServerUnreachable
from gristmill.runtime.executor.disks import is_full
from gristmill.runtime.files.blobs import BlobStore, checked
from gristmill.runtime.worker.datadirs import DataDirs
from gristmill.runtime.worker.premises import CodeSource

_FETCH_TRIES = 4
_FETCH_PAUSE_SECONDS = 0.5  # doubled each time


def job_folder(root: Path, job: str) -> Path:
    """Where what a job, or a session, writes goes below a data directory."""
    return root / "jobs" / job


class CodeFetcher:
    """Fetches code, bundles and broadcasts. One thread calls, but for ``close``.

    Args:
        dirs: where to keep them.
        front: where they come from.
    """

    def __init__(self, dirs: DataDirs, front: CodeSource) -> None:
        self._dirs, self._front = dirs, front
        self._closing = False

    def close(self) -> None:
        """Try no more. From any thread."""
        self._closing = True

    def code(self, name: str, session: str) -> bytes:
        """A job's code. It needs no room on a disk: if there is none, that is for the attempts to say."""
        try:
            return self.blob(name, session).read_bytes()
        except OSError as error:
            if not is_full(error):
                raise
            return checked(name, self._fetch(name))

    def blob(self, name: str, session: str) -> Path:
        """A blob of the coordinator's, fetched if it is not here yet, into the first directory that has room for it.

        That of a session goes with the session.
        """
        roots = self._dirs.healthy or self._dirs.paths
        stores = [BlobStore(root / "blobs") for root in roots]
        own = [BlobStore(_blobs_of(root, session)) for root in roots] if session else stores
        for store in (*own, *stores):
            if store.holds(name):
                return store.path(name)
        stores = own
        data = self._fetch(name)
        for store in stores[:-1]:
            with suppress(OSError):
                return store.write(name, [data])
        return stores[-1].write(name, [data])

    def forget(self, name: str, session: str) -> None:
        """Delete what a session has brought along."""
        for root in self._dirs.healthy:
            BlobStore(_blobs_of(root, session)).remove(name)

    def _fetch(self, name: str) -> bytes:
        for number in range(_FETCH_TRIES - 1):
            try:
                return self._front.blob(name)
            except ServerUnreachable:
                if self._closing:
                    raise
            time.sleep(_FETCH_PAUSE_SECONDS * 2**number)
        return self._front.blob(name)


def _blobs_of(root: Path, session: str) -> Path:
    return job_folder(root, session) / "blobs"
