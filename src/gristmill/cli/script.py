"""Scripts of datasets on the command line: run here as Python would, with a session set from the options."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import click

from gristmill.cli.options import session_options
from gristmill.cli.settings import is_given
from gristmill.errors import GristmillError

if TYPE_CHECKING:
    from gristmill.api.driver import Script

# Options of jobs that mean nothing to a script, and what to do instead.
_OUTPUT = "a script says itself what it writes, where and how"
_NOT_FOR_SCRIPTS = {
    "output": ("-o", _OUTPUT),
    "overwrite": ("--overwrite", _OUTPUT),
    "output_format": ("--output-format", _OUTPUT),
    "as_json": ("--json", "a script prints what it likes"),
    "input_format": ("--input-format", "a script names formats by its read_ functions"),
    "no_combiner": ("--no-combiner", "datasets have folds instead of combiners"),
    "max_bad_records": ("--max-bad-records", "a script sets bad records aside itself, in flat_map()"),
    "resume": ("--resume", "what a script has computed goes with it, unless it keeps checkpoints"),
    "params": ("--set", "give a script its arguments behind --"),
}


def check_options(script: str, named: dict[str, Any]) -> None:
    """See that nothing is wanted of a script that only jobs know.

    Raises:
        UsageError: something is.
    """
    for name, (option, why) in _NOT_FOR_SCRIPTS.items():
        if named.get(name) and is_given(name):
            raise click.UsageError(f"{option} is not for {script}, which is a script of datasets: {why}.")


def run_script(path: str, arguments: Sequence[str], named: dict[str, Any]) -> int:
    """Run a script.

    Args:
        path: the script.
        arguments: its own.
        named: the options of ``gristmill run``.

    Returns:
        The exit code, as Python's; or that of the failure of ours that it did not handle.
    """
    from gristmill.api.driver import Script
    from gristmill.api.session import session_defaults

    check_options(path, named)
    options = session_options(named)
    script = Script.read(Path(path), arguments)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with session_defaults({**options, "progress": options["on"] != "inline"}):
            script.run()
    except SystemExit as error:
        return _exit_code(error)
    except GristmillError as error:
        if os.environ.get("GRISTMILL_DEBUG", "") not in ("", "0"):
            raise
        from gristmill.cli.report import show_error

        show_error(error)
        if line := _line_of(script, error.__traceback__):
            click.echo(f"It was raised by {line}", err=True)
        return error.exit_code
    except Exception as error:  # the script's: shown as Python does, but for our frames
        sys.excepthook(type(error), error.with_traceback(_of_script(script, error.__traceback__)), error.__traceback__)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """End as by Ctrl-C: nothing that was started, and no output that is half written, stays behind."""
    raise KeyboardInterrupt


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


def _of_script(script: Script, traceback: TracebackType | None) -> TracebackType | None:
    """The traceback from the script on; all of it if the script is not in it."""
    found = traceback
    while found is not None and found.tb_frame.f_code.co_filename != script.file:
        found = found.tb_next
    return found or traceback


def _line_of(script: Script, traceback: TracebackType | None) -> str:
    """The innermost line of the script that a failure came by; empty if it is not in it."""
    line = 0
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == script.file:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    if not line:
        return ""
    lines = script.text.splitlines()
    source = lines[line - 1].strip() if line <= len(lines) else ""
    return f"{script.named}:{line}: {source}"
