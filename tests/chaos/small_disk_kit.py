"""A small file system of memory that only chosen processes see; it is gone with the last of them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_WAYS = (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount"))
_HOLD = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && echo there && exec cat'


@dataclass(frozen=True)
class SmallDisk:
    """A disk for those who are started with ``prefix``.

    Attributes:
        path: where they see it.
        prefix: put in front of a command.
        inside: the same folder, as this process sees it.
    """

    path: Path
    prefix: tuple[str, ...]
    inside: Path

    def fill(self) -> Path:
        """Take all the space that is left. Returns what takes it."""
        filler = self.inside / "filler"
        with filler.open("ab", buffering=0) as file:
            for piece in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(piece))
                except OSError:
                    continue
        return filler


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[SmallDisk | None]:
    """Make a disk of that size at ``path``; None where that is not allowed."""
    path.mkdir()
    for way in _WAYS:
        command = [*way, "sh", "-c", _HOLD, "sh", size, str(path)]
        try:
            holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except OSError:  # there is no such command
            continue
        assert holder.stdin is not None and holder.stdout is not None
        with holder, holder.stdin, holder.stdout:
            if holder.stdout.readline() != b"there\n":
                continue
            spaces = ("--user", "--preserve-credentials") if "--map-root-user" in way else ()
            prefix = ("nsenter", "--target", str(holder.pid), *spaces, "--mount", "--")
            yield SmallDisk(path, prefix, Path(f"/proc/{holder.pid}/root{path}"))
            return
    yield None


def wait_for_space(disk: SmallDisk, seconds: float = 5.0) -> None:
    """Wait until a page can be written again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            (disk.inside / "probe").write_bytes(bytes(4096))
            (disk.inside / "probe").unlink()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
