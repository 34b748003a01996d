"""A session on this machine: a coordinator with its fleet, which runs one job after the other."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gristmill.api.job import JobHandle, JobResources, open_fleet, pack, sigint_held, within_this_machine
from gristmill.api.layouts import Layouts
from gristmill.api.rows import Rows
from gristmill.api.shared import Broadcast, broadcasts_used, data_of
from gristmill.config import JobOptions
from gristmill.plan.cut import Cut, cut
from gristmill.plan.logical import Node
from gristmill.plan.stages import OutputSink, RowsSink

if TYPE_CHECKING:
    from gristmill.api.prepare import Submission
    from gristmill.api.result import JobResult
    from gristmill.runtime.executor.reading import BlockInfo
    from gristmill.runtime.views import Observer

_CANCEL_SECONDS = 10.0  # how long a cancelled job may take to be over


class LocalEngine:
    """See :class:`~gristmill.api.session.Engine`."""

    def __init__(self, options: JobOptions, observe: Callable[[], Observer | None] = lambda: None) -> None:
        from gristmill.runtime.coordinator.coordinator import Coordinator
        from gristmill.runtime.files.jobfolder import JobFolder

        self._options = within_this_machine(options)
        self._observe = observe
        self._pid = os.getpid()
        self._layouts = Layouts()
        self._ticket = secrets.token_hex(16)  # opens what the session keeps
        with sigint_held(), ExitStack() as undo:
            self._fleet = open_fleet(self._options)
            self._coordinator = Coordinator(self._fleet, threaded=options.on != "inline")
            undo.callback(self._coordinator.close)
            self._coordinator.start()
            self._folder = JobFolder.create(options.data_dir, {"name": "session", "passes": True}, time.time())
            undo.pop_all()

    def rows(self, node: Node, name: str, first: int = 0, earlier: Rows | None = None) -> Rows:
        """Run a job for its elements: the session keeps the blocks of its last stage until nobody wants them."""
        kept = earlier.kept if earlier else f"result:{secrets.token_hex(8)}"
        handle = self._start(cut(node, RowsSink(kept, first)), name, None, "error")
        with handle:
            view = handle.finish()
        session, coordinator = self._folder.job, self._coordinator
        if earlier:
            earlier.hand_over()
        return Rows(
            view,
            coordinator.kept(session, kept),
            self._bring,
            lambda: coordinator.forget(session, kept),
            kept,
            (lambda left: self.rows(node, name, first, left)) if self._options.on_ray else None,
        )

    def _bring(self, blocks: Sequence[BlockInfo]) -> Iterable[BlockInfo]:
        """Blocks that the session keeps, readable here."""
        if not self._options.on_ray:
            return blocks
        from gristmill.fleets.ray.fleet import RayFleet

        assert isinstance(self._fleet, RayFleet), "it was opened for these options"
        return self._fleet.bring(blocks, self._folder.path / "read", self._folder.job, self._ticket)

    def write(self, node: Node, name: str, sink: OutputSink, output: str, mode: str) -> JobResult:
        """Run a job for its output."""
        with self._start(cut(node, sink), name, output, mode) as handle:
            return handle.wait()

    def unpersist(self, kept: str) -> None:
        """Forget what is kept under a name."""
        self._coordinator.forget(self._folder.job, kept)

    def _send(self, broadcast: Broadcast[Any]) -> str:
        """Write the value of a broadcast down, where executors find it; the file."""
        path = self._broadcasts / broadcast.digest
        if not path.exists():
            self._broadcasts.mkdir(mode=0o700, exist_ok=True)
            partial = path.with_name(f"{path.name}.new")
            partial.write_bytes(data_of(broadcast, self._destroy))
            partial.replace(path)
        return str(path)

    def _destroy(self, digest: str) -> None:
        """Forget the value of a broadcast."""
        if os.getpid() == self._pid:
            (self._broadcasts / digest).unlink(missing_ok=True)
            self._coordinator.forget_broadcast(self._folder.job, digest)

    @property
    def _broadcasts(self) -> Path:
        return self._folder.path / "broadcasts"

    def close(self) -> None:
        """End all. A fork of this process does nothing: the executors are not its own."""
        if os.getpid() == self._pid:
            self._coordinator.close()
            self._folder.remove()

    def _start(self, made: Cut, name: str, output: str | None, mode: str) -> JobHandle:
        from gristmill.api.prepare import prepare
        from gristmill.runtime.coordinator.registry import RunningJob

        with sigint_held(), ExitStack() as undo:
            options = replace(self._options, overwrite=mode == "overwrite")
            submission = submission_of(made, name, output, options, self._send)
            if options.on_ray:
                pack(self._fleet, submission.code)
            wanted = self._layouts.wanted(made.plan)
            owned = replace(submission, session=self._folder.job, session_ticket=self._ticket)
            preparation = prepare(replace(owned, mode=mode, reducers=wanted))
            undo.callback(preparation.undo)
            self._layouts.note(made.plan, preparation.prepared.plan)
            running = self._coordinator.submit(preparation.prepared, self._observe())
            assert isinstance(running, RunningJob), "without a key it is another job each time"
            undo.pop_all()
            resources = JobResources(lambda: _end(running), preparation.folder)
            return JobHandle(name, running, resources, output, submission.format)


def submission_of(
    made: Cut, name: str, output: str | None, options: JobOptions, send: Callable[[Broadcast[Any]], str]
) -> Submission:
    """A dataset's plan as a job.

    Args:
        made: the plan.
        name: for people.
        output: where the result is to appear, if it has a place of its own.
        options: how to run it.
        send: brings a broadcast to where tasks can read it; where that is.

    Raises:
        UnpicklableCode: a function uses something that cannot travel to another process.
    """
    from gristmill.api.loading import import_paths
    from gristmill.api.pickling import pickle_code
    from gristmill.api.prepare import Submission

    with broadcasts_used() as used:
        code = pickle_code(made.code)
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return Submission(
        name=name,
        code=code,
        plan=made.plan,
        inputs=made.inputs,
        output=output,
        options=options,
        import_paths=import_paths((str(Path(script).absolute().parent),) if script else ()),
        origins=made.origins,
        broadcasts=tuple(send(broadcast) for _, broadcast in sorted(used.items())),
    )


def _end(running: Any) -> None:
    if running.outcome is None:
        running.cancel()
        running.wait(_CANCEL_SECONDS)
