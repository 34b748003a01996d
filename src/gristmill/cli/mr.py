"""``mr-coordinator`` and ``mr-worker``: the commands of MapReduce as it is taught, over the same engine."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gristmill.api.mr_file import FACTS
from gristmill.cli.log import show_log
from gristmill.cli.main import EXIT_INTERRUPTED, EXIT_OK, run_guarded
from gristmill.cli.params import duration_seconds

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Reducers(click.IntRange):
    """A number; whoever gives a file in its place has most likely mixed up the order."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            int(value)
        except ValueError:
            self.fail(f"{value!r} is not a number. N_REDUCE comes first, the files after it.", param, ctx)
        return super().convert(value, param, ctx)


@click.command("mr-coordinator", context_settings=_HELP)
@click.argument("reducers", metavar="N_REDUCE", type=_Reducers(min=1))
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--task-timeout",
    callback=duration_seconds,
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="A task that takes longer is given to another process, again and again.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    show_default="a free one",
    help="The port to listen on.",
)
def coordinator(reducers: int, files: tuple[str, ...], task_timeout: float, host: str, port: int) -> None:
    """Coordinate one job over FILE..., each of which is one map task.

    The app comes with the first `mr-worker APP.py` that is started in this directory, which finds the coordinator by
    the file mr-coordinator.json. The result is mr-out-0 to mr-out-{N_REDUCE - 1}, in this directory. Once it is
    whole, it replaces an earlier one.
    """
    stop = threading.Event()

    def ask_to_stop(*_: object) -> None:
        if stop.is_set():  # whoever asks twice is in a hurry
            raise KeyboardInterrupt
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)
    from gristmill.cli.display import ProgressDisplay, show_summary
    from gristmill.service.mr import MrSettings, run_coordinator

    show_log(_teller("mr-coordinator"))
    settings = MrSettings(
        reducers=reducers,
        inputs=files,
        task_timeout_seconds=task_timeout,
        host=host,
        port=port,
    )
    with ProgressDisplay() as display:
        status = run_coordinator(settings, stop, display, _teller("mr-coordinator"))
    show_summary(status.view, "mr-out-0" if reducers == 1 else f"mr-out-0 to mr-out-{reducers - 1}")


@click.command("mr-worker", context_settings=_HELP)
@click.argument("app", type=click.Path(dir_okay=False, path_type=Path), metavar="APP.py")
@click.option(
    "--coordinator",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(FACTS),
    metavar="FILE",
    show_default=f"{FACTS} in this directory",
    help="The file by which the coordinator is found.",
)
def worker(app: Path, coordinator: Path) -> int:
    """Work for the mr-coordinator of this directory, until the job is done.

    APP.py has map_func(filename, content), which returns a list of KeyValue, and reduce_func(key, values), which
    returns a string; as functions, or as methods of a class.
    """
    from gristmill.api.mr_worker import work

    show_log(_teller("mr-worker"))
    if work(app, coordinator, _teller("mr-worker")):
        return EXIT_OK
    click.echo("mr-worker: left before the job was done; other workers go on with it.", err=True)
    return EXIT_INTERRUPTED


def _teller(name: str) -> Callable[[str], None]:
    return lambda text: click.echo(f"{name}: {text}", err=True)


def coordinator_main() -> int:
    """The console script ``mr-coordinator``; the exit codes are those of ``gristmill``."""
    return run_guarded(lambda: coordinator.main(prog_name="mr-coordinator", standalone_mode=False))


def worker_main() -> int:
    """The console script ``mr-worker``."""
    return run_guarded(lambda: worker.main(prog_name="mr-worker", standalone_mode=False))
