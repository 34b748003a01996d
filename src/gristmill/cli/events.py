"""``gristmill events``: what a journal has noted, for other programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gristmill.cli.journals import journal_here
from gristmill.cli.options import output_file_option, server_options
from gristmill.cli.servers import server_of

if TYPE_CHECKING:
    from gristmill.api.client import ServerClient

_PAGE = 5000


@click.group(context_settings={"max_content_width": 100}, short_help="Write what was noted of jobs and workers.")
def events() -> None:
    """What was noted of jobs and workers, one fact after another: everything that is shown of them is made of these."""


@events.command()
@click.argument("job", metavar="[ID]", required=False)
@click.option("--json", "_as_json", is_flag=True, help="As lines of JSON; there is no other form.")
@output_file_option("stdout")
@server_options
@click.pass_context
def export(
    ctx: click.Context,
    job: str | None,
    _as_json: bool,
    output: Path | None,
    server: str | None,
    token_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Write facts as lines of JSON, in order: of the job ID, or of all jobs and workers.

    They are read from the journal in --data-dir, while a server runs there or not, or asked of --server.
    """
    journal = journal_here(ctx, server, data_dir, job)
    if journal is not None:
        from gristmill.service.looking.history import event_lines

        lines = event_lines(journal, job)
    else:
        lines = _asked(server_of(server, token_file, data_dir), job)
    if output is None:
        _write(lines)
        return
    with output.open("w", encoding="utf-8") as file:
        file.writelines(lines)


def _write(lines: Iterator[str]) -> None:
    for some in lines:
        sys.stdout.write(some)
    sys.stdout.flush()


def _asked(server: ServerClient, job: str | None) -> Iterator[str]:
    """Pages of facts, as a server tells them."""
    from gristmill.api.service_client import quoted

    after, of = -1, ""
    if job is not None:
        server.get(f"/jobs/{quoted(job)}")  # it says so if there is no such job
        of = f"&job={quoted(job)}"
    while text := server.text(f"/events?after={after}&limit={_PAGE}{of}"):
        yield text
        after = json.loads(text.splitlines()[-1])["number"]
