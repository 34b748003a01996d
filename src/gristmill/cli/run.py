"""``gristmill run JOB INPUT...``, and the same command without JOB for ``python wordcount.py INPUT...``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gristmill.cli.params import duration_seconds, key_value_pairs, size_bytes
from gristmill.cli.streams import stdout_for_data
from gristmill.config import INPUT_FORMATS, MAX_RECORD_BYTES, OUTPUT_FORMATS, JobOptions, default_data_dir
from gristmill.errors import GristmillError, JobCancelled, JobFailed

if TYPE_CHECKING:
    from gristmill.api.job import Job
    from gristmill.api.mapreduce import MapReduce
    from gristmill.api.result import JobResult

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "-o", "--output", type=str, metavar="DIR",
        help="Where the result goes; must not exist. Without it the result is printed.",
    ),
    click.option(
        "--overwrite", is_flag=True, help="Replace an existing output, in one step, once the new one is whole."
    ),
    click.option(
        "--on", type=click.Choice(["inline", "local"]), default="local", show_default=True,
        help="Where it runs: in this process (for debugging), or in executor processes on this machine.",
    ),
    click.option(
        "--executors", type=click.IntRange(min=1), metavar="N",
        show_default="the CPUs this process may use",
        help="Executor processes.",
    ),
    click.option(
        "--memory", callback=size_bytes, metavar="SIZE",
        show_default="60 % of what this process may use",
        help="Memory of all executors together, such as 2GiB.",
    ),
    click.option(
        "--reducers", type=click.IntRange(min=1), metavar="N",
        show_default="by the input's size",
        help="Reduce tasks, and so files in the output.",
    ),
    click.option(
        "--split-size", callback=size_bytes, metavar="SIZE",
        show_default="by the input's size, at most 64MiB",
        help="Input of one map task, such as 16MiB.",
    ),
    click.option(
        "--input-format", type=click.Choice(INPUT_FORMATS),
        show_default="by the file's suffix, else text",
        help="What the input holds: lines, whole files, or records.",
    ),
    click.option(
        "--output-format", type=click.Choice(OUTPUT_FORMATS), show_default="by the suffix of DIR, else text",
        help="What the output holds."
    ),
    click.option("--no-combiner", is_flag=True, help="Do not run the combiner."),
    click.option(
        "--max-attempts", type=click.IntRange(min=1), default=4, show_default=True, metavar="N",
        help="How often a task is tried when the job's own code fails.",
    ),
    click.option(
        "--max-bad-records", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
        help="Set up to N failing records aside, in _bad_records/ of the output, instead of failing.",
    ),
    click.option(
        "--max-record-size", callback=size_bytes, metavar="SIZE", show_default="64MiB",
        help="A longer record is refused, before it fills the memory.",
    ),
    click.option(
        "--task-timeout", callback=duration_seconds, metavar="DURATION",
        show_default="none",
        help="End an attempt that runs longer, such as 10m.",
    ),
    click.option(
        "--data-dir", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
        show_default="the platform's cache folder",
        help="Where jobs keep their working files.",
    ),
    click.option(
        "--set", "params", callback=key_value_pairs, multiple=True, metavar="KEY=VALUE",
        help='A parameter of the job, self.params["KEY"]. May be given several times.',
    ),
    click.option("--json", "as_json", is_flag=True, help="With -o: print one JSON summary on stdout at the end."),
)  # fmt: skip


def _with_options(command: _Command) -> _Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(context_settings={"max_content_width": 100})
@click.argument("job")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@_with_options
def run(job: str, inputs: tuple[str, ...], output: str | None, as_json: bool, **named: Any) -> None:
    """Run a job and wait for it.

    JOB is file.py, file.py:Name or package.module:Name: a MapReduce class, or a module with a function mapper and,
    optionally, combiner, reducer and partitioner. INPUT is a file, a directory or a glob.
    """
    options = _checked_options(output, as_json, named)
    from gristmill.api.loading import load_job

    execute(load_job(job, options.params), inputs, output, options, as_json)


def main_for_job(job_class: type[MapReduce], argv: Sequence[str] | None = None) -> int:
    """The command ``run`` for a job that is already here: ``python wordcount.py INPUT... -o OUT``.

    Returns:
        The exit code.
    """
    from gristmill.cli.main import run_guarded

    @click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
    @_with_options
    def command(inputs: tuple[str, ...], output: str | None, as_json: bool, **named: Any) -> None:
        options = _checked_options(output, as_json, named)
        from gristmill.api.loading import job_of_class

        execute(job_of_class(job_class, options.params), inputs, output, options, as_json)

    # Set rather than written as the function's docstring: it is the job's own words that help here.
    described = click.command(
        help=job_class.__doc__ or f"Run the job {job_class.__name__} and wait for it.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )(command)
    args = list(sys.argv[1:] if argv is None else argv)
    return run_guarded(lambda: described.main(args=args, prog_name=Path(sys.argv[0]).name, standalone_mode=False))


def _checked_options(output: str | None, as_json: bool, named: dict[str, Any]) -> JobOptions:
    if as_json and output is None:
        raise click.UsageError("--json needs -o: without it stdout holds the result itself.")
    if named["overwrite"] and output is None:
        raise click.UsageError("--overwrite needs -o: there is nothing to replace.")
    if named["output_format"] not in (None, "text") and output is None:
        raise click.UsageError("--output-format needs -o: what is printed is always text.")
    return JobOptions(
        on=named["on"],
        executors=named["executors"],
        memory_bytes=named["memory"],
        reducers=named["reducers"],
        split_bytes=named["split_size"],
        input_format=named["input_format"],
        output_format=named["output_format"],
        overwrite=named["overwrite"],
        combiner=not named["no_combiner"],
        max_attempts=named["max_attempts"],
        max_bad_records=named["max_bad_records"],
        max_record_bytes=named["max_record_size"] or MAX_RECORD_BYTES,
        task_timeout_seconds=named["task_timeout"],
        data_dir=named["data_dir"] or default_data_dir(),
        params=named["params"],
    )


def execute(job: Job, inputs: Sequence[str], output: str | None, options: JobOptions, as_json: bool) -> None:
    """Run a job with progress, then print its result or its summary."""
    from gristmill.cli.display import ProgressDisplay, show_summary
    from gristmill.cli.running import run_interruptibly
    from gristmill.runtime.tally import summary_of

    display = ProgressDisplay(live=False if options.on == "inline" else None)
    try:
        result = run_interruptibly(job, inputs, output, options, display)
    except (JobFailed, JobCancelled):
        if as_json and display.view is not None:
            print(json.dumps(summary_of(display.view, output)), flush=True)
        raise
    except KeyboardInterrupt:
        if output is not None and display.view is not None and display.view.state.value == "succeeded":
            click.echo(f"The job was done before: its output {output} is complete.", err=True)
        raise
    with result:
        if as_json:
            print(json.dumps(result.summary()), flush=True)
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
