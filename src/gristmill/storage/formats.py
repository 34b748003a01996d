"""Which reader reads which format."""

from __future__ import annotations

from collections.abc import Iterator

from gristmill.records.block import RecordBlock
from gristmill.storage.contracts import Split
from gristmill.storage.readers import csv, jsonl, parquet, text, whole

_READERS = {
    "text": text.read,
    "whole": whole.read,
    "csv": csv.read,
    "jsonl": jsonl.read,
    "parquet": parquet.read,
}


def open_split(split: Split, max_record_bytes: int) -> Iterator[RecordBlock]:
    """The records of a split, in order, in blocks of about 256 KiB of input.

    - ``text``: a record is a line without its end (LF or CRLF; a CR elsewhere stays), decoded as UTF-8 with
      surrogateescape. A UTF-8 byte order mark at the file's start is not part of the first line.
    - ``jsonl``: a record is the JSON value of a line; blank lines are skipped.
    - ``csv``: the first row names the columns; a record is a dict of strings. Empty rows are skipped.
    - ``whole``: one record: the file's name is the key, its content the value.
    - ``parquet``: a record is a dict.

    A record that cannot be read, or is longer than ``max_record_bytes``, is a ``MalformedRecord`` among the values.

    Raises:
        RecordMalformed: the file cannot be opened, is cut short, or is not what its format or suffix says.
        RecordTooLong: a csv row has no end within the limit.
    """
    return _READERS[split.format](split, max_record_bytes)
