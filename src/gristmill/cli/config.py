"""``gristmill config``: what is set, and by whom."""

from __future__ import annotations

import json
import os
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from gristmill.cli.settings import (
    SHARED,
    Found,
    Origin,
    Sources,
    children_of,
    found_for,
    is_number,
    is_shared,
    key_of,
    nearest,
    options_of,
    value_for,
    variable_of,
)
from gristmill.config import names_secret

_HIDDEN = "******"
_PUBLIC_USERS = ("smtp", "smtps", "hdfs", "abfs", "abfss")
_DEFAULT = Origin("default")


@dataclass(frozen=True)
class Setting:
    """One setting as it is shown.

    Attributes:
        section: the command; empty above all sections.
        key: its name.
        value: what it is; None: it is chosen, as ``chosen`` says.
        chosen: how, in words.
        origin: who has set it.
    """

    section: tuple[str, ...]
    key: str
    value: Any
    chosen: str
    origin: Origin

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "section": ".".join(self.section),
            "key": self.key,
            "value": self.value,
            "origin": self.origin.kind,
            "file": None if self.origin.file is None else str(self.origin.file.path),
            "line": self.origin.line,
            "variable": self.origin.variable or None,
        }


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--origin", is_flag=True, help="Say of each setting where it comes from.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.argument("command", metavar="[COMMAND [OPTIONS]...]", nargs=-1, type=click.UNPROCESSED)
def config(origin: bool, as_json: bool, command: tuple[str, ...]) -> None:
    """Show what is set: by gristmill.toml, by the environment, or by nobody.

    What is printed is a gristmill.toml. With COMMAND it is that command's section, as it would be with these OPTIONS.
    Secrets are not shown.

    A setting is called as the option is. gristmill.toml is looked for in the current directory and above it, and among
    the user's own settings, where `gristmill config` says so first.
    """
    from gristmill.cli.main import cli

    sources = Sources()
    name, given = (command[0], command[1:]) if command else ("", ())
    if name and name not in children_of(cli):
        raise click.UsageError(f"No such command {name!r}. There are: {', '.join(children_of(cli))}.")
    if "--origin" in given and name and "origin" not in options_of(_child(cli, name)):
        origin, given = True, tuple(each for each in given if each != "--origin")
    settings = list(_settings(cli, sources, name, given))
    if as_json:
        files = [str(file.path) for file in sources.files]
        click.echo(json.dumps({"files": files, "settings": [each.to_json() for each in settings]}))
    else:
        color = False if os.environ.get("NO_COLOR") else None
        click.echo("\n".join(_lines(settings, sources, origin)), color=color)
    for line in _strangers(sources, cli):
        click.echo(line, err=True)


def _settings(cli: click.Command, sources: Sources, only: str, given: Sequence[str]) -> Iterator[Setting]:
    """All settings, the shared ones first; of one command, if ``only`` names it."""
    yield from _shared(sources, only)
    for name in [only] if only else children_of(cli):
        yield from _of_command(_child(cli, name), sources, (name,), children_of(cli), given if only else None)


def _shared(sources: Sources, only: str) -> Iterator[Setting]:
    if not only:
        for key in SHARED:
            found = sources.find((), key)
            if found is not None:
                yield Setting((), key, _masked(key, found.value), "", found.origin)
    variable = variable_of((), "token")
    if sources.environ.get(variable):
        yield Setting((), "token", None, _HIDDEN, Origin("environment", variable=variable))


def _of_command(
    command: click.Command,
    sources: Sources,
    section: tuple[str, ...],
    names: Sequence[str],
    given: Sequence[str] | None,
) -> Iterator[Setting]:
    found = {key_of(option): (option, each) for option, each in found_for(command, sources, section, names)}
    from_options = _parsed(command, given or ())
    for key, option in options_of(command).items():
        value = value_for(option, found[key][1], command) if key in found else None
        if option.name in from_options:
            yield _setting(section, option, Found(from_options[option.name], Origin("option")))
        elif key in found and (given is not None or not _stands_above(found[key][1], key)):
            yield _setting(section, option, Found(value, found[key][1].origin))
        elif not (given is None and is_shared(section, key)):
            yield _setting(section, option, Found(_default(option, command), _DEFAULT))
    for name in children_of(command):
        yield from _of_command(_child(command, name), sources, (*section, name), names, None)


def _stands_above(found: Found, key: str) -> bool:
    return found.origin.keys == (key,) or found.origin.variable == variable_of((), key)


