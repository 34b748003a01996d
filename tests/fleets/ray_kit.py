"""A real Ray cluster for tests, of several nodes on this machine: ``with ray_cluster(tmp_path) as c, c.joined(): …``

It runs beside the test, in processes of its own, and takes a while to start; tests share one (the fixture ``ray_nodes``
of ``tests/conftest.py``) unless they kill it. Only who knows its token gets in. Nothing of it is left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

PROCESS = Path(__file__).parent / "ray_cluster_process.py"
PATIENCE = 60.0
# Of each node. Its processes that add and remove nodes, or tell drivers what actors print, take their time to start.
_LEAN = {"object_store_memory": 100 << 20, "no_monitor": True, "include_log_monitor": False}
MARK = "TESTS_RAY_CLUSTER"  # in the environment of every process of a cluster: the folder of its files
# As important as the test, and missed sooner than usual when they die.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_worker_niceness": "0",
    "RAY_worker_oom_score_adjustment": "0",
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
}

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install -e '.[ray]'")
ray_marks = [needs_ray]
"""``pytestmark`` of tests that need Ray. ``tests/conftest.py`` lets them share one cluster, hence one process."""


@dataclass(frozen=True)
class RayNode:
    """A node of a cluster.

    Attributes:
        id: Ray's.
        raylet: its main process.
        pids: all that was begun for it; workers and what they start are below the raylet.
    """

    id: str
    raylet: int
    pids: tuple[int, ...]

    def family(self) -> list[psutil.Process]:
        """All processes of the node that live."""
        found = []
        for pid in self.pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                found += [process, *process.children(recursive=True)]
        return found

    def kill(self) -> None:
        """End it as a loss of power does: all its processes, none of which says a word."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)  # so that none notices the end of another
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


class RayCluster:
    """A cluster and its nodes.

    Attributes:
        folder: for all files but Ray's own.
        nodes: those that were added and not removed, in order; the first is the head.
        address: ``HOST:PORT``.
        client: where Ray Client finds it, ``ray://HOST:PORT``; empty: nowhere.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.nodes: list[RayNode] = []
        self.address = self.client = ""
        self.token = folder / "ray-token"
        self.token.touch(mode=0o600)
        self.token.write_text(secrets.token_hex(32))
        # Ray's sockets lie below it, and the path of a socket is short.
        self._own = Path(tempfile.mkdtemp(prefix="gm-ray-", dir="/tmp" if len(tempfile.gettempdir()) > 20 else None))
        self.log = folder / "ray.log"
        elsewhere = folder / "elsewhere"  # not where the tests are: nodes have nothing of theirs by accident
        elsewhere.mkdir()
        variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        variables |= {**_SETTINGS, **self._door, MARK: str(self._own), "RAY_TMPDIR": str(self._own)}
        variables |= {"GRISTMILL_DATA_DIR": str(folder / "nodes"), **environment}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", str(PROCESS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=elsewhere,
                env=variables,
                start_new_session=True,
                text=True,
            )

    @property
    def _door(self) -> dict[str, str]:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}

    @property
    def variables(self) -> Mapping[str, str]:
        """What a process needs in its environment to find this cluster and to be let in."""
        return {"RAY_ADDRESS": self.address, "RAY_USAGE_STATS_ENABLED": "0", **self._door}

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Let this process find the cluster."""
        before = {name: os.environ.get(name) for name in self.variables}
        os.environ.update(self.variables)
        _read_variables_again()
        try:
            yield
        finally:
            if "ray" in sys.modules:
                import ray

                ray.shutdown()  # whoever forgot to close a session is not the next one's trouble
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
            _read_variables_again()

    def add_node(self, cpus: float = 1, **more: Any) -> RayNode:
        """Start one more node, and wait until it is there. ``more``: what ``ray.cluster_utils.Cluster`` takes."""
        made = self._order(do="add", **{"num_cpus": cpus, **_LEAN, **more})
        self.address = made["address"]
        node = RayNode(made["id"], made["raylet"], tuple(made["pids"]))
        self.nodes.append(node)
        return node

    def remove_node(self, node: RayNode, *, graceful: bool = True) -> None:
        """End a node; ``graceful``: it says goodbye. To lose one without a word, see :meth:`RayNode.kill`."""
        self._order(do="remove", id=node.id, graceful=graceful)
        self.nodes.remove(node)

    def _order(self, **order: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the cluster has ended:\n{self.said()}"
        return json.loads(line)

    def said(self) -> str:
        """All that it said."""
        return self.log.read_text(errors="replace")

    def spilled(self) -> list[Path]:
        """Files of objects that were put on disk."""
        return list(self._own.glob("**/ray_spilled_objects*/*"))

    def processes(self) -> list[psutil.Process]:
        """All that live which the cluster has started, whoever is their parent by now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == str(self._own):
                    found.append(process)
        return found

    def close(self) -> None:
        """End everything. Nothing has a chance to linger."""
        self._process.kill()
        self._process.wait(PATIENCE)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        deadline = time.monotonic() + PATIENCE
        while left := self.processes():
            assert time.monotonic() < deadline, f"they do not end: {left}"
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.02)
        shutil.rmtree(self._own, ignore_errors=True)

    def add_head(self, cpus: float = 1, **more: Any) -> RayNode:
        """Start the first node, with a server for Ray Client."""
        port = free_port()
        self.client = f"ray://127.0.0.1:{port}"
        return self.add_node(cpus, ray_client_server_port=port, **more)


@contextmanager
def ray_cluster(
    folder: Path, nodes: int = 2, cpus: float = 1, *, client: bool = False, **environment: str
) -> Iterator[RayCluster]:
    """A cluster whose nodes are there.

    Args:
        folder: for all files.
        nodes: how many, with the head.
        cpus: of each.
        client: Ray Client is served, too.
        **environment: of all its processes.
    """
    made = RayCluster(folder, **environment)
    try:
        for number in range(nodes):
            if client and not number:
                made.add_head(cpus)
            else:
                made.add_node(cpus)
        yield made
    finally:
        made.close()


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def _read_variables_again() -> None:
    """Ray reads its environment when it is imported, and keeps the token that it has found."""
    if "ray" in sys.modules:
        from ray._raylet import AuthenticationTokenLoader, Config

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
