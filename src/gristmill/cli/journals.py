"""Which journal a command reads: one of this machine, or by way of a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from gristmill.config import default_data_dir

if TYPE_CHECKING:
    from gristmill.runtime.journal.journal import Journal


def journal_here(ctx: click.Context, server: str | None, data_dir: Path | None, job: str | None) -> Journal | None:
    """A journal of this machine: that of a server here, or that in the folder of a job that ran here.

    Args:
        ctx: of the command, which has the options ``--server`` and ``--data-dir``.
        server: the server that is named; it is asked, unless ``--data-dir`` is what the user wrote.
        data_dir: where to look; None: in the usual place.
        job: the job that is wanted; None: all.

    Returns:
        The journal; None if a server is to be asked.

    Raises:
        UsageError: there is none where it was said to be.
    """
    from gristmill.errors import UsageError
    from gristmill.runtime.journal.journal import JOURNAL, Journal

    here, there = (ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ("data_dir", "server"))
    if there or (server is not None and not here):
        return None
    folder = data_dir or default_data_dir()
    own = (
        folder / "jobs" / job / JOURNAL
        if job is not None and job not in (".", "..") and Path(job).name == job
        else None
    )
    for path in (own, folder / JOURNAL):
        if path is not None and path.is_file() and (job is None or Journal(path).summary(job) is not None):
            return Journal(path)
    if here:
        what = "no journal" if job is None else f"nothing about a job {job}"
        raise UsageError(f"There is {what} in {folder}. Name another --data-dir, or a --server.")
    return None
