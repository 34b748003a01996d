"""What Ray itself costs by call, by object and by byte: plain actors on two nodes of a Ray on this machine.

The Ray fleet speaks with its agents by calls to actors, and moves blocks as objects. This measures both without it.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

CALL_BYTES = 20_000
CALLS = 1000
LARGE_BYTES, LARGE = 16 << 20, 16
SMALL_BYTES, SMALL = 256 << 10, 200
_STORE_BYTES = 200_000_000
_AT_ONCE = 2


@contextmanager
def two_nodes() -> Iterator[Any]:
    """The module, connected to a Ray of two nodes with one CPU each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.NamedTemporaryFile("w", suffix=".token") as token:  # 0600
        token.write(secrets.token_hex(32))
        token.flush()
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN_PATH"] = "token", token.name
        import ray
        from ray.cluster_utils import Cluster

        options = {"num_cpus": 1, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=options)
        try:
            made.add_node(num_cpus=1, object_store_memory=_STORE_BYTES)
            ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
            yield ray
        finally:
            ray.shutdown()
            made.shutdown()


def measured() -> dict[str, float]:
    """Seconds of a processor: the driver's by call, a node's by object and by byte."""
    with two_nodes() as ray:

        @ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
        class Host:
            def node(self) -> str:
                return str(ray.get_runtime_context().get_node_id())

            def answer(self, message: bytes) -> bytes:
                return message

            def make(self, size: int) -> Any:
                import numpy

                return numpy.ones(size, dtype=numpy.uint8)

            def take(self, made: Any) -> int:
                return len(made)

        one, other = Host.remote(), Host.remote()
        assert ray.get(one.node.remote()) != ray.get(other.node.remote()), "one actor a node"
        message = bytes(CALL_BYTES)

        def calls() -> None:
            _in_turn(ray, CALLS, lambda n: (one, other)[n % 2].answer.remote(message))

        def moved(count: int, size: int) -> Callable[[], None]:
            return lambda: _in_turn(ray, count, lambda _: other.take.remote(one.make.remote(size)))

        for warm in (calls, moved(2, LARGE_BYTES), moved(20, SMALL_BYTES)):
            warm()
        call, small, large = (_took(one) for one in (calls, moved(SMALL, SMALL_BYTES), moved(LARGE, LARGE_BYTES)))
        by_byte = (large[1] / LARGE - small[1] / SMALL) / (LARGE_BYTES - SMALL_BYTES)
        return {
            "ray_call_seconds": call[2] / CALLS,
            "ray_object_seconds": max(0.0, small[1] / SMALL - by_byte * SMALL_BYTES),
            "ray_byte_seconds": by_byte,
        }


def _in_turn(ray: Any, count: int, call: Callable[[int], Any]) -> None:
    waiting: list[Any] = []
    for number in range(count):
        waiting.append(call(number))
        if len(waiting) > _AT_ONCE:
            ray.get(waiting.pop(0))
    ray.get(waiting)


def _took(run: Callable[[], None]) -> tuple[float, float, float]:
    """Seconds by the clock, CPU seconds of everything, CPU seconds of this process."""
    begun, all_before, own_before = time.perf_counter(), _family(), time.process_time()
    run()
    return time.perf_counter() - begun, _family() - all_before, time.process_time() - own_before


def _family() -> float:
    seconds = time.process_time()
    for child in psutil.Process().children(recursive=True):
        fields = _stat(child.pid)
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0
    return seconds


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
