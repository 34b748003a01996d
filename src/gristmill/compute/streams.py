"""Streams of elements that come in pieces: whoever knows it takes a piece at a time, all others take the elements.

Who takes pieces looks at many elements at once. So it is not known which one was in work if user code fails; see
``Context.may_take_ahead``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from gristmill.compute.group import Group, decode_in_parts, groups
from gristmill.records.block import RecordBlock
from gristmill.shuffle.merge import Piece


class Pieced(Iterator[Any]):
    """A stream whose elements can be taken in pieces. It is used up in one way or in the other."""

    def __init__(self) -> None:
        self._elements: Iterator[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        if self._elements is None:
            self._elements = self._one_by_one()
        return self._elements

    def __next__(self) -> Any:
        return next(iter(self))

    def _one_by_one(self) -> Iterator[Any]:
        raise NotImplementedError


class Records(Pieced):
    """Records of files.

    Attributes:
        blocks: as a reader gives them; none holds a record that is malformed.
        advance: is to be told how many records, and how many bytes, of ``blocks`` are done.
    """

    def __init__(
        self,
        blocks: Iterator[RecordBlock],
        lists: Callable[[], Iterator[Iterator[Any]]],
        advance: Callable[[int, int], None],
    ) -> None:
        """``lists`` are the same records, block by block, for those who take them one by one."""
        super().__init__()
        self.blocks = blocks
        self.advance = advance
        self._lists = lists

    def _one_by_one(self) -> Iterator[Any]:
        return chain.from_iterable(self._lists())


class Groups(Pieced):
    """Groups, as they come out of an exchange.

    Attributes:
        pieces: the same, as Arrow arrays.
        on_rows: is to be told how many values of ``pieces`` are done.
    """

    def __init__(self, pieces: Iterator[Piece], on_rows: Callable[[int], None]) -> None:
        super().__init__()
        self.pieces = pieces
        self.on_rows = on_rows

    def _one_by_one(self) -> Iterator[Group]:
        return groups(self.pieces, self.on_rows)


class Columns(Pieced):
    """Elements of which mostly many together are an Arrow array.

    Attributes:
        columns: arrays that ``records.columns.decode_values`` makes elements of, none of them null; or lists of
            elements, where there is no such array.
    """

    def __init__(self, columns: Iterator[Any]) -> None:
        super().__init__()
        self.columns = columns

    def _one_by_one(self) -> Iterator[Any]:
        return chain.from_iterable(chain.from_iterable(map(_lists_of, self.columns)))


def _lists_of(column: Any) -> Iterator[list[Any]]:
    return iter((column,)) if isinstance(column, list) else decode_in_parts(column)
