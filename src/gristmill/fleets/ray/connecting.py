"""How this process gets to a Ray cluster: one that is there, or one of its own."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from gristmill.errors import RayUnreachable, UsageError, VersionMismatch
from gristmill.fleets.ray.placing import Node
from gristmill.fleets.ray.settings import RaySettings

_EXTRA = "Ray is not installed here. Install it with: pip install 'gristmill[ray]'"

_lock = threading.Lock()
_users = 0  # of the connection that we made
_ours = False


@dataclass(frozen=True)
class Connection:
    """A connection to a cluster.

    Attributes:
        own: whether the cluster is this process's own, and ends with it.
        data_dir: where members keep what they make; empty: each in its node's own folder.
    """

    own: bool
    data_dir: str = ""

    def nodes(self) -> list[Node]:
        """What each node that lives has in all."""
        import ray

        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return [Node(float(has.get("CPU", 0)), int(has.get("memory", 0))) for has in alive]

    def is_shared(self) -> bool:
        """Whether others are at work on it."""
        import ray

        return bool(ray.available_resources().get("CPU", 0.0) < ray.cluster_resources().get("CPU", 0.0))

    def close(self) -> None:
        """Let go of it. A cluster of our own ends when nobody uses it any more."""
        import ray

        global _users, _ours
        with _lock:
            _users -= 1
            if _users == 0 and _ours:
                _ours = False
                ray.shutdown()


def connect(settings: RaySettings) -> Connection:
    """Connect to the cluster that the settings name.

    Raises:
        UsageError: Ray is not installed.
        VersionMismatch: the cluster is of another version.
        RayUnreachable: it does not answer, or refuses.
    """
    global _users, _ours
    with _lock:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = settings.address if settings.address != "ray" else os.environ.get("RAY_ADDRESS", "")
        there = "ray" in sys.modules and _is_connected()
        if not there and not address:
            _shut_the_door()
        try:
            import ray  # noqa: F401 - to see whether it is there
        except ImportError as error:
            raise UsageError(_EXTRA) from error
        own = not there and not address
        if own:
            _start(settings)
        elif not there:
            _join(address)
        _ours = _ours or not there
        _users += 1
        return Connection(own, str(settings.data_dir or "") if own or (_ours and not address) else "")


def _is_connected() -> bool:
    import ray

    return bool(ray.is_initialized())


def _join(address: str) -> None:
    import ray

    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ray.exceptions.RayError, ValueError) as error:
        text = " ".join(str(error).split())
        if "ersion mismatch" in text:
            raise VersionMismatch(
                f"The Ray cluster at {address} is of another version than this process: {text} Both must have the "
                "same versions of Ray and of Python."
            ) from error
        raise RayUnreachable(f"The Ray cluster at {address} does not answer: {text}") from error


def _shut_the_door() -> None:
    """Let only who knows a token use the cluster that is about to be started. Ray reads this when it is imported."""
    if "RAY_AUTH_MODE" in os.environ:
        return  # the user has decided
    os.environ["RAY_AUTH_MODE"] = "token"
    if not any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        descriptor, path = tempfile.mkstemp(prefix="gristmill-ray-token-")  # for this user's eyes alone
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        atexit.register(Path(path).unlink, missing_ok=True)
        os.environ["RAY_AUTH_TOKEN_PATH"] = path
    if "ray" in sys.modules:
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")  # … unless it is told to read it again


def _start(settings: RaySettings) -> None:
    """A cluster of our own."""
    import ray

    ray.init(
        address="local",
        num_cpus=settings.executors,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
