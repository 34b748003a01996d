"""What the command line asks a server for besides jobs of its own: lists, tasks, logs, workers. One call each."""

from __future__ import annotations

import urllib.parse
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from gristmill.api.client import ServerClient

Row = Mapping[str, Any]
_PAGE = 1000


def job_rows(server: ServerClient, limit: int | None = None, **wanted: str | None) -> Iterator[Row]:
    """Jobs, the newest first, a page at a time.

    Args:
        server: whose.
        limit: at most so many; None: all.
        wanted: ``state``, ``user``, ``name`` (a part of it), ``since`` (seconds since the epoch); None: any.
    """
    before: str | None = None
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        page = server.get(f"/jobs?{_query(limit=size, before=before, **wanted)}")
        yield from page["jobs"]
        left = None if left is None else left - len(page["jobs"])
        before = page.get("next")
        if not before:
            return


def task_page(server: ServerClient, job: str, limit: int = 100, after: int = 0, **wanted: object) -> Row:
    """Tasks of a job, by stage and index: ``tasks``, and how many there are (``total``).

    Args:
        server: whose.
        job: the job.
        limit: at most so many.
        after: leave so many out.
        wanted: ``stage`` and ``state``; None: any.
    """
    found: Row = server.get(f"/jobs/{quoted(job)}/tasks?{_query(limit=limit, after=after, **wanted)}")
    return found


def attempts_of(server: ServerClient, job: str, task: str) -> list[Row]:
    """The attempts at a task, in the order of their ends; those that run come last."""
    return list(server.get(f"/jobs/{quoted(job)}/tasks/{quoted(task)}/attempts")["attempts"])


def log_ends(server: ServerClient, job: str, task: str | None = None, limit: int | None = None) -> Row:
    """The end of each log of a job, or of a task: ``logs``; and how many do not fit (``left_out``).

    Args:
        server: whose.
        job: the job.
        task: only its attempts.
        limit: about so many bytes; None: as the server likes.
    """
    found: Row = server.get(f"/jobs/{quoted(job)}/logs?{_query(task=task, limit=limit)}")
    return found


def log_part(server: ServerClient, job: str, attempt: str, after: int) -> Row:
    """What an attempt printed behind a place: ``text``, and the place behind it (``next``)."""
    found: Row = server.get(f"/jobs/{quoted(job)}/logs?{_query(attempt=attempt, after=after)}")
    return found


def retry_job(server: ServerClient, job: str) -> None:
    """Try a job again that failed or was cancelled."""
    server.post(f"/jobs/{quoted(job)}/retry", headers={"Idempotency-Key": uuid.uuid4().hex})


def worker_rows(server: ServerClient) -> list[Row]:
    """The workers of a server."""
    return list(server.get("/workers")["workers"])


def drain_worker(server: ServerClient, worker: str) -> None:
    """Let a worker take no new work, and leave when it has done what it runs."""
    server.delete(f"/workers/{quoted(worker)}")


def quoted(name: str) -> str:
    """A name that a user has typed, as one part of a path."""
    return urllib.parse.quote(name, safe="")


def _query(**values: object) -> str:
    return urllib.parse.urlencode({name: value for name, value in values.items() if value is not None})
