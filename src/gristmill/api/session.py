"""Where datasets run: executors that stay up from one action to the next, and what they keep."""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gristmill.api.datasets.sources import Sources
from gristmill.config import JobOptions
from gristmill.errors import SessionClosed, UsageError
from gristmill.plan.functions import JobCode
from gristmill.plan.stages import RowsSink

if TYPE_CHECKING:
    from gristmill.api.result import JobResult
    from gristmill.plan.cut import Cut
    from gristmill.runtime.jobfolder import JobFolder
    from gristmill.runtime.coordinator import Coordinator
    from gristmill.runtime.registry import RunningJob

_CANCEL_SECONDS = 10.0  # how long a cancelled job may take to be over


class Session(Sources):
    """Runs the actions of datasets. A context manager; what it keeps goes when it is closed.

    Args:
        on: ``inline`` (this process), ``local`` (executors beside it) or the URL of a server.
        options: those of :meth:`gristmill.MapReduce.run` that say how a job runs: ``executors``, ``memory``,
            ``reducers``, ``split_size``, ``max_attempts``, ``task_timeout``, ``data_dir``, ``task_cpus``,
            ``task_memory``, ``speculation``, ``py_files``.

    Raises:
        UsageError: an option does not exist, or its value is not possible.
    """

    def __init__(self, on: str | None = None, **options: Any) -> None:
        from gristmill.api.mapreduce import parse_options

        if on is not None:
            options["on"] = on
        elif where := os.environ.get("GRISTMILL_ON"):
            options.setdefault("on", where)
        self._options = parse_options(options)  # type: ignore[arg-type]
        self._jobs = 0
        self._lock = threading.Lock()
        self._engine: _Engine | None = None
        self._closed = False
        self._finalizer = weakref.finalize(self, _nothing)

    def run(
        self,
        cut: Cut,
        *,
        name: str,
        output: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> JobResult:
        """Run a plan as a job, and wait for it.

        Args:
            cut: the plan.
            name: the job's, for people.
            output: the folder where the result is to appear; None: it is for this process alone.
            overwrite: whether the output may replace what is there.

        Returns:
            The result. Its elements are the values of its pairs, in their order.

        Raises:
            UsageError: something is wrong with the inputs or the output.
            JobFailed: the job failed.
            JobCancelled: Ctrl-C.
            SessionClosed: the session was closed.
        """
        return self._opened().run(cut, name, output, overwrite)

    def unpersist(self, kept: str) -> None:
        """Forget what is kept under a name. Later jobs compute it again."""
        if self._engine is not None:
            self._engine.unpersist(kept)

    def close(self) -> None:
        """End all that runs, and forget all that is kept. May be called again."""
        with self._lock:
            self._closed = True
        self._finalizer()

    def _opened(self) -> _Engine:
        with self._lock:
            if self._closed:
                raise SessionClosed("This session was closed. Make another: with gristmill.Session() as session: …")
            if self._engine is None:
                if self._options.is_remote:
                    raise UsageError("Datasets do not run on a server yet.")
                self._engine = _Engine(self._options)
                self._finalizer = weakref.finalize(self, self._engine.close)
            return self._engine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not started" if self._engine is None else "running"
        return f"<Session on {self._options.on}, {state}>"


class _Engine:
    """A session on this machine: a coordinator with its fleet, which runs one job after the other."""

    def __init__(self, options: JobOptions) -> None:
        from gristmill.api.job import open_fleet, sigint_held, within_this_machine
        from gristmill.runtime.coordinator import Coordinator

        self._options = within_this_machine(options)
        self._pid = os.getpid()
        self._folder: JobFolder | None = None  # for what is kept; made when it is needed
        with sigint_held():
            self._coordinator: Coordinator = Coordinator(open_fleet(self._options), threaded=options.on != "inline")
            self._coordinator.start()

    def run(self, cut: Cut, name: str, output: str | os.PathLike[str] | None, overwrite: bool) -> JobResult:
        from gristmill.api.job import JobHandle, JobResources, sigint_held
        from gristmill.storage.places import output_path

        path = None if output is None else Path(output_path(output))
        with sigint_held(), ExitStack() as undo:
            submission = self._submission(cut, name, path, overwrite)
            from gristmill.api.prepare import prepare
            from gristmill.runtime.registry import RunningJob

            preparation = prepare(submission)
            undo.callback(preparation.undo)
            running = self._coordinator.submit(preparation.prepared)
            assert isinstance(running, RunningJob), "without a key it is another job each time"
            undo.pop_all()
            resources = JobResources(lambda: self._end(running), preparation.folder)
            handle = JobHandle(name, running, resources, path, submission.format)
        with handle:
            return handle.wait()

    def _submission(self, cut: Cut, name: str, output: Path | None, overwrite: bool) -> Any:
        from dataclasses import replace

        from gristmill.api.pickling import pickle_code
        from gristmill.api.prepare import Submission

        options = replace(self._options, overwrite=overwrite)
        code: JobCode = cut.code
        return Submission(
            name=name,
            code=pickle_code(code),
            plan=cut.plan,
            inputs=cut.inputs,
            output=None if output is None else str(output),
            options=options,
            import_paths=_import_paths(),
            **self._keeping(cut),
        )

    def _keeping(self, cut: Cut) -> dict[str, Any]:
        """What a job must know of the session, if it keeps something or reads what was kept."""
        if not any(isinstance(stage.sink, RowsSink) and stage.sink.kept for stage in cut.plan.stages):
            return {}
        if self._folder is None:
            from gristmill.runtime.jobfolder import JobFolder

            self._folder = JobFolder.create(self._options.data_dir, {"name": "session"}, time.time())
        return {"session": self._folder.job, "session_folder": str(self._folder.path), "origins": cut.origins}

    def unpersist(self, kept: str) -> None:
        if self._folder is not None:
            self._coordinator.forget(self._folder.job, kept)

    def _end(self, running: RunningJob) -> None:
        if running.outcome is None:
            running.cancel()
            running.wait(_CANCEL_SECONDS)

    def close(self) -> None:
        if os.getpid() == self._pid:  # a fork of this process ends; the executors are not its own
            self._coordinator.close()
            if self._folder is not None:
                self._folder.remove()


def _import_paths() -> tuple[str, ...]:
    """Where executors find the modules that this program has imported."""
    import sys

    from gristmill.api.loading import import_paths

    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return import_paths((str(Path(script).absolute().parent),) if script else ())


def _nothing() -> None:
    """There is nothing to end."""


_default: Session | None = None
_default_lock = threading.Lock()


def default_session() -> Session:
    """The session of datasets that were made without one; made when it is first asked for."""
    global _default
    with _default_lock:
        if _default is None or _default._closed:
            _default = Session()
        return _default
