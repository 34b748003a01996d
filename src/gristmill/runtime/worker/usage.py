"""What is in use at a worker: looked at now and then by a thread of its own, since a disk may not answer."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gristmill.runtime.contracts import Usage
from gristmill.runtime.process.processes import descendants, private_bytes

_log = logging.getLogger(__name__)

SAMPLE_SECONDS = 2.0
_CLOSE_SECONDS = 1.0


class UsageSampler:
    """Looks at this machine's CPUs, at the memory of all that this process has started, and at its disks.

    Args:
        folders: the data directories.
        seconds: how often to look.
    """

    def __init__(self, folders: Sequence[Path], seconds: float = SAMPLE_SECONDS) -> None:
        self._folders = tuple(folders)
        self._seconds = seconds
        self._latest: Usage | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gristmill-usage", daemon=True)
        self._thread.start()

    def take(self) -> Usage | None:
        """What was seen last, once; None until there is something newer."""
        latest, self._latest = self._latest, None
        return latest

    def close(self) -> None:
        """End. Bounded: a thread that a disk holds is left behind."""
        self._closing.set()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            import psutil

            psutil.cpu_percent()  # the first answer means nothing: it is about the time since the one before
            while not self._closing.wait(self._seconds):
                self._latest = sample(self._folders, psutil.cpu_percent())
        except Exception:  # the thread's last line: nobody else would hear of it, and a worker works without
            _log.exception("what is in use at this worker is not known any more")


def sample(folders: Sequence[Path], cpu_percent: float) -> Usage:
    """What is in use now, but for the CPUs."""
    disks = []
    for folder in folders:
        with suppress(OSError):  # one that has failed: others tell of that
            disk = shutil.disk_usage(folder)
            disks.append((disk.free, disk.total))
    free, total = min(disks, default=(0, 0))
    used = sum(map(private_bytes, descendants(os.getpid())))
    return Usage(cpu_percent, used, free, total)
