"""Runs a command and says how long it took and how much memory it had."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TIMEOUT_SECONDS = 3600.0
SAMPLE_SECONDS = 0.25
_END_SECONDS = 10.0
_MUCH = 0.1
_SHOWN_LINES = 30

_TICKS = os.sysconf("SC_CLK_TCK")

Memory = Mapping[int, int]
"""Process id → bytes of anonymous and shared memory."""


@dataclass(frozen=True)
class Run:
    """One run of a command, from the start of its process to the end."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int  # anonymous and shared memory of all its processes together; 0 where it cannot be known
    others_share: float  # of the machine's time, taken by processes that have nothing to do with this; 0 if unknown
    stdout: str
    error: str  # its last words if it failed, else empty


def run(
    command: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    *,
    sample_seconds: float = SAMPLE_SECONDS,
    observe: Callable[[int, Memory], None] | None = None,
    helpers: Sequence[int] = (),
) -> Run:
    """Run a command to its end; one that takes an hour is ended.

    Args:
        command: the command.
        env: set beside what is in this process's environment.
        sample_seconds: how often to look at memory.
        observe: is given each sample, with the id of the command's own process.
        helpers: processes that work for it, with all that descend from them: their time counts as the command's.
    """
    before, busy = resource.getrusage(resource.RUSAGE_CHILDREN), _busy_seconds()
    helped = {pid: _family_seconds(pid) for pid in helpers}
    done = threading.Event()
    peak = [0]
    cpu: dict[int, float] = {}  # what each process was last seen to have used
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})},
            start_new_session=True,
        )  # fmt: skip

        def watch() -> None:
            while not done.wait(sample_seconds):
                memory = tree_memory(process.pid)
                peak[0] = max(peak[0], sum(memory.values()))
                cpu.update({pid: _cpu_seconds(pid) or cpu.get(pid, 0.0) for pid in memory})
                if observe:
                    observe(process.pid, memory)
                if time.perf_counter() - begun > TIMEOUT_SECONDS:
                    os.killpg(process.pid, signal.SIGKILL)
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            process.wait()
            seconds = time.perf_counter() - begun
        finally:
            done.set()
            watcher.join()
            if process.poll() is None:  # Ctrl-C: what was started ends with us
                _end(process)
        after, busy = resource.getrusage(resource.RUSAGE_CHILDREN), _busy_seconds() - busy
        # The system adds up only processes that somebody waited for; a peer may leave its own to be collected by init.
        cpu_seconds = max(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, sum(cpu.values()))
        # One that was killed meanwhile has taken its sum along.
        cpu_seconds += sum(max(0.0, _family_seconds(pid) - already) for pid, already in helped.items())
        error = _last_words(stderr, process.returncode) if process.returncode else ""
        others_share = max(0.0, busy - cpu_seconds) / (seconds * (os.cpu_count() or 1))
        return Run(seconds, cpu_seconds, peak[0], others_share, _text(stdout), error)


def disturbance(runs: Sequence[Run]) -> str:
    """How much of the machine others took during these runs, as a sentence."""
    share = sum(run.others_share * run.seconds for run in runs) / sum(run.seconds for run in runs)
    doubt = ": do not rely on these times" if share > _MUCH else ""
    return f"Other processes took {share:.0%} of the machine meanwhile{doubt}."


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tree_memory(pid: int) -> dict[int, int]:
    """The memory of a process and of all that descend from it. Empty where there is no /proc."""
    found: dict[int, int] = {}
    waiting = [pid]
    while waiting:
        pid = waiting.pop()
        try:
            found[pid] = _private_bytes(pid)
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting.extend(map(int, (task / "children").read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since it was seen
    return found


def _private_bytes(pid: int) -> int:
    kib = 0
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(("RssAnon:", "RssShmem:")):
            kib += int(line.split()[1])
    return kib * 1024


def _cpu_seconds(pid: int) -> float:
    """What a process itself has used; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _family_seconds(pid: int) -> float:
    """What a process and all that descend from it have used, those that have ended included; 0 if it is gone."""
    seconds = 0.0
    for each in tree_memory(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        seconds += sum(map(int, fields[11:15])) / _TICKS
    return seconds


def _busy_seconds() -> float:
    """What all processors have been busy since the machine started."""
    try:
        user, nice, system, _idle, _waiting, *interrupts_and_stolen = Path("/proc/stat").read_text().split()[1:9]
    except OSError:
        return 0.0
    return sum(map(int, (user, nice, system, *interrupts_and_stolen))) / _TICKS


def _last_words(stderr: IO[bytes], code: int) -> str:
    lines = _text(stderr).splitlines()
    print(*lines[-_SHOWN_LINES:], sep="\n", file=sys.stderr)
    return lines[-1].strip() if lines else f"exit code {code}"


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace").strip()
