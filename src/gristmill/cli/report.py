"""Failures as text for people: the user's own line first, then the record, then what to do.

Pure functions return styled text; :func:`show_error` prints it, without colours where they do not belong.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from gristmill.cli.tables import printable_lines
from gristmill.config import format_size
from gristmill.errors import (
    FailureReport,
    Frame,
    GristmillError,
    JobCancelled,
    JobFailed,
    TaskError,
    TooManyBadRecords,
    UsageError,
)
from gristmill.runtime.advice import advice_on, headline_of, unit_of, without_comprehensions

_RECORD_CHARACTERS = 300
_LOG_LINES = 20
_LABEL_WIDTH = 9
_WIDTH = 100
_CALLERS_SHOWN = 8


def show_error(error: GristmillError) -> None:
    """Print an error on stderr."""
    click.echo(error_text(error), err=True, color=False if os.environ.get("NO_COLOR") else None)


def error_text(error: GristmillError) -> str:
    """The whole text for an error, without a newline at the end and without anything that commands the terminal."""
    if isinstance(error, JobCancelled):
        return _cancelled_text(error)
    if isinstance(error, JobFailed):
        return job_failed_text(error)
    if isinstance(error, TaskError):
        return failure_text(error.report)
    text = printable_lines(str(error))
    if isinstance(error, UsageError):
        return _usage_text(text)
    return f"{_bad('Error:')} {text or type(error).__name__}"


def _usage_text(message: str) -> str:
    """Wrong use in one sentence; or a place in the user's code first, and what is wrong with it below."""
    first, newline, rest = message.partition("\n")
    return f"{click.style(first, bold=True)}\n{rest}" if newline else f"{_bad('Error:')} {message}"


def job_failed_text(error: JobFailed) -> str:
    """A failed job: the failure that ended it, then what is left of the job."""
    lines = [failure_text(error.report), ""] if error.report else []
    reason = printable_lines(str(error))
    if isinstance(error, TooManyBadRecords) or not error.report:
        # The exception's first line says why; what follows there repeats the report for those who only see the text.
        lines.append(_bad(reason.partition("\n")[0].removesuffix(" The last one:")))
    elif str(error.report.details.get("task", "")).startswith("driver "):
        lines.append(f"{_bad('The script failed.')} What it had written before is there.")
    else:
        lines.append(f"{_bad('The job failed.')} No output was written.")
    if error.report and (command := error.report.details.get("replay")):
        # Whole, whatever the width: a terminal that wraps a line copies it as one.
        lines.append(_label("Replay") + printable_lines(str(command)))
        lines.append(_row("", "(that task again, here; with --pdb it stops where it raised)"))
    if error.job_folder:
        lines.append(_row("Kept", f"{printable_lines(_short(error.job_folder))} (logs of all tasks)"))
    return "\n".join(lines)


def failure_text(report: FailureReport) -> str:
    """One failure: place and source text, what was raised, the record, the attempts, what to do, the last output."""
    report = _printable(report)
    lines: list[str] = []
    if report.frames:
        lines += _frames(report)
    else:
        lines += [_bad(f"{headline_of(report)}."), report.message]
    lines += _particulars(report)
    # What a function has printed has nothing to do with why it raised; what a program has said before it ended may.
    if report.log_tail.strip() and (report.error != "UserCodeError" or report.function == "pipe"):
        lines += ["", "The last lines of its output:"]
        lines += [f"  | {line}" for line in report.log_tail.rstrip().splitlines()[-_LOG_LINES:]]
    return "\n".join(lines)


def _printable(report: FailureReport) -> FailureReport:
    """A report whose texts, all of which user code can make, are for a terminal."""
    named = {each.name: getattr(report, each.name) for each in fields(report)}
    texts: dict[str, Any] = {name: printable_lines(one) for name, one in named.items() if isinstance(one, str)}
    frames = (
        Frame(printable_lines(one.file), one.line, printable_lines(one.function), printable_lines(one.source))
        for one in report.frames
    )
    details = {name: printable_lines(one) if isinstance(one, str) else one for name, one in report.details.items()}
    return replace(report, **texts, frames=tuple(frames), details=details)


