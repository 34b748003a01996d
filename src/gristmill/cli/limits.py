"""The options of commands that start executors: what these may take, and which variables they get."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from gristmill.cli.params import size_bytes, size_or_none

_Command = TypeVar("_Command", bound=Callable[..., Any])

_PROCESSES = click.option(
    "--max-processes", type=click.IntRange(min=1), metavar="N", show_default="256, or 4 for each CPU",
    help="Processes that a task's code may have at a time.",
)  # fmt: skip

LIMIT_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    _PROCESSES,
    click.option(
        "--max-file-size", callback=size_bytes, metavar="SIZE", show_default="as the system allows",
        help="How large a file that a task writes may become.",
    ),
)  # fmt: skip

_WORKERS: tuple[Callable[[Any], Any], ...] = (
    _PROCESSES,
    click.option(
        "--max-file-size", callback=size_or_none, metavar="SIZE", default="64GiB", show_default=True,
        help="How large a file that a task writes may become; none: as the system allows.",
    ),
)  # fmt: skip

_VARIABLES: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--pass-env", multiple=True, metavar="PATTERN",
        help="Let tasks have variables of this worker's environment that they do not get otherwise, such as "
        "SSH_AUTH_SOCK; may be given several times.",
    ),
    click.option(
        "--drop-env", multiple=True, metavar="PATTERN",
        help="Keep variables back from tasks, such as 'DB_*'; may be given several times. --pass-env wins.",
    ),
)  # fmt: skip


def worker_limit_options(command: _Command) -> _Command:
    """The options of commands that start a worker."""
    for option in reversed((*_WORKERS, *_VARIABLES)):
        command = option(command)
    return command


def as_arguments(named: dict[str, Any]) -> Iterator[str]:
    """The options once more, for the command line of another worker. They are taken out of ``named``."""
    if (processes := named.pop("max_processes")) is not None:
        yield f"--max-processes={processes}"
    size = named.pop("max_file_size")
    yield f"--max-file-size={'none' if size is None else size}"
    for name in ("pass_env", "drop_env"):
        yield from (f"--{name.replace('_', '-')}={pattern}" for pattern in named.pop(name))
