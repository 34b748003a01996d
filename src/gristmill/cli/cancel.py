"""``gristmill cancel ID``: end a job of a server."""

from __future__ import annotations

from pathlib import Path

import click

from gristmill.cli.options import server_options
from gristmill.cli.servers import server_of

_SECONDS = 15.0


@click.command()
@click.argument("job", metavar="ID")
@server_options
def cancel(job: str, server: str | None, token_file: Path | None, data_dir: Path | None) -> None:
    """End a job of a server. Nothing of its output remains."""
    from gristmill.api.remote import RemoteHandle

    handle = RemoteHandle(server_of(server, token_file, data_dir), job)
    before = handle.status()
    if before.is_over:
        click.echo(f"Job {job} was over before: {before.view.state.value}.", err=True)
        return
    handle.cancel()
    after = handle.status(_SECONDS)
    click.echo(f"Job {job}: {after.view.state.value if after.is_over else 'is being cancelled'}.", err=True)
