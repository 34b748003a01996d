"""Two ways to start executors: forked by a forkserver, or spawned one by one. The agent sees no difference.

A fork takes milliseconds and shares what is imported; a spawned interpreter takes a few hundred. Spawning is for
systems where forking is not sound (macOS) or not there (Windows), and for ``GRISTMILL_START=spawn``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO, Any, Protocol

from gristmill.errors import UsageError
from gristmill.runtime.executor.logs import tail_of
from gristmill.runtime.process.limits import Limits
from gristmill.runtime.process.processes import ProcessEnd, child_environment, kill_group, kill_tree, process_end

_ANSWER_BYTES = 4096
_TAIL_BYTES = 8192
_FORKSERVER_EXIT_SECONDS = 2.0  # somewhat more than it takes for its last rites
_KILLED_SECONDS = 1.0


@dataclass(frozen=True)
class Born:
    """An executor's process exists."""

    slot: str
    pid: int


@dataclass(frozen=True)
class Died:
    """An executor's process is gone, and whatever it left behind is ended."""

    slot: str
    end: ProcessEnd


@dataclass(frozen=True)
class StarterGone:
    """The starter itself is gone; its executors must be taken for dead."""


StarterEvent = Born | Died | StarterGone


class Starter(Protocol):
    """Starts and ends executor processes. Nothing here waits, but ``close``."""

    def fileno(self) -> int | None:
        """A descriptor that is readable when there are events; None: ask for them now and then."""
        ...

    def start_executor(self, slot: str, channel: socket.socket) -> None:
        """Start a process that serves ``channel``. Answered by Born, or by Died."""
        ...

    def end_executor(self, slot: str) -> None:
        """End a process and all it started. Answered by Died."""
        ...

    def events(self) -> list[StarterEvent]:
        """What has happened."""
        ...

    def output(self) -> str:
        """The last lines of what the started processes said outside of attempts."""
        ...

    def close(self) -> None:
        """End every process. Bounded."""
        ...


def open_starter(limits: Limits) -> Starter:
    """The starter for this system; ``GRISTMILL_START`` (``fork`` or ``spawn``) wins.

    Args:
        limits: of each executor.

    Raises:
        UsageError: GRISTMILL_START is neither.
    """
    how = os.environ.get("GRISTMILL_START") or ("fork" if sys.platform == "linux" else "spawn")
    if how == "fork":
        return ForkStarter(limits)
    if how == "spawn":
        return SpawnStarter(limits)
    raise UsageError(f"GRISTMILL_START is {how!r}; it may be fork or spawn.")


def _python(module: str, *arguments: str) -> list[str]:
    # -P: a file in the caller's folder must not take the place of a module of ours.
    return [sys.executable, "-P", "-m", module, *arguments]


class ForkStarter:
    """The agent's end of a forkserver."""

    def __init__(self, limits: Limits) -> None:
        self._output = tempfile.TemporaryFile()  # closed by close(); has no name that could be left
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(
                _python("gristmill.runtime.agent.forkserver", str(theirs.fileno()), limits.to_text()),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=(theirs.fileno(),),
                env=child_environment(),
                start_new_session=True,  # Ctrl-C is for the caller, who ends us in order
            )
        self._pids: dict[str, int] = {}
        self._gone = False

    @property
    def pid(self) -> int:
        """The forkserver's process."""
        return self._process.pid

    def fileno(self) -> int | None:
        return None if self._gone else self._control.fileno()

    def start_executor(self, slot: str, channel: socket.socket) -> None:
        try:
            socket.send_fds(self._control, [f"fork {slot}".encode()], [channel.fileno()])
        except OSError:  # dead, or stopped and its queue full: of no use either way
            self._process.kill()

    def end_executor(self, slot: str) -> None:
        try:
            self._control.send(f"end {slot}".encode())
        except OSError:
            self._process.kill()

    def events(self) -> list[StarterEvent]:
        found: list[StarterEvent] = []
        while not self._gone:
            try:
                data = self._control.recv(_ANSWER_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if data:
                found.extend(self._understand(json.loads(data)))
            else:
                self._lose()
                found.append(StarterGone())
        return found

    def _understand(self, answer: dict[str, Any]) -> list[StarterEvent]:
        if slot := answer.get("born"):
            self._pids[slot] = answer["pid"]
            return [Born(slot, answer["pid"])]
        if slot := answer.get("died"):
            self._pids.pop(slot, None)
            return [Died(slot, process_end(answer["returncode"], answer["maxrss"]))]
        return []

    def _lose(self) -> None:
        """The forkserver is dead: its executors have no parent that would end them."""
        self._gone = True
        for pid in self._pids.values():
            kill_tree(pid)
        self._pids.clear()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILLED_SECONDS)

    def output(self) -> str:
        return _tail(self._output)

    def close(self) -> None:
        self._control.close()  # what a forkserver ends everything upon
        try:
            self._process.wait(_FORKSERVER_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._lose()
        self._gone = True
        self._output.close()


class SpawnStarter:
    """Starts a fresh interpreter for every executor."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._output = tempfile.TemporaryFile()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._news: list[StarterEvent] = []

    def fileno(self) -> int | None:
        return None

    def start_executor(self, slot: str, channel: socket.socket) -> None:
        try:
            process = _spawn(channel, self._output, self._limits)
        except OSError as error:
            self._output.write(f"An executor could not be started: {error}\n".encode())
            self._news.append(Died(slot, ProcessEnd(1, 0)))
            return
        self._processes[slot] = process
        self._news.append(Born(slot, process.pid))

    def end_executor(self, slot: str) -> None:
        if process := self._processes.get(slot):
            kill_tree(process.pid)
            process.kill()

    def events(self) -> list[StarterEvent]:
        found, self._news = self._news, []
        for slot, process in list(self._processes.items()):
            end = _reap(process)
            if end is not None:
                del self._processes[slot]
                kill_group(process.pid)
                found.append(Died(slot, end))
        return found

    def output(self) -> str:
        return _tail(self._output)

    def close(self) -> None:
        for process in self._processes.values():
            kill_tree(process.pid)
            process.kill()
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_KILLED_SECONDS)
        self._processes.clear()
        self._output.close()


def _spawn(channel: socket.socket, output: IO[bytes], limits: Limits) -> subprocess.Popen[bytes]:
    module = "gristmill.runtime.executor.executor"
    if sys.platform == "win32":
        process = subprocess.Popen(
            _python(module, "stdin", limits.to_text()),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=child_environment(),
        )
        assert process.stdin is not None, "it was asked for"
        with process.stdin:
            process.stdin.write(channel.share(process.pid))
        return process
    return subprocess.Popen(
        _python(module, str(channel.fileno()), limits.to_text()),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=(channel.fileno(),),
        env=child_environment(),
        start_new_session=True,
    )


def _reap(process: subprocess.Popen[bytes]) -> ProcessEnd | None:
    """How a process ended, with its peak where the system tells; None while it runs."""
    if not hasattr(os, "wait4"):
        code = process.poll()
        return None if code is None else process_end(code)
    try:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    except ChildProcessError:  # somebody else in the caller's process has reaped it
        return process_end(process.poll() or 0)
    if not pid:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return process_end(process.returncode, usage.ru_maxrss)


def _tail(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    if hasattr(os, "pread"):  # leaves the position alone, which the started processes share
        return tail_of(os.pread(file.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)))
    file.seek(max(0, size - _TAIL_BYTES))
    return tail_of(file.read())
