"""The file by which ``mr-worker`` finds ``mr-coordinator``: what it holds, and who holds it open.

It is for its owner alone, for it has the token. Each worker keeps a shared lock on it until its process ends, so that
the coordinator, which wants it for itself at the end, leaves as the last one. The system lets go of the locks of those
who were killed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gristmill.config import GIB, JobOptions
from gristmill.errors import GristmillError, JobCancelled, JobFailed, ServerUnreachable, UsageError

if TYPE_CHECKING:
    from gristmill.api.messages import JobStatus

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FACTS = "mr-coordinator.json"
HIDDEN = ".mr-coordinator"
"""The folder beside it for all that is not the result."""

_MAX_FILE_BYTES = GIB  # it goes to map_func in one piece
_ADVICE = "Correct the app, and start coordinator and workers again."
_LOOK_SECONDS = 0.05
_LINGER_SECONDS = 1.0  # for workers to end, where nothing tells whether they have


@dataclass(frozen=True, kw_only=True)
class MrFacts:
    """What a worker must know.

    Attributes:
        url: the coordinator's REST interface.
        token: what opens it.
        base: the folder that the inputs are relative to.
        inputs: as they were named on the command line.
        reducers: how many files the result has.
        task_timeout_seconds: after so long a task is given to another process.
        output: the folder that the job writes.
        pid: the coordinator's process, for people.
    """

    url: str
    token: str
    base: str
    inputs: tuple[str, ...]
    reducers: int
    task_timeout_seconds: float
    output: str
    pid: int

    @property
    def options(self) -> JobOptions:
        """How the job is to run: each file is a task, which nobody does twice for the sake of speed."""
        return JobOptions(
            on=self.url,
            reducers=self.reducers,
            split_bytes=1,
            input_format="whole",
            output_format="text",
            task_timeout_seconds=self.task_timeout_seconds,
            max_record_bytes=_MAX_FILE_BYTES,
            speculation=False,
            deaths_expected=True,
        )

    def write(self, path: Path) -> None:
        """Put the file in its place, whole. No moment passes in which others could read it."""
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        try:
            with os.fdopen(os.open(partial, flags, 0o600), "w", encoding="utf-8") as file:
                json.dump(asdict(self), file, indent=2)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def count_files(inputs: Sequence[str]) -> int:
    """How many files these are, each of them a map task.

    Raises:
        UsageError: one of them is missing or cannot be read.
    """
    from gristmill.storage.inputs import resolve_inputs

    return len(resolve_inputs(inputs, "whole"))


def find_coordinator(
    path: Path, seconds: float, answers: Callable[[MrFacts], bool], say: Callable[[str], None] | None = None
) -> MrFacts:
    """What the file says; waits for it to appear. From then on this process holds it, until its end.

    Args:
        path: the file.
        seconds: how long to wait.
        answers: tells whether there is such a coordinator. The file of one that was killed stays until the next begins.
        say: is told, once, that this process waits.

    Raises:
        ServerUnreachable: there is none.
        UsageError: the file cannot be read, or is not one of ours.
    """
    give_up = time.monotonic() + seconds
    why = f"There is no {path}, so no coordinator runs there"
    while True:
        if (descriptor := _hold(path)) is not None:
            facts = _read(descriptor, path)
            if answers(facts):
                return facts  # never closed: the end of the process lets go of the lock, and nothing earlier does
            os.close(descriptor)
            why = f"Nobody answers at {facts.url}, which {path} names (process {facts.pid})"
        if time.monotonic() > give_up:
            raise ServerUnreachable(
                f"{why}. Start one with `mr-coordinator N_REDUCE FILE...` in this directory, or name the file of "
                "another with --coordinator."
            )
        if say is not None:
            say(f"{why}. Waiting for one, for {seconds:g} s at most.")
            say = None
        time.sleep(_LOOK_SECONDS)


def _hold(path: Path) -> int | None:
    """The open file, with a shared lock on it; None if it is not there, or is about to go."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}. It is for the user who started it.") from error
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # the coordinator is about to leave
            os.close(descriptor)
            return None
        except OSError:  # a file system without locks
            pass
    return descriptor


def _read(descriptor: int, path: Path) -> MrFacts:
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            found: Mapping[str, Any] = json.load(file)
        return MrFacts(**{**found, "inputs": tuple(found["inputs"])})
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is not the file of a coordinator: {error}.") from error


def outlast_workers(path: Path, seconds: float) -> bool:
    """Wait until no worker holds the file any more; False if one still does after ``seconds``."""
    if fcntl is None:
        time.sleep(_LINGER_SECONDS)
        return True
    give_up = time.monotonic() + seconds
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:  # somebody has removed it
        time.sleep(_LINGER_SECONDS)
        return True
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                os.close(descriptor)
                return False
            time.sleep(_LOOK_SECONDS)
        except OSError:  # a file system without locks
            time.sleep(_LINGER_SECONDS)
            return True
        else:
            return True  # still ours: who comes now is too late


def lock_folder(folder: Path) -> int | None:
    """Lock a folder for this process, making it; None if another process has it.

    The lock is a file in it, and goes with it.
    """
    path = folder / "lock"
    while True:
        folder.mkdir(exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except FileNotFoundError:  # its owner has just removed it
            continue
        if fcntl is None:
            return descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # a file system without locks
            return descriptor
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)  # the lock of a folder that is gone


def error_of(status: JobStatus) -> GristmillError:
    """Why a job has no output, for people. What other errors name, its folder, does not outlive the coordinator."""
    from gristmill.api.remote import with_own_sources
    from gristmill.runtime.outcome import error_from_json

    assert status.error is not None
    error = with_own_sources(error_from_json(status.error))
    if isinstance(error, JobCancelled):
        return JobCancelled("No output was written.")
    if isinstance(error, JobFailed):
        error.job_folder = ""
        if (report := error.report) is not None:
            details = {name: value for name, value in report.details.items() if name != "replay"}
            error.report = replace(report, details=details, advice=_ADVICE if report.frames else report.advice)
    return error
