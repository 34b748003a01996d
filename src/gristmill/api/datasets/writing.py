"""Writing a dataset: all or nothing, as files in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from gristmill.api.datasets.base import Elements, T_co
from gristmill.api.datasets.where import call_site
from gristmill.errors import OutputExists, UsageError
from gristmill.plan.stages import OutputSink

if TYPE_CHECKING:
    from typing import Unpack

    import pyarrow

    from gristmill.api.result import JobResult

Mode = Literal["error", "overwrite", "append"]
_MODES = ("error", "overwrite", "append")


class WriteWishes(TypedDict, total=False):
    """How a dataset is to be written. What is left out is chosen by the format."""

    mode: Mode  # what happens if the output is there: "error"; "overwrite" it; "append" files to it
    partition_by: str | Sequence[str]  # columns that become folders, year=2024/month=1; they are not in the files
    target_size: int | str | None  # about how large a file is to be: "128MiB" or bytes; else a file a task
    columns: Sequence[str] | None  # the names of tuples' columns; or those of dicts' columns that are wanted
    compression: str | None  # "gzip", say; "none" turns a format's own default off
    schema: pyarrow.Schema | None  # columns and their types (parquet, orc, avro)


class Writing(Elements[T_co]):
    """See :class:`~gristmill.api.datasets.dataset.Dataset`.

    All these methods compute the dataset and write a file or more for each task, in a folder that appears as a whole:
    whoever reads it sees all of it or nothing. Dicts, dataclasses and namedtuples are rows by the names of their
    fields; columns of tuples are ``_1``, ``_2``, …; anything else is one column, ``value``.

    Args of all:
        output: the folder, or a URI such as ``s3://bucket/folder``.
        wishes: see :class:`WriteWishes`.

    Raises:
        OutputExists: there is something, and ``mode`` is ``error``.
        UsageError: a wish does not exist, or the format does not have it.
        JobFailed: among others, when an element cannot be written in the format: OutputUnencodable.
    """

    def write_text(self, output: str | os.PathLike[str], **wishes: Unpack[WriteWishes]) -> JobResult:
        """Write each element as a line: ``str()`` of it."""
        return self._write("text", output, wishes)

    def write_csv(self, output: str | os.PathLike[str], **wishes: Unpack[WriteWishes]) -> JobResult:
        """Write elements as rows; the names of columns stand in the first line of each file."""
        return self._write("csv", output, wishes)

    def write_jsonl(self, output: str | os.PathLike[str], **wishes: Unpack[WriteWishes]) -> JobResult:
        """Write each element as a line of JSON."""
        return self._write("jsonl", output, wishes)

    def write_parquet(self, output: str | os.PathLike[str], **wishes: Unpack[WriteWishes]) -> JobResult:
        """Write elements as rows of Parquet."""
        return self._write("parquet", output, wishes)

    def write_orc(self, output: str | os.PathLike[str], **wishes: Unpack[WriteWishes]) -> JobResult:
        """Write elements as rows of ORC."""
        return self._write("orc", output, wishes)

    def write_avro(self, output: str | os.PathLike[str], **wishes: Unpack[WriteWishes]) -> JobResult:
        """Write elements as records of Avro. Needs ``pip install gristmill[avro]``."""
        return self._write("avro", output, wishes)

    def _write(self, format: str, output: str | os.PathLike[str], wishes: WriteWishes) -> JobResult:
        from gristmill.storage.writers.options import WriteOptions

        given: dict[str, Any] = dict(wishes)
        if unknown := given.keys() - WriteWishes.__annotations__.keys():
            names = ", ".join(WriteWishes.__annotations__)
            raise UsageError(f"write_{format}() has no option {sorted(unknown)[0]!r}; there are: {names}.")
        mode = given.pop("mode", "error")
        if mode not in _MODES:
            raise UsageError(f"{mode!r} is not a mode of writing; there are: {', '.join(_MODES)}.")
        options = WriteOptions.of(format, **given)
        sink = OutputSink(format, "", options.to_pairs())
        try:
            result = self._runner.write(self._node, call_site()[0], sink, output, mode)
        except OutputExists as error:
            advice = 'mode="overwrite", or add to it with mode="append"'
            raise OutputExists(str(error).replace("--overwrite", advice)) from None
        self._ran = result.view
        return result
