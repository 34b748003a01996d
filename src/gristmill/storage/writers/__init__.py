"""Writing parts of an output, and reading them back."""

from __future__ import annotations

from pathlib import Path

from gristmill.storage.targets import Target, open_target
from gristmill.storage.writers.base import PartWriter
from gristmill.storage.writers.compression import SUFFIXES
from gristmill.storage.writers.csv import CsvPart
from gristmill.storage.writers.jsonl import JsonlPart
from gristmill.storage.writers.options import PAIRS, WriteOptions
from gristmill.storage.writers.parquet import ParquetPart
from gristmill.storage.writers.pickle import PicklePart
from gristmill.storage.writers.readback import read_part
from gristmill.storage.writers.text import TextPart

__all__ = ["PAIRS", "PartWriter", "WriteOptions", "open_part", "part_name", "read_part"]

_WRITERS: dict[str, type[PartWriter]] = {
    writer.format: writer for writer in (TextPart, JsonlPart, CsvPart, ParquetPart, PicklePart)
}


def open_part(
    staging: Path | str | Target, staged: str, final: str, format: str, options: WriteOptions = PAIRS
) -> PartWriter:
    """Begin a part of the output.

    Args:
        staging: the output's staging folder, or where else the attempts of its job write.
        staged: the file's name for now, relative to ``staging``; no other attempt may use it.
        final: the name it gets if the attempt is accepted, as :func:`part_name` makes it.
        format: one of ``config.OUTPUT_FORMATS``, or ``pickle``, which only this engine reads.
        options: how it is written.

    Raises:
        DiskFull: no space is left there.
        OutputUnreachable: the object store does not answer.
    """
    target = open_target(staging) if isinstance(staging, (str, Path)) else staging
    return _writer_of(format)(target, staged, final, options)


def part_name(letter: str, index: int, format: str, compression: str = "") -> str:
    """``part-r-00000``, with a suffix for all formats but text, and one for a file that is compressed as a whole."""
    suffix = "" if format == "text" else f".{format}"
    packed = SUFFIXES.get(compression, "") if _writer_of(format).compresses else ""
    return f"part-{letter}-{index:05d}{suffix}{packed}"


def _writer_of(format: str) -> type[PartWriter]:
    if format == "orc":  # the libraries of these two are loaded when they are asked for
        from gristmill.storage.writers.orc import OrcPart

        return OrcPart
    if format == "avro":
        from gristmill.storage.writers.avro import AvroPart

        return AvroPart
    return _WRITERS[format]
