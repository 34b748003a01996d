"""A server that starts again reopens the jobs that were not over: what has changed since is found before they go on.

A job whose files cannot be seen waits for them, since storage may be mounted later than a server is started. A job that
would replace what was put in its output's place after its own result fails instead.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path

from gristmill.config import PYTHON_VERSION, VERSION
from gristmill.errors import (
    GristmillError,
    JobCancelled,
    JobFailed,
    OutputNotWritable,
    TaskError,
    UsageError,
    VersionMismatch,
)
from gristmill.runtime.coordinator.inbox import StorageBack
from gristmill.runtime.coordinator.job_records import JobRecord
from gristmill.runtime.coordinator.jobs import Job, PreparedJob
from gristmill.runtime.coordinator.recovery import input_state, read_job, restore
from gristmill.runtime.coordinator.resumption import Resumption
from gristmill.runtime.files.jobfolder import JobFolder
from gristmill.runtime.outcome import job_cancelled, job_failed
from gristmill.runtime.process.private import make_folder
from gristmill.scheduling.commands import JobState
from gristmill.storage.outputs import is_published, left_output, recover, state_of
from gristmill.storage.staging import staging_path
from gristmill.storage.targets import is_object_uri
from gristmill.storage.uris import shown

_LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Reopened:
    """A job that was not over.

    Attributes:
        prepared: the job; if it cannot go on, with an output that can only be aborted.
        resumption: what is left of what was done.
        refused: why it cannot go on.
        away: what cannot be seen, so that it cannot go on yet; a sentence's end. Empty if all is there.
    """

    prepared: PreparedJob
    resumption: Resumption
    refused: GristmillError | None = None
    away: str = ""


class _Away(Exception):
    """Storage that a job needs cannot be seen."""


def reopen(
    record: JobRecord, blobs: Mapping[str, bytes], check: Callable[[PreparedJob], None] = lambda _prepared: None
) -> Reopened:
    """See whether a server's job can go on, and take its output's staging folder over if so.

    Args:
        record: what is known of it.
        blobs: its large parts.
        check: sees that it may; raises a GristmillError if not.

    Raises:
        JournalFailed: what was noted is not enough.
    """
    prepared = read_job(record, blobs)
    place = prepared.place
    refused: GristmillError | None = None
    away = ""
    try:
        if not is_published(place, record.job):
            check(prepared)  # before anything is touched there
        recover(place)  # an exchange of old and new that was cut short is completed first
        if not is_published(place, record.job):
            _check(record, prepared)
        return Reopened(*restore(record, blobs))
    except (_Away, OutputNotWritable) as error:
        away = str(error).rstrip(".")
    except OSError as error:
        away = f"{shown(place)}: {error.strerror or error}"
    except (UsageError, JobFailed, JobCancelled) as error:
        refused = error
    except TaskError as error:  # no space is left at its output: that must not keep the others from going on
        refused = job_failed(record.job, error.report, prepared.spec.folder)
    return Reopened(changed(prepared, output=left_output(place, record.job)), Resumption(record, ()), refused, away)


def open_folder(record: JobRecord, prepared: PreparedJob) -> JobFolder | None:
    """The folder of a server's job; None if it must do without."""
    path = Path(prepared.spec.folder)
    begun = {"job": record.job, "name": record.accepted.name, "created": record.accepted.at}
    with suppress(OSError):
        make_folder(path)
        return JobFolder.adopt(path, begun)  # a run of this machine may have removed what was in there meanwhile
    return None


def _check(record: JobRecord, prepared: PreparedJob) -> None:
    """See that a job whose output is not in its place may go on.

    Raises:
        JobCancelled: somebody wanted it to end.
        VersionMismatch: it was begun with other versions.
        JobFailed: something else was put in its output's place.
        UsageError: an input is another one now.
        _Away: what it needs cannot be seen.
    """
    if record.cancelled:
        raise job_cancelled(record.job, prepared.spec.folder)
    _check_versions(record)
    if prepared.spec.driver and prepared.max_attempts == 1 and record.begun:
        raise JobFailed(
            f"Job {record.job} cannot go on: it is a script, which may have been running when the server ended, and is "
            "not run twice. See what it has done, and submit it again; with --driver-attempts N it is run again then."
        )
    _check_place(record, prepared)
    _check_inputs(record, prepared)


