"""``mr-coordinator``: a server for one job, whose app the first worker brings."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gristmill.api.messages import JobStatus
from gristmill.api.mr_file import FACTS, HIDDEN, MrFacts, count_files, error_of, lock_folder, outlast_workers
from gristmill.errors import JobCancelled, OutputExists, UsageError
from gristmill.fleets.cluster import LOST_SECONDS
from gristmill.runtime.views import Observer
from gristmill.service.server import Server, ServeSettings

_LOOK_SECONDS = 0.05
_CANCEL_SECONDS = 10.0
_LEAVE_SECONDS = 10.0  # for workers to end, once they are told to
_SHORTEST_LOST_SECONDS = 3.0  # a worker on a busy machine may be silent for this long
_OUT = "mr-out-"
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_ATTEMPT = re.compile(r"-s(\d+)-t(\d+)-a")


@dataclass(frozen=True, kw_only=True)
class MrSettings:
    """What ``mr-coordinator`` is told.

    Attributes:
        reducers: how many files the result has.
        inputs: the files; each is one map task.
        task_timeout_seconds: after so long a task is given to another process.
        host: the address to listen on.
        port: likewise; 0: a free one.
    """

    reducers: int
    inputs: tuple[str, ...]
    task_timeout_seconds: float
    host: str = "127.0.0.1"
    port: int = 0


def run_coordinator(
    settings: MrSettings, stop: threading.Event, observer: Observer, say: Callable[[str], None]
) -> JobStatus:
    """See one job through, put its result in the current folder, and outlast the workers.

    Args:
        settings: what is wanted.
        stop: set it to end early.
        observer: is told how the job stands.
        say: is told what a person should know.

    Raises:
        UsageError: something is wrong with the inputs or the folder; nothing was started.
        JobFailed: the job failed.
        JobCancelled: by ``stop``.
    """
    folder = Path.cwd()
    count = count_files(settings.inputs)
    _check_result(folder, settings.inputs)
    with ExitStack() as close:
        hidden = close.enter_context(_hidden_folder(folder))
        server = close.enter_context(Server(_serve_settings(settings, hidden)))
        server.logs.listener = _printer(say)
        facts = _facts(settings, folder, server)
        path = folder / FACTS
        facts.write(path)
        close.callback(path.unlink, missing_ok=True)
        say(f"{count} map task{'s' if count != 1 else ''}, {settings.reducers} reduce, at {facts.url}.")
        say("Start workers in this directory: mr-worker APP.py")
        try:
            status = _see_through(server, stop, observer, say)
            if status.error is None:
                _publish(Path(facts.output), folder, hidden / "earlier", settings.reducers)
        finally:
            server.dismiss()
            if not outlast_workers(path, _LEAVE_SECONDS):
                say("Some workers do not end; they are left behind.")
    if status.error is not None:
        raise error_of(status)
    return status


def _printer(say: Callable[[str], None]) -> Callable[[str, bytes], None]:
    """Tells what the app prints: it runs in workers that may be elsewhere, and no log outlives the job."""

    def tell(name: str, log: bytes) -> None:
        if match := _ATTEMPT.search(name):
            task = f"{'reduce' if int(match[1]) else 'map'} task {int(match[2])}"
            say(f"{task} printed:\n{log.decode(errors='backslashreplace').rstrip()}")

    return tell


def _serve_settings(settings: MrSettings, hidden: Path) -> ServeSettings:
    return ServeSettings(
        host=settings.host,
        port=settings.port,
        insecure=True,  # as the taught design is
        data_dir=hidden / "data",
        # A worker that has vanished is as late with its task as one that is slow.
        lost_seconds=min(max(settings.task_timeout_seconds, _SHORTEST_LOST_SECONDS), LOST_SECONDS),
    )


def _facts(settings: MrSettings, folder: Path, server: Server) -> MrFacts:
    return MrFacts(
        url=server.public_url,
        token=server.token_file.read_text(encoding="utf-8").strip(),
        base=str(folder),
        inputs=settings.inputs,
        reducers=settings.reducers,
        task_timeout_seconds=settings.task_timeout_seconds,
        output=str(folder / HIDDEN / "output"),
        pid=os.getpid(),
    )


def _check_result(folder: Path, inputs: Sequence[str]) -> None:
    """What is there in the result's place must be an earlier result, and nothing else."""
    read = {Path(name).resolve() for name in inputs}
    for path in _result(folder):
        if path.resolve() in read:
            raise OutputExists(f"{path.name} is an input, and the result would replace it. Rename it.")
        if path.is_dir() and not path.is_symlink():
            raise OutputExists(f"{path.name} is a directory; only files of an earlier result are replaced. Rename it.")


def _result(folder: Path) -> list[Path]:
    """The files of a result that are there."""
    return sorted(path for path in folder.glob(f"{_OUT}*") if _NUMBER.fullmatch(path.name.removeprefix(_OUT)))


@contextmanager
def _hidden_folder(folder: Path) -> Iterator[Path]:
    """The folder for all that is not the result. Nothing of it stays; what a killed coordinator has left goes first."""
    hidden = folder / HIDDEN
    try:
        lock = lock_folder(hidden)
    except OSError as error:
        raise UsageError(f"The directory {folder} cannot be written: {error.strerror}.") from error
    if lock is None:
        raise UsageError(f"Another mr-coordinator runs in {folder}. Wait for it, or use another directory.")
    try:
        (folder / FACTS).unlink(missing_ok=True)
        for entry in hidden.iterdir():
            if entry.name != "lock":
                shutil.rmtree(entry, ignore_errors=True)
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        os.close(lock)


def _see_through(server: Server, stop: threading.Event, observer: Observer, say: Callable[[str], None]) -> JobStatus:
    """Wait for the job to come, and to be over."""
    told = False
    while not stop.is_set():
        server.check()
        if (status := _the_job(server)) is not None:
            if not told:
                say(f"A worker has brought the app {status.view.name}.")
                told = True
            observer(status.view)
            if status.is_over:
                return status
        stop.wait(_LOOK_SECONDS)
    return _cancel(server)


def _the_job(server: Server) -> JobStatus | None:
    """The first job that came. There is but one key, so no other comes from our workers."""
    jobs = server.jobs.all()
    return jobs[-1] if jobs else None


def _cancel(server: Server) -> JobStatus:
    """End the job, unless it is too late for that."""
    give_up = time.monotonic() + _CANCEL_SECONDS
    if (status := _the_job(server)) is not None:
        server.jobs.cancel(status.view.job)
    while status is not None and time.monotonic() < give_up:
        if status.is_over:
            return status
        time.sleep(_LOOK_SECONDS)
        status = _the_job(server)
    raise JobCancelled("No output was written.")


def _publish(output: Path, folder: Path, earlier: Path, reducers: int) -> None:
    """Give the parts of the job's output the names that the taught design has for them.

    A result that is there gives way to the new one, also files that the new one does not have: they are no parts of it.
    If a rename fails, the earlier result is there as it was.
    """
    earlier.mkdir()
    with ExitStack() as undo:
        for path in _result(folder):
            path.replace(earlier / path.name)
            undo.callback((earlier / path.name).replace, path)
        for number in range(reducers):
            path = folder / f"{_OUT}{number}"
            (output / f"part-r-{number:05d}").replace(path)
            undo.callback(path.unlink)
        undo.pop_all()
