"""``gristmill status [ID]``: how a job stands."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gristmill.cli.options import server_options
from gristmill.cli.servers import newest_job, server_of


@click.command()
@click.argument("job", metavar="[ID]", required=False)
@click.option("-w", "--watch", is_flag=True, help="Show it until it is over.")
@click.option(
    "--json", "as_json", is_flag=True,
    help="Print the job in figures, as JSON, on stdout; with --watch, a line for each change.",
)  # fmt: skip
@server_options
def status(
    job: str | None, watch: bool, as_json: bool, server: str | None, token_file: Path | None, data_dir: Path | None
) -> None:
    """Show how a job of a server stands.

    Without an ID it is the newest one.
    """
    from gristmill.api.remote import RemoteHandle, failure_of
    from gristmill.cli.summary import with_error

    client = server_of(server, token_file, data_dir)
    handle = RemoteHandle(client, job or newest_job(client))
    if watch:
        from gristmill.cli.watching import watch as watch_job

        try:
            found = watch_job(client, handle, as_json)
        except KeyboardInterrupt:
            click.echo(f"The job goes on. To see it again: gristmill status --watch {handle.job_id}", err=True)
            raise
    else:
        found = handle.status()
    if as_json:
        if not watch:
            click.echo(json.dumps(with_error(found.summary(), failure_of(found, client))))
        return
    from gristmill.cli.display import show_status
    from gristmill.cli.report import error_text

    show_status(found)
    if (error := failure_of(found, client)) is not None:
        click.echo(f"\n{error_text(error)}")
