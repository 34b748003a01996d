"""Staging folders: hidden, beside the output, and each with the name of the process that it belongs to.

A staging folder of a process that is gone is litter, or an exchange of old and new output that was cut short in its
middle. :func:`recover_output` sees to both.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gristmill.storage.disk import sync_file, sync_folder
from gristmill.storage.failpoints import failpoint

ATTEMPTS = "attempts"
FINAL = "final"  # the new output, as it will be
OLD = "old"  # the old output, once it was moved away by the first of two steps
SWAP = "swap.json"  # says that the two steps have begun; without it FINAL is not known to be whole
_OWNER = "owner.json"
_REMOVE_TRIES = 5
_START_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True)
class Owner:
    """The process a staging folder belongs to. Its start tells it from a later one with the same pid."""

    output: str
    host: str
    pid: int
    started: float

    @classmethod
    def here(cls, output: str) -> Owner:
        """This process."""
        import psutil

        return cls(output, socket.gethostname(), os.getpid(), psutil.Process().create_time())

    def is_gone(self) -> bool:
        """Whether the process is known to have ended. Of other hosts nothing is known."""
        import psutil

        if self.host != socket.gethostname():
            return False
        try:
            started: float = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False
        return abs(started - self.started) > _START_TOLERANCE_SECONDS


def make_staging(output: Path, job: str) -> Path:
    """Make the staging folder of a job beside its output.

    Raises:
        OSError: it cannot be made there.
    """
    owner = Owner.here(output.name)
    staging = output.with_name(f"{_prefix(output)}{job}")
    # It appears under its name with its owner inside; until then the owner stands in its name.
    unfinished = output.with_name(f"{_prefix(output)}{job}.{owner.pid}-{owner.started}.new")
    unfinished.mkdir()
    try:
        (unfinished / ATTEMPTS).mkdir()
        (unfinished / _OWNER).write_text(json.dumps(asdict(owner)), "utf-8")
        failpoint("prepare.staging-named")
        unfinished.rename(staging)
    except OSError:
        remove_tree(unfinished)
        raise
    return staging


def write_durably(path: Path, content: Any) -> None:
    """Write a JSON file that is there after a power failure."""
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    sync_file(path)
    sync_folder(path.parent)


def recover_output(output: Path) -> None:
    """Put right what runs that died have left beside ``output``.

    An exchange of old and new output that was cut short is completed if the old one was moved away already, and
    forgotten if not. Staging folders of processes that are gone are removed; all others are left alone.
    """
    for staging, owner in _stagings(output):
        if owner.is_gone():
            if (staging / SWAP).exists():
                _complete_swap(staging, output)
            remove_tree(staging)


def remove_tree(path: Path) -> None:
    """Remove a folder, a file or a link, if it is there.

    Raises:
        OSError: it cannot be removed.
    """
    for attempt in range(_REMOVE_TRIES):
        try:
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
            else:
                shutil.rmtree(path)
            return
        except FileNotFoundError:
            continue  # somebody else removes it as well
        except OSError:
            if attempt == _REMOVE_TRIES - 1:
                raise
            time.sleep(0.05)  # a process that is being ended may have written into it one last time


def _complete_swap(staging: Path, output: Path) -> None:
    old_moved = os.path.lexists(staging / OLD)
    if old_moved and not os.path.lexists(output) and (staging / FINAL).is_dir():
        (staging / FINAL).rename(output)
        sync_folder(output.parent)


def _prefix(output: Path) -> str:
    return f".{output.name}.gristmill-"


def _stagings(output: Path) -> Iterator[tuple[Path, Owner]]:
    prefix = _prefix(output)
    try:
        names = sorted(entry.name for entry in output.parent.iterdir() if entry.name.startswith(prefix))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for name in names:
        path = output.with_name(name)
        owner = _read_owner(path) or _owner_in_name(name, output.name)
        if owner is not None and owner.output == output.name:
            yield path, owner


def _read_owner(staging: Path) -> Owner | None:
    try:
        return Owner(**json.loads((staging / _OWNER).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _owner_in_name(name: str, output: str) -> Owner | None:
    """The owner of a folder that did not get as far as to have one inside."""
    ending = name.removesuffix(".new").rpartition(".gristmill-")[2]
    if not name.endswith(".new") or "." not in ending:
        return None
    pid, _, started = ending.partition(".")[2].partition("-")
    try:
        return Owner(output, socket.gethostname(), int(pid), float(started))
    except ValueError:
        return None
