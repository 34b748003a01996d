"""Where datasets come from. Nothing is read before an action asks for it."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from gristmill.api.datasets.base import checked_partitions
from gristmill.api.datasets.border import with_short_tracebacks
from gristmill.api.datasets.kinds import kind_of_element
from gristmill.api.datasets.makers import Items, Numbers, Rows, partitions_for
from gristmill.api.datasets.where import call_site
from gristmill.config import CHECKPOINT_FORMAT
from gristmill.errors import UsageError
from gristmill.plan.functions import Maker
from gristmill.plan.logical import Read
from gristmill.plan.stages import InputSpec

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from gristmill.api.datasets.dataset import Dataset
    from gristmill.api.session import Session
    from gristmill.storage.pruning import Condition

T = TypeVar("T")
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Columns = Sequence[str] | None
Filter = Sequence[tuple[str, str, Any]] | None
Partitioning = Literal["hive", ""] | None


@with_short_tracebacks
class Sources:
    """Makes datasets. ``paths`` name a file, a directory with all below it, a glob or a URI, or are a list of such.

    Elements come in the order of (file, offset), files in the order given, sorted by path within a directory or glob.
    A path that names nothing is an InputMissing of the first action.
    """

    def read_text(self, paths: Paths) -> Dataset[str]:
        """Lines of text, without their ends. Files named ``.gz``, ``.bz2`` or ``.zst`` are unpacked.

        Text is UTF-8; bytes that are not come through as Python's surrogateescape keeps them.
        """
        return self._read("text", paths, "str")

    def read_checkpoint(self, folder: str | os.PathLike[str]) -> Dataset[Any]:
        """The elements of a checkpoint that an earlier session has written.

        They are pickles: whoever wrote them can make the tasks that read them do anything. Read only your own.
        """
        return self._read(CHECKPOINT_FORMAT, folder, "")

    def read_whole_files(self, paths: Paths) -> Dataset[tuple[str, str]]:
        """A pair (path, content) for each file. A file must fit in memory."""
        return self._read("whole", paths, "tuple[str, str]")

    def read_csv(
        self,
        paths: Paths,
        *,
        columns: Columns = None,
        filter: Filter = None,
        partitioning: Partitioning = None,
        header: bool = True,
        delimiter: str = ",",
    ) -> Dataset[dict[str, Any]]:
        """Rows as dicts by the names in the first line. All values are texts, also for a filter.

        Args:
            paths: what to read.
            columns: as of :meth:`read_parquet`.
            filter: likewise.
            partitioning: likewise.
            header: False if the first line is a row like others; columns are then named ``_1``, ``_2``, ….
            delimiter: what stands between fields.
        """
        return self._read("csv", paths, "dict", columns, filter, partitioning, header=header, delimiter=delimiter)

    def read_jsonl(
        self, paths: Paths, *, columns: Columns = None, filter: Filter = None, partitioning: Partitioning = None
    ) -> Dataset[Any]:
        """The JSON value of each line. The options are those of :meth:`read_parquet`, for objects."""
        return self._read("jsonl", paths, "", columns, filter, partitioning)

    def read_parquet(
        self, paths: Paths, *, columns: Columns = None, filter: Filter = None, partitioning: Partitioning = None
    ) -> Dataset[dict[str, Any]]:
        """Rows as dicts by the names of the columns. Files and row groups that a filter rules out are not read.

        Args:
            paths: what to read.
            columns: the only ones to read, in this order.
            filter: conditions that all must hold, as ``[("year", "==", 2024), ("size", ">", 100)]``; there are ``==``,
                ``!=``, ``<``, ``<=``, ``>``, ``>=`` and ``in``, which takes a list.
            partitioning: which folders named ``year=2024`` are columns: None: those below the directory, or in the
                glob, that is named; ``"hive"``: all of the path; ``""``: none.
        """
        return self._read("parquet", paths, "dict", columns, filter, partitioning)

    def read_orc(
        self, paths: Paths, *, columns: Columns = None, filter: Filter = None, partitioning: Partitioning = None
    ) -> Dataset[dict[str, Any]]:
        """Rows as dicts by the names of the columns. The options are those of :meth:`read_parquet`."""
        return self._read("orc", paths, "dict", columns, filter, partitioning)

    def read_avro(
        self, paths: Paths, *, columns: Columns = None, filter: Filter = None, partitioning: Partitioning = None
    ) -> Dataset[dict[str, Any]]:
        """Records as dicts. The options are those of :meth:`read_parquet`. Needs ``pip install gristmill[avro]``."""
        return self._read("avro", paths, "dict", columns, filter, partitioning)

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

    def _read(
        self,
        format: str,
        paths: Paths,
        kind: str,
        columns: Columns = None,
        filter: Filter = None,
        partitioning: Partitioning = None,
        **others: Any,
    ) -> Dataset[Any]:
        from gristmill.storage.read_options import ReadOptions

        several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        names = tuple(os.fspath(path) for path in several)
        if not names:
            raise UsageError(f"{call_site()[0]}() was given no path.")
        if isinstance(columns, str):
            raise UsageError(f"columns takes a list of names: columns=[{columns!r}].")
        options = ReadOptions(
            columns=None if columns is None else tuple(columns),
            filter=_conditions(filter),
            partitioning=partitioning,
            **others,
        )
        options.check(format)
        return self._source(InputSpec(names, format, options.to_pairs()), None, kind)

    def _made(self, maker: Maker, partitions: int, kind: str) -> Dataset[Any]:
        return self._source(InputSpec(made=partitions), maker, kind)

    def _source(self, input: InputSpec, maker: Maker | None, kind: str) -> Dataset[Any]:
        from gristmill.api.datasets.dataset import Dataset

        name, where = call_site()
        owner = None if type(self) is Sources else cast("Session", self)
        return Dataset(Read(input, maker, name, where), owner, kind=kind)


def _conditions(filter: Filter) -> tuple[Condition, ...]:
    from gristmill.storage.pruning import Condition

    found = []
    for each in filter or ():
        if isinstance(each, str) or len(each) != 3:
            raise UsageError(
                f"{each!r:.100} is no condition of a filter. Write (column, operator, value): ('year', '==', 2024)."
            )
        column, op, value = each
        found.append(Condition(column, op, tuple(value) if op == "in" else value))
    return tuple(found)


_anyone = Sources()
read_text = _anyone.read_text
read_whole_files = _anyone.read_whole_files
read_csv = _anyone.read_csv
read_jsonl = _anyone.read_jsonl
read_parquet = _anyone.read_parquet
read_orc = _anyone.read_orc
read_avro = _anyone.read_avro
read_checkpoint = _anyone.read_checkpoint
from_items = _anyone.from_items
range = _anyone.range
from_arrow = _anyone.from_arrow
from_pandas = _anyone.from_pandas
