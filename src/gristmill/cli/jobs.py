"""``gristmill jobs``: all jobs of a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from gristmill.cli.options import server_options
from gristmill.cli.servers import server_of

_COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list on stdout.")
@server_options
def jobs(as_json: bool, server: str | None, token_file: Path | None, data_dir: Path | None) -> None:
    """List the jobs of a server, the newest first."""
    from gristmill.api.remote import job_list

    found = job_list(server_of(server, token_file, data_dir))
    if as_json:
        click.echo(json.dumps(found))
    elif found:
        click.echo("\n".join(_row(job) for job in found))
    else:
        click.echo("No jobs yet.", err=True)


def _row(job: dict[str, Any]) -> str:
    from gristmill.config import format_duration

    state = click.style(f"{job['state']:<9}", fg=_COLOURS.get(job["state"]))
    return (
        f"{job['id']}  {state}  {format_duration(job['seconds']):>7}  {job['name']:<20}  {job['output'] or ''}".rstrip()
    )
