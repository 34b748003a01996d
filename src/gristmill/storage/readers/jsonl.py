"""``jsonl``: a JSON value a line. Cut into splits as text is, since a JSON value never holds a bare line end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from gristmill.records.block import RecordBlock
from gristmill.records.lines import decode_lines
from gristmill.storage.contracts import Split
from gristmill.storage.readers.blocks import CHUNK_BYTES, Block, malformed_record, source_of, too_long_record
from gristmill.storage.readers.lines import LineChunk, line_chunks, nonblank_offsets, offset_of_line

_ADVICE = "Each line must hold one JSON value."


def read(split: Split, max_record_bytes: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[RecordBlock]:
    """The JSON values of a split."""
    source = source_of(split)
    for chunk in line_chunks(split, chunk_bytes, max_record_bytes):
        if chunk.too_long:
            bad = too_long_record(chunk.too_long, max_record_bytes, source, chunk.offset, chunk.data)
            yield Block([bad], chunk.nbytes, source, partial(offset_of_line, chunk), malformed=1)
        elif block := _parse(chunk, source):
            yield block


def _parse(chunk: LineChunk, source: str) -> Block | None:
    decoder: Any = json.JSONDecoder()
    scan = decoder.scan_once  # json.loads without its look-ups; white space is ours to strip
    values: list[Any] = []
    bad: list[tuple[int, str]] = []  # index in values, what is wrong
    lines = [line for line in decode_lines(chunk.data) if line.strip(" \t\r")]
    for line in lines:
        text = line.strip(" \t\r")
        try:
            value, stop = scan(text, 0)
            if stop != len(text):
                bad.append((len(values), "has more behind its JSON value."))
        except StopIteration:
            value = None
            bad.append((len(values), "is not JSON."))
        except (ValueError, RecursionError) as error:
            value = None
            bad.append((len(values), f"is not JSON: {error}."))
        values.append(value)
    offsets = nonblank_offsets(chunk) if bad else []
    for index, problem in bad:
        values[index] = malformed_record(problem, source, offsets[index], lines[index], _ADVICE)
    return Block(values, chunk.nbytes, source, partial(_offset, chunk), len(bad)) if values else None


def _offset(chunk: LineChunk, index: int) -> int:
    return nonblank_offsets(chunk)[index]
