"""Roots: what jobs may read and write, if the operator limits that (``serve --allow-path``).

A path of this machine is followed through all links before it is compared, also one that is not there yet: as far as it
is. Of the URI of an object store the scheme, the bucket and the parts of the key are compared, as they are written; and
its options, which may name another host or another role: they must be those of the root.

The server's own data directory is closed to jobs, whatever the roots are.

This binds what a job names: its inputs, its output, its shuffle directory. It does not bind code: that may open
whatever the worker's user may.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from gristmill.api.places import shown
from gristmill.errors import PathNotAllowed, UsageError

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_OPTIONS = re.compile(r"\?([A-Za-z_]+=[^?&]*(?:&[A-Za-z_]+=[^?&]*)*)$")
_PATIENCE = re.compile(r"(connect_timeout|request_timeout|attempts)=")
"""Options that need not be named, for they change nothing but how long somebody waits."""
_SAME = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}


@dataclass(frozen=True)
class _Place:
    """A URI in parts."""

    scheme: str
    authority: str
    parts: tuple[str, ...]
    options: frozenset[str]


class Roots:
    """What jobs may read and write.

    Args:
        roots: directories, and URIs of object stores; none: everything.
        closed: a directory that no job may read or write, wherever the roots are.

    Raises:
        UsageError: one of them is no root.
    """

    def __init__(self, roots: Sequence[str] = (), closed: str | os.PathLike[str] | None = None) -> None:
        self.given = tuple(roots)
        self._closed = None if closed is None else os.path.realpath(closed)
        self._folders: list[str] = []
        self._places: list[_Place] = []
        for root in roots:
            path = _local(root)
            if path is None:
                place = _place_of(root)
                if place is None:
                    raise UsageError(f"--allow-path {shown(root)} is neither a directory nor the URI of one.")
                self._places.append(place)
            elif os.path.isdir(path):  # noqa: PTH112 - as text, as all that follows
                self._folders.append(os.path.realpath(path))
            else:
                raise UsageError(f"--allow-path {root} is no directory of this machine.")

    def check(self, paths: Iterable[str]) -> None:
        """See that a job may read and write these: paths, globs and URIs, as they were named or found.

        Raises:
            PathNotAllowed: one of them is not below any root, or is the server's own.
        """
        known: dict[str, str] = {}  # folder as it was named → what it is
        for path in paths:
            if any(_is_within(real, self._closed) for real in self._reals(path, known)):
                raise PathNotAllowed(f"{shown(path)} lies in the data directory of this server. Use another place.")
            if self.given and not self._is_below(path, known):
                if self._differs_in_options(path):
                    raise PathNotAllowed(
                        f"{shown(path)} is named with other options behind its ? than this server allows there. They "
                        "must be those of the root; the server's operator says which (--allow-path)."
                    )
                raise PathNotAllowed(
                    f"{shown(path)} is outside of what this server lets jobs read and write. Use a path below "
                    f"{' or '.join(map(shown, self.given))}; the server's operator says which (--allow-path)."
                )

    def check_written(self, paths: Iterable[str]) -> None:
        """See that what a job writes, and may replace as a whole, does not hold the server's own files.

        Raises:
            PathNotAllowed: one of them does.
        """
        paths = list(paths)
        self.check(paths)
        for path in paths:
            places = self._reals(path, {}, globs=False)
            if self._closed is not None and any(_is_within(self._closed, real) for real in places):
                raise PathNotAllowed(f"The data directory of this server lies in {shown(path)}. Use another place.")

    def _reals(self, path: str, known: dict[str, str], *, globs: bool = True) -> set[str]:
        """What a name may mean on this machine, through all links; nothing if it is a URI, or nothing is closed."""
        match = _URI.match(path)
        if self._closed is None or "\0" in path or (match is not None and match[1].lower() != "file"):
            return set()
        # What only looks like a URI is a path to those who write there.
        named = {local for local in (_local(path), _absolute(path)) if local is not None}
        if globs:
            named |= {_fixed(local) or "/" for local in named if glob.has_magic(local)}
        return {_real(one, known) for local in named for one in (local, os.path.abspath(local))}  # noqa: PTH100

    def _is_below(self, path: str, known: dict[str, str]) -> bool:
        if "\0" in path or not path:
            return False
        local = _local(path)
        if local is None:
            place = _place_of(path)
            return place is not None and any(_is_in(place, root) for root in self._places)
        if glob.has_magic(local) and not os.path.lexists(local):
            local = _fixed(local)
            if local is None:
                return False
        # A ``..`` behind a link leads up from where the link leads. Some only look at the text: both must be right.
        return all(self._is_in(one, known) for one in {local, os.path.abspath(local)})  # noqa: PTH100

    def _differs_in_options(self, path: str) -> bool:
        """Whether it is a URI below a root, but for its options."""
        place = _place_of(path) if "\0" not in path and _local(path) is None else None
        return place is not None and any(_is_in(replace(place, options=root.options), root) for root in self._places)

    def _is_in(self, path: str, known: dict[str, str]) -> bool:
        real = _real(path, known)
        return any(_is_within(real, root) for root in self._folders)


def _real(path: str, known: dict[str, str]) -> str:
    """A path through all links; ``known`` keeps those of folders."""
    folder, name = os.path.split(path)
    if folder not in known:
        known[folder] = os.path.realpath(folder)
    real = os.path.join(known[folder], name) if name not in ("", ".", "..") else os.path.realpath(path)  # noqa: PTH118
    return os.path.realpath(real) if os.path.islink(real) else real  # noqa: PTH114


def _is_within(real: str, folder: str | None) -> bool:
    return folder is not None and (real == folder or real.startswith(folder.rstrip("/") + "/"))


def check_paths(paths: Iterable[str], roots: Sequence[str]) -> None:
    """See that a job may read and write these.

    Raises:
        PathNotAllowed: one of them is not below any root.
    """
    Roots(roots).check(paths)


def _local(name: str) -> str | None:
    """The path of this machine that a name means; None: it is a URI of something else."""
    match = _URI.match(name)
    if match is None:
        return None if "://" in name else _absolute(name)
    if match[1] != "file":
        return None
    _, slash, path = name[len("file://") :].partition("/")
    return _absolute(unquote(slash + path)) if path.strip("/") else None


def _absolute(name: str) -> str:
    """A path from the root, its ``..`` as they are: what is before one may be a link."""
    return name if name.startswith("/") else os.path.join(os.getcwd(), name)  # noqa: PTH109, PTH118


def _fixed(pattern: str) -> str | None:
    """What stands before the first part of a glob that may be several; None if it could lead up from there."""
    parts = pattern.split("/")
    first = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    return None if ".." in parts[first:] else "/".join(parts[:first]) or "/"


def _place_of(uri: str) -> _Place | None:
    """A URI in parts; None if it has parts that could mean something else to those who read them."""
    match = _URI.match(uri)
    if match is None:
        return None
    scheme = match[1].lower()
    found = _OPTIONS.search(uri)
    options = frozenset(found[1].split("&")) if found else frozenset()
    authority, _, key = uri[len(scheme) + 3 : found.start() if found else None].partition("/")
    parts = tuple(part for part in key.rstrip("/").split("/") if key.rstrip("/"))
    if not authority or any(_is_odd(part) for part in parts):
        return None
    return _Place(_SAME.get(scheme, scheme), authority, parts, options - {"_="})


def _is_odd(part: str) -> bool:
    plain = part
    for _ in range(3):  # whoever undoes escapes more often than that is beyond help
        plain = unquote(plain)
    return plain in ("", ".", "..") or "/" in plain or "\\" in plain


def _is_in(place: _Place, root: _Place) -> bool:
    return (
        (place.scheme, place.authority) == (root.scheme, root.authority)
        and place.parts[: len(root.parts)] == root.parts
        and place.options <= root.options  # they may name another store of the same bucket, or another role there
        and all(_PATIENCE.match(option) for option in root.options - place.options)  # and so may their absence
    )
