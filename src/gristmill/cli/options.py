"""The options of ``run`` and ``submit``: what a job is told."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from gristmill.cli.limits import LIMIT_OPTIONS
from gristmill.cli.params import duration_seconds, key_value_pairs, place, size_bytes
from gristmill.cli.settings import variable_of
from gristmill.config import INPUT_FORMATS, MAX_RECORD_BYTES, OUTPUT_FORMATS, JobOptions, default_data_dir

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Option = Callable[[Any], Any]
JOB_STATES = ("queued", "running", "succeeded", "failed", "cancelled")

_OVERWRITE = click.option(
    "--overwrite", is_flag=True, help="Replace an existing output, in one step, once the new one is whole."
)

_JOB_OPTIONS: tuple[_Option, ...] = (
    _OVERWRITE,
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
        "--task-cpus", type=click.FloatRange(min=0, min_open=True), metavar="N", show_default="the job's wish, else 1",
        help="CPUs that each task takes of its worker.",
    ),
    click.option(
        "--task-memory", callback=size_bytes, metavar="SIZE", show_default="nothing is reserved",
        help="Memory that each task reserves on its worker.",
    ),
    click.option(
        "--priority", type=int, default=0, show_default=True, metavar="N",
        help="Jobs of a higher one go first on a server.",
    ),
    click.option(
        "--deadline", callback=duration_seconds, metavar="DURATION", show_default="none",
        help="On a server: somebody is told if the job is not over by then, such as 2h. It goes on.",
    ),
    click.option(
        "--speculation/--no-speculation", default=True, show_default="on", help="Run stragglers twice.",
    ),
    click.option(
        "--shuffle-dir", metavar="DIR", show_default="each worker keeps its own",
        help="A folder or URI on storage that all workers share, for the data between map and reduce.",
    ),
    click.option(
        "--py-files", multiple=True, metavar="PATH",
        help="A .py, .zip or .whl file or a directory that the job imports from. May be given several times.",
    ),
    click.option(
        "--set", "params", callback=key_value_pairs, multiple=True, metavar="KEY=VALUE",
        help='A parameter of the job, self.params["KEY"]. May be given several times.',
    ),
)  # fmt: skip


def data_dir_option(text: str, *names: str, multiple: bool = False) -> _Option:
    """Where something of this machine keeps its files."""
    return click.option(
        "--data-dir", *names, multiple=multiple, type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
        show_default="the platform's cache folder", help=text,
    )  # fmt: skip


def token_file_option(text: str, default: str) -> _Option:
    """Where the token is, that a server wants to see."""
    return click.option(
        "--token-file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", show_default=default, help=text
    )


def output_file_option(default: str) -> _Option:
    """Where a command writes what it makes."""
    return click.option(
        "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", show_default=default,
        help="Write to this file.",
    )  # fmt: skip


TLS_CA = click.option(
    "--tls-ca", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", show_default="the system's CAs",
    help="Certificates, in PEM, by which an https server is believed: of a CA of your own, or the server's.",
)  # fmt: skip


def executors_option(text: str, least: int = 1) -> _Option:
    """How many executors there are on this machine."""
    return click.option(
        "--executors", type=click.IntRange(min=least), metavar="N", show_default="the CPUs this process may use",
        help=text,
    )  # fmt: skip


def memory_option(text: str) -> _Option:
    """The memory of the executors of this machine."""
    return click.option(
        "--memory", callback=size_bytes, metavar="SIZE", show_default="60 % of what this process may use", help=text
    )


_DATA_DIR = data_dir_option("Where jobs keep their working files.")
TOKEN_FILE = token_file_option("Holds the server's token.", "GRISTMILL_TOKEN, else DATA_DIR/token")
EXECUTORS = executors_option("Executor processes.")
MEMORY = memory_option("Memory of all executors together, such as 2GiB.")

_HERE: tuple[_Option, ...] = (
    click.option(
        "-o", "--output", type=str, metavar="DIR",
        help="Where the result goes; must not exist. Without it the result is printed.",
    ),
    click.option(
        "--on", "--server", "on", callback=place, default="local", show_default=True, metavar="WHERE",
        help="inline (in this process, for debugging), local (in executor processes on this machine), a server: "
        "http://HOST:PORT, or Ray: ray (the cluster that RAY_ADDRESS=HOST:6379 names, or that this process belongs to, "
        "else one of its own on this machine) or ray://HOST:10001 (through Ray Client).",
    ),
    EXECUTORS,
    MEMORY,
    *LIMIT_OPTIONS,
    click.option(
        "--place-timeout", callback=duration_seconds, metavar="DURATION", show_default="10m",
        help="On Ray: how long to wait for room for the first executor.",
    ),
    click.option("--resume", is_flag=True, help="Take up an interrupted run of the same job where it stood."),
)  # fmt: skip

_ON_A_SERVER: tuple[_Option, ...] = (
    click.option(
        "-o", "--output", type=str, metavar="DIR",
        help="Where a job's result goes, on a path that all workers see; must not exist. Not for scripts.",
    ),
)  # fmt: skip

_SERVER: tuple[_Option, ...] = (
    click.option(
        "--server", "--on", "server", metavar="URL", show_default="GRISTMILL_SERVER, else this machine's",
        help="The server, such as http://HOST:7077.",
    ),
    TOKEN_FILE,
    TLS_CA,
    data_dir_option("Where a server on this machine keeps its files."),
)  # fmt: skip


_LISTING: tuple[_Option, ...] = (
    click.option("--state", type=click.Choice(JOB_STATES), show_default="any", help="Only jobs in this state."),
    click.option("--user", metavar="NAME", show_default="anybody's", help="Only jobs that this user has submitted."),
    click.option("--name", metavar="TEXT", show_default="any", help="Only jobs with this in their names."),
    click.option(
        "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, metavar="N",
        help="At most so many.",
    ),
)  # fmt: skip


def listing_options(command: _Command) -> _Command:
    """The options of commands that list jobs."""
    for option in reversed(_LISTING):
        command = option(command)
    return command


def run_options(command: _Command) -> _Command:
    """The options of ``run``."""
    as_json = click.option(
        "--json", "as_json", is_flag=True, help="With -o: print one JSON summary on stdout at the end."
    )
    return _decorate(command, (*_HERE, *_JOB_OPTIONS, _DATA_DIR, TOKEN_FILE, TLS_CA, as_json))


def submit_options(command: _Command) -> _Command:
    """The options of ``submit``."""
    return _decorate(command, (*_ON_A_SERVER, *_JOB_OPTIONS, *_SERVER))


def server_options(command: _Command) -> _Command:
    """The options by which a command finds a server."""
    return _decorate(command, _SERVER)


def _decorate(command: _Command, options: tuple[_Option, ...]) -> _Command:
    command = _believing(command)
    for option in reversed(options):
        command = option(command)
    return command


def _believing(command: _Command) -> _Command:
    """The command, once ``--tls-ca`` is where everything in this process that asks a server looks for it."""

    @functools.wraps(command)
    def believing(*arguments: Any, tls_ca: Path | None = None, **named: Any) -> Any:
        if tls_ca is not None:
            os.environ[variable_of((), "tls-ca")] = str(tls_ca.absolute())
        return command(*arguments, **named)

    return cast(_Command, believing)


def job_options(on: str, named: dict[str, Any]) -> JobOptions:
    """The values of these options in their parsed form; those that a command does not have are left to be chosen."""
    return JobOptions(
        on=on,
        executors=named.get("executors"),
        memory_bytes=named.get("memory"),
        max_processes=named.get("max_processes"),
        max_file_bytes=named.get("max_file_size"),
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
        task_cpus=named["task_cpus"],
        task_memory_bytes=named["task_memory"] or 0,
        priority=named["priority"],
        deadline_seconds=named["deadline"],
        speculation=named["speculation"],
        shuffle_dir=named["shuffle_dir"],
        py_files=named["py_files"],
        place_timeout_seconds=named.get("place_timeout"),
        resume=named.get("resume", False),
        data_dir=named["data_dir"] or default_data_dir(),
        token_file=named["token_file"],
        params=named["params"],
    )


def session_options(named: dict[str, Any]) -> dict[str, Any]:
    """The values of these options as those of :class:`gristmill.Session`; those that were not given are left out."""
    return {name: named[name] for name in _OF_SESSIONS if named.get(name) not in (None, ())}


_OF_SESSIONS = (
    "on", "executors", "memory", "reducers", "split_size", "max_attempts", "max_record_size", "task_timeout",
    "task_cpus", "task_memory", "priority", "speculation", "shuffle_dir", "py_files", "data_dir", "token_file",
    "max_processes", "max_file_size", "place_timeout",
)  # fmt: skip
