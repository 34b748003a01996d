"""``gristmill retry ID``: try a job again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gristmill.cli.options import server_options
from gristmill.cli.servers import server_of

if TYPE_CHECKING:
    from gristmill.runtime.views import JobView


@click.command(short_help="Try a job again that failed or was cancelled.")
@click.argument("job", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@server_options
def retry(job: str, as_json: bool, server: str | None, token_file: Path | None, data_dir: Path | None) -> None:
    """Try a job of a server again that failed or was cancelled.

    It keeps its id, its code and its options, and only what is unfinished runs: tasks that were done count, as long as
    what they made is still there.
    """
    from gristmill.api.remote import RemoteHandle
    from gristmill.api.service_client import retry_job

    client = server_of(server, token_file, data_dir)
    before = RemoteHandle(client, job).status().view
    retry_job(client, job)
    if as_json:
        stages = [{"name": stage.name, "tasks": stage.tasks, "done": stage.done} for stage in before.stages]
        click.echo(json.dumps({"id": job, "kept": stages}))
    else:
        click.echo(f"Job {job} is tried again. {kept_text(before)} To wait for it: gristmill wait {job}", err=True)


def kept_text(view: JobView) -> str:
    """What need not run again, in words."""
    some = [f"{stage.done:,} of {stage.tasks:,} {stage.name} tasks" for stage in view.stages if stage.done]
    if not some:
        return "Nothing of it was done."
    return f"Kept: {', '.join(some)}."