def _child(command: click.Command, name: str) -> click.Command:
    assert isinstance(command, click.Group)
    child = command.get_command(click.Context(command), name)
    assert child is not None
    return child


def _parsed(command: click.Command, given: Sequence[str]) -> dict[str, Any]:
    """What options say on a command line; what else stands there does not matter."""
    context = click.Context(command, info_name=command.name)
    return dict(command.make_parser(context).parse_args(list(given))[0])


def _default(option: click.Option, command: click.Command) -> Any:
    default = option.get_default(click.Context(command))
    if option.is_flag:
        return default is True
    plain = isinstance(default, (int, float, str))
    return default if plain and not isinstance(option.show_default, str) else None


def _setting(section: tuple[str, ...], option: click.Option, found: Found) -> Setting:
    key, value = key_of(option), found.value
    chosen = option.show_default if isinstance(option.show_default, str) else ""
    if isinstance(value, str) and is_number(option):
        value = json.loads(value)  # of the environment or the command line, where all is text
    return Setting(section, key, _masked(key, value), chosen, found.origin)


def _masked(key: str, value: Any) -> Any:
    """A value without its secrets."""
    if isinstance(value, dict):
        return {name: _masked(name, each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(key, each) for each in value]
    if not isinstance(value, str):
        return value
    name, equals, rest = value.partition("=")
    if key == "set" and equals:
        return f"{name}={_masked(name, rest)}"
    if names_secret(key) and not key.endswith("-file"):
        return _HIDDEN
    if "://" in value:
        return _masked_url(key, value)
    return value


def _masked_url(key: str, url: str) -> str:
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return _HIDDEN
    if "@" in parts.path and ":" in parts.netloc:  # a password with a slash in it ends the host, and says so nowhere
        return f"{parts.scheme}://{_HIDDEN}"
    user, at, host = parts.netloc.rpartition("@")
    if ":" in user:
        user = f"{user.partition(':')[0]}:{_HIDDEN}"
    elif user and parts.scheme not in _PUBLIC_USERS:  # it may be a token
        user = _HIDDEN
    path = f"/{_HIDDEN}" if "webhook" in key and parts.path.strip("/") else parts.path  # it is what lets one in
    query, fragment = (_HIDDEN if part else "" for part in (parts.query, parts.fragment))
    return urllib.parse.urlunsplit((parts.scheme, f"{user}{at}{host}", path, query, fragment))


def _lines(settings: Sequence[Setting], sources: Sources, origin: bool) -> Iterator[str]:
    for file in reversed(sources.files):
        yield click.style(f"# {file.path}", dim=True)
    if not sources.files:
        yield click.style("# There is no gristmill.toml here or above, nor one of the user's.", dim=True)
    section: tuple[str, ...] = ()
    for each in settings:
        if each.section != section:
            section = each.section
            yield ""
            yield click.style(f"[{'.'.join(section)}]", bold=True)
        yield _line(each, origin)


def _line(setting: Setting, origin: bool) -> str:
    if setting.value is None:
        text = f"# {setting.key}: {setting.chosen or 'not set'}{f' ({setting.origin})' if origin else ''}"
        return click.style(text, dim=True)
    text = f"{setting.key} = {_toml(setting.value)}"
    if setting.origin.kind == "default":
        return click.style(f"{text}  # default" if origin else text, dim=True)
    return text + (click.style(f"  # {setting.origin}", fg="green") if origin else "")


def _strangers(sources: Sources, cli: click.Command) -> Iterator[str]:
    """Variables of the environment that look like settings, and are none."""
    known = {variable for name in children_of(cli) for variable in _variables(_child(cli, name), (name,))}
    prefixes = tuple(f"{variable_of((), name)}_" for name in children_of(cli))
    for name in sorted(sources.environ):
        if name.startswith(prefixes) and name not in known and name not in map(_shared_variable, SHARED):
            yield f"{name} is no setting. {nearest(name, sorted(known))}".rstrip()


def _shared_variable(key: str) -> str:
    return variable_of((), key)


def _variables(command: click.Command, section: tuple[str, ...]) -> Iterator[str]:
    for key in options_of(command):
        yield variable_of(section, key)
    for name in children_of(command):
        yield from _variables(_child(command, name), (*section, name))


def _toml(value: Any) -> str:
    """A value as it is written in TOML; its strings are those of JSON."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(key)} = {_toml(each)}' for key, each in value.items())} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
