"""``gristmill worker URL``: run tasks for a server."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import click

from gristmill.cli.limits import worker_limit_options
from gristmill.cli.log import say_with_time, show_log
from gristmill.cli.options import EXECUTORS, MEMORY, TLS_CA, TOKEN_FILE, data_dir_option
from gristmill.config import default_data_dir


@click.command(context_settings={"max_content_width": 100})
@click.argument("url")
@EXECUTORS
@MEMORY
@data_dir_option("Where blocks, spills and logs go. Several, on several disks, share them.", "data_dirs", multiple=True)
@click.option("--rack", default="", metavar="NAME", help="Where this machine stands: near data is read first.")
@click.option(
    "--name",
    metavar="NAME",
    show_default="the host's",
    help="How this machine is called, also in inputs of the form file://NAME/PATH.",
)
@click.option(
    "--machine",
    metavar="NAME",
    show_default="found out",
    help="Which disks it sees: workers of the same machine read each other's files instead of fetching them.",
)
@click.option(
    "--host",
    metavar="ADDRESS",
    show_default="the one that reaches the server",
    help="Where other workers reach this one.",
)
@TOKEN_FILE
@TLS_CA
@click.option(
    "--tls-cert",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The worker's certificate, in PEM: for a server that wants one, and to serve its blocks by TLS.",
)
@click.option(
    "--tls-key", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="The key of that certificate."
)
@click.option(
    "--insecure", is_flag=True, help="Serve blocks to other machines without TLS, though the server speaks it."
)
@worker_limit_options
@click.option(
    "--ends-with-stdin",
    is_flag=True,
    hidden=True,  # for the server that starts a worker of its own
    help="End at once when standard input does: with the program that started it.",
)
def worker(
    url: str,
    executors: int | None,
    memory: int | None,
    data_dirs: tuple[Path, ...],
    rack: str,
    name: str | None,
    machine: str | None,
    host: str | None,
    token_file: Path | None,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    insecure: bool,
    max_processes: int | None,
    max_file_size: int | None,
    pass_env: tuple[str, ...],
    drop_env: tuple[str, ...],
    ends_with_stdin: bool,
) -> None:
    """Run tasks for the server at URL.

    Workers may come and go at any time. SIGTERM drains one: it finishes what it runs, keeps its data readable for as
    long as running jobs need it (a minute at most), and leaves. Ctrl-C, or a second SIGTERM, ends it at once; its tasks
    run elsewhere then.
    """
    if ends_with_stdin:
        threading.Thread(target=_end_with_stdin, name="gristmill-parent", daemon=True).start()
    # The server has told of its own worker already.
    show_log(say_with_time, logging.WARNING if ends_with_stdin else logging.INFO)
    from gristmill.api.client import checked_url, token_for
    from gristmill.runtime.process.limits import limits_of
    from gristmill.runtime.process.watch import EXIT_RETIRED
    from gristmill.runtime.transport.tls import TLS_CA as CA
    from gristmill.runtime.transport.tls import Trust, load_identity
    from gristmill.runtime.worker.worker import WorkerSettings, run_worker

    checked_url(url)
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("There must be both --tls-cert and --tls-key.")
    if tls_cert is None and not insecure and (warning := _seen_by_others(url, host)) and not ends_with_stdin:
        say_with_time(warning)
    if tls_ca is not None:
        os.environ[CA] = str(tls_ca.absolute())  # for executors, too, which read at other workers
    dirs = data_dirs or (default_data_dir(),)
    retired = run_worker(
        WorkerSettings(
            url=url,
            token=token_for(url, token_file, dirs[0]),
            executors=executors,
            memory_bytes=memory,
            data_dirs=dirs,
            rack=rack,
            name=name,
            machine=machine,
            host=host,
            trust=Trust.from_environment(),
            limits=limits_of(max_processes, max_file_size),
            pass_env=pass_env,
            drop_env=drop_env,
            identity=None if tls_cert is None or tls_key is None else load_identity(tls_cert, tls_key),
        )
    )
    if retired and ends_with_stdin:
        sys.exit(EXIT_RETIRED)  # whoever started it is not to start another


def _seen_by_others(url: str, host: str | None) -> str:
    """What to say of blocks that cross the network in the clear; nothing if they do not leave this machine.

    Raises:
        UsageError: they would, though the server speaks TLS.
    """
    from gristmill.errors import UsageError
    from gristmill.runtime.process.whereabouts import address_towards
    from gristmill.service.doors.site import is_loopback

    parts = urlsplit(url)
    address = host or address_towards(parts.hostname or "")
    if is_loopback(address):
        return ""
    if parts.scheme == "https":
        raise UsageError(
            f"Other machines would read this worker's blocks at {address} in the clear. Give it a certificate with "
            "--tls-cert and --tls-key; or say --insecure, in a network that you trust with the data."
        )
    return f"The server speaks no TLS: the token, code and blocks (at {address}) cross the network in the clear."


def _end_with_stdin() -> None:
    """End at once when whoever started this is gone. Executors notice; what is on the disk stays, for the next one."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)
