"""Whether a worker sees what the coordinator sees: a job's inputs and its output's place.

Asked before any task starts.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from gristmill.errors import FailureReport, PathNotShared
from gristmill.runtime.protocol import agents as pb
from gristmill.shuffle.store import is_marked

_ADVICE = "Inputs and output must be on storage that the coordinator and all workers see under the same path."


def look(job: pb.AddJob) -> FailureReport | None:
    """Look at a job's files here; what is missing, or None."""
    for file in job.inputs:
        try:
            size = Path(file.path).stat().st_size
        except OSError as error:
            return _not_shared(file.path, f"the input {file.path} cannot be read there: {error.strerror or error}")
        if size != file.size_bytes:
            what = f"the input {file.path} has {size} bytes there, and {file.size_bytes} for the coordinator"
            return _not_shared(file.path, what)
        if not os.access(file.path, os.R_OK):
            return _not_shared(file.path, f"the input {file.path} must not be read there")
    if job.shuffle_dir and not is_marked(job.shuffle_dir, job.job):
        return _not_shared(job.shuffle_dir, f"the storage for the shuffle, {job.shuffle_dir}, is not seen there")
    return _look_at_staging(job) if job.probe else None


def _look_at_staging(job: pb.AddJob) -> FailureReport | None:
    probe = Path(job.probe)
    output = str(probe.parent.parent)  # the staging folder is hidden in there, and is nobody's business
    try:
        text = probe.read_text()
    except OSError:
        return _not_shared(output, f"what the coordinator writes into the output's folder {output} is not seen there")
    if text != job.probe_text:
        return _not_shared(output, f"the output's folder {output} is another one there than for the coordinator")
    own = probe.with_name(f"{probe.name}-{secrets.token_hex(8)}")
    try:
        own.touch(exist_ok=False)
    except OSError as error:
        return _not_shared(output, f"the output's folder {output} cannot be written there: {error.strerror or error}")
    with suppress(OSError):
        own.unlink()
    return None


def _not_shared(path: str, what: str) -> FailureReport:
    return FailureReport(PathNotShared.__name__, what, details={"path": path}, advice=_ADVICE)
