"""The worker of a server's own: another process, as any worker is, that ends with the server however that ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gristmill.runtime.process.processes import child_environment, kill_tree
from gristmill.runtime.process.watch import EXIT_RETIRED
from gristmill.runtime.transport.cluster import AgentTls
from gristmill.runtime.transport.tls import TLS_CA, TLS_NAME, TLS_PEERS_CA

OWN_CERTIFICATE = "server-cert.pem"
"""In the data directory: the server's certificate, for those on this machine to know it by."""

PEERS = "peers-cert.pem"
"""Likewise: whom to believe of the workers that serve blocks by TLS."""

_END_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_LOOK_SECONDS = 1.0


class OwnWorker:
    """Keeps one ``gristmill worker`` running, and starts another when it dies; but not one that was told to leave.

    Its standard input is a pipe that nobody writes to: when the server is gone, killed or not, the pipe ends, and the
    worker with it.
    """

    def __init__(
        self,
        url: str,
        token_file: Path,
        data_dir: Path,
        executors: int,
        memory_bytes: int | None,
        tls: AgentTls | None = None,
        more: Sequence[str] = (),
    ) -> None:
        self._command = [
            sys.executable, "-P", "-m", "gristmill.cli.main", "worker", url, "--executors", str(executors),
            "--token-file", str(token_file), "--data-dir", str(data_dir), "--ends-with-stdin",
            *(["--memory", str(memory_bytes)] if memory_bytes else []), *more,
        ]  # fmt: skip
        self._environment: dict[str, str] = {}
        if tls is not None:
            identity = tls.identity
            self._command += ["--tls-cert", str(identity.certificate), "--tls-key", str(identity.key)]
            # The very certificate, and no CA: whatever name or address the server is reached by.
            self._environment = {TLS_CA: str(data_dir / OWN_CERTIFICATE), TLS_NAME: identity.name}
            if tls.peers_ca is not None:
                self._environment[TLS_PEERS_CA] = str(tls.peers_ca)
        self._closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep_running, name="gristmill-own-worker", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process, if it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Begin. Returns at once."""
        self._process = self._launch()
        self._thread.start()

    def close(self) -> None:
        """End the worker and all that it started, within a bounded time."""
        self._closing.set()
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            kill_tree(process.pid)
            process.wait(_END_SECONDS)
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)

    def _launch(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C on the terminal is the server's to handle.
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            env={**child_environment(), **self._environment},
            start_new_session=True,
        )

    def _keep_running(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._closing.wait(0):
            assert self._process is not None
            try:
                self._process.wait(_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                pause = _FIRST_PAUSE_SECONDS
                continue
            if self._closing.wait(pause) or self._process.returncode == EXIT_RETIRED:
                return
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = self._launch()
            if self._closing.is_set():  # ``close`` has seen the one before
                kill_tree(self._process.pid)
