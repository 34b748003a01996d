"""The files of this machine that a name stands for: a file, a directory with all below it, or a glob."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gristmill.errors import InputMissing, InputUnreadable
from gristmill.storage.manifest import SUCCESS, read_manifest


class Found(NamedTuple):
    """A file that a name stands for.

    Attributes:
        path: of the file.
        folders: those between what the user named and the file.
    """

    path: Path
    folders: tuple[str, ...] = ()


def expand(name: str) -> Sequence[Found]:
    """The files that one name stands for, sorted by path.

    Raises:
        InputMissing: there is none.
        InputUnreadable: a directory cannot be read, or an output lacks files.
    """
    path = Path(name)
    if path.is_dir():
        found = sorted(_walk(path))
        # The complete output of a job that wrote nothing is an input without records, not a mistake.
        if not found and not (path / SUCCESS).exists():
            raise InputMissing(f"The input directory {name} holds no files (names that begin with _ or . are skipped).")
        return _below(path, found)
    if path.exists() or path.is_symlink():
        return [Found(path)]
    if glob.has_magic(name):
        if matches := _match(name):
            return matches
        raise InputMissing(f"The input {name} matches no file.{_hint(path)}")
    if name == "-":
        raise InputMissing("Standard input cannot be cut into splits. Write it to a file first.")
    raise InputMissing(f"The input {name} does not exist.{_hint(path)}")


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is skipped."""
    return name.startswith(("_", "."))


def _below(folder: Path, files: Iterable[Path]) -> list[Found]:
    depth = len(folder.parts)
    return [Found(file, file.parts[depth:-1]) if "=" in str(file) else Found(file) for file in files]


def _match(pattern: str) -> list[Found]:
    """The files that a glob matches, and those below the directories that it matches."""
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))  # what is in front was named by the user
    found: set[Path] = set()
    for match in map(Path, glob.iglob(pattern, recursive=True)):  # noqa: PTH207 - Path.glob takes no absolute pattern
        if any(is_hidden(part) for part in match.parts[fixed:]):
            continue
        if match.is_dir():
            found.update(_walk(match))
        else:
            found.add(match)
    return _below(Path(*parts[:fixed]), sorted(found))


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        if SUCCESS in names and (listed := _listed(Path(parent))) is not None:
            folders.clear()
            yield from listed
            continue
        folders[:] = [name for name in folders if not is_hidden(name)]
        yield from (Path(parent, name) for name in names if not is_hidden(name))


def _listed(folder: Path) -> list[Path] | None:
    """The files of an output that says which they are: others there are not, or not yet, part of it."""
    try:
        files = read_manifest(folder)
    except OSError as error:
        raise InputUnreadable(f"The input {folder / SUCCESS} cannot be read: {error.strerror}.") from error
    if files is None:
        return None
    paths = [folder / file.name for file in files]
    for path in paths:
        if not path.exists():
            raise lacks(str(folder), path.relative_to(folder).as_posix())
    return paths


def lacks(folder: str, name: str) -> InputMissing:
    """The error that an output lacks a file."""
    return InputMissing(
        f"The input {folder} lacks {name}, which its {SUCCESS} lists: it is not complete any more. "
        f"Name the files themselves to read what is there, or remove {SUCCESS}."
    )


def _unreadable(error: OSError) -> None:
    raise InputUnreadable(f"The input directory {error.filename} cannot be read: {error.strerror}.") from error


def _hint(path: Path) -> str:
    """What the user may have meant, as one more sentence."""
    parent = path.parent
    if not parent.is_dir():
        missing = next((folder for folder in reversed(path.parents) if not folder.is_dir()), parent)
        return "" if glob.has_magic(str(missing)) else f" There is no directory {missing}."
    try:
        siblings = sorted(entry.name for entry in parent.iterdir())
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, siblings[:10_000], n=1)
    return f" Did you mean {parent / close[0]}?" if close else ""
