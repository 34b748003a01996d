"""Parts of an output, read back as the pairs they were written from, as far as their format keeps them."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gristmill.records.block import MalformedRecord
from gristmill.storage.contracts import Split
from gristmill.storage.readers.blocks import CHUNK_BYTES
from gristmill.storage.readers.lines import line_chunks
from gristmill.storage.writers.layout import KEY_VALUE

Pairs = tuple[list[Any], list[Any]]


def read_part(path: Path, format: str) -> Iterator[Pairs]:
    r"""A part's pairs in chunks of ``(keys, values)``.

    - ``text``: strings, split at the first tab, with ``\t`` and ``\n`` turned back (a backslash that was in the data
      in front of a ``t`` or ``n`` is not told apart); a line without a tab is ``(None, line)``.
    - ``csv``: strings; dicts under the key None unless the columns are ``key`` and ``value``.
    - ``jsonl``, ``parquet``: JSON's and Arrow's types; likewise dicts under the key None.
    - ``pickle``: the objects.

    Raises:
        RecordMalformed: the file is not whole.
    """
    if format == "pickle":
        return _read_pickle(path)
    if format == "text":
        return _read_text(path)
    return _read_records(path, format)


def _read_pickle(path: Path) -> Iterator[Pairs]:
    with path.open("rb") as file:
        while file.peek(1):
            yield pickle.load(file)


def _read_text(path: Path) -> Iterator[Pairs]:
    size_bytes = path.stat().st_size
    split = Split(str(path), 0, size_bytes, size_bytes, "text")
    for chunk in line_chunks(split, CHUNK_BYTES, sys.maxsize, to_end=True, keep_mark=True):
        keys: list[Any] = []
        values: list[Any] = []
        for line in chunk.data.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n"):
            key, tab, value = line.partition("\t")
            keys.append(_unescaped(key) if tab else None)
            values.append(_unescaped(value if tab else key))
        yield keys, values


def _unescaped(text: str) -> str:
    return text.replace("\\t", "\t").replace("\\n", "\n") if "\\" in text else text


def _read_records(path: Path, format: str) -> Iterator[Pairs]:
    from gristmill.storage.formats import open_split
    from gristmill.storage.inputs import InputFile, plan_tasks

    size_bytes = path.stat().st_size
    for task in plan_tasks([InputFile(str(path), size_bytes, format, str(path))], max(size_bytes, 1)):
        for split in task:
            for block in open_split(split, sys.maxsize):
                yield _pairs(block.values)


def _pairs(records: Any) -> Pairs:
    keys: list[Any] = []
    values: list[Any] = []
    for record in records:
        if isinstance(record, MalformedRecord):
            raise record.error
        if isinstance(record, dict) and tuple(record) == KEY_VALUE:
            keys.append(record["key"])
            values.append(record["value"])
        else:
            keys.append(None)
            values.append(record)
    return keys, values
