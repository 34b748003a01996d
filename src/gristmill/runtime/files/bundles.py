"""Modules that came along with a job: unpacked once on each machine, imported by whoever runs its tasks.

A bundle is a zip file, named by its content; it is unpacked beside itself, so that packages find their data files and
extension modules as they do at home. Its member ``SOURCES`` says where each file lay on its author's machine: code is
compiled under that name, and its text put where tracebacks look for it, so that an error shows the author's own line.
"""

from __future__ import annotations

import importlib.machinery
import json
import linecache
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

SOURCES = "_gristmill_sources.json"  # member of a bundle: name of each file in it → where it lay
TEXTS = "_gristmill_texts/"  # members below it are for tracebacks alone, and are not importable
_SUFFIX = ".d"
_MAX_UNPACKED_BYTES = 16 * 2**30
_MAX_MEMBERS = 200_000

_bundles: dict[str, _Bundle] = {}  # by path
_hooked = False


class _Bundle(NamedTuple):
    """A bundle that this process has opened."""

    folder: str
    original: dict[str, str]  # its files here → where they lay at home
    texts: dict[str, tuple[int, None, list[str], str]]  # entries for linecache, by where the files lay at home


def open_bundles(paths: Sequence[str]) -> list[str]:
    """Make bundles importable in this process: the folders to put in front of ``sys.path``, in order.

    Tracebacks show the texts of these bundles from now on, even if others were open before that came from the same
    paths at home.

    Raises:
        OSError: a bundle cannot be read or unpacked.
    """
    folders = []
    for path in paths:
        if path not in _bundles:
            _bundles[path] = _open(path)
        folders.append(_bundles[path].folder)
    for path in reversed(paths):
        linecache.cache.update(_bundles[path].texts)
    return folders


def home_of(file: str) -> str:
    """Where a file lay at home, if it came here in a bundle; else where it is."""
    bundle = _bundle_of(file)
    return file if bundle is None else bundle.original.get(file, file)


def _open(path: str) -> _Bundle:
    folder = _unpacked(Path(path))
    home = _home_paths(folder)
    original = {os.path.join(folder, *name.split("/")): at for name, at in home.items()}  # noqa: PTH118 - as importlib
    _hook()
    sys.path_importer_cache.pop(folder, None)
    return _Bundle(folder, original, dict(_texts(original)))


def _unpacked(path: Path) -> str:
    """The folder of a bundle; several processes may unpack it at once."""
    target = path.with_name(path.name + _SUFFIX)
    if not target.is_dir():
        partial = Path(tempfile.mkdtemp(prefix=f"{path.name[:12]}-partial-", dir=path.parent))
        try:
            with zipfile.ZipFile(path) as bundle:
                _check_size(path, bundle)
                bundle.extractall(partial)  # which never leads out of the folder
            with suppress(FileExistsError, OSError):
                partial.rename(target)  # somebody else was as fast: theirs is the same
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        if not target.is_dir():
            raise FileNotFoundError(f"the bundle {path} could not be unpacked")
    with suppress(OSError):
        os.utime(target)  # in use, so not to be pruned
    return str(target)


def _check_size(path: Path, bundle: zipfile.ZipFile) -> None:
    """See that a bundle does not fill the disk: what it says of a member is all that is read of it."""
    members = bundle.infolist()
    size = sum(member.file_size for member in members)
    if size > _MAX_UNPACKED_BYTES or len(members) > _MAX_MEMBERS:
        raise OSError(f"the bundle {path} is {len(members):,} files of {size:,} bytes when unpacked: too many")


def _home_paths(folder: str) -> Mapping[str, str]:
    """Where the files of a bundle lay; nothing for one that somebody else packed, such as a wheel."""
    try:
        home = json.loads(Path(folder, SOURCES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return home if isinstance(home, dict) else {}


def _texts(original: Mapping[str, str]) -> Iterator[tuple[str, tuple[int, None, list[str], str]]]:
    """What tracebacks are to show of files that may not be on this machine."""
    for file, home in original.items():
        if home.endswith(".py"):
            with suppress(OSError, UnicodeDecodeError):
                text = Path(file).read_text(encoding="utf-8")
                # Without a time of change (None) it is never compared with what the disk has under this name.
                yield home, (len(text), None, [f"{line}\n" for line in text.split("\n")], home)


def _hook() -> None:
    """Let the import system ask us first about folders of bundles."""
    global _hooked
    if not _hooked:
        sys.path_hooks.insert(0, _finder)
        _hooked = True


def _finder(path: str) -> importlib.machinery.FileFinder:
    if _bundle_of(path) is None:
        raise ImportError("not a folder of a bundle")
    return importlib.machinery.FileFinder(
        path,
        (importlib.machinery.ExtensionFileLoader, list(importlib.machinery.EXTENSION_SUFFIXES)),
        (_Loader, importlib.machinery.SOURCE_SUFFIXES),
    )


def _bundle_of(path: str) -> _Bundle | None:
    for bundle in _bundles.values():
        if path == bundle.folder or path.startswith(bundle.folder + os.sep):
            return bundle
    return None


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles modules under the names that their files have at home."""

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        file = os.fspath(path)
        bundle = _bundle_of(file)
        code = super().source_to_code(data, bundle.original.get(file, file) if bundle else file)
        assert isinstance(code, CodeType)
        return code

    def path_stats(self, path: Any) -> Mapping[str, Any]:  # noqa: ARG002
        raise OSError("bytecode is not kept: it would name the file where it is here")
