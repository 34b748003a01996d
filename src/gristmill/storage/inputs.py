"""From what the user named to files, and from files to map tasks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from gristmill.config import CHECKPOINT_FORMAT, INPUT_FORMATS, KIB, MAX_SPLIT_BYTES, MIB
from gristmill.errors import InputUnreadable, UsageError
from gristmill.storage.contracts import Split
from gristmill.storage.finding import expand
from gristmill.storage.hive import Value, columns_of, typed
from gristmill.storage.places import Near, locate, nobody
from gristmill.storage.read_options import RECORD_FORMATS, USUAL, Pairs, ReadOptions
from gristmill.storage.uris import bare, file_name, is_uri, shown

COMPRESSED_SUFFIXES = (".gz", ".bz2", ".zst")
_FORMAT_OF_SUFFIX = {
    ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".orc": "orc", ".avro": "avro",
}  # fmt: skip
_PACKED_FORMATS = ("parquet", "orc", "avro")  # which compress by themselves
_MIN_AUTO_SPLIT_BYTES = MIB
_AUTO_TASKS = 32  # small inputs still keep many CPUs busy, and the number never depends on the machine
_SMALL_FILE_BYTES = 64 * KIB  # to open a file of less than this takes longer than to read it
_SMALL_FILES_TASKS = 8  # so that few CPUs are not kept busy by tasks that have hardly begun
_MAX_REDUCERS = 1000
_FOOTER_THREADS = 16  # on an object store each footer is a question or two that has to travel


@dataclass(frozen=True)
class InputFile:
    """One file to read.

    Attributes:
        path: absolute, links not resolved; or a URI.
        size_bytes: as stored.
        format: one of ``config.INPUT_FORMATS``.
        name: as the user named it; a URI without what may be secret.
        changed_ns: when its content was changed last.
        near: tells which machines are near a range of it; see ``places``.
        options: how it is read.
    """

    path: str
    size_bytes: int
    format: str
    name: str = ""
    changed_ns: int = 0
    near: Near = nobody
    options: ReadOptions = USUAL

    @property
    def place(self) -> str:
        """The path, or the URI without what may be secret: what tells this file from others."""
        return shown(self.path)

    @property
    def is_local(self) -> bool:
        """Whether it is a path, which all machines must see."""
        return not is_uri(self.path)

    def split(self, start: int, length: int, size_bytes: int) -> Split:
        """A split of this file; of a format that is not cut by bytes, all of the file decides where it lies."""
        by_bytes = (start, length) if self.format in ("text", "jsonl", "avro") else (0, self.size_bytes)
        hosts = tuple(self.near(self.path, *by_bytes))
        options = self.options.to_pairs() if self.options is not USUAL else ()
        return Split(self.path, start, length, size_bytes, self.format, self.name, hosts, options)


def resolve_inputs(
    inputs: Sequence[str | os.PathLike[str]], format: str | None, base: str = "", options: Pairs = ()
) -> tuple[InputFile, ...]:
    """The files that ``inputs`` name: files, directories (with all below them), globs (``**`` too), and URIs of these.

    Each file comes once, in the order given, sorted by path within a directory or glob. Below a directory and in a
    glob's matches, names that begin with ``_`` or ``.`` are skipped; a file that is named itself is always taken. Of an
    output whose ``_SUCCESS`` lists its files only those are taken. Files are left out whose folders' columns do not fit
    the filter.

    Args:
        inputs: what the user named.
        format: the format of all files, or None: by suffix, else text.
        base: the folder that relative inputs are relative to; empty: the current one.
        options: how they are read; see :class:`ReadOptions`.

    Raises:
        InputMissing: an input matches no file.
        InputUnreadable: a file cannot be opened for reading.
        UsageError: there is no such format or option.
    """
    if format is not None and format not in (*INPUT_FORMATS, CHECKPOINT_FORMAT):
        raise UsageError(f"{format!r} is not an input format; there are: {', '.join(INPUT_FORMATS)}.")
    wanted = ReadOptions.from_pairs(options)
    if format is not None:
        wanted.check(format)
    files: dict[str, tuple[InputFile, tuple[str, ...]]] = {}  # by what is the same for all names of a file
    for item in inputs:
        given, near = locate(os.fspath(item))
        found = _from_uri(given, format) if is_uri(given) else _from_path(given, format, base, near)
        for real, file, folders in found:
            files.setdefault(real, (file, folders))
    return tuple(_with_options(list(files.values()), wanted))


def format_of(name: str) -> str:
    """The format that a file's suffix says, looking through ``.gz``, ``.bz2`` and ``.zst``; else ``text``."""
    path = PurePath(file_name(name).lower())
    if path.suffix in COMPRESSED_SUFFIXES:
        path = path.with_suffix("")
    return _FORMAT_OF_SUFFIX.get(path.suffix, "text")


