"""``gristmill serve``: run a server."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gristmill.cli.limits import as_arguments, worker_limit_options
from gristmill.cli.log import say_with_time, show_log
from gristmill.cli.options import data_dir_option, executors_option, memory_option, token_file_option
from gristmill.cli.params import duration_seconds
from gristmill.cli.serve_options import operation_options, operation_settings
from gristmill.config import MAX_JOBS, MAX_SCRIPTS, MAX_WAITING, available_cpus, default_data_dir

if TYPE_CHECKING:
    from gristmill.service.server import Server

FILE = click.Path(dir_okay=False, path_type=Path)
_WAIT_SECONDS = 1.0  # no wait is longer: on Windows a wait does not see Ctrl-C


@click.command(context_settings={"max_content_width": 100})
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="The address to listen on; 0.0.0.0 for all.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7077,
    show_default=True,
    metavar="N",
    help="The port to listen on; 0 for any free one.",
)
@data_dir_option("The journal, working files, and the token. A server that was killed goes on from here.")
@executors_option("Executor processes of a worker on this machine; 0 for none.", least=0)
@memory_option("Memory of those executors together, such as 2GiB.")
@click.option(
    "--heartbeat",
    callback=duration_seconds,
    default="1s",
    show_default=True,
    metavar="DURATION",
    help="How often each worker says that it lives.",
)
@click.option(
    "--heartbeat-limit",
    callback=duration_seconds,
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="A worker that has not said so for this long is lost; its tasks run elsewhere.",
)
@click.option(
    "--session-lease",
    callback=duration_seconds,
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="A program that uses datasets and has not been heard of for this long is gone: what it has here is removed.",
)
@click.option(
    "--max-jobs",
    type=click.IntRange(min=1),
    default=MAX_JOBS,
    show_default=True,
    metavar="N",
    help="How many jobs run at a time; others wait for their turn.",
)
@click.option(
    "--max-jobs-per-user",
    type=click.IntRange(min=1),
    metavar="N",
    show_default="as many as of all",
    help="How many jobs of one user run at a time.",
)
@click.option(
    "--max-scripts",
    type=click.IntRange(min=1),
    default=MAX_SCRIPTS,
    show_default=True,
    metavar="N",
    help="How many submitted scripts run at a time, each in an executor of its own; others wait for their turn.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(min=0),
    default=MAX_WAITING,
    show_default=True,
    metavar="N",
    help="How many jobs may wait; beyond that the server is full.",
)
@token_file_option("Holds the token that clients and workers must bring.", "DATA_DIR/token, made when it is not there")
@click.option(
    "--tls-cert",
    type=FILE,
    metavar="FILE",
    show_default="nothing is encrypted",
    help="Speak TLS with clients and workers: the certificate, in PEM, and those that lead to its CA.",
)
@click.option("--tls-key", type=FILE, metavar="FILE", help="The key of that certificate.")
@click.option(
    "--tls-client-ca",
    type=FILE,
    metavar="FILE",
    show_default="none needed",
    help="Workers must show a certificate, too, that this CA has issued.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    show_default="the address, the machine's name",
    help="A further name by which the server may be called, such as that of a proxy; may be given several times.",
)
@click.option(
    "--allow-path",
    "allowed_paths",
    multiple=True,
    metavar="ROOT",
    show_default="everything that the workers' user may",
    help="Jobs may name inputs and outputs below this directory, or URI, alone; may be given several times.",
)
@click.option("--insecure", is_flag=True, help="Listen for other machines without TLS: tokens and data can be read.")
@worker_limit_options
@operation_options
def serve(
    host: str,
    port: int,
    data_dir: Path | None,
    executors: int | None,
    memory: int | None,
    heartbeat: float,
    heartbeat_limit: float,
    session_lease: float,
    max_jobs: int,
    max_jobs_per_user: int | None,
    max_scripts: int,
    max_waiting: int,
    token_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    allowed_hosts: tuple[str, ...],
    allowed_paths: tuple[str, ...],
    insecure: bool,
    **operations: Any,
) -> None:
    """Run a server for jobs and workers.

    It takes jobs and lets workers join, until it is interrupted. Jobs survive it: whoever submitted one may go, and a
    server that is started again on the same data directory takes up what it had not finished.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    from gristmill.runtime.coordinator.coordinator import QueueLimits
    from gristmill.runtime.process.processes import hide_this_process
    from gristmill.service.server import Server, ServeSettings

    hide_this_process()
    settings = ServeSettings(
        host=host,
        port=port,
        data_dir=data_dir or default_data_dir(),
        executors=available_cpus() if executors is None else executors,
        memory_bytes=memory,
        worker_arguments=tuple(as_arguments(operations)),
        beat_seconds=heartbeat,
        lost_seconds=heartbeat_limit,
        token_file=token_file,
        lease_seconds=session_lease,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        allowed_hosts=allowed_hosts,
        allowed_paths=allowed_paths,
        insecure=insecure,
        limits=QueueLimits(max_jobs, max_jobs_per_user, max_waiting, max_scripts),
        operations=operation_settings(operations),
    )
    with Server(settings) as server:
        _greet(server, settings.executors)
        show_log(say_with_time)
        while not stop.wait(_WAIT_SECONDS):
            server.check()
        click.echo("Ending. Jobs that still run go on when a server is started here again.", err=True)


def _greet(server: Server, executors: int) -> None:
    """Where it listens, and what to do next."""
    token = f"--token-file {server.token_file}"
    own = f"{executors} executor{'s' if executors != 1 else ''} of its own" if executors else "no executors of its own"
    lines = [
        f"{click.style('Gristmill listens on', bold=True)} {click.style(server.url, fg='green')}, with {own}.",
        f"  Open the page   {server.link}",
        f"  Submit a job    gristmill submit JOB INPUT... -o OUT --server {server.url}",
        f"  Add a worker    gristmill worker {server.public_url} {token}",
    ]
    if server.public_url == server.url:
        lines.append(
            "                  (from another machine: serve with --host 0.0.0.0 and TLS, and copy the token file there)"
        )
    if server.resumed:
        count = len(server.resumed)
        lines.append(f"  Taken up        {count} job{'s' if count != 1 else ''}: {', '.join(server.resumed[:5])}")
    if server.doubt:
        lines.append(click.style(f"  {server.doubt}", fg="yellow"))
    lines.append(click.style("  Ctrl-C ends it.", dim=True))
    click.echo("\n".join(lines), err=True)
