"""``gristmill workers``: the workers of a server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gristmill.cli.options import server_options
from gristmill.cli.servers import server_of
from gristmill.cli.tables import Cell, Column, printable, show_table
from gristmill.config import format_duration, format_size

if TYPE_CHECKING:
    from gristmill.api.service_client import Row

_COLUMNS = (
    Column("WORKER", cut=True), Column("STATE"), Column("BUSY", right=True), Column("CPU", right=True),
    Column("MEMORY", right=True), Column("DISK FREE", right=True), Column("SEEN", right=True),
    Column("HOST", cut=True, wide=1), Column("RACK", cut=True, wide=2),
)  # fmt: skip


@click.group(invoke_without_command=True, short_help="List the workers of a server; drain one.")
@click.pass_context
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list on stdout.")
@server_options
def workers(
    ctx: click.Context, as_json: bool, server: str | None, token_file: Path | None, data_dir: Path | None
) -> None:
    """List the workers of a server: what each does, and what its machine has to spare.

    Those that were lost within the last hour are listed as gone.
    """
    ctx.obj = (server, token_file, data_dir)
    if ctx.invoked_subcommand is not None:
        return
    from gristmill.api.service_client import worker_rows

    found = worker_rows(server_of(server, token_file, data_dir))
    if as_json:
        click.echo(json.dumps(found))
        return
    if all(worker["state"] == "gone" for worker in found):
        click.echo("No worker is connected. Start one: gristmill worker URL", err=True)
    if not found:
        return
    show_table(_COLUMNS, [_cells(worker, time.time()) for worker in found])
    for worker in found:
        if worker.get("note"):
            click.echo(printable(f"{worker['worker']}: {worker['note']}"), err=True)


@workers.command(short_help="Let a worker finish what it runs, and leave.")
@click.argument("worker", metavar="NAME")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@server_options
@click.pass_context
def drain(
    ctx: click.Context,
    worker: str,
    as_json: bool,
    server: str | None,
    token_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Let a worker finish what it runs, and leave.

    It takes no new work, and keeps its data readable for as long as running jobs need it. NAME is as `gristmill
    workers` lists it. Only admins may.
    """
    from gristmill.api.service_client import drain_worker

    above = ctx.obj
    client = server_of(server or above[0], token_file or above[1], data_dir or above[2])
    drain_worker(client, worker)
    if as_json:
        click.echo(json.dumps({"worker": worker, "state": "draining"}))
    else:
        click.echo(f"Worker {worker} leaves once it has done what it runs.", err=True)


def _cells(worker: Row, now: float) -> list[str | Cell]:
    from gristmill.cli.listing import state_cell

    cpu, used, free = worker.get("cpu_percent"), worker.get("used_bytes"), worker.get("free_bytes")
    memory = "" if used is None else format_size(used)
    if used is not None and worker.get("memory_bytes"):
        memory += f" of {format_size(worker['memory_bytes'])}"
    beat = worker.get("beat")
    return [
        str(worker["worker"]), state_cell(worker["state"]), f"{worker.get('busy', 0)}/{worker.get('slots', 0)}",
        "" if cpu is None else f"{cpu:.0f} %", memory, "" if free is None else format_size(free),
        f"{format_duration(max(0.0, now - beat))} ago" if beat and now - beat >= 2 else "now" if beat else "",
        str(worker.get("host") or ""), str(worker.get("rack") or ""),
    ]  # fmt: skip
