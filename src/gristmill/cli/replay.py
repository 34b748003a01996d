"""``gristmill replay JOB TASK``: one task of a job again, in this process."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import click

from gristmill.cli.options import data_dir_option
from gristmill.config import GIB, default_data_dir, format_duration, format_size
from gristmill.errors import TaskError, UsageError

_LINES = 10
_ASKED_BYTES = GIB  # of input; to read more is worth a question


@click.command(short_help="Run one task of a job again, in this process.")
@click.argument("job")
@click.argument("task")
@click.option("--pdb", "debug", is_flag=True, help="Stop in the debugger where it raised.")
@click.option("--yes", is_flag=True, help="Run tasks whose blocks are gone again, however much they read.")
@data_dir_option("Where the job kept its working files.")
def replay(job: str, task: str, debug: bool, yes: bool, data_dir: Path | None) -> None:
    """Run one task of a job again, in this process, with the code and the input that it had.

    JOB is a job's id, or how it begins. TASK is map/3, reduce/0, or an attempt as messages and logs name it. What it
    writes is shown in short and kept nowhere. Jobs that have succeeded leave nothing to replay.

    If a reduce task's input is gone (workers delete it at a job's end), the tasks that make it run again first. With
    more than 1 GiB to read for that, it is done with --yes only.
    """
    from gristmill.runtime import replay as again

    found = again.find_task(data_dir or default_data_dir(), job, task)
    click.echo(f"Job {found.job.job}, {found.name}:", err=True)
    if found.missing_bytes > _ASKED_BYTES and not yes:
        size = format_size(found.missing_bytes)
        raise UsageError(f"{found.notices[0]} That reads {size} of input; give --yes to go on.")
    for notice in found.notices:
        click.echo(notice, err=True)
    with again.scratch_folder(found) as folder:
        began = time.monotonic()
        try:
            # What user code prints goes to stderr, for stdout is for data; a debugger in it wants the terminal.
            with nullcontext() if sys.stdout.isatty() else redirect_stdout(sys.stderr):
                rerun = again.Replay(found, folder)
                rerun.make_up()
                result = rerun.run()
        except TaskError as error:
            if not debug:
                raise
            _debug(error)
            raise click.exceptions.Exit(error.exit_code) from error
        seconds = time.monotonic() - began
        for line in again.first_lines(result, folder, again.format_of(rerun.spec), _LINES):
            click.echo(line)
        figures = f"{result.records_in:,} records in, {result.records_out:,} out, in {format_duration(seconds)}"
        bad = f"; {result.bad_records:,} bad records were set aside" if result.bad_records else ""
        click.echo(f"It is done: {figures}{bad}.", err=True)
        if found.failed is not None:
            click.echo(f"It failed in the job, and not now: {found.failed.what}", err=True)


def _debug(error: TaskError) -> None:
    """Say what failed, then stop where it was raised."""
    import pdb

    from gristmill.cli.report import show_error
    from gristmill.runtime.replay import user_traceback

    show_error(error)
    traceback = user_traceback(error)
    if traceback is None:
        raise UsageError("There is no traceback to look at.") from error
    pdb.post_mortem(traceback)
