"""Where the files of a URI lie: a path that all machines see, and for inputs the machines that are near their bytes.

A **storage** is a function that is told a URI and answers with two things: the path (of a file, directory or glob)
under which every machine finds what the URI names, and a function that is told a file's path, the first byte and the
number of bytes of a split, and answers with the names of the machines that are near them, if there are any. Installed
packages bring storages along as entry points of the group ``gristmill.storage``, each under the name of its scheme.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import unquote

from gristmill.errors import InputMissing, InputUnreadable, UsageError

GROUP = "gristmill.storage"
_FILE = "file"
_Answer = TypeVar("_Answer")

Near = Callable[[str, int, int], Sequence[str]]
"""The machines that are near a range of a file: its path, where the range begins, and its length, in bytes."""

Storage = Callable[[str], tuple[str, Near]]
"""What a URI names: a path, and who is near it."""


def nobody(_path: str, _start: int, _length: int) -> tuple[str, ...]:
    """No machine is nearer than another."""
    return ()


def locate(name: str) -> tuple[str, Near]:
    """What the user named, as a path and who is near it. What is no URI is a path itself.

    Raises:
        InputMissing: a ``file:`` URI without a path.
        InputUnreadable: a storage fails.
    """
    scheme, separator, _ = name.partition("://")
    if not separator:
        return name, nobody
    storage = _file if scheme == _FILE else _plugin(scheme)
    if storage is None:
        return name, nobody
    return _asked(scheme, lambda: storage(name))


def output_path(name: str | os.PathLike[str]) -> str:
    """The place that an output's name stands for: a path, what a ``file:`` URI names, or the URI of an object store.

    Raises:
        UsageError: it is none of these.
    """
    text = os.fspath(name)
    scheme, separator, _ = text.partition("://")
    if not text:
        raise UsageError("The output has no name.")
    if not separator or scheme != _FILE:
        return text
    path = _split(text)[1]
    if not path.strip("/"):
        raise UsageError(f"The output {text} names no path. Write file:///PATH.")
    return path


def absolute_place(place: str) -> str:
    """An output's place whatever the current folder is. Links are kept."""
    return place if "://" in place else os.path.abspath(place)  # noqa: PTH100


def _file(uri: str) -> tuple[str, Near]:
    """``file://HOST/PATH`` is PATH, which all see and HOST is nearest to."""
    host, path = _split(uri)
    if not path:
        raise InputMissing(f"The input {uri} names no path. Write file://HOST/PATH or file:///PATH.")
    hosts = () if host in ("", "localhost") else (host,)
    return path, lambda _path, _start, _length: hosts


def _split(uri: str) -> tuple[str, str]:
    """Host and path of a ``file:`` URI."""
    host, slash, path = uri.removeprefix(f"{_FILE}://").partition("/")
    return host, unquote(slash + path)


def _plugin(scheme: str) -> Storage | None:
    from importlib import metadata

    found = list(metadata.entry_points(group=GROUP, name=scheme))
    if not found:
        return None

    def storage(uri: str) -> tuple[str, Near]:
        path, near = found[0].load()(uri)
        return os.fspath(path), lambda *where: _asked(scheme, lambda: tuple(map(str, near(*where))))

    return storage


def _asked(scheme: str, call: Callable[[], _Answer]) -> _Answer:
    try:
        return call()
    except (InputMissing, InputUnreadable):
        raise
    except Exception as error:  # somebody else's code: anything may come out of it
        raise InputUnreadable(f"The storage of {scheme}:// fails: {type(error).__name__}: {error}") from error
