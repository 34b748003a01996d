"""A failure as the page shows it: the user's own line first. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gristmill.errors import FailureReport, Frame
from gristmill.runtime.advice import advice_on, headline_of, unit_of, without_comprehensions

_CALLERS = 8
_LOG_LINES = 20


@dataclass(frozen=True)
class Failure:
    """What is shown of a failure.

    Attributes:
        headline: in a few words.
        place: the user's line; None if it is not known, or not theirs.
        what: the exception, and what it says.
        callers: who called, the nearest first.
        more_callers: that are left out.
        facts: labels and what stands beside them.
        log: the last lines that the task printed.
    """

    headline: str
    place: Frame | None
    what: str
    callers: tuple[Frame, ...] = ()
    more_callers: int = 0
    facts: tuple[tuple[str, str], ...] = ()
    log: str = ""


def failure_of(report: FailureReport) -> Failure:
    """Of one attempt."""
    frames = without_comprehensions(report.frames)
    callers = tuple(reversed(frames[:-1]))
    facts = []
    if built := report.details.get("built"):
        facts.append(("Step", f"{report.function}, built at {built}"))
    if report.record:
        facts.append((unit_of(report), report.record))
    if report.source:
        unit = "row" if report.source.endswith(".parquet") else "byte"
        facts.append(("In", f"{report.source}, at {unit} {report.offset}" if report.offset >= 0 else report.source))
    if task := _task(report):
        facts.append(("Task", task))
    if advice := advice_on(report):
        facts.append(("Advice", advice))
    if replay := report.details.get("replay"):
        facts.append(("Replay", str(replay)))
    log = "\n".join(report.log_tail.rstrip().splitlines()[-_LOG_LINES:])
    if not frames:
        return Failure(headline_of(report), None, report.message, facts=tuple(facts), log=log)
    return Failure(
        "A function failed" if not report.function else f"The {report.function} failed",
        frames[-1],
        report.what,
        callers[:_CALLERS],
        max(0, len(callers) - _CALLERS),
        tuple(facts),
        log,
    )


def failure_of_job(error: Mapping[str, Any] | None) -> Failure | None:
    """Of a job that is over, from ``outcome.error_to_json``; None if it has not failed."""
    if error is None or error.get("type") == "JobCancelled":
        return None
    if (report := error.get("report")) is not None:
        return failure_of(FailureReport.from_json(report))
    first, _, rest = str(error.get("message", "")).partition("\n")
    return Failure("The job failed", None, first, log=rest.strip())


def _task(report: FailureReport) -> str:
    words = []
    if task := report.details.get("task"):
        words.append(str(task))
    attempts = report.details.get("attempts")
    if isinstance(attempts, int):
        words.append("tried once" if attempts == 1 else f"tried {attempts} times")
    return ", ".join(words)
