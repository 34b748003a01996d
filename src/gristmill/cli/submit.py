"""``gristmill submit JOB INPUT... -o OUT``: hand a job, or a script, to a server, and go."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gristmill.cli.options import job_options, session_options, submit_options


@click.command(context_settings={"max_content_width": 100})
@click.argument("job")
@click.argument("inputs", metavar="INPUT...", nargs=-1)
@click.option(
    "--driver-attempts",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="How often a script is run until it ends well. What it did before is done again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@submit_options
def submit(
    job: str,
    inputs: tuple[str, ...],
    driver_attempts: int,
    as_json: bool,
    output: str | None,
    server: str | None,
    **named: Any,
) -> None:
    """Hand a job, or a script, to a server, and print its id.

    JOB and INPUT are those of `gristmill run`. The job goes on by itself; `gristmill wait ID` waits for it. Its script,
    the modules that lie beside it, and --py-files are sent along.

    A script that uses datasets runs in a process of a worker, with a session on the server. What it prints is the log
    of its job.
    """
    from gristmill.api.client import server_url
    from gristmill.api.loading import is_script
    from gristmill.api.remote import submit as submit_job
    from gristmill.cli.run import load
    from gristmill.config import default_data_dir

    url = server_url(server, named["data_dir"] or default_data_dir())
    if is_script(job):
        _print(_submit_script(job, inputs, {**named, "on": url, "output": output}, driver_attempts), as_json)
        return
    if not inputs:
        raise click.UsageError("Missing argument 'INPUT...'.")
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'.")
    if driver_attempts != 1:
        raise click.UsageError("--driver-attempts is for scripts; for the tasks of a job there is --max-attempts.")
    options = job_options(url, named)
    handle = submit_job(load(job, options), inputs, output, options)
    _print(handle.job_id, as_json)


def _print(job: str, as_json: bool) -> None:
    click.echo(json.dumps({"id": job}) if as_json else job)


def _submit_script(path: str, arguments: Sequence[str], named: dict[str, Any], attempts: int) -> str:
    """Hand a script over; its job's id."""
    from gristmill.api.driver import Script, submit_script
    from gristmill.api.shipping import add_to_path
    from gristmill.cli.script import check_options

    check_options(path, named)
    options = job_options(named["on"], named)
    add_to_path(options.py_files)
    sys.path.insert(0, str(Path(path).absolute().parent))  # to find what it imports
    # What is sent along lies where modules are looked for there.
    elsewhere = ("on", "data_dir", "token_file", "py_files")
    of_session = {name: value for name, value in session_options(named).items() if name not in elsewhere}
    return submit_script(Script.read(Path(path), arguments), options, of_session, attempts).job_id
