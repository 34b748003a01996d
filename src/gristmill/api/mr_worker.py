"""``mr-worker``: brings the app, if it is the first one, and works for the coordinator until the job is over."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from gristmill.api.client import ServerClient
from gristmill.api.mr import load_app
from gristmill.api.mr_file import HIDDEN, MrFacts, error_of, find_coordinator
from gristmill.api.remote import submit_to
from gristmill.config import MIN_EXECUTOR_MEMORY_BYTES, available_cpus, available_memory
from gristmill.errors import NotAuthorized, ServerUnreachable
from gristmill.runtime.worker.front import Front
from gristmill.runtime.worker.worker import WorkerSettings, run_worker

_KEY = "the job"
"""A coordinator has but one job: whoever submits it first, the others find it there."""

_FIND_SECONDS = 10.0
_PATIENCE_SECONDS = 20.0  # with a coordinator that does not answer any more
_LAST_WORD_SECONDS = 5.0


def work(app: Path, coordinator: Path, say: Callable[[str], None]) -> bool:
    """Work on a coordinator's job until it is over.

    Args:
        app: the file with ``map_func`` and ``reduce_func``.
        coordinator: the coordinator's file.
        say: is told what a person should know.

    Returns:
        True if the job is done; False if this worker was told to leave before.

    Raises:
        UsageError: the app is none, or the coordinator's file cannot be read.
        ServerUnreachable: there is no coordinator, or it is gone.
        JobFailed: the job failed.
        JobCancelled: it was cancelled.
    """
    job = load_app(app)
    facts = find_coordinator(coordinator, _FIND_SECONDS, _answers, say)
    server = ServerClient(facts.url, facts.token, patience_seconds=_LAST_WORD_SECONDS)
    handle = submit_to(server, job, facts.inputs, facts.output, facts.options, key=_KEY, base=facts.base)
    status = handle.status()
    if status.view.name != job.name:
        say(f"The job runs the app {status.view.name}, which came first; {job.name} is not used.")
    folder = coordinator.absolute().parent / HIDDEN / "workers" / f"{socket.gethostname()}-{os.getpid()}"
    try:
        run_worker(
            WorkerSettings(
                url=facts.url,
                token=facts.token,
                executors=1,
                memory_bytes=max(int(available_memory() * 0.6) // available_cpus(), MIN_EXECUTOR_MEMORY_BYTES),
                data_dirs=(folder,),
                patience_seconds=_PATIENCE_SECONDS,
            )
        )
        status = handle.status()
    except ServerUnreachable as error:
        raise ServerUnreachable("The coordinator is gone, and how the job ended cannot be told.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if status.error is not None:
        raise error_of(status)
    return status.is_over


def _answers(facts: MrFacts) -> bool:
    try:
        Front(facts.url, facts.token).join_facts()
    except (ServerUnreachable, NotAuthorized):  # somebody else has that port now
        return False
    return True
