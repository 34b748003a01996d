"""``gristmill trace``: a job on a time line, for trace viewers."""

from __future__ import annotations

from pathlib import Path

import click

from gristmill.cli.journals import journal_here
from gristmill.cli.options import output_file_option, server_options
from gristmill.cli.servers import server_of


@click.command()
@click.argument("job", metavar="ID")
@output_file_option("ID.trace.json")
@server_options
@click.pass_context
def trace(
    ctx: click.Context,
    job: str,
    output: Path | None,
    server: str | None,
    token_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Write a job as a trace: each attempt a slice in the slot where it ran.

    Open it at ui.perfetto.dev (nothing is sent anywhere) or in chrome://tracing. With `-o -` it goes to stdout.
    """
    to_stdout = output is not None and str(output) == "-"
    target = Path("/dev/stdout") if to_stdout else output or Path(f"{job}.trace.json")
    journal = journal_here(ctx, server, data_dir, job)
    if journal is None:
        from gristmill.api.service_client import quoted

        server_of(server, token_file, data_dir).download(f"/jobs/{quoted(job)}/trace", target)
    else:
        from gristmill.errors import UsageError
        from gristmill.service.looking.history import Histories
        from gristmill.service.looking.trace import trace_of, trace_text

        history = Histories(journal).of(job)
        if history is None:  # it was forgotten just now
            raise UsageError(f"Nothing is known of a job {job}.")
        with target.open("w", encoding="utf-8") as file:
            file.writelines(trace_text(trace_of(history)))
    if not to_stdout:
        click.echo(f"Written to {target}. Open it at https://ui.perfetto.dev.", err=True)
