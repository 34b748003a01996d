"""``gristmill status [ID]``: how a job stands."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gristmill.cli.options import server_options
from gristmill.cli.servers import newest_job, server_of


@click.command()
@click.argument("job", metavar="[ID]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the job in figures, as JSON, on stdout.")
@server_options
def status(job: str | None, as_json: bool, server: str | None, token_file: Path | None, data_dir: Path | None) -> None:
    """Show how a job of a server stands.

    Without an ID it is the newest one.
    """
    from gristmill.api.remote import RemoteHandle

    client = server_of(server, token_file, data_dir)
    found = RemoteHandle(client, job or newest_job(client)).status()
    if as_json:
        click.echo(json.dumps(found.summary()))
        return
    from gristmill.api.remote import failure_of
    from gristmill.cli.display import show_status
    from gristmill.cli.report import error_text

    show_status(found.view, found.output)
    if (error := failure_of(found, client)) is not None:
        click.echo(f"\n{error_text(error)}")
