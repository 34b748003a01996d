"""What options are when the command line does not say: of files, and of the environment.

The later wins: defaults, the user's ``gristmill.toml``, the project's, the environment, the command line. A setting is
called as its option is, below the name of its command; what several commands share may stand above all of them.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gristmill.cli.config_files import ConfigFile, find_configs, read_config
from gristmill.errors import SettingInvalid

PREFIX = "GRISTMILL"
SHARED = ("server", "token-file", "data-dir", "tls-ca")
"""Settings that stand above the sections: every command that has such an option takes them."""
_NOT_SHARED = {("serve", "token-file")}  # the token that it wants to see, and not one that it shows
_PATHS = ("PATH", "DIR", "FILE", "ROOT")
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Origin:
    """Where a value comes from.

    Attributes:
        kind: ``default``, ``file``, ``environment`` or ``option``.
        file: the file.
        keys: its tables and its name there.
        variable: the variable of the environment.
    """

    kind: str
    file: ConfigFile | None = None
    keys: tuple[str, ...] = ()
    variable: str = ""

    @property
    def line(self) -> int | None:
        """In which line of the file it stands, if that can be told."""
        return None if self.file is None else self.file.line_of(*self.keys)

    def __str__(self) -> str:
        if self.file is not None:
            line = self.line
            return f"{self.file.path}:{line}" if line else f"{self.file.path}, {'.'.join(self.keys)}"
        return f"environment {self.variable}" if self.variable else self.kind


@dataclass(frozen=True)
class Found:
    """A value that somebody has set, and where."""

    value: Any
    origin: Origin


class Sources:
    """Files and environment, read when they are first asked.

    Args:
        environ: the variables; None: of this process.
        folder: where to look for a file, and above; None: the current one.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
        self.environ = os.environ if environ is None else environ
        self._folder = folder

    @cached_property
    def files(self) -> list[ConfigFile]:
        """The files, the strongest first."""
        found, doubts = find_configs(self.environ, self._folder)
        for doubt in doubts:
            click.echo(doubt, err=True)
        return [read_config(path) for path in reversed(found)]

    def find(self, section: tuple[str, ...], key: str) -> Found | None:
        """What is set for an option, by whoever is strongest."""
        shared = is_shared(section, key)
        if shared and key == "token-file" and self.environ.get(f"{PREFIX}_TOKEN"):
            return None  # the token itself is there, which is stronger than a file with one
        named = [variable_of(section, key), *([variable_of((), key)] if shared else [])]
        for variable in named:
            if self.environ.get(variable):
                return Found(self.environ[variable], Origin("environment", variable=variable))
        for file in self.files:
            for keys in ((*section, key), *([(key,)] if shared else [])):
                if (value := _at(file.data, keys)) is not None:
                    return Found(value, Origin("file", file, keys))
        return None

    def check(self, section: tuple[str, ...], keys: Sequence[str], sections: Sequence[str]) -> None:
        """Refuse what is written in the files for a command, and above all sections, that nobody knows.

        Args:
            section: the command.
            keys: its settings, and the names of its own commands.
            sections: all commands.

        Raises:
            SettingInvalid: something has no meaning; the nearest name is named.
        """
        for file in self.files:
            for name, value in file.data.items():
                if name in sections and not isinstance(value, dict):
                    raise SettingInvalid(f"{_place(file, name)}: {name} is a section: write [{name}], and lines below.")
                if name not in (*SHARED, *sections):
                    hint = f"Write it below [{section[0]}]." if name in keys else nearest(name, (*SHARED, *sections))
                    raise SettingInvalid(
                        f"{_place(file, name)}: there is no section and no shared setting {name!r}. {hint}".rstrip()
                    )
            for name in _at(file.data, section) or ():
                if name not in keys:
                    where = ".".join(section)
                    hint = nearest(name, keys) or f"gristmill config {' '.join(section)} shows all."
                    raise SettingInvalid(f"{_place(file, *section, name)}: [{where}] has no setting {name!r}. {hint}")


def _place(file: ConfigFile, *keys: str) -> str:
    return str(Origin("file", file, keys))


def nearest(name: str, known: Sequence[str]) -> str:
    """A question after the name that was meant; empty if none is near."""
    close = difflib.get_close_matches(name if name.isupper() else name.replace("_", "-"), known, n=1)
    return f"Did you mean {close[0]!r}?" if close else ""


