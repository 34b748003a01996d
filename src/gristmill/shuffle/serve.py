"""Serves the blocks of one worker to readers on other machines, over Arrow Flight.

Only files in ``ROOT/jobs/JOB/blocks/`` are served, after links to that folder are resolved and never through one in it,
and only for a ticket of that very job (see :mod:`gristmill.shuffle.tickets`). A block that may not be served and one
that is not there get the same answer.

Blocks are read, not mapped: a mapped file that is cut off, or a disk that fails, would end the whole process by SIGBUS.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from io import FileIO
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
from pyarrow import flight

from gristmill.config import MIB
from gristmill.shuffle.opening import open_file
from gristmill.shuffle.request import BATCH_BYTES, GONE, Piece, Request, answer_schema
from gristmill.shuffle.shelf import located
from gristmill.shuffle.tickets import opens

_ALONE_BYTES = 256 * 1024  # from this size on bytes travel in a batch of their own, without being copied
_MIN_BATCH_BYTES = 4 * 1024
_CLOSE_SECONDS = 5.0
_MOST_READ_BYTES = 64 * MIB

_Row = tuple[int, Any, str | None]


class BlockServer:
    """A Flight server for the blocks below some data directories. It serves from its creation until it is closed.

    Args:
        roots: the worker's data directories.
        host: the address to bind; the port is chosen by the system.
        port: another than a free one.
        pair: certificate and key, in PEM, to serve by TLS; None: nothing is encrypted.
        pass_on: gets the answer to a request from whoever keeps its blocks, by the address; None: only own blocks are
            served.

    Attributes:
        on_trouble: told the path of a block that should be there and cannot be read; called in any thread.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        host: str = "127.0.0.1",
        port: int = 0,
        pair: tuple[bytes, bytes] | None = None,
        pass_on: Callable[[str, Request], Iterator[Any]] | None = None,
    ) -> None:
        self._pass_on = pass_on
        self._roots = [os.path.realpath(root) for root in roots]
        self._tickets: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._closed = False
        self.on_trouble: Callable[[str], None] = _unheard
        name = f"[{host}]" if ":" in host else host
        self._server = _FlightServer(f"{name}:{port}", self, pair)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.port)

    def allow(self, job: str, ticket: str) -> None:
        """Serve a job's blocks to whoever has a ticket that is made of its secret. An empty secret opens nothing."""
        with self._lock:
            self._tickets[job] = ticket.encode()

    def forget(self, job: str) -> None:
        """Serve a job's blocks no more."""
        with self._lock:
            self._tickets.pop(job, None)

    def close(self) -> None:
        """End the server; readers see a broken stream. Bounded; may be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        # It waits for running calls, which end when their readers do: not here.
        ending = threading.Thread(target=self._server.shutdown, name="gristmill-blocks-close", daemon=True)
        ending.start()
        ending.join(_CLOSE_SECONDS)

    def __enter__(self) -> BlockServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # In a thread of the server.

    def answer(self, data: bytes) -> Iterator[Any]:
        """The batches that answer a request.

        Raises:
            FlightUnauthenticatedError: the ticket is wrong.
            ValueError: it is not a request.
        """
        request = Request.from_bytes(data)
        with self._lock:
            expected = self._tickets.get(request.job, b"")
        # A job that is not known takes as long as a wrong ticket.
        if not opens(request.ticket, expected, request.job, time.time()):
            raise flight.FlightUnauthenticatedError(f"this ticket does not open the blocks of job {request.job}")
        if request.keeper and self._pass_on is not None:
            return self._pass_on(request.keeper, replace(request, keeper=""))
        return self._batches(request)

    def read(self, data: bytes) -> list[Any]:
        """The batches that answer a request, for whoever carries them another way than by Flight: all at once.

        Raises:
            ValueError: it is not a request, asks for more than comes at once, or its ticket is wrong.
        """
        try:
            if sum(piece.length for piece in Request.from_bytes(data).pieces) > _MOST_READ_BYTES:
                raise ValueError(f"a request for more than {_MOST_READ_BYTES} bytes")
            return list(self.answer(data))
        except flight.FlightError as error:
            raise ValueError(str(error).partition(". gRPC client debug")[0]) from error

    def _batches(self, request: Request) -> Iterator[Any]:
        """Small pieces gathered into batches, large ones in batches of their own."""
        limit = min(max(request.batch_bytes, _MIN_BATCH_BYTES), BATCH_BYTES)
        gathered: list[_Row] = []
        size = 0
        for row in self._rows(request, limit):
            if self._closed:
                return
            length = len(row[1])
            if gathered and (size + length > limit or length >= _ALONE_BYTES):
                yield _batch(gathered)
                gathered, size = [], 0
            gathered.append(row)
            size += length
        if gathered:
            yield _batch(gathered)

    def _rows(self, request: Request, limit: int) -> Iterator[_Row]:
        folders = {f"{root}{os.sep}jobs{os.sep}{request.job}{os.sep}blocks" for root in self._roots}
        real: dict[str, str] = {}  # folder as it is asked for → without links; most pieces lie in the same few
        for number, piece in enumerate(request.pieces):
            folder, _, _ = piece.path.rpartition(os.sep)
            if folder not in real:
                real[folder] = os.path.realpath(folder)
            if real[folder] not in folders:
                yield number, b"", GONE
                continue
            try:
                with open_file(located(piece.path)) as file:
                    yield from _read(file, number, piece, limit)
            except OSError as error:
                self.on_trouble(piece.path)
                is_gone = isinstance(error, (FileNotFoundError, NotADirectoryError))
                yield number, b"", GONE if is_gone else f"unreadable: {error.strerror or error}"


def _unheard(_path: str) -> None:
    """Stands in for whoever looks after the data directories."""


def _read(file: FileIO, number: int, piece: Piece, limit: int) -> Iterator[_Row]:
    file.seek(piece.offset)
    left = piece.length
    while left:
        buffer = pa.allocate_buffer(min(left, limit))
        count = file.readinto(memoryview(buffer))
        if not count:
            yield number, b"", f"cut off at {os.fstat(file.fileno()).st_size} bytes"
            return
        yield number, buffer.slice(0, count) if count < buffer.size else buffer, None
        left -= count
    if not piece.length:
        yield number, b"", None


def _batch(rows: Sequence[_Row]) -> Any:
    numbers, datas, errors = zip(*rows, strict=True)
    offsets = pa.array(accumulate(map(len, datas), initial=0), pa.int64(), size=len(datas) + 1)
    data = datas[0] if len(datas) == 1 else b"".join(datas)
    buffers = [None, offsets.buffers()[1], data if isinstance(data, pa.Buffer) else pa.py_buffer(data)]
    column = pa.Array.from_buffers(pa.large_binary(), len(datas), buffers)
    return pa.record_batch([pa.array(numbers, pa.int32()), column, pa.array(errors, pa.string())], schema=_SCHEMA)


_SCHEMA = answer_schema()


class _FlightServer(flight.FlightServerBase):  # type: ignore[misc]
    """Flight's side of it. All but ``do_get`` is refused by a middleware: nothing else is served here."""

    def __init__(self, where: str, blocks: BlockServer, pair: tuple[bytes, bytes] | None) -> None:
        self._blocks = blocks
        super().__init__(
            f"grpc://{where}" if pair is None else f"grpc+tls://{where}",
            tls_certificates=None if pair is None else [pair],
            middleware={"only-blocks": _OnlyBlocks()},
        )

    def do_get(self, _context: Any, ticket: Any) -> Any:
        try:
            batches = self._blocks.answer(ticket.ticket)
        except ValueError as error:
            raise flight.FlightServerError(str(error)) from error
        return flight.GeneratorStream(_SCHEMA, batches)


class _OnlyBlocks(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Refuses every call but for blocks, before anything of it is read."""

    def start_call(self, info: Any, _headers: Any) -> None:
        """Called before each call."""
        if info.method != flight.FlightMethod.DO_GET:
            raise flight.FlightUnauthenticatedError("a worker gives blocks, for a job's ticket, and nothing else")
