"""``gristmill logs ID``: what the tasks of a job printed."""

from __future__ import annotations

from pathlib import Path

import click

from gristmill.cli.options import server_options
from gristmill.cli.servers import server_of
from gristmill.cli.streams import stdout_for_data


@click.command(short_help="Print what a job's tasks have printed.")
@click.argument("job", metavar="ID")
@server_options
def logs(job: str, server: str | None, token_file: Path | None, data_dir: Path | None) -> None:
    """Print what a job's tasks have printed, each attempt's under a line with its name.

    Shown are attempts that are over, wherever they ran (the last 64 KiB of each, 64 MiB of a job), and those that run
    on the server's machine.
    """
    found = server_of(server, token_file, data_dir).get(f"/jobs/{job}/logs")["logs"]
    if not found:
        click.echo(f"No task of job {job} has printed anything that is still kept.", err=True)
    with stdout_for_data() as out:
        for log in found:
            text = str(log["text"])
            out.write(f"==> {log['attempt']} <==\n{text}{'' if text.endswith(chr(10)) else chr(10)}\n".encode())
