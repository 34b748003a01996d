"""How this process gets to a Ray cluster: one that it belongs to, one that is named, or one of its own.

A process is connected to one Ray at a time. What we have connected is shared by all fleets of the process, and the last
of them lets go of it; what the user has connected stays as it is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gristmill.config import available_cpus, available_memory
from gristmill.errors import RayUnreachable, UsageError
from gristmill.fleets.ray.placing import Node
from gristmill.fleets.ray.quiet import Mute, own_signals, read_again, silent_stderr, told
from gristmill.fleets.ray.settings import RaySettings
from gristmill.fleets.ray.words import not_installed, refused

if TYPE_CHECKING:
    from gristmill.fleets.ray.own import OwnRay

CLIENT = "ray://"
_KNOCK_SECONDS = 10.0  # for the other end to take a connection
_TRIES = {
    "RAY_gcs_server_port_wait_time_s": "5",  # tries, a second apart: what listens there answers, or lets nobody in
    "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "4",  # three tries …
    "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "4",  # … of so long each
}


@dataclass
class _Made:
    """The connection that we have made.

    Attributes:
        address: what it leads to; empty: a Ray of our own.
        let_go: ends it.
        users: fleets that use it.
    """

    address: str
    let_go: Callable[[], None]
    users: int = 0


@dataclass
class _State:
    lock: threading.Lock = field(default_factory=threading.Lock)
    made: _Made | None = None
    forked: bool = False  # this process is a fork of one that was connected: what it has inherited is of no use


_state = _State()


def _forked() -> None:
    _state.lock = threading.Lock()
    _state.forked = _state.forked or _state.made is not None or _is_connected()
    _state.made = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Connection:
    """A connection to a cluster.

    Args:
        own: what each fleet has of a cluster that is this process's own; None: it is somebody else's.
        made: what it shares with others; None: the user has made it.
        data_dir: where members keep what they make; empty: each in its node's own folder.
    """

    def __init__(self, own: Node | None, made: _Made | None, data_dir: str) -> None:
        self.own = own is not None
        self.data_dir = data_dir
        self._share = own
        self._made = made
        self._pid = os.getpid()
        self._open = True

    def nodes(self) -> list[Node]:
        """What each node that lives has in all."""
        import ray

        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if self._share is not None:
            return [self._share]
        return [Node(float(has.get("CPU", 0)), int(has.get("memory", 0))) for has in alive]

    def is_shared(self) -> bool:
        """Whether others are at work on it."""
        if self._share is not None:
            return False
        import ray

        return bool(ray.available_resources().get("CPU", 0.0) < ray.cluster_resources().get("CPU", 0.0))

    def grows(self) -> bool:
        """Whether it has an autoscaler, as far as can be known: through Ray Client it cannot."""
        if self._share is not None:
            return False
        from ray._private.state import state

        try:
            return state.get_max_resources_from_cluster_config() is not None
        except Exception:  # it is Ray's own, and may have moved
            return False

    def close(self) -> None:
        """Let go of it. A cluster of our own ends when nobody uses it any more. May be called again."""
        if os.getpid() != self._pid or not self._open:
            return  # in a fork of this process it is not ours to end
        self._open = False
        made = self._made
        if made is None:
            return
        with _state.lock:
            made.users -= 1
            if not made.users:
                _state.made = None
                made.let_go()


def connect(settings: RaySettings) -> Connection:
    """Connect to the cluster that the settings name.

    Raises:
        UsageError: Ray is not installed; or this process cannot be connected to that cluster.
        VersionMismatch: the cluster is of another version.
        RayUnreachable: it does not answer, or refuses.
    """
    with _state.lock:
        if _state.forked:
            raise UsageError(
                "This process is a fork of one that was connected to Ray, which does not survive that. Start it by "
                "spawn: multiprocessing.get_context('spawn')."
            )
        named = settings.address if settings.address != "ray" else os.environ.get("RAY_ADDRESS", "")
        address = "" if named == "local" else named
        if _state.made is None and _is_connected():
            _check_client(settings.address)
            return Connection(None, None, "")
        if _state.made is None:
            _state.made = _made(settings, address)
        elif _state.made.address != address:
            other = f"the Ray cluster at {_state.made.address}" if _state.made.address else "a Ray of its own"
            raise UsageError(
                f"This process is connected to {other}, and to one Ray at a time. Close what runs there before."
            )
        _state.made.users += 1
        if address:
            return Connection(None, _state.made, "")
        share = Node(settings.executors or available_cpus(), max(available_memory(), settings.memory_bytes or 0))
        return Connection(share, _state.made, str(settings.data_dir or ""))


def _made(settings: RaySettings, address: str) -> _Made:
    """Connect this process."""
    with own_signals():
        if address:
            return _joined(address)
        with told():
            _import()
        from gristmill.fleets.ray.own import OwnRay

        assert settings.data_dir is not None, "a Ray of our own has a place for what it writes"
        mute = Mute()
        try:
            own = OwnRay(settings.data_dir)
        except BaseException:
            mute.end()
            raise
        return _Made("", lambda: _end_own(own, mute))


def _end_own(own: OwnRay, mute: Mute) -> None:
    own.close()
    mute.end()
    read_again()  # a Ray that the user starts from now on has nothing of ours


def _joined(address: str) -> _Made:
    if address != "auto":
        _knock(address)
    with told(**_TRIES):
        ray = _import()
        mute = Mute()
        try:
            with silent_stderr():
                try:
                    _init(ray, address)
                except ConnectionAbortedError:  # the process that is begun there for each client may not come up
                    ray.shutdown()
                    _init(ray, address)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            with contextlib.suppress(Exception):  # it may be connected by half
                ray.shutdown()
            mute.end()
            raise refused(address, error) from error

    def let_go() -> None:
        ray.shutdown()
        mute.end()
        read_again()  # what we have told it is not for the next one

    return _Made(address, let_go)


def _init(ray: Any, address: str) -> None:
    ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)


def _knock(address: str) -> None:
    """See that somebody listens there: Ray itself asks for minutes.

    Raises:
        RayUnreachable: nobody does.
        UsageError: the address is none.
    """
    scheme, _, rest = address.rpartition("://")
    host, _, port = rest.partition("/")[0].rpartition(":")
    if scheme not in ("", "ray") or not host or not port.isdigit():
        raise UsageError(f"{address!r} is no address of a Ray cluster. It is HOST:6379, or ray://HOST:10001.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()
    except OSError as error:
        raise RayUnreachable(
            f"Nobody answers at {address}, where a Ray cluster is expected: {error.strerror or error}."
        ) from error


def _import() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UsageError(not_installed(error)) from error
    return ray


def _is_connected() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _check_client(address: str) -> None:
    """See that the user's own connection is the one that is named.

    Raises:
        UsageError: it is another.
    """
    if not address.startswith(CLIENT):
        return
    import ray.util.client

    client = ray.util.client.ray
    there = getattr(client.get_context().client_worker, "_conn_str", "") if client.is_connected() else ""
    if there != address.removeprefix(CLIENT).partition("/")[0]:
        raise UsageError(
            "This process is connected to another Ray already. Use that one with --on ray, or disconnect before: "
            "ray.shutdown()."
        )
