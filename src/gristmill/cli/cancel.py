"""``gristmill cancel ID``: end a job of a server."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gristmill.cli.options import server_options
from gristmill.cli.servers import server_of

_SECONDS = 15.0


@click.command()
@click.argument("job", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@server_options
def cancel(job: str, as_json: bool, server: str | None, token_file: Path | None, data_dir: Path | None) -> None:
    """End a job of a server. Nothing of its output remains."""
    from gristmill.api.remote import RemoteHandle

    handle = RemoteHandle(server_of(server, token_file, data_dir), job)
    before = handle.status()
    after = before
    if not before.is_over:
        handle.cancel()
        after = handle.status(_SECONDS)
    if as_json:
        click.echo(json.dumps({"id": job, "state": after.view.state.value, "was_over": before.is_over}))
    elif before.is_over:
        click.echo(f"Job {job} was over before: {before.view.state.value}.", err=True)
    else:
        click.echo(f"Job {job}: {after.view.state.value if after.is_over else 'is being cancelled'}.", err=True)
