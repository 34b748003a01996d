"""From an exception in user code to a report that shows the user's own line."""

from __future__ import annotations

import codecs
import json
import linecache
import pathlib
import shutil
import sysconfig
import tempfile
import traceback
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow

from gristmill.errors import FailureReport, Frame, TaskError, UserCodeError

_ENGINE = str(Path(__file__).resolve().parent.parent)
_LIBRARIES = tuple({path for name, path in sysconfig.get_paths().items() if name in ("stdlib", "purelib", "platlib")})
# The standard library comes first, and site-packages lies within it: what the engine calls is named one by one.
_ENGINE_CALLS = (
    "<frozen",
    *(str(Path(module.__file__ or "?").parent) for module in (pyarrow, json)),
    *(module.__file__ or "?" for module in (pathlib, tempfile, shutil, codecs)),
)
_RECORD_LIMIT = 500


def user_error(error: Exception, function: str) -> TaskError:
    """What an exception that came out of a user's function is to the engine.

    Args:
        error: what was raised. A TaskError is passed on as it is.
        function: the role of the function, such as ``mapper``.
    """
    if isinstance(error, TaskError):
        return error
    name = type(error).__qualname__
    report = FailureReport(
        error="UserCodeError",
        message="".join(traceback.format_exception_only(error)).strip(),
        frames=user_frames(_origin(error).__traceback__),
        exception=name,
        function=function,
    )
    wrapped = UserCodeError(report)
    wrapped.__cause__ = error
    return wrapped


def is_users(error: Exception) -> bool:
    """Whether an exception came out of user code, and not out of the engine or what the engine calls."""
    for summary in traceback.extract_tb(_origin(error).__traceback__):
        if not summary.filename.startswith(_ENGINE):
            return not summary.filename.startswith(_ENGINE_CALLS)
    return False


def _origin(error: Exception) -> BaseException:
    """The exception whose traceback leads to the user: Python turns a StopIteration in a generator into another."""
    cause = error.__cause__
    return cause if isinstance(error, RuntimeError) and isinstance(cause, StopIteration) else error


def misuse(function: Any, role: str, message: str, advice: str) -> UserCodeError:
    """A user's function did what its role does not allow; the report shows where it is defined."""
    code = getattr(function, "__code__", None) or getattr(getattr(function, "__func__", None), "__code__", None)
    frames: tuple[Frame, ...] = ()
    if code is not None:
        source = linecache.getline(code.co_filename, code.co_firstlineno).strip()
        frames = (Frame(code.co_filename, code.co_firstlineno, code.co_name, source),)
    report = FailureReport(error="UserCodeError", message=message, frames=frames, function=role, advice=advice)
    return UserCodeError(report)


def locate(error: TaskError, *, record: Any, source: str, offset: int = -1) -> TaskError:
    """The same error with the record in work, unless it names one already."""
    if not error.report.record:
        error.report = replace(error.report, record=cut(record), source=source, offset=offset)
    return error


def in_step(error: TaskError, name: str, where: str) -> TaskError:
    """The same error with the step of a dataset that failed, unless it names one already.

    Args:
        error: the failure.
        name: the method that the user called.
        where: his line, such as ``count.py:12``; empty if it is not known.
    """
    report = error.report
    if where and "built" not in report.details:
        # A function in C has no line of its own.
        frames = report.frames or (_frame_at(where, name),)
        error.report = replace(report, function=name, frames=frames, details={**report.details, "built": where})
    return error


def _frame_at(where: str, name: str) -> Frame:
    file, _, line = where.rpartition(":")
    return Frame(file, int(line), f"{name}()", linecache.getline(file, int(line)).strip())


def user_frames(tb: TracebackType | None) -> tuple[Frame, ...]:
    """The frames of the user's own code, outermost first; those of libraries only if there are no others."""
    frames = [
        Frame(summary.filename, summary.lineno or 0, summary.name, (summary.line or "").strip())
        for summary in traceback.extract_tb(tb)
        if not summary.filename.startswith(_ENGINE)
    ]
    own = [frame for frame in frames if not frame.file.startswith((*_LIBRARIES, "<frozen")) and not _is_cython(frame)]
    return tuple(own or frames)


def _is_cython(frame: Frame) -> bool:
    return frame.file.endswith((".pyx", ".pxi", ".pxd"))


def cut(record: Any) -> str:
    """A record for people: its repr, at most 500 characters. A long str is cut before its repr is made."""
    if isinstance(record, (str, bytes)) and len(record) > _RECORD_LIMIT:
        record = record[:_RECORD_LIMIT]
    try:
        text = repr(record)
    except Exception:  # of a user's class; what is to be told is something else
        text = f"<{type(record).__qualname__}, whose repr fails>"
    return text if len(text) <= _RECORD_LIMIT else text[: _RECORD_LIMIT - 1] + "…"
