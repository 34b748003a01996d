"""Broadcasts in the processes that run tasks: loaded when first asked for, then there for all tasks of the session."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

from gristmill.errors import FailureReport, UserCodeError
from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.executor.here import job_here

_SHARE = 2  # of an executor's memory, so much may be taken by what no task of the job in work has asked for
_loaded: OrderedDict[tuple[str, str], tuple[int, Any]] = OrderedDict()  # by session and digest: size and value


def value_of(digest: str) -> Any:
    """The value of a broadcast, in a task.

    Raises:
        UserCodeError: no task runs here whose functions use it, or it cannot be loaded.
    """
    job = job_here()
    name = ("" if job is None else job.session, digest)
    if (found := _loaded.get(name)) is not None:
        _loaded.move_to_end(name)
        return found[1]
    paths = () if job is None else map(Path, job.broadcasts)
    path = next((path for path in paths if path.name == digest), None)
    if job is None or path is None:
        raise UserCodeError("A broadcast can be read only in tasks whose functions use it.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            value = pickle.load(file)
    except (
        Exception
    ) as error:  # it may have been destroyed; unpickling imports the user's modules, and may raise anything
        report = FailureReport(
            "UserCodeError",
            f"A broadcast cannot be loaded in a task: {type(error).__name__}: {error}",
            advice="Was it destroyed while a job used it? Modules that its value needs must be installed.",
        )
        raise UserCodeError(report) from error
    _loaded[name] = size, value
    _make_room(job)
    return value


def _make_room(job: JobSpec) -> None:
    """Let go of values that this job does not use, the longest unused first, if they are too much."""
    wanted = {(job.session, Path(path).name) for path in job.broadcasts}
    for name in [name for name in _loaded if name not in wanted]:
        if sum(size for size, _ in _loaded.values()) <= job.memory_bytes // _SHARE:
            return
        del _loaded[name]


def forget(session: str) -> None:
    """Let go of all values of a session; of one, if it is ``SESSION/DIGEST``."""
    session, _, digest = session.partition("/")
    for name in [name for name in _loaded if name[0] == session and digest in ("", name[1])]:
        del _loaded[name]