def _at(data: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    value: Any = data
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def is_shared(section: tuple[str, ...], key: str) -> bool:
    """Whether a command's setting is also looked for above the sections."""
    return key in SHARED and (*section, key) not in _NOT_SHARED


def variable_of(section: tuple[str, ...], key: str) -> str:
    """The variable of the environment for a setting: the command and the option, in capitals."""
    return "_".join((PREFIX, *section, key)).upper().replace("-", "_")


def key_of(option: click.Option) -> str:
    """What an option is called in files: its first long name, without dashes."""
    return next((name for name in option.opts if name.startswith("--")), option.opts[0]).lstrip("-")


def options_of(command: click.Command) -> dict[str, click.Option]:
    """The options of a command that can be set, by their names in files."""
    return {
        key_of(option): option
        for option in command.params
        if isinstance(option, click.Option) and option.expose_value and not option.hidden
    }


class CommandSettings(Mapping[str, Any]):
    """What is set for a command, as click's ``default_map``, and for the commands below it.

    Nothing is read before click asks, and ``--help`` needs no sound file.

    Args:
        command: the command.
        sources: who may set something.
        section: its name, after those of the commands above it.
        sections: the names of all commands.
    """

    def __init__(
        self, command: click.Command, sources: Sources, section: tuple[str, ...], sections: Sequence[str]
    ) -> None:
        self._command = command
        self._sources = sources
        self._section = section
        self._sections = sections

    def __getitem__(self, name: str) -> Any:
        if (child := self._child(name)) is not None:
            return CommandSettings(child, self._sources, (*self._section, name), self._sections)
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values or (isinstance(name, str) and self._child(name) is not None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _child(self, name: str) -> click.Command | None:
        if not isinstance(self._command, click.Group):
            return None
        return self._command.get_command(click.Context(self._command), name)

    @cached_property
    def _values(self) -> dict[str, Any]:
        if not self._section:
            return {}
        try:
            found = found_for(self._command, self._sources, self._section, self._sections)
            return {str(option.name): value_for(option, each, self._command) for option, each in found}
        except SettingInvalid:
            context = click.get_current_context(silent=True)
            if context is not None and context.resilient_parsing:  # only to show it, or to complete words
                return {}
            raise


def is_given(name: str) -> bool:
    """Whether somebody has said now what a parameter is; not so if that is merely set in a file or the environment.

    What is set for all runs may not suit each of them: then it is left out, and not refused.
    """
    context = click.get_current_context(silent=True)
    return context is None or context.get_parameter_source(name) is not ParameterSource.DEFAULT_MAP


def found_for(
    command: click.Command, sources: Sources, section: tuple[str, ...], sections: Sequence[str]
) -> list[tuple[click.Option, Found]]:
    """What is set for each option of a command.

    Raises:
        SettingInvalid: a file holds what has no meaning for this command.
    """
    options = options_of(command)
    sources.check(section, [*options, *children_of(command)], sections)
    found = ((option, sources.find(section, key)) for key, option in options.items())
    return [(option, each) for option, each in found if each is not None]


def children_of(command: click.Command) -> list[str]:
    """The commands below a command."""
    return command.list_commands(click.Context(command)) if isinstance(command, click.Group) else []


def value_for(option: click.Option, found: Found, command: click.Command) -> Any:
    """What is set for an option, as click takes it.

    Raises:
        SettingInvalid: the option cannot be that.
    """
    try:
        value = _of_text(option, found) if found.origin.variable else _of_toml(option, found)
        option.process_value(click.Context(command, resilient_parsing=False), value)
    except (click.BadParameter, ValueError) as error:
        message = error.message if isinstance(error, click.BadParameter) else str(error)
        what = "" if found.origin.variable else f"{key_of(option)}: "
        raise SettingInvalid(f"{found.origin}: {what}{message}{_advice(found)}") from error
    return value


def _advice(found: Found) -> str:
    """What to do about a variable that nobody has set on purpose."""
    variable = found.origin.variable
    if not _SERVICE_LINK.match(str(found.value)) or not variable.endswith("_PORT"):
        return ""
    service = variable.removesuffix("_PORT").lower().replace("_", "-")
    return (
        f" Kubernetes sets it in every Pod beside a Service named {service}: write enableServiceLinks: false in the "
        "Pod's spec, or give the Service another name."
    )


def _of_text(option: click.Option, found: Found) -> Any:
    """A variable's text: several values are written as on a command line; what commands share is one."""
    text = str(found.value)
    if option.multiple and found.origin.variable == variable_of((), key_of(option)):
        return [text]
    if option.multiple:
        import shlex

        return shlex.split(text)
    if option.is_flag:
        if text.lower() not in _WORDS:
            raise ValueError(f"{text!r} is not true or false.")
        return _WORDS[text.lower()]
    return text


def _of_toml(option: click.Option, found: Found) -> Any:
    value = found.value
    assert found.origin.file is not None
    folder = found.origin.file.path.parent
    if option.multiple and isinstance(value, dict):
        return [f"{key}={_text_of(each)}" for key, each in value.items()]
    if option.multiple:
        return [_single(option, each, folder) for each in (value if isinstance(value, list) else [value])]
    return _single(option, value, folder)


def _single(option: click.Option, value: Any, folder: Path) -> Any:
    wanted, name = _wanted(option)
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        raise ValueError(f"{_text_of(value)!r} is not {name}.")
    if isinstance(value, str) and is_path(option) and "://" not in value:
        return str(folder / Path(value).expanduser())
    return value


def _wanted(option: click.Option) -> tuple[tuple[type, ...], str]:
    """What a value has to be in a file, and how that is called."""
    if option.is_flag:
        return (bool,), "true or false"
    if is_number(option):
        whole = isinstance(option.type, click.types.IntParamType)
        return ((int,), "a whole number") if whole else ((int, float), "a number")
    if option.metavar == "SIZE":
        return (str, int), 'a size, such as "64MiB"'
    if option.metavar == "DURATION":
        return (str, int, float), 'a duration, such as "10s"'
    return (str,), "text in quotes"


def is_number(option: click.Option) -> bool:
    """Whether an option is a number."""
    return isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType))  # ranges are, too


def is_path(option: click.Option) -> bool:
    """Whether an option names something on the disk: in a file that is relative to the file's folder."""
    return isinstance(option.type, click.Path) or option.metavar in _PATHS


def _text_of(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
