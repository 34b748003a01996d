"""Inputs that are made of values at hand: what travels with the job's code to those who compute with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

DEFAULT_PARTITIONS = 8  # never the number of CPUs: the same code gives the same bytes everywhere
_ROWS = 4096


def partitions_for(count: int, partitions: int | None) -> int:
    """Into how many parts so many elements are cut: by default 8, but none of them empty."""
    return partitions or min(DEFAULT_PARTITIONS, max(count, 1))


def bounds(count: int, partitions: int) -> list[tuple[int, int]]:
    """Where each part begins and ends: as even as can be."""
    edges = [count * part // partitions for part in range(partitions + 1)]
    return list(pairwise(edges))


class Items:
    """Any Python objects. Each part is pickled by itself: a task loads no more than its own."""

    def __init__(self, items: Sequence[Any], partitions: int) -> None:
        import cloudpickle

        # Now rather than when the job starts: changes to the objects after this are not seen, wherever it runs.
        self._parts = [cloudpickle.dumps(list(items[begin:end])) for begin, end in bounds(len(items), partitions)]

    def make(self, task: int) -> Iterator[Any]:
        """The items of one part."""
        import pickle

        return iter(pickle.loads(self._parts[task]))


class Numbers:
    """A range of whole numbers."""

    def __init__(self, numbers: range, partitions: int) -> None:
        self._numbers = numbers
        self._bounds = bounds(len(numbers), partitions)

    def make(self, task: int) -> Iterator[int]:
        """The numbers of one part."""
        begin, end = self._bounds[task]
        return iter(self._numbers[begin:end])


class Rows:
    """The rows of an Arrow table, as dicts."""

    def __init__(self, table: pyarrow.Table, partitions: int) -> None:
        self._parts = [_as_bytes(table.slice(begin, end - begin)) for begin, end in bounds(len(table), partitions)]

    def make(self, task: int) -> Iterator[dict[str, Any]]:
        """The rows of one part."""
        import pyarrow as pa

        with pa.ipc.open_stream(self._parts[task]) as reader:
            for batch in reader:
                yield from batch.to_pylist()


def _as_bytes(table: pyarrow.Table) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=_ROWS)
    return bytes(sink.getvalue())
