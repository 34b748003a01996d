"""From what the user named to files, and from files to map tasks."""

from __future__ import annotations

import difflib
import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gristmill.config import INPUT_FORMATS, MAX_SPLIT_BYTES, MIB
from gristmill.errors import InputMissing, InputUnreadable, UsageError
from gristmill.storage.contracts import Split
from gristmill.storage.places import Near, locate, nobody

COMPRESSED_SUFFIXES = (".gz", ".bz2", ".zst")
_FORMAT_OF_SUFFIX = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_MIN_AUTO_SPLIT_BYTES = MIB
_AUTO_TASKS = 32  # small inputs still keep many CPUs busy, and the number never depends on the machine
_MAX_REDUCERS = 1000


@dataclass(frozen=True)
class InputFile:
    """One file to read.

    Attributes:
        path: absolute, links not resolved.
        size_bytes: as stored.
        format: one of ``config.INPUT_FORMATS``.
        name: as the user named it.
        changed_ns: when its content was changed last.
        near: tells which machines are near a range of it; see ``places``.
    """

    path: Path
    size_bytes: int
    format: str
    name: str = ""
    changed_ns: int = 0
    near: Near = nobody

    def split(self, start: int, length: int, size_bytes: int) -> Split:
        """A split of this file; of a format that is not cut by bytes, all of the file decides where it lies."""
        path = os.fspath(self.path)
        by_bytes = (start, length) if self.format in ("text", "jsonl") else (0, self.size_bytes)
        return Split(path, start, length, size_bytes, self.format, self.name, tuple(self.near(path, *by_bytes)))


def resolve_inputs(inputs: Sequence[str | Path], format: str | None, base: str = "") -> tuple[InputFile, ...]:
    """The files that ``inputs`` name: files, directories (with all below them) and globs (``**`` too).

    Each file comes once, in the order given, sorted by path within a directory or glob. Below a directory and in a
    glob's matches, names that begin with ``_`` or ``.`` are skipped; a file that is named itself is always taken.

    Args:
        inputs: what the user named.
        format: the format of all files, or None: by suffix, else text.
        base: the folder that relative inputs are relative to; empty: the current one.

    Raises:
        InputMissing: an input matches no file.
        InputUnreadable: a file cannot be opened for reading.
        UsageError: there is no such format.
    """
    if format is not None and format not in INPUT_FORMATS:
        raise UsageError(f"{format!r} is not an input format; there are: {', '.join(INPUT_FORMATS)}.")
    files: dict[str, InputFile] = {}  # by the file's real path
    for item in inputs:
        given, near = locate(os.fspath(item))
        name = os.path.join(base, given) if base and "://" not in given else given  # noqa: PTH118 - links and .. are kept
        for path in _expand(name):
            real = os.path.realpath(path)
            if real not in files:
                file = _input_file(path, format, near)
                # A file is known by the name that its user gave it, wherever that was.
                files[real] = file if name == given else replace(file, name=file.name.removeprefix(f"{base}{os.sep}"))
    return tuple(files.values())


def format_of(name: str) -> str:
    """The format that a file's suffix says, looking through ``.gz``, ``.bz2`` and ``.zst``; else ``text``."""
    path = Path(name.lower())
    if path.suffix in COMPRESSED_SUFFIXES:
        path = path.with_suffix("")
    return _FORMAT_OF_SUFFIX.get(path.suffix, "text")


def is_compressed(name: str) -> bool:
    """Whether a file's suffix says that its content is compressed."""
    return name.lower().endswith(COMPRESSED_SUFFIXES)


