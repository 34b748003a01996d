"""``gristmill.toml``: where it is looked for, and what is in it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gristmill.errors import SettingInvalid

FILE_NAME = "gristmill.toml"
NAMED_BY = "GRISTMILL_CONFIG"
_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ConfigFile:
    """One file.

    Attributes:
        path: where it is.
        text: what it says.
        data: the same, parsed.
    """

    path: Path
    text: str
    data: Mapping[str, Any]

    def line_of(self, *keys: str) -> int | None:
        """In which line a key stands, by its tables and its own name; None if that cannot be told.

        The parser does not say. So the file is cut off before each line that could be it: the key is where it is not
        there before, and is there with such a line.
        """
        lines = self.text.splitlines()
        name = re.compile(rf"""\s*(?P<all>[\w."'\s-]*\b{re.escape(keys[-1])}\b["']?)\s*(=|$|\])|\s*\[""")
        for number, line in enumerate(lines):
            match = name.match(line)
            if match is None:
                continue
            before = "\n".join(lines[:number])
            trial = line if line.lstrip().startswith("[") else f"{match['all']} = 0"
            if not _holds(before, keys, on_error=True) and _holds(f"{before}\n{trial}", keys, on_error=False):
                return number + 1
        return None


def _holds(text: str, keys: tuple[str, ...], *, on_error: bool) -> bool:
    import tomllib

    try:
        value: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return on_error
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


def read_config(path: Path) -> ConfigFile:
    """What is in a file.

    Raises:
        SettingInvalid: it cannot be read, or is no TOML.
    """
    import tomllib

    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
        if len(raw) > _MAX_BYTES:
            raise SettingInvalid(f"{path} is longer than settings can be: {len(raw):,} bytes.")
        return ConfigFile(path, text, tomllib.loads(text))
    except OSError as error:
        raise SettingInvalid(f"The settings in {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SettingInvalid(f"{path} is not text in UTF-8: byte {error.start} is 0x{raw[error.start]:02x}.") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingInvalid(f"{path} is not TOML: {_with_place(error)}. Strings need quotes.") from error


def _with_place(error: ValueError) -> str:
    text = str(error).rstrip(".")
    return f"{text[0].lower()}{text[1:]}"


def find_configs(environ: Mapping[str, str], folder: Path | None = None) -> tuple[list[Path], list[str]]:
    """The files that count here, the weakest first; and what is to be said of those that are not read.

    Args:
        environ: may name the one file that counts, or by an empty name that none does.
        folder: where to begin to look upwards; None: the current one.
    """
    if (named := environ.get(NAMED_BY)) is not None:
        return ([Path(named).absolute()] if named else []), []
    try:
        home = Path.home()
    except RuntimeError:
        home = None
    found = [path for path in (_of_user(environ, home), _of_project(folder, home)) if path is not None]
    if len(found) == 2 and found[0] == found[1]:
        found.pop()
    doubts = {path: doubt for path in found if (doubt := _doubt(path))}
    return [path for path in found if path not in doubts], list(doubts.values())


def user_config(environ: Mapping[str, str], home: Path) -> Path:
    """Where a user's own settings are, on this platform."""
    if os.name == "nt":
        base = Path(environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return base / "gristmill" / FILE_NAME


def _of_user(environ: Mapping[str, str], home: Path | None) -> Path | None:
    path = None if home is None else user_config(environ, home)
    return path if path is not None and _is_file(path) else None


def _of_project(folder: Path | None, home: Path | None) -> Path | None:
    for each in _upwards(folder):
        if _is_file(each / FILE_NAME):
            return each / FILE_NAME
        if each == home:
            break
    return None


def _upwards(folder: Path | None) -> Iterator[Path]:
    try:
        start = Path.cwd() if folder is None else folder.absolute()
    except OSError:  # it was removed below us
        return
    yield from (start, *start.parents)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that is not ours to look into
        return False


def _doubt(path: Path) -> str:
    """Why a file is not to be trusted: others could have put it there, to be sent the token, say."""
    if os.name == "nt":
        return ""
    status = path.stat()
    anyway = f"To read it all the same, set {NAMED_BY}={path}."
    if status.st_uid not in (0, os.geteuid()):
        return f"{path} is not read: it belongs to another user. {anyway}"
    if status.st_mode & 0o002:
        return f"{path} is not read: everybody may write to it (chmod o-w). {anyway}"
    return ""
