"""``gristmill logs ID``: what the tasks of a job printed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gristmill.cli.options import server_options
from gristmill.cli.servers import server_of
from gristmill.cli.streams import stdout_for_data
from gristmill.cli.tables import printable_lines

if TYPE_CHECKING:
    from gristmill.api.client import ServerClient

_LOOK_SECONDS = 0.5  # between two looks at a job that is followed
_LOOK_SHARE = 4  # of many logs a look takes longer: so many times as long nothing is asked
_LONGEST_SECONDS = 10.0


def _task_id(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not all(part.isdecimal() for part in value.split("-", 1) + ["0"] * ("-" in value)):
        raise click.BadParameter(f"{value!r} is not STAGE-INDEX, such as 0-17.", ctx, param)
    return value


@click.command(short_help="Print what a job's tasks have printed; follow it.")
@click.argument("job", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on with what they print from now on, until the job is over.")
@click.option("--attempt", metavar="NAME", show_default="all", help="Only this attempt, and all that is kept of it.")
@click.option(
    "--task", callback=_task_id, metavar="STAGE-INDEX", show_default="all", help="Only the attempts at this task."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout: one object a line, with attempt and line.")
@server_options
def logs(
    job: str,
    follow: bool,
    attempt: str | None,
    task: str | None,
    as_json: bool,
    server: str | None,
    token_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Print what a job's tasks have printed, each attempt's under a line with its name.

    Attempts of workers that are gone are among them. Without --follow and --attempt it is the end of each.
    """
    client = server_of(server, token_file, data_dir)
    with stdout_for_data() as out:

        def write(text: str) -> None:
            out.write(text.encode("utf-8", "backslashreplace"))
            out.flush()

        printer = _Printer(write, as_json, for_people=out.isatty())
        if follow:
            for name, text in _followed(client, job, attempt, task):
                printer.add(name, text)
        elif attempt is not None:
            _check(client, job)
            for text in _rest(client, job, attempt, _Places()):
                printer.add(attempt, text)
        else:
            _print_ends(client, job, task, printer)
        printer.end()
    if not printer.has_printed:
        what = f"Attempt {attempt}" if attempt else f"No attempt at task {task}" if task else "No task"
        neither = "has printed nothing" if attempt else "has printed anything"
        click.echo(f"{what} of job {job} {neither} that is still kept.", err=True)


class _Printer:
    """Prints whole lines of several attempts, those of one attempt under its name.

    Args:
        write: takes what is to be printed.
        as_json: print each line as a JSON object.
        for_people: leave out what would command a terminal.

    Attributes:
        has_printed: whether there was anything.
    """

    def __init__(self, write: Callable[[str], None], as_json: bool, for_people: bool = False) -> None:
        self._write = write
        self._as_json = as_json
        self._for_people = for_people
        self._last = ""
        self._begun: dict[str, str] = {}  # lines without an end, by attempt
        self.has_printed = False

    def add(self, attempt: str, text: str) -> None:
        """Print what follows in a log, up to the end of its last whole line."""
        text = self._begun.pop(attempt, "") + text
        whole, newline, begun = text.rpartition("\n")
        if begun:
            self._begun[attempt] = begun
        if newline:
            self._print(attempt, whole + newline)

    def end(self) -> None:
        """Print lines that have no end."""
        for attempt, text in self._begun.items():
            self._print(attempt, f"{text}\n")
        self._begun.clear()

    def _print(self, attempt: str, text: str) -> None:
        self.has_printed = True
        if self._as_json:
            lines = text.removesuffix("\n").split("\n")
            self._write("".join(f"{json.dumps({'attempt': attempt, 'line': line})}\n" for line in lines))
            return
        head = f"==> {attempt} <==\n" if attempt != self._last else ""
        self._last = attempt
        self._write(printable_lines(head + text) if self._for_people else head + text)


class _Places(dict[str, int]):
    """How far the log of each attempt was read."""

    def __missing__(self, attempt: str) -> int:
        return 0


def _print_ends(client: ServerClient, job: str, task: str | None, printer: _Printer) -> None:
    from gristmill.api.service_client import log_ends

    found = log_ends(client, job, task)
    for log in found["logs"]:
        printer.add(str(log["attempt"]), str(log["text"]))
        printer.end()
    if found.get("left_out"):
        click.echo(f"{found['left_out']:,} more attempts have printed something: ask for them by --task.", err=True)


def _check(client: ServerClient, job: str) -> None:
    from gristmill.api.remote import RemoteHandle

    RemoteHandle(client, job).status()


def _rest(client: ServerClient, job: str, attempt: str, places: _Places) -> Iterator[str]:
    """What is in the log of an attempt and was not read."""
    from gristmill.api.service_client import log_part

    while True:
        part = log_part(client, job, attempt, places[attempt])
        if part["next"] <= places[attempt]:
            return
        places[attempt] = int(part["next"])
        yield str(part["text"])


def _followed(client: ServerClient, job: str, attempt: str | None, task: str | None) -> Iterator[tuple[str, str]]:
    """What attempts print, and their names, until the job is over."""
    from gristmill.api.remote import RemoteHandle
    from gristmill.api.service_client import log_ends

    handle = RemoteHandle(client, job)
    places = _Places()
    over = handle.status().is_over
    while True:
        began = time.monotonic()
        if attempt is not None:
            names = [attempt]
        else:
            found = log_ends(client, job, task, limit=0)["logs"]  # no texts
            names = [str(log["attempt"]) for log in found if log["size_bytes"] > places[str(log["attempt"])]]
        took = time.monotonic() - began
        for name in names:
            for text in _rest(client, job, name, places):
                yield name, text
        if over:  # before we looked: nothing can have come since
            return
        over = handle.status(min(max(_LOOK_SECONDS, took * _LOOK_SHARE), _LONGEST_SECONDS)).is_over