def plan_tasks(files: Sequence[InputFile], split_bytes: int | None) -> tuple[tuple[Split, ...], ...]:
    """Cut the files into splits and pack small splits, in order, into tasks of about ``split_bytes``.

    ``text`` and ``jsonl`` are cut every ``split_bytes``, ``parquet`` between row groups; everything else, and every
    compressed file, is one split. Empty files make no split, save for ``whole``, where they are a record.

    Args:
        files: from :func:`resolve_inputs`.
        split_bytes: None chooses by the input alone: a 32nd of it, between 1 MiB and 64 MiB.

    Returns:
        The splits of each map task. Empty when there is no input at all.

    Raises:
        InputUnreadable: a parquet file's footer cannot be read.
    """
    if split_bytes is None:
        share = -(-sum(file.size_bytes for file in files) // _AUTO_TASKS)
        split_bytes = min(max(share, _MIN_AUTO_SPLIT_BYTES), MAX_SPLIT_BYTES)
    splits = (split for file in files for split in _cut(file, split_bytes))
    return tuple(_pack(splits, split_bytes))


def default_reducers(total_bytes: int) -> int:
    """How many reduce tasks an input of this size gets: one per 8 MiB up to 8, then one per 64 MiB, at most 1000.

    A small input is reduced on several cores too; a large one is not cut into more files than it needs.
    """
    few = min(-(-total_bytes // (8 * MIB)), 8)
    return min(max(few, -(-total_bytes // (64 * MIB)), 1), _MAX_REDUCERS)


def _pack(splits: Iterable[Split], split_bytes: int) -> Iterator[tuple[Split, ...]]:
    task: list[Split] = []
    size_bytes = 0
    for split in splits:
        if task and (size_bytes + split.size_bytes > split_bytes or split.hosts != task[0].hosts):
            yield tuple(task)
            task, size_bytes = [], 0
        task.append(split)
        size_bytes += split.size_bytes
    if task:
        yield tuple(task)


def _cut(file: InputFile, split_bytes: int) -> Iterator[Split]:
    path, size_bytes = os.fspath(file.path), file.size_bytes
    if not size_bytes and file.format != "whole":
        return
    if file.format == "parquet":
        yield from _cut_parquet(file, split_bytes)
    elif file.format in ("text", "jsonl") and not is_compressed(path):
        for start in range(0, size_bytes, split_bytes):
            length = min(split_bytes, size_bytes - start)
            yield file.split(start, length, length)
    else:
        yield file.split(0, size_bytes, size_bytes)


def _cut_parquet(file: InputFile, split_bytes: int) -> Iterator[Split]:
    from gristmill.storage.readers.parquet import row_group_sizes

    start = 0
    size_bytes = 0
    sizes = row_group_sizes(os.fspath(file.path), file.name)
    for group, group_bytes in enumerate(sizes):
        if group > start and size_bytes + group_bytes > split_bytes:
            yield file.split(start, group - start, size_bytes)
            start, size_bytes = group, 0
        size_bytes += group_bytes
    if start < len(sizes):
        yield file.split(start, len(sizes) - start, size_bytes)


def _input_file(path: Path, format: str | None, near: Near) -> InputFile:
    try:
        status = path.stat()
    except OSError as error:
        raise InputUnreadable(f"The input {path} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputUnreadable(f"The input {path} is not a regular file. Write its content to a file first.")
    if not os.access(path, os.R_OK):
        raise InputUnreadable(f"The input {path} cannot be read: permission denied.")
    format = format or format_of(path.name)
    if format == "parquet" and is_compressed(path.name):
        raise InputUnreadable(f"The input {path} is a compressed parquet file. Unpack it first.")
    return InputFile(path.absolute(), status.st_size, format, str(path), status.st_mtime_ns, near)


def _expand(name: str) -> list[Path]:
    """The files that one input names."""
    path = Path(name)
    if path.is_dir():
        found = sorted(_walk(path))
        # The complete output of a job that wrote nothing is an input without records, not a mistake.
        if not found and not (path / "_SUCCESS").exists():
            raise InputMissing(f"The input directory {name} holds no files (names that begin with _ or . are skipped).")
        return found
    if path.exists() or path.is_symlink():
        return [path]
    if "://" in name:
        raise InputMissing(
            f"The input {name} is not a path, and no storage for it is installed: object stores cannot be read yet. "
            "Use a path that all workers see."
        )
    if glob.has_magic(name):
        if found := _match(name):
            return found
        raise InputMissing(f"The input {name} matches no file.{_hint(path)}")
    if name == "-":
        raise InputMissing("Standard input cannot be cut into splits. Write it to a file first.")
    raise InputMissing(f"The input {name} does not exist.{_hint(path)}")


def _match(pattern: str) -> list[Path]:
    """The files that a glob matches, and those below the directories that it matches."""
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))  # what is in front was named by the user
    found: set[Path] = set()
    for match in map(Path, glob.iglob(pattern, recursive=True)):  # noqa: PTH207 - Path.glob takes no absolute pattern
        if any(_hidden(part) for part in match.parts[fixed:]):
            continue
        if match.is_dir():
            found.update(_walk(match))
        else:
            found.add(match)
    return sorted(found)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not _hidden(name)]
        yield from (Path(parent, name) for name in names if not _hidden(name))


def _unreadable(error: OSError) -> None:
    raise InputUnreadable(f"The input directory {error.filename} cannot be read: {error.strerror}.") from error


def _hidden(name: str) -> bool:
    return name.startswith(("_", "."))


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
