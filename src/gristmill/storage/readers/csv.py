"""``csv``: the first row names the columns, each later row is a record. Not split: quotes may hold line ends.

Without a header the columns are ``_1``, ``_2`` and so on, as many as the first row has.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import partial
from itertools import chain, pairwise
from typing import Any

from gristmill.errors import FailureReport, RecordTooLong
from gristmill.records.block import MalformedRecord, RecordBlock
from gristmill.storage.contracts import Split
from gristmill.storage.read_options import ReadOptions
from gristmill.storage.readers.blocks import (
    CHUNK_BYTES,
    Block,
    malformed_record,
    source_of,
    too_long_record,
    unreadable_file,
)
from gristmill.storage.readers.columns import missing_column
from gristmill.storage.readers.lines import line_chunks

Row = list[str] | csv.Error  # an Error where csv could not read the row


def read(split: Split, max_record_bytes: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[RecordBlock]:
    """The rows of a file, as dicts of strings. Empty rows are skipped."""
    csv.field_size_limit(max(csv.field_size_limit(), max_record_bytes))  # of the process; we only ever raise it
    options = ReadOptions.from_pairs(split.options)
    feed = _Feed(split, max_record_bytes, chunk_bytes, options.delimiter)
    reader = csv.reader(chain.from_iterable(feed.lines_of_chunks()), delimiter=options.delimiter)
    header = _header(reader, feed, options.header)
    if not header:
        return
    first = 1  # the header is the first row of the first block's bytes
    taken: list[Any] = []
    if not options.header:
        row, header, first = header, [f"_{number}" for number, _ in enumerate(header, 1)], 0
        taken = [dict(zip(header, row, strict=True))]
    if problem := missing_column(options, header):
        raise unreadable_file(feed.source, problem)
    while True:
        values, bad = _records(reader, feed, header, taken)
        if values:
            yield _block(values, bad, first, len(header), feed)
            feed.nbytes = 0
        if feed.ended:
            return
        feed.data = b""
        first, taken = 0, []


class _Feed:
    """Hands lines to csv.reader, a chunk at a time, and keeps the bytes since the last block was made."""

    def __init__(self, split: Split, max_record_bytes: int, chunk_bytes: int, delimiter: str) -> None:
        self.source = source_of(split)
        self.delimiter = delimiter
        self.max_record_bytes = max_record_bytes
        self.lines = 0  # handed over so far
        self.offset = 0  # of data in the file
        self.data = b""
        self.nbytes = 0
        self.ended = False
        self._first_bytes = 0  # of data: its first chunk
        # A row that is too long, but within a chunk, is set apart; one beyond that ends the file (_endless_row).
        self._chunks = line_chunks(split, chunk_bytes, max(max_record_bytes, chunk_bytes), to_end=True)

    def lines_of_chunks(self) -> Iterator[io.StringIO]:
        for chunk in self._chunks:
            # While there is data, a row that began in its first chunk goes on.
            row_bytes = max(len(self.data) - self._first_bytes, chunk.too_long)
            if row_bytes > self.max_record_bytes:
                raise self._endless_row(row_bytes)
            if not self.data:
                self.offset, self._first_bytes = chunk.offset, len(chunk.data)
            self.data += chunk.data
            self.nbytes += chunk.nbytes
            text = chunk.data.decode("utf-8", "surrogateescape")
            self.lines += text.count("\n") + (not text.endswith("\n"))
            yield io.StringIO(text, newline="\n")  # its lines keep their ends, which quotes need
        self.ended = True
        yield io.StringIO("\n", newline="\n")  # an empty row; or part of a row whose quote was never closed

    def _endless_row(self, size_bytes: int) -> RecordTooLong:
        return RecordTooLong(
            FailureReport(
                error="RecordTooLong",
                message=f"A row has no end within {size_bytes} bytes.",
                source=self.source,
                offset=self.offset,
                record=repr(self.data[:500].decode("utf-8", "surrogateescape")),
                advice="Is a quote not closed? If the row is right, give a larger --max-record-size.",
            )
        )


def _header(reader: Any, feed: _Feed, named: bool) -> list[str] | None:
    """The first row; None if the file has none.

    Args:
        reader: of csv.
        feed: what it reads.
        named: whether these are the names of the columns.
    """
    try:
        header: list[str] | None = next((row for row in reader if row), None)
    except csv.Error as error:
        what = "header" if named else "first row"
        raise unreadable_file(feed.source, f"its {what} is not csv ({error}).") from error
    for name in (header or ()) if named else ():
        if header and header.count(name) > 1:
            raise unreadable_file(feed.source, f"its header names the column {name!r} twice.")
    return header


def _records(reader: Any, feed: _Feed, header: list[str], values: list[Any]) -> tuple[list[Any], dict[int, Row]]:
    """The rows up to the end of the lines that ``feed`` handed over, and which of them are wrong, by index.

    ``values`` are those in front of them that were taken already.
    """
    bad: dict[int, Row] = {}
    width = len(header)
    already, unclosed = len(values), reader.line_num > feed.lines
    while True:
        try:
            for row in reader:
                if len(row) == width:
                    values.append(dict(zip(header, row, strict=False)))
                elif row:
                    bad[len(values)] = row
                    values.append(None)
                if reader.line_num >= feed.lines:
                    break
            break
        except csv.Error as error:  # the reader goes on with the next line
            bad[len(values)] = error
            values.append(None)
            if reader.line_num >= feed.lines:
                break
    # The row that feed adds at the end became part of the last one?
    if reader.line_num > feed.lines and values and (unclosed or len(values) > already):
        bad[len(values) - 1] = csv.Error("its last quote is never closed")
    return values, bad


def _block(values: list[Any], bad: dict[int, Row], first: int, width: int, feed: _Feed) -> Block:
    data, offset, limit = feed.data, feed.offset, feed.max_record_bytes
    malformed = 0
    if bad or len(data) > limit:  # only then can a row be too long
        starts = [*_starts(data, feed.delimiter), len(data)][first:]
        for index, (start, stop) in enumerate(pairwise(starts[: len(values) + 1])):
            raw = data[start:stop].rstrip(b"\r\n")
            if len(raw) > limit:
                values[index] = too_long_record(len(raw), limit, feed.source, offset + start, raw[:1024])
                malformed += 1
            elif index in bad:
                values[index] = _bad(bad[index], width, raw, feed.source, offset + start)
                malformed += 1
    locate = partial(_offset, data, offset, first, feed.delimiter)
    return Block(values, feed.nbytes, feed.source, locate, malformed)


def _bad(row: Row, width: int, raw: bytes, source: str, offset: int) -> MalformedRecord:
    if isinstance(row, csv.Error):
        problem = f"is not csv: {row}."
    else:
        problem = f"has {len(row)} fields; the header has {width}."
    return malformed_record(problem, source, offset, raw.decode("utf-8", "surrogateescape"))


def _offset(data: bytes, offset: int, first: int, delimiter: str, index: int) -> int:
    return offset + _starts(data, delimiter)[first + index]


def _starts(data: bytes, delimiter: str) -> list[int]:
    """Where the non-empty rows of ``data`` begin."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    reader = csv.reader((line.decode("utf-8", "surrogateescape") for line in lines), delimiter=delimiter)
    starts: list[int] = []
    position = line_number = 0
    while True:
        try:
            row: Row | None = next(reader, None)
        except csv.Error as error:
            row = error
        if row is None:
            return starts
        if row:
            starts.append(position)
        while line_number < reader.line_num:
            position += len(lines[line_number])
            line_number += 1
