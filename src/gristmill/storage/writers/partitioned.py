"""One task's rows in folders by the values of columns, with few files open and little in memory.

The first folders that come up are written as their rows come. The rows of all others are held back, first in memory,
then in runs on the disk, and are written folder by folder at the end. So each folder gets one file (or those that a
wished size cuts it into) with its rows in their order, however many folders there are.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from gristmill.config import KIB, MIB
from gristmill.errors import OutputUnencodable
from gristmill.storage.contracts import PartFile
from gristmill.storage.disk import translate_os_error
from gristmill.storage.writers.base import unencodable
from gristmill.storage.writers.hive import folder_of
from gristmill.storage.writers.options import WriteOptions
from gristmill.storage.writers.parts import CutPart, PartFiles
from gristmill.storage.writers.pickle import dumps
from gristmill.storage.writers.rows import ElementLayout, record_of

if TYPE_CHECKING:
    import pyarrow as pa

MAX_FOLDERS = 10_000
"""Of one task. Each is a file at least, and a job has many tasks."""

_MAX_OPEN = {"parquet": 4, "orc": 4, "avro": 4}  # they hold groups of rows
_HELD_BYTES = 16 * MIB
_RUN_BUFFER_BYTES = 256 * KIB
_MEASURED_EVERY = 16  # rows
_TOO_MANY = f"its columns have more than {MAX_FOLDERS:,} combinations of values in one task, each a folder with a file."
_TOO_MANY_ADVICE = (
    "Choose columns with fewer values, or bring rows of one folder together first: key_by and partition_by."
)


class PartitionedParts:
    """See the module.

    Args:
        files: opens files.
        options: with ``partition_by``.
        scratch: where runs go; None: the system's folder for temporary files.
        held_bytes: about how much may be held in memory.
    """

    def __init__(
        self, files: PartFiles, options: WriteOptions, scratch: Path | None = None, held_bytes: int = _HELD_BYTES
    ) -> None:
        self._files = files
        self._options = options
        self._max_open = min(files.target.max_open, _MAX_OPEN.get(files.format, files.target.max_open))
        self._split: _Split | None = None
        self._open: dict[str, CutPart] = {}
        self._held = _Held(scratch, held_bytes)
        self._done: list[PartFile] = []
        self._over = False

    def write(self, keys: Sequence[Any], values: Sequence[Any]) -> None:  # noqa: ARG002 - all are None
        """See :class:`~gristmill.storage.writers.parts.Parts`."""
        if not values:
            return
        if self._split is None:
            self._split = _split_for(self._files.format, self._options, values[0])
        rows_of: dict[str, list[Any]] = {}
        for folder, row in self._split(values):
            rows_of.setdefault(folder, []).append(row)
        for folder, rows in rows_of.items():
            part = self._open.get(folder)
            if part is None and len(self._open) < self._max_open:
                part = self._open[folder] = CutPart(self._files, folder, self._split.options)
            if part is not None:
                part.write([None] * len(rows), rows)
            elif not self._held.add(folder, rows) and len(self._held) + len(self._open) > MAX_FOLDERS:
                raise unencodable(self._files.format, _TOO_MANY, None, values[0], _TOO_MANY_ADVICE, element=True)

    def write_column(self, column: pa.Array) -> bool:  # noqa: ARG002 - a row's folder depends on its values
        """See :class:`~gristmill.storage.writers.parts.Parts`."""
        return False

    def close(self) -> tuple[PartFile, ...]:
        """See :class:`~gristmill.storage.writers.parts.Parts`."""
        while self._open:
            folder = next(iter(self._open))
            self._done += self._open[folder].close()
            del self._open[folder]
        for folder, chunks in self._held.all():
            assert self._split is not None
            alone = replace(self._split.options, partition_by=())  # no other is open: its groups of rows may be large
            part = self._open[folder] = CutPart(self._files, folder, alone)
            for rows in chunks:
                part.write([None] * len(rows), rows)
            self._done += part.close()
            del self._open[folder]
        self._held.close()
        self._over = True
        return tuple(self._done)

    def discard(self) -> None:
        """See :class:`~gristmill.storage.writers.parts.Parts`."""
        if self._over:
            return
        self._over = True
        self._held.close()
        for part in self._open.values():
            part.discard()
        self._files.remove(self._done)


class _Held:
    """Rows by folder, in the order in which they came; beyond a bound on the disk."""

    def __init__(self, scratch: Path | None, held_bytes: int) -> None:
        self._scratch = scratch
        self._bound = held_bytes
        self._bytes = 0
        self._rows: dict[str, list[Any]] = {}
        self._runs: dict[str, list[tuple[int, int]]] = {}  # of each folder: where its rows lie in the file
        self._file: BinaryIO | None = None

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, folder: str, rows: list[Any]) -> bool:
        """Hold rows; whether there were some of this folder already."""
        known = folder in self._runs
        if not known:
            self._runs[folder] = []
        self._rows.setdefault(folder, []).extend(rows)
        sample = rows[::_MEASURED_EVERY]
        self._bytes += len(rows) * (64 + sum(map(_about, sample)) // len(sample))
        if self._bytes > self._bound:
            self._spill()
        return known

    def _spill(self) -> None:
        with translate_os_error(self._scratch or tempfile.gettempdir()):
            if self._file is None:
                file = tempfile.TemporaryFile(dir=self._scratch, prefix="rows-", buffering=_RUN_BUFFER_BYTES)
                self._file = cast(BinaryIO, file)
            self._file.seek(0, 2)
            for folder, rows in self._rows.items():
                data = _pickled(rows)
                self._runs[folder].append((self._file.tell(), len(data)))
                self._file.write(data)
        self._rows.clear()
        self._bytes = 0

    def all(self) -> Iterator[tuple[str, Iterator[list[Any]]]]:
        """The folders, in the order in which they came up, and the rows of each in chunks."""
        for folder, places in self._runs.items():
            yield folder, self._chunks(places, self._rows.pop(folder, None))

    def _chunks(self, places: list[tuple[int, int]], last: list[Any] | None) -> Iterator[list[Any]]:
        for offset, length in places:
            assert self._file is not None
            self._file.seek(offset)
            yield pickle.loads(self._file.read(length))[1]
        if last:
            yield last

    def close(self) -> None:
        """Let go of all."""
        self._rows.clear()
        if self._file is not None:
            with suppress(OSError):  # a full disk fails once more here, and the file is gone all the same
                self._file.close()


class _Split:
    """Tells of each element its folder, and what is written there.

    Args:
        options: how the rows are written.
        split: tells.
    """

    def __init__(self, options: WriteOptions, split: Callable[[Sequence[Any]], Iterator[tuple[str, Any]]]) -> None:
        self.options = options
        self._split = split

    def __call__(self, values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        return self._split(values)


def _split_for(format: str, options: WriteOptions, first: Any) -> _Split:
    by = options.partition_by
    folders: dict[Any, str] = {}

    def folder(values: tuple[Any, ...], element: Any) -> str:
        # 1, 1.0 and True are equal, and have names of their own.
        kinds: tuple[Any, ...] | None = (values, *map(type, values))
        try:
            if (found := folders.get(kinds)) is not None:
                return found
        except TypeError:  # not hashable: it has no name either, which is said there
            kinds = None
        try:
            found = folder_of(by, values)
        except ValueError as error:
            raise unencodable(format, f"partition_by: {error}", None, element, "", element=True) from error
        if kinds is not None and len(folders) < MAX_FOLDERS:
            folders[kinds] = found
        return found

    if format == "jsonl":
        return _Split(replace(options, columns=()), lambda values: _objects(values, options, folder))
    return _columns_split(format, options, first, folder)


_Folder = Callable[[tuple[Any, ...], Any], str]


def _objects(values: Sequence[Any], options: WriteOptions, folder: _Folder) -> Iterator[tuple[str, Any]]:
    """Of each element an object, which need not have the columns of another."""
    for value in values:
        try:
            record = record_of(value, options.columns)
        except (ValueError, AttributeError) as error:
            raise unencodable("jsonl", error, None, value, "", element=True) from error
        if isinstance(record, tuple):
            record = {f"_{number}": item for number, item in enumerate(record, 1)}
        if not isinstance(record, dict):
            raise _no_columns("jsonl", value)
        if missing := [name for name in options.partition_by if name not in record]:
            raise _lacks("jsonl", missing[0], value)
        rest = {name: item for name, item in record.items() if name not in options.partition_by}
        yield folder(tuple(record[name] for name in options.partition_by), value), rest


def _columns_split(format: str, options: WriteOptions, first: Any, folder: _Folder) -> _Split:
    """Rows with the columns of the first element. What is left of each is a tuple, or for text its one value."""
    schema = options.arrow_schema()
    given = options.columns or (() if schema is None else _with_folders(schema.names, options.partition_by))
    if not isinstance(first, (dict, tuple)) and not hasattr(first, "__dataclass_fields__"):
        raise _no_columns(format, first)
    layout = ElementLayout(format, given, first)
    for name in options.partition_by:
        if name not in layout.names:
            raise _lacks(format, name, first)
    by = [layout.names.index(name) for name in options.partition_by]
    rest = [number for number in range(len(layout.names)) if number not in by]
    names = tuple(layout.names[number] for number in rest)
    if not rest:
        problem = "no column is left for the files: partition_by names all of them."
        raise unencodable(format, problem, None, first, "Name fewer.", element=True)
    if format == "text" and len(rest) > 1:
        problem = f"text has one column, and {len(rest)} are left: {', '.join(names)}."
        raise unencodable(format, problem, None, first, "Write csv or jsonl.", element=True)

    def split(values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        columns = layout.columns((), values)
        rows: Iterator[Any] = zip(*[columns[number] for number in rest], strict=True)
        if format == "text":
            rows = (row[0] for row in rows)
        places = zip(*[columns[number] for number in by], strict=True)
        for place, row, value in zip(places, rows, values, strict=True):
            yield folder(place, value), row

    if schema is not None:
        import pyarrow as pa

        kept = pa.schema([schema.field(name) for name in names])
        return _Split(replace(options, columns=names, schema=WriteOptions.of(format, schema=kept).schema), split)
    return _Split(replace(options, columns=names), split)


def _with_folders(names: Sequence[str], by: Sequence[str]) -> tuple[str, ...]:
    """The columns of a schema; folders need not be in it."""
    return (*names, *(name for name in by if name not in names))


def _lacks(format: str, name: str, value: Any) -> OutputUnencodable:
    problem = f"partition_by names a column {name!r}, which it has not."
    return unencodable(format, problem, None, value, "Name a column that all rows have.", element=True)


def _no_columns(format: str, value: Any) -> OutputUnencodable:
    problem = "partition_by names columns, and it has none."
    return unencodable(format, problem, None, value, "Write dicts, named tuples or dataclasses.", element=True)


def _pickled(rows: list[Any]) -> bytes:
    return dumps(([None] * len(rows), rows))


def _about(row: Any) -> int:
    """About how many bytes a row takes in memory."""
    if isinstance(row, (str, bytes)):
        return 48 + len(row)
    if isinstance(row, dict):
        return 64 + sum(map(_about, row.values())) + 64 * len(row)
    if isinstance(row, (list, tuple)):
        return 56 + sum(map(_about, row))
    return 32
