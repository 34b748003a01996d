"""Where datasets come from. Nothing is read before an action asks for it."""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gristmill.api.datasets.base import checked_partitions
from gristmill.api.datasets.kinds import kind_of_element
from gristmill.api.datasets.makers import Items, Numbers, Rows, partitions_for
from gristmill.api.datasets.where import call_site
from gristmill.errors import UsageError
from gristmill.plan.functions import Maker
from gristmill.plan.logical import Read
from gristmill.plan.stages import InputSpec

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from gristmill.api.datasets.dataset import Dataset
    from gristmill.api.session import Session

T = TypeVar("T")
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Filter = Sequence[tuple[str, str, Any]]
_OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in")


class Sources:
    """Makes datasets. ``paths`` name a file, a directory with all below it, a glob or a URI, or are a list of such.

    Elements come in the order of (file, offset), files in the order given, sorted by path within a directory or glob.
    A path that names nothing is an InputMissing of the first action.
    """

    def read_text(self, paths: Paths) -> Dataset[str]:
        """Lines of text, without their ends. Files named ``.gz``, ``.bz2`` or ``.zst`` are unpacked.

        Text is UTF-8; bytes that are not come through as Python's surrogateescape keeps them.
        """
        return self._read("text", paths, {}, "str")

    def read_whole_files(self, paths: Paths) -> Dataset[tuple[str, str]]:
        """A pair (path, content) for each file. A file must fit in memory."""
        return self._read("whole", paths, {}, "tuple[str, str]")

    def read_csv(
        self,
        paths: Paths,
        *,
        header: bool | None = None,
        delimiter: str | None = None,
        columns: Sequence[str] | None = None,
        filter: Filter | None = None,
    ) -> Dataset[dict[str, Any]]:
        """Rows as dicts by the names in the first line.

        Args:
            paths: what to read.
            header: False if the first line is a row like others.
            delimiter: what stands between fields, if it is not a comma.
            columns: the only ones to read.
            filter: as of :meth:`read_parquet`.
        """
        options = {"header": None if header is None else str(header).lower(), "delimiter": delimiter}
        return self._read("csv", paths, {**options, **_selection(columns, filter)}, "dict")

    def read_jsonl(
        self, paths: Paths, *, columns: Sequence[str] | None = None, filter: Filter | None = None
    ) -> Dataset[Any]:
        """The JSON value of each line. ``columns`` and ``filter`` are those of :meth:`read_parquet`, for objects."""
        return self._read("jsonl", paths, _selection(columns, filter), "")

    def read_parquet(
        self, paths: Paths, *, columns: Sequence[str] | None = None, filter: Filter | None = None
    ) -> Dataset[dict[str, Any]]:
        """Rows as dicts by the names of the columns.

        Folders named ``year=2024`` become columns. Files and row groups that a filter rules out are not read.

        Args:
            paths: what to read.
            columns: the only ones to read.
            filter: conditions that all must hold: ``[("year", "==", 2024), ("size", ">", 100)]``; there are ``==``,
                ``!=``, ``<``, ``<=``, ``>``, ``>=`` and ``in``.
        """
        return self._read("parquet", paths, _selection(columns, filter), "dict")

    def read_orc(
        self, paths: Paths, *, columns: Sequence[str] | None = None, filter: Filter | None = None
    ) -> Dataset[dict[str, Any]]:
        """Rows as dicts by the names of the columns; arguments as of :meth:`read_parquet`."""
        return self._read("orc", paths, _selection(columns, filter), "dict")

    def read_avro(
        self, paths: Paths, *, columns: Sequence[str] | None = None, filter: Filter | None = None
    ) -> Dataset[dict[str, Any]]:
        """Records as dicts; arguments as of :meth:`read_parquet`. Needs ``pip install gristmill[avro]``."""
        return self._read("avro", paths, _selection(columns, filter), "dict")

    def from_items(self, items: Iterable[T], partitions: int | None = None) -> Dataset[T]:
        """Objects at hand, in their order. They are copied now: what is changed in them later is not seen.

        Args:
            items: whatever can be pickled. They travel with the job, so large data is better read from files.
            partitions: how many tasks they are cut into: by default 8, or fewer if there are fewer items.

        Raises:
            UsageError: an item cannot be pickled.
        """
        if isinstance(items, (str, bytes)):
            raise UsageError(f"from_items() takes a list of elements; {items!r:.50} is a text. Write [text].")
        every = list(items)
        count = partitions_for(len(every), checked_partitions(partitions))
        try:
            maker = Items(every, count)
        except Exception as error:  # a value's own __reduce__ may raise anything
            raise UsageError(f"These items cannot be sent to the processes that compute with them: {error}") from error
        return self._made(maker, count, kind_of_element(every[0]) if every else "")

    def range(
        self, start: int, stop: int | None = None, step: int = 1, *, partitions: int | None = None
    ) -> Dataset[int]:
        """The whole numbers of Python's ``range``: ``range(10)``, ``range(5, 10)``, ``range(0, 100, 10)``.

        Args:
            start: the first one; or, if it is alone, how many from 0.
            stop: the first one not to come.
            step: from one to the next.
            partitions: how many tasks they are cut into: by default 8, or fewer if there are fewer numbers.
        """
        try:
            numbers = builtins.range(start) if stop is None else builtins.range(start, stop, step)
        except (TypeError, ValueError) as error:
            raise UsageError(f"range({start!r}, {stop!r}, {step!r}): {error}.") from error
        count = partitions_for(len(numbers), checked_partitions(partitions))
        return self._made(Numbers(numbers, count), count, "int")

    def from_arrow(
        self, table: pyarrow.Table | pyarrow.RecordBatch, partitions: int | None = None
    ) -> Dataset[dict[str, Any]]:
        """The rows of an Arrow table as dicts by the names of its columns.

        Args:
            table: a table, a record batch, or whatever says of itself that it is one (``__arrow_c_stream__``).
            partitions: how many tasks they are cut into: by default 8, or fewer if there are fewer rows.
        """
        import pyarrow as pa

        if not isinstance(table, pa.Table):
            try:
                table = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else pa.table(table)
            except (TypeError, ValueError, pa.ArrowException) as error:
                raise UsageError(f"from_arrow() takes a table; {type(table).__qualname__} is none: {error}") from error
        count = partitions_for(len(table), checked_partitions(partitions))
        columns = ", ".join(f"{field.name}: {field.type}" for field in table.schema)
        return self._made(Rows(table, count), count, f"dict({columns})")

    def from_pandas(self, frame: pandas.DataFrame, partitions: int | None = None) -> Dataset[dict[str, Any]]:
        """The rows of a DataFrame as dicts by the names of its columns. NaN and NaT become None; the index is left out.

        Args:
            frame: the data.
            partitions: how many tasks they are cut into: by default 8, or fewer if there are fewer rows.
        """
        import pyarrow as pa

        try:
            table = pa.Table.from_pandas(frame, preserve_index=False)
        except (TypeError, AttributeError, pa.ArrowException) as error:
            raise UsageError(f"These columns cannot become Arrow's: {error}") from error
        return self.from_arrow(table, partitions)

    def _read(self, format: str, paths: Paths, options: dict[str, str | None], kind: str) -> Dataset[Any]:
        several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        names = tuple(os.fspath(path) for path in several)
        if not names:
            raise UsageError(f"{call_site()[0]}() was given no path.")
        given = tuple((name, value) for name, value in options.items() if value is not None)
        return self._source(InputSpec(names, format, given), None, kind)

    def _made(self, maker: Maker, partitions: int, kind: str) -> Dataset[Any]:
        return self._source(InputSpec(made=partitions), maker, kind)

    def _source(self, input: InputSpec, maker: Maker | None, kind: str) -> Dataset[Any]:
        from gristmill.api.datasets.dataset import Dataset

        name, where = call_site()
        owner = None if type(self) is Sources else cast("Session", self)
        return Dataset(Read(input, maker, name, where), owner, kind=kind)


