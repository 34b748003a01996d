"""``gristmill submit JOB INPUT... -o OUT``: hand a job to a server, and go."""

from __future__ import annotations

from typing import Any

import click

from gristmill.cli.options import job_options, submit_options


@click.command(context_settings={"max_content_width": 100})
@click.argument("job")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@submit_options
def submit(job: str, inputs: tuple[str, ...], output: str, server: str | None, **named: Any) -> None:
    """Hand a job to a server, and print its id.

    JOB and INPUT are those of `gristmill run`. The job goes on by itself; `gristmill wait ID` waits for it. Its script,
    the modules that lie beside it, and --py-files are sent along.
    """
    from gristmill.api.client import server_url
    from gristmill.api.remote import submit as submit_job
    from gristmill.cli.run import load
    from gristmill.config import default_data_dir

    options = job_options(server_url(server, named["data_dir"] or default_data_dir()), named)
    handle = submit_job(load(job, options), inputs, output, options)
    click.echo(handle.job_id)
