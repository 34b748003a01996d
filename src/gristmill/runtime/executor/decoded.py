"""What tasks of this process have decoded, for those that read the same again. It is only a hint: it may be gone.

User code may change what it is given. So of the rows that a session keeps only those are held that cannot be changed,
or of which a copy costs little: elements of plain types, tuples of these, and pairs of such a key and a list of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from itertools import chain
from typing import Any

_UNCHANGING = frozenset((str, bytes, int, float, complex, bool, type(None), date, datetime))
_DEPTH = 3


class Decoded:
    """Made values by what they were made of; the least recently used goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, ...], tuple[int, Any]] = OrderedDict()

    def get(self, identity: tuple[str, ...], size: int, limit: int, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, or gave before.

        Args:
            identity: what it is made of.
            size: about how many bytes it takes.
            limit: how many bytes all may take.
            make: makes it.
        """
        if identity in self._kept:
            self._kept.move_to_end(identity)
            return self._kept[identity][1]
        made = make()
        if size <= limit:
            self._kept[identity] = size, made
            while sum(size for size, _ in self._kept.values()) > limit:
                self._kept.popitem(last=False)
        return made


class Rows:
    """Elements that many tasks may be given.

    Attributes:
        elements: all of them.
        has_lists: they are pairs with a list each, of which everybody gets a copy.
    """

    def __init__(self, elements: list[Any], has_lists: bool) -> None:
        self.elements = elements
        self.has_lists = has_lists

    def __iter__(self) -> Iterator[Any]:
        if self.has_lists:
            return ((key, values[:]) for key, values in self.elements)
        return iter(self.elements)


def rows_to_share(elements: Iterable[Any]) -> Rows | None:
    """The elements, if they can be given to many tasks."""
    held = list(elements)
    if _is_unchanging(held, _DEPTH):
        return Rows(held, has_lists=False)
    if not all(type(element) is tuple and len(element) == 2 and type(element[1]) is list for element in held):
        return None
    if not _is_unchanging([key for key, _ in held], _DEPTH):
        return None
    if not _is_unchanging(list(chain.from_iterable(values for _, values in held)), _DEPTH):
        return None
    # Equal strings become one: that takes less memory, and whoever looks them up finds them sooner.
    names: dict[str, str] = {}
    shared = [(key, [names.setdefault(v, v) if type(v) is str else v for v in values]) for key, values in held]
    return Rows(shared, has_lists=True)


def _is_unchanging(values: list[Any], depth: int) -> bool:
    types = set(map(type, values))
    if tuple not in types:
        return types <= _UNCHANGING
    if not depth or not types - {tuple} <= _UNCHANGING:
        return False
    return _is_unchanging([item for value in values if type(value) is tuple for item in value], depth - 1)