def _check_versions(record: JobRecord) -> None:
    """See that a job's code can run here. A run of this machine finds that out by its keys."""
    noted = record.accepted.prepared.get("ingredients", {})
    begun = (noted.get("version Gristmill", VERSION), noted.get("version Python", PYTHON_VERSION))
    if begun != (VERSION, PYTHON_VERSION):
        raise VersionMismatch(
            f"Job {record.job} was begun with Gristmill {begun[0]} on Python {begun[1]} and cannot go on with "
            f"Gristmill {VERSION} on Python {PYTHON_VERSION}. Submit it again."
        )


def _check_place(record: JobRecord, prepared: PreparedJob) -> None:
    """See that what is in the output's place is what this job was to replace, and that its staging folder is there."""
    place = prepared.place
    if not place:
        return
    appends = prepared.mode == "append"  # then it replaces nothing
    if record.committing is not None and not appends and state_of(place) not in (record.committing.replaces, ""):
        raise JobFailed(
            f"Job {record.job} cannot go on: it was putting its output in place when the server ended, and since then "
            f"something else was put there: {shown(place)}. That is left as it is. Submit the job again to replace it."
        )
    if is_object_uri(place):  # what is gone of what was written there is found out file by file
        return
    staging = staging_path(Path(place), record.job)
    if not record.begun:  # nothing is there before its turn has come
        return
    if staging.is_dir() or not Path(prepared.spec.folder).is_dir():  # the two are pruned together
        return
    if os.path.lexists(place):  # so the storage is there
        raise JobFailed(
            f"Job {record.job} cannot go on: what it had staged beside its output {place} was removed, as it is when "
            "another job's result is put there. Submit the job again to replace that."
        )
    raise _Away(f"what it had staged beside its output ({staging} is not there)")


def _check_inputs(record: JobRecord, prepared: PreparedJob) -> None:
    """See that a job's inputs are as they were: half of the old and half of the new would be nobody's wish.

    Workers compare the sizes, too, and would be refused, all of them. A run of this machine finds out by its keys.
    """
    noted = record.accepted.prepared.get("ingredients", {}) if record.done else {}
    for path, size in prepared.spec.inputs:
        try:
            status = Path(path).stat()
        except OSError as error:
            raise _Away(f"its input {path} ({error.strerror or error})") from error
        now = input_state(status.st_size, status.st_mtime_ns)
        if status.st_size != size or noted.get(f"input {path}", now) != now:
            raise UsageError(
                f"Job {record.job} cannot go on: its input {path} has changed since it began. Submit the job again."
            )


class StorageWatch:
    """Looks for the files of jobs that wait for them; a thread each, since a look at dead storage may never return.

    Args:
        post: takes what is found.
        check: see :func:`reopen`.
    """

    def __init__(self, post: Callable[[StorageBack], None], check: Callable[[PreparedJob], None]) -> None:
        self._post = post
        self._check = check
        self._closed = threading.Event()

    def begin(self, job: Job, record: JobRecord, blobs: Mapping[str, bytes]) -> None:
        """Look every other second, until all is there or the job is over."""
        watch = threading.Thread(
            target=self._watch, args=(job, record, blobs), name="gristmill-storage-watch", daemon=True
        )
        watch.start()

    def _watch(self, job: Job, record: JobRecord, blobs: Mapping[str, bytes]) -> None:
        while not self._closed.wait(_LOOK_SECONDS) and job.state is JobState.RUNNING:
            reopened = reopen(record, blobs, self._check)
            if not reopened.away:
                self._post(StorageBack(job, reopened))
                return
            job.awaited = reopened.away

    def close(self) -> None:
        """End them. Returns at once."""
        self._closed.set()