def _selection(columns: Sequence[str] | None, filter: Filter | None) -> dict[str, str | None]:
    """Which columns and rows are to be read, as a format's options.

    Raises:
        UsageError: they are not what they must be.
    """
    if isinstance(columns, str):
        raise UsageError(f"columns takes a list of names: columns=[{columns!r}].")
    conditions = None
    if filter is not None:
        for condition in filter:
            if len(condition) != 3 or condition[1] not in _OPERATORS:
                raise UsageError(
                    f"{condition!r:.100} is no condition of a filter. Write (column, operator, value), such as "
                    f"('year', '==', 2024); operators are {', '.join(_OPERATORS)}."
                )
        try:
            conditions = json.dumps([list(condition) for condition in filter])
        except TypeError as error:
            raise UsageError(f"A filter compares with plain values: {error}.") from error
    return {"columns": None if columns is None else json.dumps(list(columns)), "filter": conditions}


_anyone = Sources()
read_text = _anyone.read_text
read_whole_files = _anyone.read_whole_files
read_csv = _anyone.read_csv
read_jsonl = _anyone.read_jsonl
read_parquet = _anyone.read_parquet
read_orc = _anyone.read_orc
read_avro = _anyone.read_avro
from_items = _anyone.from_items
range = _anyone.range
from_arrow = _anyone.from_arrow
from_pandas = _anyone.from_pandas