def is_compressed(name: str) -> bool:
    """Whether a file's suffix says that its content is compressed."""
    return bare(name).lower().endswith(COMPRESSED_SUFFIXES)


def plan_tasks(files: Sequence[InputFile], split_bytes: int | None) -> tuple[tuple[Split, ...], ...]:
    """Cut the files into splits and pack small splits, in order, into tasks of about ``split_bytes``.

    ``text`` and ``jsonl`` are cut every ``split_bytes``, ``avro`` there between blocks, ``parquet`` and ``orc`` between
    row groups or stripes; everything else, and every compressed file, is one split. Empty files make no split, save for
    ``whole``, where they are a record. Row groups that hold nothing that the filter keeps are left out.

    Args:
        files: from :func:`resolve_inputs`.
        split_bytes: None chooses by the input alone: a 32nd of it, between 1 MiB and 64 MiB; if its files are small,
            less than 64 KiB in the mean, it is an 8th.

    Returns:
        The splits of each map task. Empty when there is no input at all.

    Raises:
        InputUnreadable: the footer of a parquet or orc file cannot be read, or it lacks a column.
    """
    if split_bytes is None:
        split_bytes = _auto_split_bytes([file.size_bytes for file in files])
    with _units_of(files) as units:
        splits = (split for file, found in zip(files, units, strict=True) for split in _cut(file, found, split_bytes))
        return tuple(_pack(splits, split_bytes))


