"""The end of a job: its output is put in place, or nothing of it is left, and the journal says so.

All of this waits for disks, so it happens in a thread of its own while the coordinator goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from gristmill.errors import BadRecordLimit, DiskFull, GristmillError, JournalFailed, TaskError
from gristmill.runtime import outcome as outcomes
from gristmill.runtime.coordinator.jobs import Job
from gristmill.runtime.coordinator.tally import summary_of
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import JobView
from gristmill.scheduling.commands import JobState
from gristmill.storage.contracts import PartFile
from gristmill.storage.outputs import state_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """How a job is to end, as the coordinator says.

    Attributes:
        job: the job.
        view: its last view.
        parts: the files of its output, if it succeeded.
        error: why there is none, else.
    """

    job: Job
    view: JobView
    parts: Sequence[PartFile] = ()
    error: GristmillError | None = None


def verdict_on(job: Job) -> GristmillError | None:
    """Why there is to be no output of a job whose attempts are over; None if there is."""
    if job.refused is not None:
        return job.refused
    if job.state is JobState.SUCCEEDED:
        return None
    if job.state is JobState.CANCELLED:
        return outcomes.job_cancelled(job.id, job.prepared.spec.folder)
    return _failure_of(job)


def _failure_of(job: Job) -> GristmillError:
    """Why a job failed: by one attempt, or by too many bad records in all."""
    spec, cause, last = job.prepared.spec, job.cause, job.last_failure
    if cause is None:
        return outcomes.too_many_bad_records(spec.job, job.bad_records, spec.max_bad_records, job.last_bad, spec.folder)
    stage = job.stage_name(cause)
    report = last[1] if last is not None and last[0] == cause else outcomes.lost_report(cause, stage)
    report = outcomes.with_replay(report, job.prepared.replay, f"{stage}/{cause.index}")
    if report.error == BadRecordLimit.__name__:
        return outcomes.bad_record_limit(spec.job, spec.max_bad_records, report, spec.folder)
    return outcomes.job_failed(spec.job, report, spec.folder)


def wind_up(ending: Ending) -> Outcome:
    """Make an end. Returns when all that can be done is done, and is durable.

    Raises:
        JournalFailed: the journal of a server cannot be written: how the job ended must not be answered. Whoever takes
            the job up will find out.
    """
    job, error, view, begun = ending.job, ending.error, ending.view, time.monotonic()
    if error is None and (error := _commit(ending)) is not None:
        view = replace(view, state=JobState.FAILED)
    if error is not None:
        _abort(job)
    view = replace(view, seconds=view.seconds + time.monotonic() - begun)  # to put it in its place takes time, too
    outcome = Outcome(view, error)
    if job.journal is not None:
        from gristmill.runtime.journal.facts import JobEnded

        job.note(JobEnded(job.id, time.time(), outcome))
        if job.journal.essential:
            job.journal.durable(job.noted)
        else:
            job.journal.close()
    if job.folder is not None:
        _end_folder(job, outcome)
    return outcome


def _commit(ending: Ending) -> GristmillError | None:
    """Put the output in its place; the error, if that cannot be done."""
    job, spec = ending.job, ending.job.prepared.spec
    if job.journal is not None:
        from gristmill.runtime.journal.facts import JobCommitting

        place = job.prepared.place
        job.note(JobCommitting(job.id, time.time(), tuple(ending.parts), state_of(place) if place else ""))
        try:
            job.journal.durable(job.noted)
        except JournalFailed:
            if job.journal.essential:
                raise
            # The folder tells a later run as well how far the commit came.
    try:
        job.prepared.output.commit(ending.parts, summary_of(ending.view, job.prepared.output_path))
    except TaskError as failure:  # the disk is full
        return outcomes.job_failed(spec.job, failure.report, spec.folder)
    except GristmillError as failure:
        return failure
    except OSError as failure:
        return outcomes.output_failed(spec.job, failure, spec.folder)
    except Exception as failure:  # a defect of ours: a server would end by it, take the job up, and end by it again
        if job.journal is None or not job.journal.essential:
            raise
        _log.exception("the output of job %s could not be put in place", spec.job)
        return outcomes.output_failed(spec.job, OSError(f"{type(failure).__name__}: {failure}"), spec.folder)
    return None


def _abort(job: Job) -> None:
    """Leave nothing beside the output. What is done of a job is kept in its folder, for it may be tried again."""
    spec = job.prepared.spec
    kept = None
    if job.journal is not None and not (job.journal.essential and (spec.session or spec.driver)):
        from gristmill.runtime.coordinator.recovery import KEPT_PARTS

        kept = Path(spec.folder, KEPT_PARTS)
    with suppress(OSError):  # what cannot be removed now is removed by the next run
        if kept is None:
            job.prepared.output.abort()
        elif _must_stay(job):
            job.prepared.output.leave()  # type: ignore[attr-defined]  # it is an OutputCommit
        else:
            job.prepared.output.abort(kept)


def let_go(job: Job) -> None:
    """Leave a job as it is: a later process takes it over, or this one when its server is opened again."""
    from gristmill.storage.commit import OutputCommit

    if isinstance(job.prepared.output, OutputCommit):
        job.prepared.output.release()
    if job.folder is not None:
        job.folder.release()


def _must_stay(job: Job) -> bool:
    """Whether what is staged of a server's job can only be kept beside its output, since that is on another disk.

    What fills that disk is not kept.
    """
    from gristmill.storage.commit import OutputCommit

    output, report = job.prepared.output, job.last_failure
    if job.journal is None or not job.journal.essential or not isinstance(output, OutputCommit) or output.published:
        return False
    if report is not None and report[1].error == DiskFull.__name__:
        return False
    try:
        return output.staging.stat().st_dev != Path(job.prepared.spec.folder).stat().st_dev
    except OSError:
        return False


def _end_folder(job: Job, outcome: Outcome) -> None:
    assert job.folder is not None
    if outcome.error is None:
        if job.journal is not None and job.journal.essential:
            with suppress(OSError):  # housekeeping must not fail a job
                job.folder.remove_but_logs()
        else:
            job.folder.remove()
        return
    report = getattr(outcome.error, "report", None)
    with suppress(OSError):  # a full disk, say: the error itself is what matters
        job.folder.update(
            state=outcome.view.state.value,
            ended=time.time(),
            error=str(outcome.error),
            failure=None if report is None else report.to_json(),
        )
    job.folder.release()
