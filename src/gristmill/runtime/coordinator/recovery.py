"""A job's way into the journal and back. A job that is taken up runs what was noted, never new code, plan or splits."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gristmill.errors import GristmillError, JobFailed, JournalFailed, PayloadAltered
from gristmill.plan.encoding import plan_from_json, plan_to_json, tupled
from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.coordinator.job_records import JobRecord
from gristmill.runtime.coordinator.jobs import NoOutput, PreparedJob
from gristmill.runtime.coordinator.replanning import of_facts
from gristmill.runtime.coordinator.resumption import Resumption, boot_id, survey
from gristmill.runtime.journal.facts import JobAccepted, JobBegun, JobEnded, JobTakenUp
from gristmill.runtime.journal.signing import CODE, SPLITS, signature_of
from gristmill.runtime.outcome import Outcome, job_cancelled
from gristmill.runtime.views import JobView
from gristmill.scheduling.commands import JobState
from gristmill.storage.contracts import PartFile, Split
from gristmill.storage.outputs import adopt_output

KEPT_PARTS = "staged"
"""Below a job's folder: what was staged when it ended without output."""

_IN_SPEC = ("code",)  # in blobs
_NOTED = (
    "name", "output_path", "max_attempts", "place", "mode", "priority", "task_cpus", "task_memory_bytes",
    "speculation", "deaths_expected", "replay", "origins", "reads", "asked",
)  # fmt: skip


# Into the journal


def accepted(
    prepared: PreparedJob,
    key: str,
    now: float,
    request: str = "",
    *,
    user: str = "",
    deadline_seconds: float | None = None,
    queued: bool = False,
    signing_key: bytes = b"",
) -> tuple[JobAccepted, dict[str, bytes]]:
    """The fact that a job is accepted, and the blobs that belong to it. For the arguments see ``JobAccepted``."""
    data: dict[str, Any] = {name: getattr(prepared, name) for name in _NOTED}
    data["spec"] = {name: value for name, value in vars(prepared.spec).items() if name not in _IN_SPEC}
    data["plan"] = plan_to_json(prepared.plan)
    data["stage_keys"] = list(prepared.stage_keys)
    data["ingredients"] = dict(prepared.ingredients)
    splits = [[[list(vars(split).values()) for split in task] for task in input] for input in prepared.splits]
    blobs = {CODE: prepared.spec.code, SPLITS: zlib.compress(json.dumps(splits).encode(), 1)}
    parents = tuple(stage.parents for stage in prepared.plan.stages)
    fact = JobAccepted(
        prepared.spec.job,
        prepared.name,
        now,
        key,
        boot_id(),
        parents,
        data,
        request,
        user,
        deadline_seconds,
        queued=queued,
    )
    return replace(fact, signature=signature_of(signing_key, fact, blobs)), blobs


def never_begun(prepared: PreparedJob, view: JobView, now: float) -> JobEnded:
    """The end of a job whose client was told that it could not be noted in time."""
    spec = prepared.spec
    cancelled = Outcome(replace(view, state=JobState.CANCELLED), job_cancelled(spec.job, spec.folder))
    return JobEnded(spec.job, now, cancelled, refused=True)


# And back


def restore(
    record: JobRecord, blobs: Mapping[str, bytes], *, mode: str | None = None
) -> tuple[PreparedJob, Resumption]:
    """A job that is to go on, as its next coordinator gets it. Its output's staging folder is taken over.

    Args:
        record: how it stands.
        blobs: what the journal keeps beside.
        mode: what becomes of an output that is there; None: as was said when the job was submitted.

    Raises:
        JournalFailed: what was noted is not enough.
        UsageError: its output cannot be written.
    """
    prepared = read_job(record, blobs)
    if mode is not None:
        prepared = replace(prepared, mode=mode)
    parts = [part for done in record.done.values() for part in done.result.parts]
    folder = Path(prepared.spec.folder)
    if not prepared.place:  # its last stage leaves blocks
        spec = replace(prepared.spec, epoch=record.next_epoch)
        prepared = replace(prepared, spec=spec, output=NoOutput())
        return prepared, survey(record, prepared, published=False)
    commit = adopt_output(prepared.place, record.job, prepared.mode, parts, folder, folder / KEPT_PARTS)
    spec = replace(prepared.spec, staging=commit.staged_at, epoch=record.next_epoch)
    prepared = replace(prepared, spec=spec, output=commit)
    return prepared, survey(record, prepared, published=commit.published)


def input_state(size_bytes: int, changed_ns: int) -> str:
    """What tells an input from what it was or will be, among a job's ingredients."""
    return f"{size_bytes} bytes, changed at {changed_ns}"


def unreadable(record: JobRecord, error: GristmillError, now: float) -> JobEnded:
    """The end of a job of which the journal does not hold enough: it must not keep the others from going on."""
    seconds = 0.0 if record.begun_at is None else max(0.0, now - record.begun_at)
    view = JobView(
        record.job,
        record.accepted.name,
        JobState.FAILED,
        seconds,
        (),
        record.attempts,
        record.failed_attempts,
        failures=tuple(record.failures),
    )
    failed = error if isinstance(error, PayloadAltered) else JobFailed(f"Job {record.job} failed: {error}")
    return JobEnded(record.job, now, Outcome(view, failed))


def read_job(record: JobRecord, blobs: Mapping[str, bytes]) -> PreparedJob:
    """A job as it was accepted, with its stages cut as was decided since. Its output is nowhere yet.

    Raises:
        JournalFailed: what was noted is not enough.
    """
    data = record.accepted.prepared
    try:
        spec = {name: tupled(value) for name, value in data["spec"].items()}
        splits = json.loads(zlib.decompress(blobs[SPLITS]))
        prepared = PreparedJob(
            spec=JobSpec(code=blobs[CODE], **spec),
            plan=plan_from_json(data["plan"]),
            splits=tuple(tuple(tuple(map(_split_of, task)) for task in input) for input in splits),
            output=_Nowhere(),
            stage_keys=tuple(data["stage_keys"]),
            ingredients=data["ingredients"],
            **{name: tupled(data[name]) for name in _NOTED if name in data},  # older journals have fewer
        )
        return of_facts(prepared, record.replanned)
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise JournalFailed(f"The journal does not hold all of job {record.job}; it cannot be taken up.") from error


def _split_of(fields: list[Any]) -> Split:
    split = Split(*fields)
    options = tuple((name, value) for name, value in split.options)
    return replace(split, hosts=tuple(split.hosts), options=options)


class _Nowhere:
    """The output of a job that is only looked at, or ended."""

    def commit(self, parts: Iterable[PartFile], summary: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Never called."""
        raise AssertionError("the job is not to be run")

    def abort(self, keep: Path | None = None) -> None:
        """Nothing."""


def taken_up(record: JobRecord, now: float) -> JobTakenUp | JobBegun:
    """The fact that a coordinator goes on with a job, or that its turn has come."""
    return JobTakenUp(record.job, record.next_epoch, now, boot_id()) if record.begun else JobBegun(record.job, now)
