"""Where a job reads and writes, looked at before anything of it is loaded."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence

from gristmill.errors import OutputExists, UsageError
from gristmill.storage.uris import shown as shown

_MOST_ROOTS = 100


def roots_of(names: Iterable[str], base: str = "") -> tuple[str, ...]:
    """What a job reads, as data that others know: files and folders, and of a glob the folder that it begins in.

    Of very many it is the folders that they are in. There are no secrets in them.

    Args:
        names: files, directories, globs and URIs, as a user named them.
        base: the folder that relative ones are relative to; empty: the current one.
    """
    found = dict.fromkeys(_root(shown(name), base) for name in names)
    while len(found) > _MOST_ROOTS and len(above := dict.fromkeys(map(_above, found))) < len(found):
        found = above
    return tuple(found)


def _root(name: str, base: str) -> str:
    from gristmill.storage.uris import is_uri

    name = name.removeprefix("file://") if name.startswith("file:///") else name
    path = name if is_uri(name) else os.path.abspath(os.path.join(base, name))  # noqa: PTH100, PTH118 - links are kept
    while glob.has_magic(path) and (above := _above(path)) != path:
        path = above
    return path.rstrip("/") or "/"


def _above(path: str) -> str:
    """The folder that something is in; of a whole bucket or system, itself."""
    scheme, colon, rest = path.rpartition("://")
    top, slash, _ = rest.rpartition("/")
    return f"{scheme}{colon}{top}" if slash and (top or colon) else "/" if not colon else path


def look_at(inputs: Sequence[str], format: str | None, output: str, overwrite: bool) -> None:
    """See that there are inputs, and that the output is free, as far as that is seen from here.

    Args:
        inputs: files, directories, globs and URIs.
        format: of the inputs; None: by suffix.
        output: a folder, or a URI.
        overwrite: whether the output may be there.

    Raises:
        InputMissing: an input matches no file.
        OutputExists: the output is there.
        UsageError: something else is wrong with them.
    """
    from gristmill.storage.inputs import resolve_inputs
    from gristmill.storage.places import output_path
    from gristmill.storage.uris import is_uri

    try:
        resolve_inputs(inputs, format)
        place = output_path(output)
        if not is_uri(place) and not overwrite and os.path.lexists(place):
            raise OutputExists(f"The output {place} exists. Name another, or say that it is to be overwritten.")
    except (ValueError, OSError) as error:
        raise UsageError(f"The inputs or the output cannot be looked at: {error}.") from error
