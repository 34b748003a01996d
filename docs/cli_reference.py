"""Writes docs/reference/cli.generated.md from the commands themselves: `python docs/cli_reference.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from gristmill.cli.main import cli
from gristmill.cli.mr import coordinator, worker
from gristmill.cli.settings import is_shared, key_of, variable_of

TARGET = Path(__file__).parent / "reference" / "cli.generated.md"

_ROOTS = {"gristmill": cli, "mr-coordinator": coordinator, "mr-worker": worker}

HEAD = """\
# The command line

Written by `docs/cli_reference.py`; change the commands, not this page.

Sizes are written `64MiB`, `2g` or `1000`; durations `200ms`, `10s`, `5m`, `2h`.
Exit codes: 0 done, 1 the job failed or was cancelled, 2 wrong use, 75 no server answers, 130 interrupted.
An option that is not given is looked for in the environment, as the variable beside it, and then in `gristmill.toml`
under its own name ([how](../operations.md#settings)).
With `GRISTMILL_DEBUG=1` an error shows the engine's own traceback as well.
"""


def render() -> str:
    """The whole page."""
    return HEAD + "".join(part for name, command in _ROOTS.items() for part in _sections(command, name, None))


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name."""
    for name, command in _ROOTS.items():
        yield from _walk(command, name, None)


def _walk(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command, parent, info_name=name.rsplit(" ", 1)[-1])
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from _walk(found, f"{name} {child}", context)


def _sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    for full_name, each in _walk(command, name, parent):
        context = click.Context(each, info_name=full_name)
        usage = " ".join(each.collect_usage_pieces(context))
        yield f"\n## {full_name}\n\n    {full_name} {usage}\n\n{_help(each)}\n"
        section = tuple(full_name.split()[1:])  # none: it has no settings
        options = [option for option in each.params if isinstance(option, click.Option) and not option.hidden]
        rows = [_row(option, section) for option in options]
        if rows and section:
            yield "\n| option | meaning | default | variable |\n| --- | --- | --- | --- |\n" + "".join(rows)
        elif rows:
            yield "\n| option | meaning | default |\n| --- | --- | --- |\n" + "".join(rows)


def _help(command: click.Command) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))


def variables() -> Iterator[str]:
    """Every variable of the environment that stands for an option."""
    for full_name, command in commands():
        section = tuple(full_name.split()[1:])
        if section:
            for option in command.params:
                if isinstance(option, click.Option) and not option.hidden:
                    yield variable_of(section, key_of(option))
                    yield _variable(option, section)


def _variable(option: click.Option, section: tuple[str, ...]) -> str:
    return variable_of(() if is_shared(section, key_of(option)) else section, key_of(option))


def _row(option: click.Option, section: tuple[str, ...]) -> str:
    names = ", ".join((*option.opts, *option.secondary_opts))
    if not option.is_flag:
        names += f" {_metavar(option)}"
    default = option.show_default if isinstance(option.show_default, str) else ""
    if option.show_default is True:
        default = str(option.default)
    if option.required:
        default = "must be given"
    names, meaning = (text.replace("|", "\\|") for text in (names, option.help or ""))
    variable = f" `{_variable(option, section)}` |" if section else ""
    return f"| `{names}` | {meaning} | {default} |{variable}\n"


def _metavar(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return f"[{'|'.join(option.type.choices)}]"
    return option.metavar or option.type.name.upper()


def main() -> None:
    """Write the page."""
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
