"""``gristmill jobs``: the jobs of a server."""

from __future__ import annotations

import json
from typing import Any

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
    **where: Any,
) -> None:
    """List the jobs of a server, the newest first: those that wait, that run, and that are over."""
    from gristmill.api.service_client import job_rows
    from gristmill.cli.listing import JOBS, job_cells, show_jobs

    client = server_of(**where)
    found = list(job_rows(client, limit, state=state, user=user, name=name))
    if as_json:
        click.echo(json.dumps(found))
        return
    nothing = "No such jobs." if state or user or name else "No jobs yet."
    show_jobs(JOBS, [job_cells(job) for job in found], limit, nothing)
