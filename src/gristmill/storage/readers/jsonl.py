"""``jsonl``: a JSON value a line. Cut into splits as text is, since a JSON value never holds a bare line end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from gristmill.records.block import MalformedRecord, RecordBlock
from gristmill.storage.contracts import Split
from gristmill.storage.readers.blocks import CHUNK_BYTES, Block, malformed_record, source_of, too_long_record
from gristmill.storage.readers.lines import LineChunk, decode_lines, line_chunks, nonblank_offset, offset_of_line


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
    scan = json.JSONDecoder().scan_once  # json.loads without its look-ups; white space is ours to strip
    locate = partial(nonblank_offset, chunk)
    values: list[Any] = []
    malformed = 0
    for line in decode_lines(chunk.data):
        text = line.strip()
        if not text:
            continue
        try:
            value, stop = scan(text, 0)
            if stop != len(text):
                value = _bad("has more behind its JSON value.", locate(len(values)), source, line)
        except StopIteration:
            value = _bad("is not JSON.", locate(len(values)), source, line)
        except (ValueError, RecursionError) as error:
            value = _bad(f"is not JSON: {error}.", locate(len(values)), source, line)
        if isinstance(value, MalformedRecord):
            malformed += 1
        values.append(value)
    return Block(values, chunk.nbytes, source, locate, malformed) if values else None


def _bad(message: str, offset: int, source: str, line: str) -> MalformedRecord:
    return malformed_record(message, source, offset, line, "Each line must hold one JSON value.")
