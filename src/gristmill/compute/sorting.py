"""What goes into a sort, and what comes out of it, many elements at a time.

An element of a plain type that is its own key does not travel twice: None stands for it beside its key.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from itertools import islice
from operator import is_
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gristmill.compute.group import groups
from gristmill.compute.pieces import Piece as Expression
from gristmill.compute.pieces import piece_of
from gristmill.compute.streams import Pieced, Records
from gristmill.records.columns import PICKLED
from gristmill.records.lines import decode_lines, encode_lines
from gristmill.shuffle.groups import INT, STR, lists_of, one_key_batch, row_count
from gristmill.shuffle.merge import HotGroup, Piece

PLAIN = frozenset((str, int, bytes))
"""Types of elements that need not travel a second time beside a key that is the same."""

_CHUNK = 4096
_TYPES = {STR: pa.string(), INT: INT}  # of the elements that are keys of a kind


class Blank(Enum):
    """Stands for an element that is None, because None stands for an element that is its own key."""

    NONE = None


class Sortable(Pieced):
    """Pairs (key, element) that are to be sorted."""

    def __init__(self, elements: Iterator[Any], key: Callable[[Any], Any]) -> None:
        super().__init__()
        self._source = elements
        self._key = key

    def _one_by_one(self) -> Iterator[Any]:
        return pairs_of(self._key, self._source)

    def chunks(self) -> Iterator[tuple[Any, Any]]:
        """Keys and elements; either of them an Arrow array, or a list."""
        if isinstance(self._source, Records):
            yield from self._chunks_of_files(self._source)
            return
        while elements := list(islice(self._source, _CHUNK)):
            yield self._keyed(elements)

    def _chunks_of_files(self, records: Records) -> Iterator[tuple[Any, Any]]:
        column_key = column_key_of(self._key)
        for block in records.blocks:
            column = None if block.lines is None else encode_lines(block.lines)
            if column is None or block.lines is None:
                values = block.values
                elements = list(values) if block.key is None else [(block.key, value) for value in values]
                yield self._keyed(elements)
                records.advance(len(elements), block.nbytes)
                continue
            if column_key is not None:
                yield column_key(column, block.lines)
            else:
                lines = decode_lines(block.lines)
                keys = list(map(self._key, lines))
                yield keys, (_without_keys(keys, lines) if any(map(is_, keys, lines)) else column)
            records.advance(len(column), block.nbytes)

    def _keyed(self, elements: list[Any]) -> tuple[list[Any], list[Any]]:
        keys = list(map(self._key, elements))
        plain = type(None) not in set(map(type, elements)) and not any(map(is_, keys, elements))
        return keys, elements if plain else _without_keys(keys, elements)


def pairs_of(function: Callable[[Any], Any], elements: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Pairs (key, element), one by one."""
    for element in elements:
        key = function(element)
        yield key, _beside(key, element)


def _without_keys(keys: list[Any], elements: list[Any]) -> list[Any]:
    return list(map(_beside, keys, elements))


def _beside(key: Any, element: Any) -> Any:
    if key is element and type(element) in PLAIN:
        return None
    return Blank.NONE if element is None else element


# Keys that need no Python objects

ColumnKey = Callable[[Any, bytes], tuple[Any, Any]]

_NO_END = 2**31 - 1  # without an end, Arrow 26 takes each value for at least as long as what is cut off, and miscounts


def column_key_of(function: Any) -> ColumnKey | None:
    """What makes keys of lines as an Arrow array, and of what they were made; with it come the lines beside the keys.

    Returns:
        None if the function is not known to give the line itself, or its first characters.
    """
    piece = piece_of(function, 1)
    if piece is None or not piece.plain:
        return None
    match piece.body:
        case ast.Name(id=name) if name == piece.parameters[0]:
            return lambda column, _lines: (column.view(STR), pa.nulls(len(column)))
        case ast.Subscript(ast.Name(id=name), ast.Slice(lower, upper, None)) if name == piece.parameters[0]:
            begin, end = _number(piece, lower, 0), _number(piece, upper, None)
            if begin is None or (end is None and upper is not None):
                return None
            return lambda column, lines: (_sliced(column, lines, begin, end), column)
    return None


def _number(piece: Expression, node: ast.expr | None, missing: int | None) -> int | None:
    """What an expression is, if that is known, and no number from the end."""
    match node:
        case None:
            return missing
        case ast.Constant(value):
            found = value
        case ast.Name(id=name) if name in piece.values:
            found = piece.values[name]
        case ast.Name(id=name) if name in piece.cells:
            found = piece.cells[name].cell_contents
        case ast.Name(id=name):
            found = piece.home.globals.get(name)
        case _:
            found = None
    return found if type(found) is int and found >= 0 else None


def _sliced(column: Any, lines: bytes, begin: int, end: int | None) -> Any:
    if lines.isascii():
        return pc.binary_slice(column.view(STR), begin, _NO_END if end is None else end)
    return pc.utf8_slice_codeunits(column, begin, end).view(STR)


# What comes out of a sort


def sorted_columns(pieces: Iterable[Piece], on_rows: Callable[[int], None]) -> Iterator[Any]:
    """The elements of sorted pairs, see ``compute.streams.Columns``."""
    for piece in pieces:
        if isinstance(piece, HotGroup):
            batches: Iterable[Any] = (one_key_batch(piece.row, array) for array in piece.arrays)
        else:
            batches = (piece,)
        for batch in batches:
            column = _elements_of(batch)
            if column is None:
                yield from _in_lists(batch)
            else:
                yield column
            on_rows(row_count(batch))


def _elements_of(batch: Any) -> Any:
    """The elements of a batch as an array, if that is simple."""
    values = lists_of(batch).flatten()
    if values.type == PICKLED:
        return None
    if not values.null_count:
        return values
    kind = batch.schema.field(0).type
    if kind not in _TYPES or values.type not in (pa.null(), _TYPES[kind]):
        return None
    try:
        keys = batch.column(0).cast(_TYPES[kind])
    except pa.ArrowInvalid:  # what surrogateescape kept
        return None
    if len(keys) != len(values):
        keys = keys.take(pc.list_parent_indices(lists_of(batch)))
    return keys if values.type == pa.null() else pc.coalesce(values, keys)


def _in_lists(batch: Any) -> Iterator[list[Any]]:
    elements = sorted_elements(groups([batch]))
    while some := list(islice(elements, _CHUNK)):
        yield some


def sorted_elements(grouped: Iterable[tuple[Any, Iterable[Any]]]) -> Iterator[Any]:
    """The elements of the groups of sorted pairs, one by one."""
    for key, values in grouped:
        for value in values:
            if value is None:
                yield itself(key)
            else:
                yield None if value is Blank.NONE else value


def itself(key: Any) -> Any:
    """The element of a plain type that was a group's key, though another one that is equal to it may be shown."""
    kind = type(key)
    if kind in PLAIN or key is None:
        return key
    if isinstance(key, str):
        return str.__str__(key)  # not what a subclass says it is
    return bytes(key) if isinstance(key, bytes) else int(key)
