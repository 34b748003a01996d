"""``gristmill wait [ID]``: wait for a job of a server."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gristmill.cli.options import server_options
from gristmill.cli.servers import announce_silence, newest_job, server_of
from gristmill.errors import JobCancelled


@click.command()
@click.pass_context
@click.argument("job", metavar="[ID]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON summary on stdout at the end.")
@server_options
def wait(
    ctx: click.Context,
    job: str | None,
    as_json: bool,
    server: str | None,
    token_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Wait for a job of a server.

    Without an ID it is the newest one. The exit code is the job's: as if `gristmill run` had run it. Ctrl-C ends the
    waiting, not the job. With an ID, a server that is away is waited for, too: ten minutes.
    """
    from gristmill.api.remote import RemoteHandle, failure_of
    from gristmill.cli.display import ProgressDisplay, show_summary
    from gristmill.cli.report import show_error
    from gristmill.cli.summary import with_error

    display = ProgressDisplay()
    client = server_of(server, token_file, data_dir, expected=job is not None)  # who knows an ID has had an answer
    handle = RemoteHandle(client, job or newest_job(client), display)
    announce_silence(client)
    try:
        with display:
            status = handle.finish(cancel_on_interrupt=False)
    except JobCancelled as error:  # by somebody else: nobody has interrupted us
        show_error(error)
        ctx.exit(1)
    except KeyboardInterrupt:
        click.echo(f"The job goes on. To wait again: gristmill wait {handle.job_id}", err=True)
        raise
    finally:
        if as_json and handle.last is not None and handle.last.is_over:
            click.echo(json.dumps(with_error(handle.last.summary(), failure_of(handle.last, client))))
    if not as_json:
        show_summary(status.view, status.output)
