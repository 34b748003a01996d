"""What the rest of the house knows of input and output, as plain data."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PART = re.compile(r"(?:[^/]+=[^/]*/)*part-[mr]-\d{5,}[\w.\-]*|_bad_records/[mr]\d+-\d{5,}[\w.\-]*\.jsonl")


@dataclass(frozen=True)
class Split:
    """A range of one file that one task reads.

    ``text``: the records whose first byte lies in [start, start + length). A file that cannot be split (compressed,
    ``whole``, ``csv``) is one split from 0. ``parquet``, ``orc``: ``start`` and ``length`` count row groups or stripes.
    ``avro``: the blocks whose first byte lies in the range.
    """

    path: str  # or a URI, with all that is needed to open it
    start: int
    length: int
    size_bytes: int  # about how much input this is, for progress and for choosing the number of reducers
    format: str
    name: str = ""  # the file as the user named it, for people and as the key of ``whole``; ``path`` is absolute
    hosts: tuple[
        str, ...
    ] = ()  # machines that are near the data, as a storage names them; the task would best run there
    options: tuple[tuple[str, str], ...] = ()  # further wishes of its reader; see ``read_options``


Splits = tuple[tuple[tuple[Split, ...], ...], ...]
"""What is read of each of a job's inputs, by each of the tasks that read it."""


@dataclass(frozen=True)
class PartFile:
    """A file that an attempt wrote into the staging folder, and the name it gets if the attempt is accepted."""

    staged: str  # relative to the staging folder
    final: str  # relative to the output folder, such as "part-r-00000" or "_bad_records/r-00000.jsonl"
    rows: int
    size_bytes: int


def is_below(path: str) -> bool:
    """Whether a path that is relative to a folder stays in it, by its name."""
    parts = path.replace("\\", "/").split("/")
    return parts[0] != "" and ".." not in parts


def is_part_name(name: str) -> bool:
    """Whether a file of an output can have this name: ``part-r-00000.csv``, in folders such as ``year=2024``."""
    return _PART.fullmatch(name) is not None and is_below(name)


def is_written(part: PartFile) -> bool:
    """Whether a part is where attempts write, and gets a name that files of outputs have."""
    staged = part.staged.startswith("attempts/") or is_part_name(part.staged)
    return staged and is_below(part.staged) and is_part_name(part.final)
