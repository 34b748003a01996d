"""What csv, jsonl and avro have in common: records as dicts, with the columns of a file's folders, and filtered."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from gristmill.records.block import MalformedRecord, RecordBlock
from gristmill.storage.pruning import NotComparable
from gristmill.storage.read_options import ReadOptions
from gristmill.storage.readers.blocks import Block, malformed_record, unreadable_file


def shaped(blocks: Iterator[RecordBlock], options: ReadOptions) -> Iterator[RecordBlock]:
    """The records that the filter keeps, with the columns that records have. A record lacks what it does not hold.

    Raises:
        RecordMalformed: the filter compares what has no order.
    """
    if options.columns is None and not options.filter and not options.partitions:
        yield from blocks
        return
    shaper = _Shaper(options)
    for block in blocks:
        yield shaper.shape(block)


class _Shaper:
    def __init__(self, options: ReadOptions) -> None:
        self._columns = options.columns
        self._tests = [(condition.column, condition.test()) for condition in options.filter]
        self._by_folder = {name: value for name, _, value in options.partitions}
        self._plain = options.columns is None and not options.filter  # then a record need not be a dict

    def shape(self, block: RecordBlock) -> Block:
        values: list[Any] = []
        places: list[int] = []
        malformed = 0
        for place, value in enumerate(block.values):
            if isinstance(value, dict):
                record = {**value, **self._by_folder} if self._by_folder else value
                if self._tests and not self._holds(record, block.source):
                    continue
                if self._columns is not None:
                    record = {name: record[name] for name in self._columns if name in record}
                values.append(record)
            elif isinstance(value, MalformedRecord) or self._plain:
                malformed += isinstance(value, MalformedRecord)
                values.append(value)
            else:
                what = "is no object, so it has none of the columns that were asked for."
                values.append(malformed_record(what, block.source, block.offset_of(place), repr(value)))
                malformed += 1
            places.append(place)
        return Block(values, block.nbytes, block.source, partial(_offset, block, places), malformed, block.key)

    def _holds(self, record: dict[str, Any], source: str) -> bool:
        for column, test in self._tests:
            try:
                if not test(record.get(column)):
                    return False
            except NotComparable as error:
                raise unreadable_file(source, f"its column {column!r} {error}.") from error
        return True


def _offset(block: RecordBlock, places: list[int], index: int) -> int:
    return block.offset_of(places[index])
