"""Writing a dataset: all or nothing, as files in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from gristmill.api.datasets.base import Elements, T_co
from gristmill.config import parse_size
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from gristmill.api.result import JobResult

Mode = Literal["error", "overwrite", "append"]
_MODES = ("error", "overwrite", "append")


class Writing(Elements[T_co]):
    """See :class:`~gristmill.api.datasets.dataset.Dataset`.

    Methods have arguments alike: ``output`` is a folder or a URI. ``mode`` says what happens if it is there: ``error``,
    ``overwrite`` it, or ``append`` files to it. Whoever reads it sees all or nothing of what is written.
    ``partition_by`` names columns by whose values rows go into folders such as ``year=2024``; those columns are not in
    the files. ``target_bytes`` is about how large a file may become, as "128MiB" or bytes.

    All raise OutputExists if there is something and ``mode`` is ``error``, and OutputUnencodable if an element cannot
    be written in the format.
    """

    def write_text(
        self, output: str | os.PathLike[str], *, mode: Mode = "error", target_bytes: str | int | None = None
    ) -> JobResult:
        """Write a line for each element: ``str()`` of it."""
        return self._write("text", output, mode, target_bytes)

    def write_csv(
        self,
        output: str | os.PathLike[str],
        *,
        partition_by: Sequence[str] = (),
        mode: Mode = "error",
        target_bytes: str | int | None = None,
    ) -> JobResult:
        """Write rows, with their columns' names in the first line of each file."""
        return self._write("csv", output, mode, target_bytes, partition_by)

    def write_jsonl(
        self,
        output: str | os.PathLike[str],
        *,
        partition_by: Sequence[str] = (),
        mode: Mode = "error",
        target_bytes: str | int | None = None,
    ) -> JobResult:
        """Write each element as a line of JSON."""
        return self._write("jsonl", output, mode, target_bytes, partition_by)

    def write_parquet(
        self,
        output: str | os.PathLike[str],
        *,
        partition_by: Sequence[str] = (),
        mode: Mode = "error",
        target_bytes: str | int | None = None,
    ) -> JobResult:
        """Write rows as Parquet."""
        return self._write("parquet", output, mode, target_bytes, partition_by)

    def write_orc(
        self,
        output: str | os.PathLike[str],
        *,
        partition_by: Sequence[str] = (),
        mode: Mode = "error",
        target_bytes: str | int | None = None,
    ) -> JobResult:
        """Write rows as ORC."""
        return self._write("orc", output, mode, target_bytes, partition_by)

    def write_avro(
        self,
        output: str | os.PathLike[str],
        *,
        partition_by: Sequence[str] = (),
        mode: Mode = "error",
        target_bytes: str | int | None = None,
    ) -> JobResult:
        """Write rows as Avro. Needs ``pip install gristmill[avro]``."""
        return self._write("avro", output, mode, target_bytes, partition_by)

    def _write(
        self,
        format: str,
        output: str | os.PathLike[str],
        mode: str,
        target_bytes: str | int | None,
        partition_by: Sequence[str] = (),
    ) -> JobResult:
        if mode not in _MODES:
            raise UsageError(f"{mode!r} is not a mode of writing; there are: {', '.join(_MODES)}.")
        if isinstance(partition_by, str):
            raise UsageError(f"partition_by takes a list of names of columns: partition_by=[{partition_by!r}].")
        options: dict[str, Any] = {}
        if partition_by:
            options["partition_by"] = tuple(partition_by)
        if target_bytes is not None:
            options["target_bytes"] = parse_size(target_bytes)
        return self._job(self._node, format, output=os.fspath(output), mode=mode, **options)
