"""Failures in words for people: a headline, what to do, and which lines of a traceback are worth showing.

The command line and the web page show the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from gristmill.errors import FailureReport, Frame

_HEADLINES = {
    "TaskError": "Something went wrong inside Gristmill",
    "KeyTypeRefused": "A key has a type that cannot be a key",
    "RecordTooLong": "A record is too long",
    "RecordMalformed": "An input cannot be read as its format",
    "InputUnreachable": "An input cannot be reached",
    "LengthsDiffer": "Datasets that are zipped have different lengths",
    "OutputUnreachable": "The output cannot be reached",
    "BadRecordLimit": "More records failed than --max-bad-records allows",
    "OutputUnencodable": "A result cannot be written in the output's format",
    "ExecutorDied": "The process that ran a task died",
    "AnswerInvalid": "An attempt's answer cannot be what its task made",
    "AttemptNotBegun": "A task did not come to begin",
    "MemoryLimitExceeded": "A task needed more memory than it may use",
    "ProcessLimitExceeded": "A task has started too many processes",
    "FileTooLarge": "A file became larger than it may",
    "TaskTimeout": "A task ran longer than it may",
    "DiskFull": "The disk is full",
    "DataDirFailed": "A data directory of a worker cannot be used any more",
    "BlockCorrupt": "Data between two stages was damaged",
    "BlockMissing": "Data between two stages is gone",
    "BlockUnreachable": "Data between two stages cannot be fetched",
}

_ADVICE = {
    "TaskError": "This is a mistake of Gristmill, not of your job. Please report it, with the lines below.",
    "UserCodeError": "Correct the function.",
    "KeyTypeRefused": "Use None, bool, int, float, str, bytes, Decimal, a date, UUID, Enum, or a tuple of these.",
    "RecordTooLong": "Is the input really lines of text? Set such records aside with --max-bad-records N.",
    "RecordMalformed": "Look at the file there; name its format with --input-format, or set such records aside with "
    "--max-bad-records N.",
    "InputUnreachable": "See whether its storage is up, and whether the machines that run tasks may read it.",
    "LengthsDiffer": "Use zip_with_index() and join() to put together what has gaps.",
    "OutputUnreachable": "See whether its storage is up, and whether the machines that run tasks may write there.",
    "BadRecordLimit": "Correct the function, or allow more with --max-bad-records N.",
    "OutputUnencodable": "Choose another --output-format (text takes anything), or yield plainer values.",
    "ExecutorDied": "Look at its last lines; run it in this process with --on inline to see it happen.",
    "AnswerInvalid": "Does the code write to file descriptors that it has not opened? Then let it not.",
    "AttemptNotBegun": "Run the job again; its executors went away before the task's turn came.",
    "MemoryLimitExceeded": "Give more with --memory, run fewer executors with --executors, or make smaller tasks with "
    "--split-size or --reducers.",
    "ProcessLimitExceeded": "Start fewer, wait for those that have ended, or allow more with --max-processes.",
    "FileTooLarge": "Write less into a file (more --reducers, a smaller --split-size), or allow more with "
    "--max-file-size.",
    "TaskTimeout": "Give it longer with --task-timeout, or make smaller tasks with --split-size.",
    "DiskFull": "Make room there, or keep the job's files elsewhere with --data-dir.",
    "DataDirFailed": "Check the disk that holds it, or give the worker another --data-dir.",
    "BlockUnreachable": "See whether the worker that is named lives, and can be reached from the others.",
    "BlockCorrupt": "Check the disk that holds the data folder, then run the job again.",
    "BlockMissing": "Does something clean the data folder while jobs run? Run the job again.",
}
_ADVICE_MODULE = "Name a module of yours with --py-files, and install others on every machine that runs tasks."
_ADVICE_SET_ASIDE = "Correct the function, or set such records aside with --max-bad-records N."


def headline_of(report: FailureReport) -> str:
    """What happened, for a failure that has no line of the user's; without a full stop."""
    return _HEADLINES.get(_error(report), "A task failed")


def advice_on(report: FailureReport) -> str:
    """What to do, one sentence; mostly not empty."""
    if report.advice:
        return report.advice
    if report.exception == ModuleNotFoundError.__name__:
        return _ADVICE_MODULE
    if report.error == "UserCodeError" and report.function in ("mapper", "reducer"):
        return _ADVICE_SET_ASIDE
    return _ADVICE.get(_error(report), "")


def without_comprehensions(frames: Sequence[Frame]) -> list[Frame]:
    """Only the outer one of two frames on one line: a comprehension and the function that it stands in."""
    kept: list[Frame] = []
    for frame in frames:
        inner = kept and frame.function.startswith("<") and (frame.file, frame.line) == (kept[-1].file, kept[-1].line)
        if not inner:
            kept.append(frame)
    return kept


def unit_of(report: FailureReport) -> str:
    """What the record of a report is."""
    is_key = report.function in ("reducer", "combiner", "partitioner") or report.details.get("unit") == "key"
    return "Key" if is_key else "Last" if "unit" in report.details else "Record"


def _error(report: FailureReport) -> str:
    """What it is for a person: a worker's disk that is full is no broken one, though other places may do as well."""
    return "DiskFull" if report.details.get("full") else report.error
