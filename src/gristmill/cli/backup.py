"""``gristmill backup`` and ``gristmill restore``: a copy of what a server knows, and a server made of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gristmill.cli.options import data_dir_option
from gristmill.config import default_data_dir, format_size

if TYPE_CHECKING:
    from gristmill.service.backup import Copied

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command(context_settings={"max_content_width": 100})
@click.argument("target", type=_FOLDER)
@click.option("--overwrite", is_flag=True, help="Replace an earlier copy there, once the new one is whole.")
@data_dir_option("The server's, on this machine. It may run meanwhile.")
def backup(target: Path, overwrite: bool, data_dir: Path | None) -> None:
    """Copy what a server knows into the folder TARGET, as it is at one instant.

    That is its journal with all jobs, its tokens and keys, and the code that jobs have brought along. Whoever reads it
    can do what the server's admin can: the folder is for its owner alone.
    """
    from gristmill.service.backup import back_up

    copied = back_up(data_dir or default_data_dir(), target, overwrite=overwrite)
    click.echo(f"{target} holds {_words(copied)}.", err=True)


@click.command(context_settings={"max_content_width": 100})
@click.argument("source", metavar="BACKUP", type=_FOLDER)
@click.option("--overwrite", is_flag=True, help="Replace a journal that is there.")
@data_dir_option("Where. No server may run there.")
def restore(source: Path, overwrite: bool, data_dir: Path | None) -> None:
    """Make a server's data directory of the copy BACKUP.

    A server that is started there goes on with the jobs that were not over at the time of the copy.
    """
    from gristmill.service.backup import restore as make

    folder = data_dir or default_data_dir()
    copied = make(source, folder, overwrite=overwrite)
    click.echo(f"{folder} holds {_words(copied)}. Next: gristmill serve --data-dir {folder}", err=True)


def _words(copied: Copied) -> str:
    jobs = f"{copied.jobs:,} job{'s' if copied.jobs != 1 else ''}"
    going = f", {copied.unfinished:,} of them not over" if copied.unfinished else ""
    return f"{jobs}{going}, in {format_size(copied.size_bytes)}"
