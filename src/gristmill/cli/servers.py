"""What the commands that ask a server have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gristmill.config import default_data_dir

if TYPE_CHECKING:
    from gristmill.api.client import ServerClient


def server_of(
    server: str | None, token_file: Path | None, data_dir: Path | None, *, expected: bool = False
) -> ServerClient:
    """The server that the options name; ``expected``: it is known to have been there, and is waited for."""
    from gristmill.api.client import connect

    return connect(server, token_file, data_dir or default_data_dir(), expected=expected)


def announce_silence(client: ServerClient) -> None:
    """Say once on stderr that a server is waited for that has not answered yet."""
    tell, said = client.on_silence, False

    def on_silence() -> None:
        nonlocal said
        if not said and not client.has_answered:
            minutes = f"{client.silence_seconds / 60:.0f} minutes"
            click.echo(f"The server {client.url} does not answer; it is waited for, up to {minutes}.", err=True)
            said = True
        if tell is not None:
            tell()

    client.on_silence = on_silence


def newest_job(server: ServerClient) -> str:
    """The id of the job that was submitted last: the one that is meant when none is named.

    Raises:
        UsageError: there is none.
    """
    from gristmill.api.service_client import job_rows
    from gristmill.errors import UsageError

    for newest in job_rows(server, 1):
        return str(newest["id"])
    raise UsageError(f"The server {server.url} has no jobs yet.")
