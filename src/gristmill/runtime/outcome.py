"""How a job ended, and the exception that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gristmill import errors
from gristmill.errors import FailureReport, GristmillError, JobCancelled, JobFailed, TooManyBadRecords
from gristmill.runtime.views import JobView
from gristmill.scheduling.events import AttemptId

_LOG_LINES = 10
_NOT_THE_TASK = ("TaskError", "DiskFull", "DataDirFailed", "BlockCorrupt", "BlockMissing", "BlockUnreachable")


@dataclass(frozen=True)
class Outcome:
    """The end of a job.

    Attributes:
        view: the last view; its state is final.
        error: why there is no output; None if the job succeeded.
    """

    view: JobView
    error: GristmillError | None = None

    def to_json(self) -> dict[str, Any]:
        """As values that ``json.dumps`` takes."""
        return {"view": self.view.to_json(), "error": None if self.error is None else error_to_json(self.error)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """The inverse of :meth:`to_json`."""
        error = data.get("error")
        return cls(JobView.from_json(data["view"]), None if error is None else error_from_json(error))


def error_to_json(error: GristmillError) -> dict[str, Any]:
    """An error as values that ``json.dumps`` takes."""
    report: FailureReport | None = getattr(error, "report", None)
    return {
        "type": type(error).__name__,
        "message": errors.plain(str(error)),
        "report": None if report is None else report.to_json(),
        "job_folder": getattr(error, "job_folder", ""),
    }


def error_from_json(data: Mapping[str, Any]) -> GristmillError:
    """The inverse of :func:`error_to_json`, as far as the error's class is known here."""
    cls = getattr(errors, str(data["type"]), GristmillError)
    report = data.get("report")
    if isinstance(cls, type) and issubclass(cls, JobFailed):
        found = None if report is None else FailureReport.from_json(report)
        return cls(data["message"], found, data.get("job_folder", ""))
    if isinstance(cls, type) and issubclass(cls, errors.TaskError):
        return cls(FailureReport.from_json(report)) if report is not None else GristmillError(data["message"])
    if isinstance(cls, type) and issubclass(cls, GristmillError):
        return cls(data["message"])
    return GristmillError(data["message"])


def of_attempt(report: FailureReport, attempt: AttemptId, stage: str) -> FailureReport:
    """A report that also says which task it was and how often it was tried."""
    where: dict[str, int | float | str] = {"task": f"{stage} task {attempt.index}", "attempts": attempt.number}
    return replace(report, details={**report.details, **where})


def lost_report(attempt: AttemptId, stage: str, worker: str = "") -> FailureReport:
    """For an attempt that nobody reported on; ``worker`` is named if it was lost as a whole."""
    gone = f"Its worker {worker} was lost" if worker else "The executor went away"
    message = f"{gone} while it ran {stage} task {attempt.index}."
    return of_attempt(FailureReport(error="ExecutorDied", message=message), attempt, stage)


def with_replay(report: FailureReport, command: str, task: str) -> FailureReport:
    """A report that names the command by which its task can be run again, where that would tell more.

    Args:
        report: of the attempt that ended the job.
        command: what runs a task of the job again, but for the task's name; empty when nothing does.
        task: the task's name.
    """
    if not command or report.error in _NOT_THE_TASK:
        return report
    name = f"'{task}'" if " " in task else task
    return replace(report, details={**report.details, "replay": f"{command} {name}"})


def job_failed(job: str, report: FailureReport, folder: str) -> JobFailed:
    """A job ended by one attempt."""
    return JobFailed(f"Job {job} failed.\n{_describe(report)}{_kept(folder)}", report, folder)


def job_rejected(job: str, report: FailureReport, folder: str) -> GristmillError:
    """A job that cannot run where it was submitted, or that has lost the fleet which it ran on."""
    cls = getattr(errors, report.error, None)
    if isinstance(cls, type) and issubclass(cls, (errors.UsageError, errors.ServerUnreachable)):
        return cls(report.message)
    return job_failed(job, report, folder)


def too_many_bad_records(job: str, count: int, allowed: int, last: FailureReport | None, folder: str) -> JobFailed:
    """A job ended because too many of its records failed."""
    what = f"Job {job} failed: {count} records failed, and --max-bad-records allows {allowed}."
    message = f"{what} The last one:\n{_describe(last)}{_kept(folder)}" if last else what + _kept(folder)
    return TooManyBadRecords(message, last, folder)


def bad_record_limit(job: str, allowed: int, last: FailureReport, folder: str) -> JobFailed:
    """A job ended because one attempt alone met too many records that failed."""
    what = f"Job {job} failed: more records failed than the {allowed} that --max-bad-records allows."
    return TooManyBadRecords(f"{what} The last one:\n{_describe(last)}{_kept(folder)}", last, folder)


def output_failed(job: str, error: OSError, folder: str) -> JobFailed:
    """All tasks are done, but the output could not be put in its place."""
    what = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
    return JobFailed(f"Job {job} failed: its output could not be put in place: {what}.{_kept(folder)}", None, folder)


def storage_away(job: str, away: str, seconds: float) -> JobFailed:
    """A job that was taken up, and whose files could not be seen."""
    return JobFailed(
        f"Job {job} failed: since the server was started again, it has waited {seconds:g} s for {away}. "
        "Bring that back, then submit the job again."
    )


def job_cancelled(job: str, folder: str) -> JobCancelled:
    """A job was cancelled before it was done."""
    return JobCancelled(f"Job {job} was cancelled; no output was written.{_kept(folder)}")


def _kept(folder: str) -> str:
    return f"\nWhat is kept of it is in {folder}"


def _describe(report: FailureReport) -> str:
    """The user's own line first, then what happened, then the record."""
    lines = []
    if report.frames:
        frame = report.frames[-1]
        lines.append(f"{frame.file}:{frame.line}, in {frame.function}")
        if frame.source:
            lines.append(f"    {frame.source}")
    lines.append(report.what)
    if built := report.details.get("built"):
        role = report.details.get("role")
        step = f"{report.function} (its {role})" if role else report.function
        lines.append(f"in the step: {step}, built at {built}")
    if report.record:
        lines.append(f"{report.details.get('unit', 'record')}: {report.record}")
    if report.source:
        place = f", offset {report.offset}" if report.offset >= 0 else ""
        lines.append(f"read from: {report.source}{place}")
    if task := report.details.get("task"):
        attempts = report.details.get("attempts", 1)
        lines.append(f"in: {task}, attempt {attempts}")
    if report.advice:
        lines.append(report.advice)
    if command := report.details.get("replay"):
        lines.append(f"run it again alone: {command}")
    if report.log_tail.strip():
        tail = report.log_tail.rstrip().splitlines()[-_LOG_LINES:]
        lines += ["the last lines of its output:", *(f"    {line}" for line in tail)]
    return "\n".join(lines)
