"""Writing parts of an output, and reading them back."""

from __future__ import annotations

from pathlib import Path

from gristmill.storage.writers.base import PartWriter
from gristmill.storage.writers.csv import CsvPart
from gristmill.storage.writers.jsonl import JsonlPart
from gristmill.storage.writers.parquet import ParquetPart
from gristmill.storage.writers.pickle import PicklePart
from gristmill.storage.writers.readback import read_part
from gristmill.storage.writers.text import TextPart

__all__ = ["PartWriter", "open_part", "part_name", "read_part"]

_WRITERS: dict[str, type[PartWriter]] = {
    "text": TextPart,
    "jsonl": JsonlPart,
    "csv": CsvPart,
    "parquet": ParquetPart,
    "pickle": PicklePart,
}


def open_part(staging: Path, staged: str, final: str, format: str) -> PartWriter:
    """Begin a part of the output.

    Args:
        staging: the output's staging folder.
        staged: the file's name for now, relative to ``staging``; no other attempt may use it.
        final: the name it gets if the attempt is accepted, as :func:`part_name` makes it.
        format: ``text``, ``csv``, ``jsonl``, ``parquet``, or ``pickle``, which only this engine reads.

    Raises:
        DiskFull: no space is left there.
    """
    return _WRITERS[format](staging, staged, final)


def part_name(letter: str, index: int, format: str) -> str:
    """``part-r-00000``, with a suffix for all formats but text."""
    suffix = "" if format == "text" else f".{format}"
    return f"part-{letter}-{index:05d}{suffix}"