def default_reducers(total_bytes: int) -> int:
    """How many reduce tasks an input of this size gets: one per 8 MiB up to 8, then one per 64 MiB, at most 1000.

    A small input is reduced on several cores too; a large one is not cut into more files than it needs.
    """
    few = min(-(-total_bytes // (8 * MIB)), 8)
    return min(max(few, -(-total_bytes // (64 * MIB)), 1), _MAX_REDUCERS)


def _auto_split_bytes(sizes: Sequence[int]) -> int:
    total = sum(sizes)
    if total < len(sizes) * _SMALL_FILE_BYTES:
        # A task is closed when the next file does not fit: what is left over must not make one more.
        share = -(-total // _SMALL_FILES_TASKS) + min(max(sizes, default=0), _MIN_AUTO_SPLIT_BYTES)
    else:
        share = -(-total // _AUTO_TASKS)
    return min(max(share, _MIN_AUTO_SPLIT_BYTES), MAX_SPLIT_BYTES)


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


Unit = tuple[int, int]
"""A row group or stripe: its number in the file, and its bytes."""


def _cut(file: InputFile, units: Sequence[Unit] | None, split_bytes: int) -> Iterator[Split]:
    size_bytes = file.size_bytes
    if not size_bytes and file.format != "whole":
        return
    if units is not None:
        yield from _cut_units(file, units, split_bytes)
    elif file.format in ("text", "jsonl", "avro") and not is_compressed(file.path):
        for start in range(0, size_bytes, split_bytes):
            length = min(split_bytes, size_bytes - start)
            yield file.split(start, length, length)
    else:
        yield file.split(0, size_bytes, size_bytes)


def _cut_units(file: InputFile, units: Sequence[Unit], split_bytes: int) -> Iterator[Split]:
    """Splits of consecutive units; where some are left out another split begins."""
    start = stop = size_bytes = 0
    for unit, unit_bytes in units:
        if stop > start and (unit != stop or size_bytes + unit_bytes > split_bytes):
            yield file.split(start, stop - start, size_bytes)
            stop = start
        if stop == start:
            start, size_bytes = unit, 0
        stop = unit + 1
        size_bytes += unit_bytes
    if stop > start:
        yield file.split(start, stop - start, size_bytes)


@contextmanager
def _units_of(files: Sequence[InputFile]) -> Iterator[Iterable[Sequence[Unit] | None]]:
    """The row groups or stripes of each file that are to be read; None: the file is not cut by them."""
    if all(file.is_local or file.format not in ("parquet", "orc") for file in files):
        yield map(_units, files)
        return
    pool = ThreadPoolExecutor(_FOOTER_THREADS, thread_name_prefix="footers")
    try:
        yield pool.map(_units, files)
    finally:
        pool.shutdown(cancel_futures=True)


def _units(file: InputFile) -> Sequence[Unit] | None:
    if not file.size_bytes:
        return None
    if file.format == "parquet":
        from gristmill.storage.readers.parquet import row_group_sizes

        return row_group_sizes(file.path, file.name, file.options)
    if file.format == "orc":
        from gristmill.storage.readers.orc import stripes

        count = stripes(file.path, file.name, file.options)
        return [(number, max(file.size_bytes // count, 1)) for number in range(count)]
    return None


def _from_path(
    given: str, format: str | None, base: str, near: Near
) -> Iterator[tuple[str, InputFile, tuple[str, ...]]]:
    name = os.path.join(base, given) if base else given  # noqa: PTH118 - links and .. are kept
    for path, folders in expand(name):
        file = _input_file(path, format, near)
        # A file is known by the name that its user gave it, wherever that was.
        file = file if name == given else replace(file, name=file.name.removeprefix(f"{base}{os.sep}"))
        yield os.path.realpath(path), file, folders


def _from_uri(uri: str, format: str | None) -> Iterator[tuple[str, InputFile, tuple[str, ...]]]:
    from gristmill.storage.object_listing import expand_uri

    for found in expand_uri(uri):
        name = shown(found.uri)
        kind = _format_of_file(name, format)
        yield bare(found.uri), InputFile(found.uri, found.size_bytes, kind, name, found.changed_ns), found.folders


def _input_file(path: Path, format: str | None, near: Near) -> InputFile:
    try:
        status = path.stat()
    except OSError as error:
        raise InputUnreadable(f"The input {path} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputUnreadable(f"The input {path} is not a regular file. Write its content to a file first.")
    if not os.access(path, os.R_OK):
        raise InputUnreadable(f"The input {path} cannot be read: permission denied.")
    kind = _format_of_file(str(path), format)
    return InputFile(str(path.absolute()), status.st_size, kind, str(path), status.st_mtime_ns, near)


def _format_of_file(name: str, format: str | None) -> str:
    found = format or format_of(name)
    if found in _PACKED_FORMATS and is_compressed(name):
        raise InputUnreadable(f"The input {name} is a compressed {found} file. Unpack it first.")
    if found == "avro":
        from gristmill.storage.readers.avro import check_installed

        check_installed()
    return found


def _with_options(found: list[tuple[InputFile, tuple[str, ...]]], wanted: ReadOptions) -> Iterator[InputFile]:
    """The files with what their readers must know, without those that the filter leaves out."""
    for format in dict.fromkeys(file.format for file, _ in found):
        wanted.check(format)
    texts = [_by_folders(file, folders, wanted) for file, folders in found]
    values: list[dict[str, Value]] = typed(texts) if any(texts) else []
    if not values:
        yield from (file if wanted is USUAL else replace(file, options=wanted) for file, _ in found)
        return
    integers = {name for columns in values for name, value in columns.items() if isinstance(value, int)}
    tests = [(condition.column, condition.test()) for condition in wanted.filter]
    for (file, _), columns in zip(found, values, strict=True):
        if all(test(columns[column]) for column, test in tests if column in columns):
            options = wanted.with_partitions(columns, integers) if columns else wanted
            yield file if options is USUAL else replace(file, options=options)


def _by_folders(file: InputFile, folders: tuple[str, ...], wanted: ReadOptions) -> dict[str, str | None]:
    """The columns that a file has by its folders."""
    if wanted.partitioning == "" or file.format not in RECORD_FORMATS:
        return {}
    if wanted.partitioning == "hive":
        folders = tuple(bare(file.path).split("/")[:-1])
    return columns_of(folders)
