"""``gristmill run JOB INPUT...``, and the same command without JOB for ``python wordcount.py INPUT...``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gristmill.cli.options import job_options, run_options
from gristmill.cli.settings import is_given
from gristmill.cli.streams import stdout_for_data
from gristmill.config import JobOptions
from gristmill.errors import GristmillError, JobCancelled, JobFailed

if TYPE_CHECKING:
    from gristmill.api.job import Job
    from gristmill.api.mapreduce import MapReduce
    from gristmill.api.result import JobResult


@click.command(context_settings={"max_content_width": 100})
@click.argument("job")
@click.argument("inputs", metavar="INPUT...", nargs=-1)
@run_options
def run(job: str, inputs: tuple[str, ...], output: str | None, as_json: bool, **named: Any) -> int | None:
    """Run a job, or a script, and wait for it.

    JOB is file.py, file.py:Name or package.module:Name: a MapReduce class, or a module with a function mapper and,
    optionally, combiner, reducer and partitioner. INPUT is a file, a directory or a glob. There are also jobs that come
    with Gristmill: wordcount, grep (--set pattern=REGEX), distinct and access-log.

    JOB may also be a script that uses datasets. It is run as Python would, with a session as the options say, and what
    stands for INPUT are its arguments: gristmill run --executors 4 script.py -- ARGS...
    """
    from gristmill.api.loading import is_script

    if is_script(job):
        from gristmill.cli.script import run_script

        _check_place(named)
        return run_script(job, inputs, {**named, "output": output, "as_json": as_json})
    if not inputs:
        raise click.UsageError("Missing argument 'INPUT...'.")
    options = _checked_options(output, as_json, named)
    execute(load(job, options), inputs, output, options, as_json)
    return None


def load(job: str, options: JobOptions) -> Job:
    """The job that the command line names; it may import what ``--py-files`` names."""
    from gristmill.api.loading import load_job

    _add_py_files(options)
    return load_job(job, options.params)


def _add_py_files(options: JobOptions) -> None:
    if options.py_files:
        from gristmill.api.shipping import add_to_path

        add_to_path(options.py_files)


def main_for_job(job_class: type[MapReduce], argv: Sequence[str] | None = None) -> int:
    """The command ``run`` for a job that is already here: ``python wordcount.py INPUT... -o OUT``.

    Returns:
        The exit code.
    """
    from gristmill.cli.main import SECTIONS, run_guarded
    from gristmill.cli.settings import CommandSettings, Sources

    @click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
    @run_options
    def command(inputs: tuple[str, ...], output: str | None, as_json: bool, **named: Any) -> None:
        options = _checked_options(output, as_json, named)
        from gristmill.api.loading import job_of_class

        _add_py_files(options)
        execute(job_of_class(job_class, options.params), inputs, output, options, as_json)

    # Set rather than written as the function's docstring: it is the job's own words that help here.
    described = click.command(
        help=job_class.__doc__ or f"Run the job {job_class.__name__} and wait for it.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )(command)
    args = list(sys.argv[1:] if argv is None else argv)
    name = Path(sys.argv[0]).name
    settings = CommandSettings(described, Sources(), ("run",), SECTIONS)
    return run_guarded(lambda: described.main(args=args, prog_name=name, standalone_mode=False, default_map=settings))


def _check_place(named: dict[str, Any]) -> None:
    here = ("executors", "memory", "max_processes", "max_file_size")
    if named["on"].startswith("http") and any(named[name] and is_given(name) for name in here):
        raise click.UsageError(
            "--executors, --memory, --max-processes and --max-file-size are for jobs here: a server's workers have "
            "their own."
        )


def _checked_options(output: str | None, as_json: bool, named: dict[str, Any]) -> JobOptions:
    _check_place(named)
    if as_json and output is None and is_given("as_json"):
        raise click.UsageError("--json needs -o: without it stdout holds the result itself.")
    if named["overwrite"] and output is None and is_given("overwrite"):
        raise click.UsageError("--overwrite needs -o: there is nothing to replace.")
    if named["output_format"] not in (None, "text") and output is None and is_given("output_format"):
        raise click.UsageError("--output-format needs -o: what is printed is always text.")
    return job_options(named["on"], named)


def execute(job: Job, inputs: Sequence[str], output: str | None, options: JobOptions, as_json: bool) -> None:
    """Run a job with progress, then print its result or its summary."""
    from gristmill.api.job import first_words
    from gristmill.cli.display import ProgressDisplay, show_summary
    from gristmill.cli.running import run_interruptibly
    from gristmill.cli.summary import with_error
    from gristmill.runtime.coordinator.tally import summary_of

    display = ProgressDisplay(live=False if options.on == "inline" else None, first=first_words(options))
    try:
        result = run_interruptibly(job, inputs, output, options, display)
    except (JobFailed, JobCancelled) as error:
        if as_json and output is not None and display.view is not None:
            print(json.dumps(with_error(summary_of(display.view, output), error)), flush=True)
        raise
    except KeyboardInterrupt:
        if output is not None and display.view is not None and display.view.state.value == "succeeded":
            click.echo(f"The job was done before: its output {output} is complete.", err=True)
        raise
    with result:
        if as_json and output is not None:
            print(json.dumps(with_error(result.summary(), None)), flush=True)
            return
        if output is None:
            print_result(result)
    if display.view is not None:
        show_summary(display.view, output)


def print_result(result: JobResult) -> None:
    """The result on stdout as text, bytes as they came."""
    with stdout_for_data() as out:
        for lines in result.lines():
            try:
                out.write(lines.encode("utf-8", "surrogateescape"))
            except UnicodeEncodeError as error:
                what = repr(error.object[error.start])
                raise GristmillError(f"{what} cannot be printed as text. Use -o with --output-format jsonl.") from error
