"""Where datasets run: executors that stay up from one action to the next, and what they keep."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from gristmill.api.datasets.border import bordered
from gristmill.api.datasets.sources import Sources
from gristmill.errors import SessionClosed

if TYPE_CHECKING:
    from gristmill.api.result import JobResult
    from gristmill.api.rows import Rows
    from gristmill.plan.logical import Node
    from gristmill.plan.stages import OutputSink
    from gristmill.runtime.views import Observer


class Engine(Protocol):
    """Runs the jobs of one session (``api.session_local``, ``api.session_remote``)."""

    def rows(self, node: Node, name: str, first: int = 0, earlier: Rows | None = None) -> Rows:
        """Run a job for its elements, or those of its first tasks, of which some may have run earlier."""
        ...

    def write(self, node: Node, name: str, sink: OutputSink, output: str, mode: str) -> JobResult:
        """Run a job for its output."""
        ...

    def unpersist(self, kept: str) -> None:
        """Forget what is kept under a name."""
        ...

    def close(self) -> None:
        """End all that runs, and forget all that is kept. May be called again."""
        ...


class Session(Sources):
    """Runs the actions of datasets. A context manager; what it keeps goes when it is closed.

    Args:
        on: ``inline`` (this process), ``local`` (executors beside it), the URL of a server, ``ray`` (the cluster that
            this process belongs to or that ``RAY_ADDRESS`` names, else one of its own) or ``ray://HOST:10001`` (through
            Ray Client); by default what ``GRISTMILL_ON`` says, else ``local``.
        options: those of :meth:`gristmill.MapReduce.run` that say how a job runs: ``executors``, ``memory``,
            ``reducers``, ``split_size``, ``max_attempts``, ``task_timeout``, ``data_dir``, ``task_cpus``,
            ``task_memory``, ``speculation``, ``py_files``, ``max_processes``, ``max_file_size``, ``place_timeout``;
            and ``progress``: True for bars on the terminal while an action runs, or a function that is told how each
            action's job stands.

    Raises:
        UsageError: an option does not exist, or its value is not possible.
    """

    @bordered
    def __init__(self, on: str | None = None, **options: Any) -> None:
        from gristmill.api.mapreduce import parse_options

        if on is not None:
            options["on"] = on
        where = os.environ.get("GRISTMILL_ON")
        options = {**({"on": where} if where else {}), **_defaults, **options}
        self._progress: Observer | bool | None = options.pop("progress", None)
        self._options = parse_options(options)  # type: ignore[arg-type]
        if self._options.py_files:
            from gristmill.api.shipping import add_to_path

            add_to_path(self._options.py_files)
        self._scratch: list[Callable[[], object]] = []  # what removes folders, also when the program ends
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._closed = False
        self._finalizer = weakref.finalize(self, _nothing)

    def rows(self, node: Node, name: str, first: int = 0, earlier: Rows | None = None) -> Rows:
        """Compute what a node stands for, and wait for it.

        Args:
            node: the plan.
            name: the job's, for people.
            first: so many tasks of the last stage are enough; 0: all. Fewer ran if there are no more.
            earlier: what fewer of them gave: they do not run again. It is part of what is returned.

        Raises:
            UsageError: something is wrong with the inputs.
            JobFailed: the job failed.
            JobCancelled: Ctrl-C.
            SessionClosed: the session was closed.
        """
        return self._opened().rows(node, name, first, earlier)

    def write(self, node: Node, name: str, sink: OutputSink, output: str | os.PathLike[str], mode: str) -> JobResult:
        """Compute what a node stands for, and put it in a place, all or nothing.

        Args:
            node: the plan.
            name: the job's, for people.
            sink: how it is written.
            output: a folder or a URI.
            mode: ``error``, ``overwrite`` or ``append``.

        Raises:
            OutputExists: something is there, and the mode is ``error``.
            UsageError, JobFailed, JobCancelled, SessionClosed: as :meth:`rows`.
        """
        return self._opened().write(node, name, sink, os.fspath(output), mode)

    def unpersist(self, kept: str) -> None:
        """Forget what is kept under a name. Later jobs compute it again."""
        if self._engine is not None and not self._closed:
            self._engine.unpersist(kept)

    def scratch_folder(self) -> str:
        """A folder of this machine that is not there yet, and goes when the session is closed."""
        folder = Path(self._options.data_dir).absolute() / "checkpoints" / secrets.token_hex(8)
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._scratch.append(weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True))
        return str(folder)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """End all that runs, and forget all that is kept. May be called again."""
        with self._lock:
            self._closed = True
        self._finalizer()
        for remove in self._scratch:
            remove()

    def _opened(self) -> Engine:
        from gristmill.api.mapreduce import ScriptLoading, StopLoading

        if ScriptLoading.active:  # the file is a script of datasets, and not to be loaded but run
            ScriptLoading.acts = True
            raise StopLoading
        with self._lock:
            if self._closed:
                raise SessionClosed("This session was closed. Make another: with gristmill.Session() as session: …")
            if self._engine is None:
                engine: Engine
                if self._options.is_remote:
                    from gristmill.api.session_remote import RemoteEngine

                    engine = RemoteEngine(self._options, self._observer)
                else:
                    from gristmill.api.session_local import LocalEngine

                    with self._saying_what_begins():
                        engine = LocalEngine(self._options, self._observer)
                self._engine = engine
                self._finalizer = weakref.finalize(self, engine.close)
            return self._engine

    def _saying_what_begins(self) -> AbstractContextManager[object]:
        """Shows what is waited for before the first job, if bars are shown of jobs, and that takes a while."""
        from gristmill.api.job import first_words
        from gristmill.api.mapreduce import Bars

        first = first_words(self._options)
        return Bars(transient=True, first=first) if self._progress is True and first else nullcontext()

    def _observer(self) -> Observer | None:
        """Who is told how the next job stands."""
        from gristmill.api.mapreduce import observer_of

        return observer_of(self._progress, transient=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not started" if self._engine is None else "running"
        return f"<Session on {self._options.on}, {state}>"


def _nothing() -> None:
    """There is nothing to end."""


_defaults: dict[str, Any] = {}  # options of sessions that are not told otherwise
_default: Session | None = None
_default_lock = threading.Lock()


def default_session() -> Session:
    """The session of datasets that were made without one; made when it is first asked for."""
    global _default
    with _default_lock:
        if _default is None or _default.is_closed:
            _default = Session()
        return _default


@contextmanager
def session_defaults(options: Mapping[str, Any]) -> Iterator[None]:
    """Let sessions be made with these options, unless they are given others; the default one ends with the block."""
    global _default
    before = dict(_defaults)
    _defaults.update(options)
    try:
        yield
    finally:
        _defaults.clear()
        _defaults.update(before)
        with _default_lock:
            session, _default = _default, None
        if session is not None:
            session.close()
