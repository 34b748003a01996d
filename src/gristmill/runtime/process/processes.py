"""Processes as the operating system sees them: who descends from whom, how large they are, how they ended.

Linux is read from /proc; elsewhere psutil answers where it can.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gristmill.runtime.process import environment

_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_DUMPABLE = 4
_STOP_ROUNDS = 100
_ALLOCATOR = {
    # The background thread of Arrow's jemalloc would be lost by a fork, and is there even when jemalloc is not used.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    # Memory is budgeted, so what is freed must go back to the system. glibc does so at once with fixed thresholds;
    # Arrow's own pools keep as much as they ever held.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 22),
}


def collect_garbage_rarely() -> None:
    """For a process that is Gristmill's own: look for cycles of objects less often.

    What a task leaves behind is kept (its result) or gone at once, and looking at all that is kept, again and again,
    took a quarter of the coordinator's time. When the process ends, nobody looks: all goes with it, and the walk
    through what was imported took a server a fifth of a second.
    """
    gc.set_threshold(20_000, 20, 20)
    atexit.register(gc.freeze)


@dataclass(frozen=True)
class ProcessEnd:
    """How a process ended.

    Attributes:
        exit_code: its exit code; 0 when a signal ended it.
        signal: the signal that ended it, or 0.
        peak_bytes: its largest resident size, as the system accounts for it; 0 when unknown.
    """

    exit_code: int
    signal: int
    peak_bytes: int = 0


def process_end(returncode: int, maxrss: int = 0) -> ProcessEnd:
    """The end that a return code (as ``subprocess`` has it) and ``ru_maxrss`` describe."""
    unit = 1 if sys.platform == "darwin" else 1024
    return ProcessEnd(max(returncode, 0), max(-returncode, 0), maxrss * unit)


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def child_environment() -> dict[str, str]:
    """The environment in which forkservers and executors start.

    Hashes are the same in all of them, so that a retry walks sets in the same order.
    """
    env = {**_ALLOCATOR, **environment.inherited(), "PYTHONHASHSEED": "0"}
    root = str(Path(__file__).resolve().parents[3])
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        # A checkout: what made us importable here may not do so there.
        paths = [path for path in (os.environ.get("PYTHONPATH"), root) if path]
        env["PYTHONPATH"] = os.pathsep.join(paths)
    return env


def become_subreaper() -> bool:
    """Adopt every descendant whose parent dies, so that none can hide. False where the system cannot do it."""
    return _control(_PR_SET_CHILD_SUBREAPER, 1)


def hide_this_process() -> bool:
    """Let other processes of this user not read this one's memory and first environment, where secrets are.

    Root can. What this process starts can be read as ever. False where the system cannot do it.
    """
    return _control(_PR_SET_DUMPABLE, 0)


def _control(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def thread_count() -> int:
    """Operating system threads of this process; 0 when unknown."""
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return 0


def children(pid: int) -> list[int]:
    """The direct children of a process, zombies included."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return _children_by_psutil(pid)


def _children_by_psutil(pid: int) -> list[int]:
    if not Path("/proc/self/stat").exists() or Path(f"/proc/{pid}").exists():
        import psutil

        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
    return []


def descendants(pid: int, enough: int | None = None) -> list[int]:
    """All descendants of a process, nearest first; zombies, too. It is not looked on once there are ``enough``."""
    found: dict[int, None] = {}
    level = [pid]
    while level:
        parents, level = level, []
        for parent in parents:
            level += [child for child in children(parent) if child not in found]
            if enough is not None and len(found) + len(level) > enough:
                return [*found, *level]
        found.update(dict.fromkeys(level))
    return list(found)


def dead_among(pids: Iterable[int]) -> int:
    """How many of these have ended, and wait for somebody to take note of it."""
    return sum(map(_is_dead, pids))


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] == b"Z"
    except OSError:
        return True


def kill(pid: int) -> None:
    """End a process now, unless it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)


def kill_group(pid: int) -> None:
    """End all processes of the group that ``pid`` leads or led."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def kill_tree(pid: int) -> None:
    """End a process that leads a group, its group, and whatever descends from it, however fast it starts others.

    All are stopped before any is ended: what is stopped starts nothing, and what is not there yet is found in the next
    round. Bounded.
    """
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGSTOP)  # the kernel does this in one step, whatever forks meanwhile
    found: dict[int, None] = {}
    for _ in range(_STOP_ROUNDS):
        new = [one for one in (pid, *descendants(pid)) if one not in found]
        if not new:
            break
        for one in new:
            _stop(one)
        found.update(dict.fromkeys(new))
    for one in found:
        kill(one)
    kill_group(pid)


def _stop(pid: int) -> None:
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGSTOP)


def private_bytes(pid: int) -> int:
    """Memory that belongs to a process: anonymous and shared memory, mapped files not counted. 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return _private_bytes_by_psutil(pid) if not Path("/proc/self/status").exists() else 0
    total = 0
    for line in status.splitlines():
        if line.startswith((b"RssAnon:", b"RssShmem:")):
            total += int(line.split()[1])
    return total * 1024


def tree_bytes(pid: int) -> int:
    """The private memory of a process and of all that it has started. What several of them share counts once."""
    return family_bytes(pid, descendants(pid))


def family_bytes(pid: int, below: Sequence[int]) -> int:
    """As :func:`tree_bytes`, when it is known who descends from a process."""
    return sum(map(_share_bytes, (pid, *below))) if below else private_bytes(pid)


def _share_bytes(pid: int) -> int:
    """As :func:`private_bytes`, but of pages that n processes share, as after a fork, the n-th part."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_bytes()
    except OSError:
        return private_bytes(pid)
    kilobytes = [int(line.split()[1]) for line in rollup.splitlines() if line.startswith((b"Pss_Anon:", b"Pss_Shmem:"))]
    return sum(kilobytes) * 1024 if kilobytes else private_bytes(pid)


def _private_bytes_by_psutil(pid: int) -> int:
    import psutil

    try:
        process = psutil.Process(pid)
        info = process.memory_full_info() if hasattr(process, "memory_full_info") else process.memory_info()
        return int(getattr(info, "uss", 0) or info.rss)
    except psutil.Error:
        return 0


def oom_kills() -> int:
    """How many processes the kernel's out-of-memory killer has ended, near enough to us to tell; 0 when unknown."""
    for path in _oom_counters():
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.strip().isdigit():
                return int(count)
    return 0


def _oom_counters() -> list[Path]:
    """Where that count may stand: our own cgroup (v2, v1), else the whole system."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found.append(Path("/sys/fs/cgroup") / path.lstrip("/") / "memory.events")
            elif "memory" in controllers.split(","):
                found.append(Path("/sys/fs/cgroup/memory") / path.lstrip("/") / "memory.oom_control")
    mounted = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
    return [*found, *mounted, Path("/proc/vmstat")]
