"""A Ray of this process's own: on this machine, for as long as it is used, open to nobody else.

It has few of the processes that ``ray.init()`` would start: none of those that carry logs here, show pages or add
nodes. What it writes lies in two folders: one with a short name, for the paths of sockets are short, and one below the
data directory for objects that do not fit into memory.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from gristmill.errors import GristmillError
from gristmill.fleets.ray.folders import open_folder, sweep
from gristmill.fleets.ray.quiet import told
from gristmill.runtime.process.private import make_folder
from gristmill.runtime.worker.datadirs import DataDirs

_log = logging.getLogger(__name__)

_START_SECONDS = 120.0
_CLOSE_SECONDS = 30.0
_ENDED_SECONDS = 5.0  # for what was killed to be gone
_PATH_CHARACTERS = 40  # of the folder that holds sockets; a socket's path may have 107, and Ray adds to it
_OPTIONS: dict[str, Any] = {
    "num_cpus": 1,  # by its books; members here reserve nothing, and for each CPU an idle process would be started
    "num_gpus": 0,
    "object_store_memory": 512 << 20,  # for objects on their way; members here read each other's blocks from files
    "include_dashboard": False,
}
_SETTINGS: dict[str, Any] = {
    "worker_niceness": 0,  # it works for this process: as important as what ``local`` starts
    "worker_oom_score_adjustment": 0,
    "memory_monitor_refresh_ms": 0,  # executors are watched by us; this would end all of them with their member
}


class OwnRay:
    """Starts it; this process is connected to it then. Started and ended in a thread of its own.

    Ray's processes end with the thread that began them, and callers' threads come and go.

    Args:
        data_dir: below it is what does not fit into memory.

    Raises:
        GristmillError: it does not come up.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._up, self._stop = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._dirs: list[DataDirs] = []
        self._thread = threading.Thread(target=self._run, name="gristmill-own-ray", daemon=True)
        self._thread.start()
        if not self._up.wait(_START_SECONDS):
            self._stop.set()
            raise GristmillError(f"Ray did not start within {_START_SECONDS:g} s.")
        if self._error is not None:
            raise GristmillError(f"Ray does not start: {self._error}") from self._error

    def close(self) -> None:
        """End it, and remove what it wrote."""
        self._stop.set()
        self._thread.join(_CLOSE_SECONDS)

    # The thread.

    def _run(self) -> None:
        try:
            with contextlib.ExitStack() as undo:
                self._start(undo)
                self._up.set()
                self._stop.wait()
        except BaseException as error:  # whoever waits for it raises it, once nothing is left
            self._error = error
            self._up.set()

    def _start(self, undo: contextlib.ExitStack) -> None:
        sockets, objects = self._folder(_short_base(), undo), self._folder(self._data_dir / "ray", undo)
        token = sockets / "token"
        with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        door: dict[str, str | None] = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        door |= {"RAY_AUTH_TOKEN": None, "RAY_ADDRESS": None}
        with told(**door):
            import ray

            undo.callback(_end_those_of, sockets)  # that of a start which has failed on its way, too
            address, more = "local", {}
            try:
                begin = _few(str(sockets), str(objects))
            except (ImportError, AttributeError, TypeError) as error:
                _log.debug("this Ray has other insides, and is started with all its processes: %s", error)
                more = _OPTIONS | {"object_spilling_directory": str(objects), "_system_config": dict(_SETTINGS)}
            else:
                node = begin()
                address = node.address
                undo.callback(node.kill_all_processes, check_alive=False, allow_graceful=True)
            undo.callback(ray.shutdown)
            ray.init(address, _temp_dir=str(sockets), log_to_driver=False, logging_level=logging.CRITICAL, **more)

    def _folder(self, base: Path, undo: contextlib.ExitStack) -> Path:
        """A folder that is this process's as long as it lives; those of processes that were killed are removed."""
        make_folder(base)
        folder = base / f"gristmill-{secrets.token_hex(3)}"
        dirs = open_folder(folder)
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        undo.callback(dirs.close)
        sweep(base)
        return folder


def _short_base() -> Path:
    """Where to put sockets: their paths are short."""
    base = Path(tempfile.gettempdir()).resolve()
    if len(str(base)) > _PATH_CHARACTERS - len("/gm-ray-65535/gristmill-123456"):
        base = Path("/tmp")
    mine = base / f"gm-ray-{os.getuid()}"
    with contextlib.suppress(OSError):
        make_folder(mine)
        if mine.stat().st_uid == os.getuid() and not mine.is_symlink() and not mine.stat().st_mode & 0o077:
            return mine
    return Path(tempfile.mkdtemp(prefix="gm-", dir=base))  # somebody else was there first


def _few(folder: str, objects: str) -> Callable[[], Any]:
    """How to start a Ray as ``ray.init()`` does, but for the processes that nobody here needs. Starts none yet.

    Raises:
        ImportError, AttributeError, TypeError: this Ray has other insides.
    """
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    class Few(Node):
        def start_api_server(self, **_options: Any) -> None:
            """There are no pages to be seen."""

    wanted = RayParams(
        **_OPTIONS,
        object_spilling_directory=objects,
        include_log_monitor=False,  # type: ignore[arg-type]
        no_monitor=True,
        temp_dir=folder,
        _system_config=dict(_SETTINGS),
    )
    given: dict[str, Any] = {"head": True, "shutdown_at_exit": False, "spawn_reaper": True}
    inspect.signature(Node).bind(wanted, **given)
    for used in ("start_api_server", "kill_all_processes", "address"):
        getattr(Node, used)
    return lambda: Few(wanted, **given)


def _end_those_of(folder: Path) -> None:
    """End what this process has started for a Ray whose files are in a folder, if anything is left of it."""
    ended = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(str(folder) in word for word in process.cmdline()):
                process.kill()
                ended.append(process)
    psutil.wait_procs(ended, timeout=_ENDED_SECONDS)
