"""``gristmill history``: the jobs of a server that are over."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from gristmill.cli.listing import OVER
from gristmill.cli.options import listing_options, server_options
from gristmill.cli.servers import server_of
from gristmill.config import parse_duration
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from gristmill.api.client import ServerClient
    from gristmill.api.service_client import Row


def _since(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """``2h`` or ``2026-11-21`` → seconds since the epoch."""
    if value is None:
        return None
    try:
        return time.time() - parse_duration(value)
    except UsageError:
        pass
    try:
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError) as error:
        words = f"{value!r} is neither a duration, such as 2h or 7d, nor a day, such as 2026-11-21."
        raise click.BadParameter(words, ctx, param) from error


@click.command(short_help="List the jobs of a server that are over.")
@click.option(
    "--since", callback=_since, metavar="WHEN", show_default="the beginning",
    help="Only jobs that were submitted since then: 2h, 7d, 2026-11-21, 2026-11-21T18:00.",
)  # fmt: skip
@listing_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
@server_options
def history(
    since: float | None,
    state: str | None,
    user: str | None,
    name: str | None,
    limit: int,
    as_json: bool,
    **where: Any,
) -> None:
    """List the jobs of a server that are over, the newest first, for as long as it keeps them.

    What became of one of them: `gristmill status ID`, `gristmill logs ID`.
    """
    from gristmill.cli.listing import HISTORY, past_cells, show_jobs

    if state is not None and state not in OVER:
        raise click.UsageError(f"A job that is {state} is not over: gristmill jobs --state {state}")
    client = server_of(**where)
    earliest = None if since is None else f"{since:.3f}"
    rows = _past(client, [state] if state else list(OVER), limit, user=user, name=name, since=earliest)
    found = islice(rows, limit)
    if as_json:
        _print_list(found)
        return
    show_jobs(HISTORY, [past_cells(job, time.time()) for job in found], limit, "No such jobs.")


def _print_list(rows: Iterator[Row]) -> None:
    """A JSON list, a job a line, that is never in memory as a whole."""
    between = "["
    for row in rows:
        click.echo(f"{between}{json.dumps(row)}", nl=False)
        between = ",\n "
    click.echo("[]" if between == "[" else "]")


def _past(client: ServerClient, states: list[str], limit: int, **wanted: str | None) -> Iterator[Row]:
    """Jobs in any of these states, the newest first: one list for each of them, merged."""
    from gristmill.api.service_client import job_rows

    lists = [job_rows(client, limit, state=state, **wanted) for state in states]
    return heapq.merge(*lists, key=lambda job: (job["submitted"], job["id"]), reverse=True)
