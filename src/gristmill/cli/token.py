"""``gristmill token``: who else may use a server."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from gristmill.cli.options import data_dir_option
from gristmill.config import default_data_dir

_DATA_DIR = data_dir_option("The server's, on this machine. The server need not run.")
_ROLES = ("viewer", "submitter", "admin", "worker")


@click.group(context_settings={"max_content_width": 100})
def token() -> None:
    """Give others access to the server of this machine.

    Each token is for one user, or one worker. A server that runs heeds at once what is added and removed.
    """


@token.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(_ROLES),
    required=True,
    help="viewer: sees jobs and results; submitter: runs jobs of its own; admin: does all; worker: joins workers.",
)
@_DATA_DIR
def add(name: str, role: str, data_dir: Path | None) -> None:
    """Make a token for NAME and print it. It is shown this once: the server keeps only what it knows it by."""
    from gristmill.service.doors.roles import Role
    from gristmill.service.doors.tokens import add_token

    made = add_token(_path(data_dir), name, Role(role))
    click.echo(made)
    click.echo(f"This is the token of {name}. It is not shown again: keep it in a file, for --token-file.", err=True)


@token.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_DATA_DIR
def list_(as_json: bool, data_dir: Path | None) -> None:
    """Show whom there are tokens for."""
    from gristmill.service.doors.tokens import read_tokens

    entries = read_tokens(_path(data_dir))
    if as_json:
        shown = [{"name": entry.name, "role": entry.role.value, "made": entry.made} for entry in entries]
        click.echo(json.dumps({"tokens": shown}))
        return
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.made))
        click.echo(f"{entry.name:{width}}  {entry.role.value:9}  {made}")


@token.command()
@click.argument("name")
@_DATA_DIR
def remove(name: str, data_dir: Path | None) -> None:
    """Take NAME's token back. Whoever brings it is refused from now on."""
    from gristmill.service.doors.tokens import remove_token

    remove_token(_path(data_dir), name)


def _path(data_dir: Path | None) -> Path:
    from gristmill.service.doors.tokens import TOKENS

    return (data_dir or default_data_dir()).absolute() / TOKENS
