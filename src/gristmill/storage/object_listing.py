"""The files that a URI stands for: an object, a prefix (or directory) with all below it, or a glob.

Names are skipped as on a disk: those that begin with ``_`` or ``.`` below what the user named. Of an output whose
``_SUCCESS`` lists its files only these count: others beside them belong to attempts that failed, or are not done.
"""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from gristmill.errors import InputMissing
from gristmill.storage.filesystems import naming, open_filesystem
from gristmill.storage.finding import is_hidden, lacks
from gristmill.storage.manifest import SUCCESS, parse
from gristmill.storage.uris import bare, shown, sibling

if TYPE_CHECKING:
    import pyarrow.fs as pafs

_MAX_MANIFEST_BYTES = 1 << 30


class FoundObject(NamedTuple):
    """A file that a URI stands for.

    Attributes:
        uri: of the file, with the options that it was found by.
        size_bytes: as stored.
        changed_ns: when it was written; 0 if that is not known.
        folders: those between what the user named and the file.
    """

    uri: str
    size_bytes: int
    changed_ns: int
    folders: tuple[str, ...] = ()


def expand_uri(uri: str) -> Sequence[FoundObject]:
    """The files that a URI stands for, sorted by path.

    Raises:
        InputMissing: there is none.
        InputUnreadable: its storage does not answer, or does not let us.
    """
    from pyarrow.fs import FileType

    with naming(uri):
        system, path = open_filesystem(uri)
        info = system.get_file_info(path)
        if info.type == FileType.File and not bare(uri).endswith("/"):
            return [_Listing(system, uri, path).found(info, ())]
        if info.type != FileType.NotFound:
            return _directory(_Listing(system, uri, path))
        if glob.has_magic(path):
            return _glob(system, uri, path)
    raise InputMissing(f"The input {shown(uri)} does not exist.")


def _directory(listing: _Listing) -> list[FoundObject]:
    files = listing.files()
    found = [
        listing.found(info, parts[:-1]) for parts, info in files.items() if not any(is_hidden(part) for part in parts)
    ]
    if not found and (SUCCESS,) not in files:
        raise InputMissing(f"The input {shown(listing.uri)} holds no files (names that begin with _ or . are skipped).")
    return found


def _glob(system: pafs.FileSystem, uri: str, path: str) -> list[FoundObject]:
    parts = path.split("/")
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))  # what is in front was named by the user
    pattern = tuple(parts[fixed:])
    place = bare(uri).rstrip("/")
    above = place[: len(place) - len("/".join(pattern)) - 1]
    base = "/".join(parts[:fixed])
    if not base or above.endswith(":/"):
        raise InputMissing(f"The input {shown(uri)} does not exist: a bucket must be named without wildcards.")
    listing = _Listing(system, sibling(uri, above), base)
    deep = len(pattern) > 1
    found = [
        listing.found(info, names[:-1])
        for names, info in listing.files(deep=deep, outside=True).items()
        if matches(pattern, names) and not any(is_hidden(name) for name in names)
    ]
    if not deep:  # directories that match, with all below them
        for names in listing.folders:
            if matches(pattern, names) and not is_hidden(names[-1]):
                inner = _Listing(system, sibling(uri, f"{above}/{names[-1]}"), f"{base}/{names[-1]}")
                below = inner.files()
                found += [
                    inner.found(info, (*names, *rest[:-1]))
                    for rest, info in below.items()
                    if not any(is_hidden(part) for part in rest)
                ]
        found.sort(key=lambda each: bare(each.uri).split("/"))
    if not found:
        raise InputMissing(f"The input {shown(uri)} matches no file.")
    return found


class _Listing:
    """What is below a directory.

    Args:
        system: where it is.
        uri: the directory's, or a single file's.
        path: the same as the file system names it.

    Attributes:
        folders: names of the folders in it, after :meth:`files`.
    """

    def __init__(self, system: pafs.FileSystem, uri: str, path: str) -> None:
        self.uri = uri
        self.folders: list[tuple[str, ...]] = []
        self._system = system
        self._path = path.rstrip("/")
        self._place = bare(uri).rstrip("/")

    def files(self, *, deep: bool = True, outside: bool = False) -> Mapping[tuple[str, ...], pafs.FileInfo]:
        """The files below, by their names' parts, in the order of these.

        Args:
            deep: those of its folders, too.
            outside: it may itself be a part of an output, whose ``_SUCCESS`` is further up.
        """
        from pyarrow.fs import FileSelector, FileType

        files: dict[tuple[str, ...], pafs.FileInfo] = {}
        for info in self._system.get_file_info(FileSelector(self._path, recursive=deep, allow_not_found=True)):
            parts = tuple(info.path.rstrip("/")[len(self._path) :].strip("/").split("/"))
            if info.type == FileType.File:
                files[parts] = info
            elif info.type == FileType.Directory:
                self.folders.append(parts)
        self.folders.sort()
        files = dict(sorted(files.items()))
        for folder in [parts[:-1] for parts in files if parts[-1] == SUCCESS]:
            files = self._listed_only(files, folder, deep)
        return self._listed_above(files) if outside else files

    def found(self, info: pafs.FileInfo, folders: tuple[str, ...]) -> FoundObject:
        """A file of the listing."""
        place = f"{self._place}{info.path[len(self._path) :]}"
        return FoundObject(sibling(self.uri, place), info.size or 0, info.mtime_ns or 0, folders)

    def _listed_only(
        self, files: dict[tuple[str, ...], pafs.FileInfo], folder: tuple[str, ...], deep: bool
    ) -> dict[tuple[str, ...], pafs.FileInfo]:
        listed = self._names_in("/".join((self._path, *folder)))
        if listed is None:
            return files
        for name in sorted(listed):
            if (deep or "/" not in name) and (*folder, *name.split("/")) not in files:
                raise lacks(shown("/".join((self._place, *folder))), name)
        depth = len(folder)
        return {
            parts: info
            for parts, info in files.items()
            if parts[:depth] != folder or "/".join(parts[depth:]) in listed or parts[depth:] == (SUCCESS,)
        }

    def _listed_above(self, files: dict[tuple[str, ...], pafs.FileInfo]) -> dict[tuple[str, ...], pafs.FileInfo]:
        above = self._path.split("/")
        for depth in range(len(above) - 1, 0, -1):
            if not (folder := "/".join(above[:depth])):
                continue
            listed = self._names_in(folder)
            if listed is not None:
                inner = above[depth:]
                files = {parts: info for parts, info in files.items() if "/".join((*inner, *parts)) in listed}
        return files

    def _names_in(self, folder: str) -> set[str] | None:
        try:
            with self._system.open_input_stream(f"{folder}/{SUCCESS}") as stream:
                manifest = parse(stream.read(_MAX_MANIFEST_BYTES))
        except FileNotFoundError:
            return None
        return None if manifest is None else {file.name for file in manifest.files if file.is_data}


def matches(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Whether a glob matches a file, or one of the folders on the way to it."""
    if not pattern:
        return True  # a folder that matches, or the file itself
    if pattern[0] == "**":
        return any(matches(pattern[1:], parts[skip:]) for skip in range(len(parts))) or not pattern[1:]
    if not parts:
        return False
    return _name_pattern(pattern[0]).match(parts[0]) is not None and matches(pattern[1:], parts[1:])


@lru_cache(maxsize=256)
def _name_pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))
