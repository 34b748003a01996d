"""Ray in this process, without surprises: what it reads from the environment, and what it prints.

Ray is told much through the environment, and keeps what it has read; it prints on the caller's stdout and stderr, and
takes signals for itself. Here all of that is for as long as it is needed, and then as it was before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from types import ModuleType

_MUTED = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SCHEDULER_EVENTS": "0",  # no lines of the autoscaler
    "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",  # what code that travels needs
}


@contextlib.contextmanager
def told(**variables: str | None) -> Iterator[None]:
    """Let Ray find these in the environment, beside what keeps it quiet; None: not to be found there.

    The environment is the whole process's: other threads, and what they start, find them too for as long as it takes
    to reach a Ray or to start one; what they say to Ray meanwhile is undone with ours.
    """
    wanted: Mapping[str, str | None] = {**_MUTED, **variables}
    before = {name: value for name, value in os.environ.items() if _is_rays(name)}
    _set(wanted)
    try:
        if "ray" in sys.modules:
            read_again()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ray's own making: what matters is raised
            yield
    finally:
        _set({name: before.get(name) for name in (*os.environ, *before) if _is_rays(name)})  # it sets some itself


def _is_rays(name: str) -> bool:
    return name.startswith("RAY_") or name == "PYTHONBREAKPOINT"


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def read_again() -> None:
    """Let Ray forget what it has read of its settings, and its token."""
    with contextlib.suppress(ImportError, AttributeError):  # they are Ray's own, and may move
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def own_signals() -> Iterator[None]:
    """Keep what this process does about SIGTERM: Ray takes it for itself, twice, and prints a trace when it comes."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:  # else it is not Python's to handle
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Let nobody in this process write to stderr: Ray's C++ part tells there what comes as an exception as well.

    Nobody means the other threads, too, and what they start meanwhile: it is for the seconds of joining a cluster.
    """
    try:
        kept = os.dup(2)
    except OSError:  # it is closed already
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


class Mute:
    """What Ray would print here, on behalf of the machines of a cluster, is not printed, until :meth:`end`."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("ray")
        self._level = self._logger.level
        self._logger.setLevel(logging.CRITICAL)
        self._worker = _module("ray._private.worker")
        self._prints = getattr(self._worker, "_worker_logs_enabled", None)
        if self._prints is not None:
            self._worker._worker_logs_enabled = False  # type: ignore[union-attr]

    def end(self) -> None:
        """Let it print again."""
        self._logger.setLevel(self._level)
        if self._prints is not None:
            self._worker._worker_logs_enabled = self._prints  # type: ignore[union-attr]


def _module(name: str) -> ModuleType | None:
    with contextlib.suppress(ImportError):
        __import__(name)
    return sys.modules.get(name)
