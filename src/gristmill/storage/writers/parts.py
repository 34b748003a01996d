"""All files that one attempt writes of an output: one, several of a wished size, or some for each folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gristmill.storage.contracts import PartFile
from gristmill.storage.targets import Target, open_target, with_mark
from gristmill.storage.writers import PartWriter, open_part, part_name
from gristmill.storage.writers.options import WriteOptions

if TYPE_CHECKING:
    import pyarrow as pa

_LOOK_ROWS = 256  # files are cut between so many rows: where, follows from the rows alone


class Parts(Protocol):
    """What one attempt writes. Made by :func:`open_parts`."""

    def write(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Append pairs; elements under keys that are None."""
        ...

    def write_column(self, column: pa.Array) -> bool:
        """Append elements that are there as an Arrow array, none of them null; False if they are wanted as values."""
        ...

    def close(self) -> tuple[PartFile, ...]:
        """Complete all files."""
        ...

    def discard(self) -> None:
        """Remove all files, unless they were closed. May be called at any time, and again."""
        ...


def open_parts(
    staging: str | os.PathLike[str],
    attempt: str,
    index: int,
    letter: str,
    format: str,
    options: Iterable[tuple[str, str]] = (),
    scratch: Path | None = None,
) -> Parts:
    """Begin what an attempt writes of an output.

    Args:
        staging: where the attempts of its job write.
        attempt: names the attempt; used once.
        index: the task's number.
        letter: of the stage: ``m`` or ``r``.
        format: one of ``config.OUTPUT_FORMATS``, or ``pickle``.
        options: from :meth:`WriteOptions.to_pairs`; none: pairs of key and value, in one file.
        scratch: a folder of the attempt's own, for what does not fit into memory; only with ``partition_by``.

    Raises:
        DiskFull: no space is left there.
        OutputUnreachable: the object store does not answer.
    """
    chosen = WriteOptions.from_pairs(options)
    files = PartFiles(open_target(staging), attempt, part_name(letter, index, format, chosen.compression), format)
    if chosen.partition_by:
        from gristmill.storage.writers.partitioned import PartitionedParts

        return PartitionedParts(files, chosen, scratch)
    return CutPart(files, "", chosen)


class PartFiles:
    """Opens the files of one attempt.

    Args:
        target: where.
        attempt: names it.
        name: of its first file; the next ones are numbered.
        format: of all files.
    """

    def __init__(self, target: Target, attempt: str, name: str, format: str) -> None:
        self.target = target
        self.format = format
        self._attempt = attempt
        self._name = name

    def open(self, folder: str, number: int, options: WriteOptions) -> PartWriter:
        """Begin a file of a folder: ``part-r-00003``, then ``part-r-00003-0001`` and so on."""
        name = with_mark(self._name, f"{number:04d}") if number else self._name
        staged, final = self.target.names(self._attempt, f"{folder}/{name}" if folder else name)
        return open_part(self.target, staged, final, self.format, options)

    def remove(self, parts: Iterable[PartFile]) -> None:
        """Remove files that were completed."""
        for part in parts:
            self.target.remove(part.staged)


class CutPart:
    """The rows of one task, or of one of its folders: one file; or several, if a size is wished for.

    The first file is there from the beginning, even if no row comes.
    """

    def __init__(self, files: PartFiles, folder: str, options: WriteOptions) -> None:
        self._files = files
        self._folder = folder
        self._options = options
        self._done: list[PartFile] = []
        self._over = False
        self._writer: PartWriter | None = files.open(folder, 0, options)

    def write(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """See :class:`Parts`."""
        if self._options.target_bytes is None:
            assert self._writer is not None
            self._writer.write(keys, values)
            return
        begin = 0
        while begin < len(values):
            begin += self._write_some(keys, values, begin, self._options.target_bytes)

    def write_column(self, column: pa.Array) -> bool:
        """See :class:`Parts`."""
        if self._options.target_bytes is not None:
            return False
        assert self._writer is not None
        return self._writer.write_column(column)

    def _write_some(self, keys: Sequence[Any], values: Sequence[Any], begin: int, target_bytes: int) -> int:
        """Write up to the next row at which the file may be cut; how many rows that were."""
        if self._writer is None:
            self._writer = self._files.open(self._folder, len(self._done), self._options)
        end = begin + _LOOK_ROWS - self._writer.rows % _LOOK_ROWS
        some = values[begin:end]
        self._writer.write(keys[begin:end], some)
        if self._writer.rows % _LOOK_ROWS == 0 and self._writer.written_bytes >= target_bytes:
            self._done.append(self._writer.close())
            self._writer = None
        return len(some)

    def close(self) -> tuple[PartFile, ...]:
        """See :class:`Parts`."""
        if self._writer is not None:
            self._done.append(self._writer.close())
            self._writer = None
        self._over = True
        return tuple(self._done)

    def discard(self) -> None:
        """See :class:`Parts`."""
        if self._over:
            return
        self._over = True
        if self._writer is not None:
            self._writer.discard()
        self._files.remove(self._done)
