"""What an executor may take of its machine besides memory, which its agent watches.

The system holds what it can: the size of files, no core dumps, and, for users other than root, a bound on processes.
How many processes there are below an executor is watched besides: the system counts those of a user, whatever they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from gristmill.config import available_cpus

MAX_PROCESSES = 256
"""Processes that the code of a task may have at a time, unless the machine has many CPUs or somebody says otherwise."""

DEAD_SHARE = 16
"""So many processes that have ended, and that nobody has waited for, count as one."""

_USER_SHARE = 16  # of what one executor may have, so much may the user have beyond what there was
_MIN_USER_PROCESSES = 4096
_OOM_SCORE = 500  # of 1000: what the kernel ends first when memory runs out


def default_max_processes() -> int:
    """As many as a pool of processes wants that takes the machine for itself, and more."""
    return max(MAX_PROCESSES, 4 * available_cpus())


def limits_of(processes: int | None, file_bytes: int | None) -> Limits:
    """The limits that somebody has chosen, or not."""
    return Limits(processes or default_max_processes(), file_bytes)


@dataclass(frozen=True)
class Limits:
    """Of one executor with all that it starts.

    Attributes:
        processes: that run at a time below it.
        file_bytes: how large a file may become that it writes; None: as large as the system allows.
    """

    processes: int
    file_bytes: int | None = None

    def to_text(self) -> str:
        """As it is given to processes that start."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Limits:
        """The inverse of :meth:`to_text`."""
        return cls(**json.loads(text))


def limit_this_process(limits: Limits, user_processes: int) -> None:
    """Let the system hold this process, and all that it starts, to the limits, as far as it can.

    Args:
        limits: of an executor, which this process is about to be.
        user_processes: how many the user had of all when executors began to be started.
    """
    _be_ended_first()
    try:
        import resource
    except ImportError:  # Windows
        return
    wanted = {resource.RLIMIT_CORE: 0}
    if limits.file_bytes is not None:
        wanted[resource.RLIMIT_FSIZE] = limits.file_bytes
    if os.geteuid() != 0 and sys.platform == "linux":  # threads count, too; root is not held to it
        wanted[resource.RLIMIT_NPROC] = user_processes + max(_MIN_USER_PROCESSES, _USER_SHARE * limits.processes)
    for kind, limit in wanted.items():
        now = [limit if value == resource.RLIM_INFINITY else min(limit, value) for value in resource.getrlimit(kind)]
        with contextlib.suppress(OSError, ValueError):  # a sandbox that does not let us
            resource.setrlimit(kind, (now[0], now[1]))


def _be_ended_first() -> None:
    """If the machine runs out of memory, executors are what it can spare: not the agent, nor what else runs there."""
    with contextlib.suppress(OSError):  # not Linux, or it is as high already
        score = Path("/proc/self/oom_score_adj")
        if int(score.read_text()) < _OOM_SCORE:
            score.write_text(str(_OOM_SCORE))


def user_processes() -> int:
    """How many processes and threads this user has; 0 when unknown."""
    if sys.platform != "linux" or os.geteuid() == 0:
        return 0
    found, own = 0, os.geteuid()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if folder.stat().st_uid == own:
                    found += len(os.listdir(folder / "task"))  # noqa: PTH208 - there may be thousands
    return found


def file_limit() -> int | None:
    """How large a file of this process may become; None: as large as the system allows."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if soft == resource.RLIM_INFINITY else soft
