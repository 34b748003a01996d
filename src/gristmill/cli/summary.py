"""The summary that ``--json`` prints: a job in figures, and why it has no output. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gristmill.errors import GristmillError, JobFailed
from gristmill.runtime.advice import without_comprehensions


def with_error(summary: Mapping[str, Any], error: GristmillError | None) -> dict[str, Any]:
    """The figures of a job; of one that has failed or was cancelled with what ended it, as ``error``."""
    return dict(summary) if error is None else {**summary, "error": error_json(error)}


def error_json(error: GristmillError) -> dict[str, Any]:
    """An error as data: ``frames`` are those of the user's code, the line that raised first."""
    report = error.report if isinstance(error, JobFailed) else None
    if report is None:
        return {"type": type(error).__name__, "message": str(error), "frames": [], "record": None, "task": None}
    return {
        "type": report.error,
        "message": report.what,
        "frames": [vars(frame) for frame in reversed(without_comprehensions(report.frames))],
        "record": report.record or None,
        "task": report.details.get("task"),
        "source": report.source or None,
        "offset": report.offset if report.offset >= 0 else None,
    }
