"""``gristmill jobs``: the jobs of a server."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gristmill.cli.options import listing_options, server_options
from gristmill.cli.servers import server_of


@click.command(short_help="List the jobs of a server.")
@listing_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list on stdout.")
@server_options
def jobs(
    state: str | None,
    user: str | None,
    name: str | None,
    limit: int,
    as_json: bool,
    server: str | None,
    token_file: Path | None,
    data_dir: Path | None,
) -> None:
    """List the jobs of a server, the newest first: those that wait, that run, and that are over."""
    from gristmill.api.service_client import job_rows
    from gristmill.cli.listing import JOBS, job_cells
    from gristmill.cli.tables import show_table

    client = server_of(server, token_file, data_dir)
    found = list(job_rows(client, limit, state=state, user=user, name=name))
    if as_json:
        click.echo(json.dumps(found))
    elif found:
        show_table(JOBS, [job_cells(job) for job in found])
        if len(found) == limit:
            click.echo(f"These are the newest {limit:,}; more with --limit.", err=True)
    else:
        click.echo("No such jobs." if state or user or name else "No jobs yet.", err=True)
