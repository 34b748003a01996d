"""Which reader reads which format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gristmill.config import CHECKPOINT_FORMAT
from gristmill.records.block import RecordBlock
from gristmill.storage.contracts import Split
from gristmill.storage.read_options import ReadOptions
from gristmill.storage.readers import avro, csv, jsonl, orc, parquet, pickle, text, whole
from gristmill.storage.readers.shape import shaped

if TYPE_CHECKING:
    import pyarrow as pa

_READERS: dict[str, Callable[[Split, int], Iterator[RecordBlock]]] = {
    "text": text.read,
    "whole": whole.read,
    "csv": csv.read,
    "jsonl": jsonl.read,
    "parquet": parquet.read,
    "orc": orc.read,
    "avro": avro.read,
    CHECKPOINT_FORMAT: pickle.read,
}
_BY_RECORD = ("csv", "jsonl", "avro")  # formats whose readers know nothing of columns
_BATCHES = {"parquet": parquet.read_batches, "orc": orc.read_batches}


def open_split(split: Split, max_record_bytes: int) -> Iterator[RecordBlock]:
    """The records of a split, in order, in blocks of about 256 KiB of input.

    - ``text``: a record is a line without its end (LF or CRLF; a CR elsewhere stays), decoded as UTF-8 with
      surrogateescape. A UTF-8 byte order mark at the file's start is not part of the first line.
    - ``jsonl``: a record is the JSON value of a line; blank lines are skipped.
    - ``csv``: the first row names the columns; a record is a dict of strings. Empty rows are skipped.
    - ``whole``: one record: the file's name is the key, its content the value.
    - ``parquet``, ``orc``: a record is a dict.
    - ``avro``: a record is what its schema says, mostly a dict.
    - ``pickle``: a record is the object that it was. Only programs ask for it: who reads a pickle trusts its writer.

    Dicts hold what the split's options say: all columns or some, those of the file's folders too, and only records
    that the filter keeps. A block may thus be empty.

    A record that cannot be read, or is longer than ``max_record_bytes``, is a ``MalformedRecord`` among the values.

    Raises:
        RecordMalformed: the file cannot be opened, is cut short, or is not what its format or suffix says.
        RecordTooLong: a csv row has no end within the limit.
        InputUnreachable: the storage of the file does not give it.
    """
    blocks = _READERS[split.format](split, max_record_bytes)
    if split.options and split.format in _BY_RECORD:
        return shaped(blocks, ReadOptions.from_pairs(split.options))
    return blocks


def has_batches(format: str) -> bool:
    """Whether :func:`open_batches` takes a format."""
    return format in _BATCHES


def open_batches(split: Split) -> Iterator[pa.RecordBatch]:
    """The same records as Arrow's batches, for ``parquet`` and ``orc``. None is empty.

    Raises:
        RecordMalformed: the file cannot be opened, is cut short, or is not what its format says.
        InputUnreachable: the storage of the file does not give it.
    """
    return _BATCHES[split.format](split)
