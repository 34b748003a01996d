"""The ``gristmill`` command: finds the subcommand, and turns every failure into words and an exit code.

Subcommands are imported when they are used, so that starting one costs nothing of the others.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence

import click

from gristmill.cli.settings import CommandSettings, Sources
from gristmill.errors import GristmillError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

# name → "module:attribute"; a command's module imports nothing heavy at its top.
_COMMANDS = {
    "run": "gristmill.cli.run:run",
    "submit": "gristmill.cli.submit:submit",
    "jobs": "gristmill.cli.jobs:jobs",
    "status": "gristmill.cli.status:status",
    "wait": "gristmill.cli.wait:wait",
    "logs": "gristmill.cli.logs:logs",
    "cancel": "gristmill.cli.cancel:cancel",
    "retry": "gristmill.cli.retry:retry",
    "history": "gristmill.cli.history:history",
    "workers": "gristmill.cli.workers:workers",
    "events": "gristmill.cli.events:events",
    "trace": "gristmill.cli.trace:trace",
    "replay": "gristmill.cli.replay:replay",
    "serve": "gristmill.cli.serve:serve",
    "worker": "gristmill.cli.worker:worker",
    "backup": "gristmill.cli.backup:backup",
    "restore": "gristmill.cli.backup:restore",
    "token": "gristmill.cli.token:token",
    "config": "gristmill.cli.config:config",
    "demo": "gristmill.cli.demo:demo",
    "generate": "gristmill.cli.generate:generate",
}

SECTIONS = tuple(_COMMANDS)
"""What sections of ``gristmill.toml`` are called."""


class _LazyGroup(click.Group):
    """A group that imports a subcommand when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            raise click.UsageError(_no_such_command(name), ctx)
        return super().resolve_command(ctx, args)


def _no_such_command(name: str) -> str:
    if name.endswith(".py"):
        return f"No such command {name!r}. To run a job: gristmill run {name} INPUT..."
    close = difflib.get_close_matches(name, _COMMANDS, n=1)
    if close:
        return f"No such command {name!r}. Did you mean {close[0]!r}?"
    return f"No such command {name!r}. There are: {', '.join(_COMMANDS)}."


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from gristmill import __version__

    click.echo(f"gristmill {__version__}")
    ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version."
)
def cli() -> None:
    """Gristmill grinds batches: map, shuffle and reduce in Python, on all cores, all or nothing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; those of this process by default.

    Returns:
        The exit code: 0 done, 1 failed or cancelled, 2 wrong use, 75 the server is unreachable, 130 interrupted.
    """
    if argv is None and sys.argv[1:2] == ["replay"]:
        _fix_hashes()
    settings = CommandSettings(cli, Sources(), (), SECTIONS)
    return run_guarded(
        lambda: cli.main(args=_args(argv), prog_name="gristmill", standalone_mode=False, default_map=settings)
    )


def _fix_hashes() -> None:
    """Begin anew with the hashes that executors have: Python draws them when it starts, and walks sets by them."""
    if os.environ.get("PYTHONHASHSEED") == "0" or os.name == "nt":  # the shell of Windows would not wait
        return
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})


def run_guarded(command: Callable[[], object]) -> int:
    """Call a click command; say what failed, for people, and return the exit code."""
    from gristmill.runtime.process.processes import collect_garbage_rarely

    collect_garbage_rarely()
    try:
        code = command()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except GristmillError as error:
        if _debugging():
            raise
        from gristmill.cli.report import show_error

        show_error(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        if _debugging():
            raise
        click.echo("Interrupted.", err=True)
        return EXIT_INTERRUPTED
    except OSError as error:
        # What the system refused and nobody in the engine had a better name for.
        if _debugging():
            raise
        click.echo(f"Error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", err=True)
        return EXIT_FAILED
    return code if isinstance(code, int) else EXIT_OK


def _args(argv: Sequence[str] | None) -> list[str]:
    return list(sys.argv[1:] if argv is None else argv)


def _debugging() -> bool:
    return os.environ.get("GRISTMILL_DEBUG", "") not in ("", "0")


if __name__ == "__main__":
    sys.exit(main())
