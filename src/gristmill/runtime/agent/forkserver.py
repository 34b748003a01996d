"""The forkserver: a small process that imports once what executors need, and forks them.

It runs no user code and no second thread, so that its forks are sound. It is the parent of every executor, and the
process that adopts what dead executors leave behind. Whatever executors leave is ended at once, and everything is ended
when the process that uses the forkserver is gone, however it went.

The control socket keeps messages apart (SOCK_SEQPACKET). Requests: ``fork SLOT`` with one descriptor, the executor's
channel; ``end SLOT``. Answers, as JSON: ``{"ready": threads}``, ``{"born": slot, "pid": n}`` and
``{"died": slot, "returncode": n, "maxrss": n}``.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from typing import Any, NoReturn

from gristmill.runtime.executor.executor import preload, serve_channel
from gristmill.runtime.process.limits import Limits, limit_this_process, user_processes
from gristmill.runtime.process.processes import become_subreaper, children, kill, kill_group, kill_tree, thread_count

_REQUEST_BYTES = 4096
_LOOK_MILLISECONDS = 500  # how often to look whether the caller lives, besides the control socket
_LAST_RITES_SECONDS = 1.5
_EXIT_CRASHED = 70


class _Forkserver:
    """``_executors`` holds exactly the children that were forked and not yet reaped."""

    def __init__(self, control: socket.socket, limits: Limits) -> None:
        self._limits, self._user_processes = limits, user_processes()
        self._control = control
        self._caller = os.getppid()
        self._executors: dict[int, str] = {}
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)

    def serve(self) -> None:
        """Work until the caller is gone. In a forked child this never returns."""
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # a handler is needed for the wake-up below
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        self._tell({"ready": thread_count()})
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_reader, select.POLLIN)
        while os.getppid() == self._caller:
            ready = [fd for fd, _ in poll.poll(_LOOK_MILLISECONDS)]
            if self._wake_reader.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    self._wake_reader.recv(_REQUEST_BYTES)
                self._reap()
            if self._control.fileno() in ready and not self._take_request():
                return

    def end_everything(self) -> None:
        """End all executors and all they started. Bounded, whatever they do."""
        deadline = time.monotonic() + _LAST_RITES_SECONDS
        for pid in list(self._executors):
            kill_tree(pid)
        self._executors.clear()
        while time.monotonic() < deadline:
            for pid in children(os.getpid()):
                kill(pid)
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                time.sleep(0.002)

    def _take_request(self) -> bool:
        """Carry out one request; False when there will be no more."""
        try:
            data, fds, _, _ = socket.recv_fds(self._control, _REQUEST_BYTES, 1)
        except OSError:
            return False
        verb, _, slot = data.decode().partition(" ")
        if verb == "fork":
            self._fork(slot, fds[0])
        elif verb == "end":
            for pid, name in self._executors.items():
                if name == slot:
                    kill_tree(pid)
        return bool(verb)

    def _fork(self, slot: str, channel: int) -> None:
        try:
            pid = os.fork()
        except OSError:  # no more processes, or no memory for one
            traceback.print_exc()
            os.close(channel)
            self._tell({"died": slot, "returncode": _EXIT_CRASHED, "maxrss": 0})
            return
        if pid == 0:
            self._become_executor(channel)
        os.close(channel)
        self._executors[pid] = slot
        self._tell({"born": slot, "pid": pid})

    def _become_executor(self, channel: int) -> NoReturn:
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for ours in (self._control, self._wake_reader, self._wake_writer):
                ours.close()
            limit_this_process(self._limits, self._user_processes)
            serve_channel(socket.socket(fileno=channel))
        except BaseException:  # nothing may climb into the forkserver's own loop in this copy of it
            traceback.print_exc()
        finally:
            os._exit(_EXIT_CRASHED)

    def _reap(self) -> None:
        """Take note of the dead, and end what they leave."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            slot = self._executors.pop(pid, None)
            if slot is not None:
                kill_group(pid)
                code = os.waitstatus_to_exitcode(status)
                self._tell({"died": slot, "returncode": code, "maxrss": usage.ru_maxrss})
        # Living executors adopt their own orphans, so a child that is not one of them belonged to a dead one. Its own
        # children come to us when it dies, and with them the next signal.
        for pid in children(os.getpid()):
            if pid not in self._executors:
                kill(pid)

    def _tell(self, answer: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the caller is gone: the loop is about to notice
            self._control.send(json.dumps(answer).encode())


def main() -> None:
    """Entry: ``python -m gristmill.runtime.agent.forkserver CONTROL LIMITS``, with CONTROL the socket's descriptor."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    server = _Forkserver(control, Limits.from_text(sys.argv[2]))
    become_subreaper()
    preload()
    gc.collect()
    gc.freeze()
    try:
        server.serve()
    finally:
        server.end_everything()


if __name__ == "__main__":
    main()
