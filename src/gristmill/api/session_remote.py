"""A session on a server: its lease is renewed for as long as this process lives."""

from __future__ import annotations

import os
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from gristmill.api.client import ServerClient, connect
from gristmill.api.remote import RemoteHandle, absolute_output, hand_over, request_for
from gristmill.api.rows import Rows
from gristmill.api.session_local import submission_of
from gristmill.api.shared import Broadcast, data_of
from gristmill.config import JobOptions
from gristmill.errors import GristmillError, SessionClosed
from gristmill.plan.cut import Cut, cut
from gristmill.plan.logical import Node
from gristmill.plan.stages import OutputSink, RowsSink
from gristmill.runtime.executor.reading import BlockInfo, SegmentInfo
from gristmill.runtime.files.blobs import digest_of

if TYPE_CHECKING:
    from gristmill.api.result import JobResult
    from gristmill.runtime.views import Observer

T = TypeVar("T")

_RENEWALS = 4  # in the time of a lease


class RemoteEngine:
    """See :class:`~gristmill.api.session.Engine`.

    A server that was restarted knows the session no more. Then another one is opened, and what was kept is made again.
    """

    def __init__(self, options: JobOptions, observe: Callable[[], Observer | None] = lambda: None) -> None:
        from gristmill.runtime.files.jobfolder import JobFolder, tidy

        self._options = options
        self._observe = observe
        self._server = connect(options.on, options.token_file, options.data_dir)
        self._renewing = connect(options.on, options.token_file, options.data_dir)  # for the thread that renews
        self._lock = threading.Lock()
        self._session, self._lease_seconds = _open(self._server)
        self._pid = os.getpid()
        tidy(options.data_dir, time.time())
        self._folder = JobFolder.create(options.data_dir, {"name": "session", "passes": True}, time.time())
        self._broadcasts: dict[str, str] = {}  # the session that has each, by its digest
        self._closing = threading.Event()
        threading.Thread(target=self._renew, name="gristmill-lease", daemon=True).start()

    def rows(self, node: Node, name: str, first: int = 0, earlier: Rows | None = None) -> Rows:
        """Run a job for its elements; they are brought here block by block."""
        kept = earlier.kept if earlier else f"result-{secrets.token_hex(8)}"
        made = cut(node, RowsSink(kept, first))

        def run(session: str) -> Rows:
            with self._submit(session, made, name, None, "error") as handle:
                view = handle.finish().view
            found = self._server.get(f"/sessions/{session}/kept/{kept}")["blocks"]
            segments = [SegmentInfo(0, one["length"], one["rows"], one["crc32"]) for one in found]
            blocks = [BlockInfo(str(place), (segment,)) for place, segment in enumerate(segments)]
            return Rows(
                view,
                blocks,
                lambda some: self._bring(session, kept, some),
                lambda: self._forget(kept),
                kept,
                lambda left: self.rows(node, name, first, left),
            )

        rows = self._in_session(run)
        if earlier:
            earlier.hand_over()
        return rows

    def write(self, node: Node, name: str, sink: OutputSink, output: str, mode: str) -> JobResult:
        """Run a job for its output."""
        made = cut(node, sink)
        place = output if "://" in output else absolute_output(output)
        key = uuid.uuid4().hex  # also after a restart it is one job

        def run(session: str) -> JobResult:
            with self._submit(session, made, name, place, mode, key) as handle:
                return handle.wait()

        return self._in_session(run)

    def unpersist(self, kept: str) -> None:
        """Forget what is kept under a name."""
        self._forget(kept)

    def close(self) -> None:
        """End the session. A fork of this process does nothing: it is not its own."""
        if os.getpid() != self._pid or self._closing.is_set():
            return
        self._closing.set()
        self._folder.remove()
        with suppress(GristmillError):  # the server is away: then the lease ends it
            self._server.delete(f"/sessions/{self._session}")

    def _in_session(self, run: Callable[[str], T]) -> T:
        session = self._session
        try:
            return run(session)
        except SessionClosed:
            with self._lock:
                if self._session == session:
                    self._session, self._lease_seconds = _open(self._server)
            return run(self._session)

    def _submit(self, session: str, made: Cut, name: str, output: str | None, mode: str, key: str = "") -> RemoteHandle:
        from gristmill.api.shipping import Shipment

        values: dict[str, bytes] = {}

        def send(broadcast: Broadcast[Any]) -> str:
            if self._broadcasts.get(broadcast.digest) != session:
                values[broadcast.digest] = data_of(broadcast, self._destroy)
            return broadcast.digest

        submission = submission_of(made, name, output, self._options, send)
        code = submission.code
        shipment = Shipment(code, self._options.py_files)
        bundle = shipment.bundle()
        blobs = {**values, **{digest_of(data): data for data in (code, bundle) if data is not None}}
        submission = replace(
            submission,
            code=b"",
            import_paths=(),
            base=os.getcwd(),  # noqa: PTH109 - as it is, not resolved
            mode=mode,
            bundles=() if bundle is None else (digest_of(bundle),),
            sources=shipment.sources(),
        )
        request = request_for(submission, digest_of(code))
        handle = hand_over(self._server, request, blobs, self._observe(), key=key, session=session)
        self._broadcasts.update(dict.fromkeys(values, session))
        return handle

    def _destroy(self, digest: str) -> None:
        """Forget the value of a broadcast."""
        if (
            os.getpid() == self._pid
            and self._broadcasts.pop(digest, "") == self._session
            and not self._closing.is_set()
        ):
            with suppress(GristmillError):  # the session has ended, and with it all that it was sent
                self._server.delete(f"/sessions/{self._session}/broadcasts/{digest}")

    def _bring(self, session: str, kept: str, blocks: Sequence[BlockInfo]) -> Iterator[BlockInfo]:
        for block in blocks:
            path = self._folder.path / secrets.token_hex(8)
            try:
                self._server.download(f"/sessions/{session}/kept/{kept}/{block.path}", path)
                yield replace(block, path=str(path))
            finally:
                path.unlink(missing_ok=True)

    def _forget(self, kept: str) -> None:
        if not self._closing.is_set() and os.getpid() == self._pid:
            with suppress(GristmillError):  # the session has ended, and with it all that it kept
                self._server.delete(f"/sessions/{self._session}/kept/{kept}")

    def _renew(self) -> None:
        while not self._closing.wait(self._lease_seconds / _RENEWALS):
            with suppress(GristmillError):  # the next action will find out
                self._renewing.post(f"/sessions/{self._session}/renew")


def _open(server: ServerClient) -> tuple[str, float]:
    answer = server.post("/sessions", headers={"Idempotency-Key": uuid.uuid4().hex})
    return str(answer["id"]), float(answer["lease_seconds"])
