"""``gristmill generate``: made-up data to try jobs on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from gristmill.cli.streams import stdout_for_data
from gristmill.config import format_duration, format_size


@click.group()
def generate() -> None:
    """Make up data to try jobs on."""


@generate.command("access-log")
@click.option("--lines", "count", type=click.IntRange(min=0), required=True, metavar="N", help="How many lines.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    show_default="stdout",
    help="Where to; an existing file is replaced.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same log.")
def access_log(count: int, output: Path | None, seed: int) -> None:
    """Make a web server's access log.

    Combined format, with the seconds each answer took at the end of the line: a day of a busy shop.
    """
    from gristmill.cli.access_log import lines

    began = time.monotonic()
    written = 0
    with _open(output) as stream, _progress(count) as advance:
        for chunk in lines(count, seed):
            written += stream.write(chunk.encode())
            advance(chunk.count("\n"))
    if output is not None:
        took = format_duration(time.monotonic() - began)
        click.echo(f"{count:,} lines, {format_size(written)}, in {took}: {output}", err=True)


@contextmanager
def _open(output: Path | None) -> Iterator[IO[bytes]]:
    """The stream to write to. A file appears under its name when it is whole."""
    if output is None:
        with stdout_for_data() as stream:
            yield stream
        return
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            yield stream
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _progress(count: int) -> Iterator[Callable[[int], None]]:
    """How to say that so many more lines are done; shown on a terminal only."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield lambda _lines: None
        return
    with click.progressbar(length=count, label="Writing", file=sys.stderr) as bar:
        yield bar.update
