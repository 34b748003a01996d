"""A way between a reader and a block server that the test can damage, cut, slow down or block."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from gristmill.records.columns import encode_values
from gristmill.shuffle.blocks import BlockWriter
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.groups import key_kind, make_batch

Mangle = Callable[[bytes], bytes | None]
"""What becomes of bytes on their way to the reader; None cuts the connection."""


class Proxy:
    """Forwards TCP connections to a port of this machine.

    Args:
        port: of the server.
        mangle: what becomes of what the server sends.
    """

    def __init__(self, port: int, mangle: Mangle) -> None:
        self._port, self._mangle = port, mangle
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for one in self._open:
            _end(one)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            far = socket.create_connection(("127.0.0.1", self._port))
            self._open += [near, far]
            threading.Thread(target=_pump, args=(near, far, lambda data: data), name="proxy-up", daemon=True).start()
            threading.Thread(target=_pump, args=(far, near, self._mangle), name="proxy-down", daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, mangle: Mangle) -> None:
    try:
        while data := source.recv(64 * 1024):
            passed = mangle(data)
            if passed is None:
                break
            sink.sendall(passed)
    except OSError:
        pass
    _end(source)
    _end(sink)


def _end(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    one.close()


class Flipping:
    """Flips bits of what passes, a bounded number of times.

    Args:
        seed: for where.
        times: how many bytes at most.
        every: bytes between two flips, on average.
        beyond: bytes of each connection's beginning that are left alone; 0: headers may be hit.
    """

    def __init__(self, seed: int, times: int, every: int = 20_000) -> None:
        self._chance = random.Random(seed)
        self._times, self._every = times, every
        self._next = self._chance.randrange(every)
        self.flipped = 0

    def __call__(self, data: bytes) -> bytes:
        changed = bytearray(data)
        while self._next < len(changed) and self.flipped < self._times:
            changed[self._next] ^= 1 << self._chance.randrange(8)
            self.flipped += 1
            self._next += 1 + self._chance.randrange(2 * self._every)
        self._next -= len(changed)
        if self._next < 0:
            self._next = self._chance.randrange(self._every)
        return bytes(changed)


class Cutting:
    """Cuts each connection after some bytes, a bounded number of times."""

    def __init__(self, seed: int, times: int, after: int = 100_000) -> None:
        self._chance = random.Random(seed)
        self._after = after
        self._left = self._chance.randrange(after)
        self.cuts_left = times

    def __call__(self, data: bytes) -> bytes | None:
        if self.cuts_left <= 0:
            return data
        self._left -= len(data)
        if self._left < 0:
            self.cuts_left -= 1
            self._left = self._chance.randrange(self._after)
            return None
        return data


def slow(bytes_a_second: int) -> Mangle:
    """Let so much pass."""

    def wait(data: bytes) -> bytes:
        time.sleep(len(data) / bytes_a_second)
        return data

    return wait


def silent(_data: bytes) -> bytes:
    """Swallow everything."""
    return b""


def make_block(path: Path, partitions: int, rows: int, seed: int = 0) -> BlockInfo:
    """A block with strings of many lengths in each partition."""
    chance = random.Random(f"{path.name} {seed}")
    with BlockWriter(path, partitions) as writer:
        for partition in range(partitions):
            keys = sorted({f"key{chance.randrange(10**9):09d}" for _ in range(rows)})
            values = [chance.randbytes(chance.randrange(40)) for _ in keys]
            writer.write(partition, make_batch(key_kind(keys), keys, keys, [1] * len(keys), encode_values(values)))
        return writer.finish()


def content(batches: Any) -> list[dict[str, Any]]:
    """All rows, as Python values."""
    return [row for batch in batches for row in batch.to_pylist()]
