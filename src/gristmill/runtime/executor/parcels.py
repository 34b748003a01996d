"""What attempts write of an output whose staging folder their machine may not see.

Who sees it writes there. Who does not packs all files of an attempt into one file beside the job's blocks, a parcel,
which is served and fetched as a block is: it is one, of a single segment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

from gristmill.config import MIB
from gristmill.errors import FailureReport
from gristmill.plan.functions import JobCode
from gristmill.runtime.contracts import JobSpec, Progress, TaskEnvironment, TaskResult, TaskSpec
from gristmill.runtime.executor.attempts import environment_of, run_attempt, unforeseen_report
from gristmill.runtime.executor.disks import failure_of
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.storage.contracts import PartFile

MARK = "probe"
"""The file in a staging folder by which it is known to be the one that is meant."""

_IF_SEEN, _UNSEEN = "if-seen://", "unseen://"
_CHUNK_BYTES = MIB


def if_seen(staging: str, text: str) -> str:
    """The ``staging`` of a job whose attempts may be where it is not seen; ``text`` stands in its mark."""
    return f"{_IF_SEEN}{text}{staging}"


def settled(job: JobSpec) -> JobSpec:
    """The job, with what is known here: it is seen, or it is not."""
    if not job.staging.startswith(_IF_SEEN):
        return job
    text, slash, path = job.staging.removeprefix(_IF_SEEN).partition("/")
    folder = f"{slash}{path}"
    try:
        is_seen = Path(folder, MARK).read_text() == text and os.access(Path(folder, "attempts"), os.W_OK)
    except (OSError, UnicodeError):
        is_seen = False
    return replace(job, staging=folder if is_seen else _UNSEEN)


def run_and_pack(
    job: JobSpec, spec: TaskSpec, progress: Progress, load: Callable[[JobSpec], JobCode]
) -> TaskResult | FailureReport:
    """As ``run_attempt``; what the attempt has written of an output that is not seen here is in a parcel."""
    if job.staging != _UNSEEN:
        return run_attempt(job, spec, progress, load)
    env = environment_of(job, spec)
    staging = f"{env.scratch_folder}-parts"  # its own folder is gone when it ends
    try:
        outcome = run_attempt(replace(job, staging=staging), spec, progress, load)
        if isinstance(outcome, TaskResult) and outcome.parts:
            return _packed(outcome, staging, spec, env)
        return outcome
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _packed(result: TaskResult, staging: str, spec: TaskSpec, env: TaskEnvironment) -> TaskResult | FailureReport:
    try:
        result.parcel = pack(result.parts, Path(staging), Path(env.blocks_folder, f"{env.name}.parts"))
    except OSError as error:
        failure = failure_of(error, spec, env)
        return unforeseen_report(spec, error) if failure is None else failure.report
    return result


def pack(parts: Sequence[PartFile], staging: Path, target: Path) -> BlockInfo:
    """Files, one behind the other, as a block of one segment. If all are empty it has no file."""
    crc = size_bytes = 0
    partial = target.with_name(f"{target.name}.tmp")
    try:
        with partial.open("wb") as packed:
            for part in parts:
                with (staging / part.staged).open("rb") as file:
                    while chunk := file.read(_CHUNK_BYTES):
                        packed.write(chunk)
                        crc = crc32(chunk, crc)
                        size_bytes += len(chunk)
    except OSError as error:
        error.filename = error.filename or str(partial)
        partial.unlink(missing_ok=True)
        raise
    if not size_bytes:
        partial.unlink()
        return BlockInfo("", ())
    partial.replace(target)
    return BlockInfo(str(target), (SegmentInfo(0, size_bytes, sum(part.rows for part in parts), crc),))