def _frames(report: FailureReport) -> list[str]:
    """Where it was raised, and below that who called, each with its line of source."""
    *callers, last = without_comprehensions(report.frames)
    lines = [*_frame(last, strong=True), _bad(report.what)]
    if callers:
        lines += ["", "called from"]
        near, far = callers[-_CALLERS_SHOWN:], callers[:-_CALLERS_SHOWN]
        lines += [f"  {line}" for frame in reversed(near) for line in _frame(frame, strong=False)]
        if len(far) > 1:  # a recursion without end, most likely
            lines.append(f"  … {len(far) - 1:,} more calls …")
        lines += [f"  {line}" for frame in far[:1] for line in _frame(frame, strong=False)]
    return lines


def _frame(frame: Frame, strong: bool) -> list[str]:
    place = f"{_short(frame.file)}:{frame.line}"
    lines = [f"{click.style(place, bold=True) if strong else place}, in {frame.function}"]
    if frame.source:
        lines.append(f"    {click.style(frame.source, bold=True) if strong else frame.source}")
    return lines


def _particulars(report: FailureReport) -> list[str]:
    rows: list[tuple[str, str]] = []
    if built := report.details.get("built"):
        role = report.details.get("role")
        step = f"{report.function} (its {role})" if role else report.function
        rows.append(("Step", f"{step}, built at {_short(str(built))}"))
    if report.record:
        rows.append((unit_of(report), _cut(report.record)))
    if report.source:
        rows.append(("In", _place(report)))
    if task := _task(report):
        rows.append(("Task", task))
    if memory := _memory(report):
        rows.append(("Memory", memory))
    if advice := advice_on(report):
        rows.append(("Advice", advice))
    return ["", *(_row(label, text) for label, text in rows)] if rows else []


def _place(report: FailureReport) -> str:
    if report.offset < 0:
        return _short(report.source)
    unit = "row" if report.source.endswith(".parquet") else "byte"
    return f"{_short(report.source)}, at {unit} {report.offset}"


def _task(report: FailureReport) -> str:
    """Which task, in which of the user's functions, and how often it was tried."""
    words = []
    if task := report.details.get("task"):
        words.append(str(task))
    if report.function:
        words.append(f"in the {report.function}")
    attempts = report.details.get("attempts")
    if isinstance(attempts, int):
        words.append("tried once" if attempts == 1 else f"tried {attempts} times")
    return ", ".join(words)


def _memory(report: FailureReport) -> str:
    """The peak of a process that died: it may tell why. Where memory is the reason, the message has it."""
    peak = report.details.get("peak_bytes")
    if report.error != "ExecutorDied" or not isinstance(peak, (int, float)) or not peak:
        return ""
    return f"{format_size(peak)} at the peak"


def _cancelled_text(error: JobCancelled) -> str:
    return f"{click.style('Cancelled.', fg='yellow', bold=True)} {printable_lines(str(error))}".rstrip()


def _row(label: str, text: str) -> str:
    """A label and its text, wrapped below itself."""
    width = min(_WIDTH, shutil.get_terminal_size((_WIDTH, 0)).columns)
    body = textwrap.wrap(text, max(width - _LABEL_WIDTH, 20), break_long_words=False, break_on_hyphens=False) or [""]
    rest = [" " * _LABEL_WIDTH + line for line in body[1:]]
    return "\n".join([_label(label) + body[0], *rest])


def _label(label: str) -> str:
    return click.style(f"{label:<{_LABEL_WIDTH}}", dim=True)


def _cut(text: str) -> str:
    if len(text) <= _RECORD_CHARACTERS:
        return text
    return f"{text[:_RECORD_CHARACTERS]}… ({len(text):,} characters shown in part)"


def _short(path: str) -> str:
    """A path as a person would write it: relative to here if it lies below, with ``~`` for home."""
    here, home = f"{Path.cwd()}{os.sep}", f"{Path.home()}{os.sep}"
    if path.startswith(here):
        return path[len(here) :]
    if path.startswith(home) and len(home) > 2:
        return f"~{os.sep}{path[len(home) :]}"
    return path


def _bad(text: str) -> str:
    return click.style(text, fg="red", bold=True)
