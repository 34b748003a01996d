"""Records written down as they are, in their order: a block of one partition, and back.

A batch of rows is a grouped batch whose one key says nothing. So rows are stored, checked, served and fetched as all
blocks are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from gristmill.compute.culprit import encode_or_refuse
from gristmill.compute.group import decode_in_parts
from gristmill.compute.weight import weight
from gristmill.shuffle.blocks import BlockWriter
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.groups import INT, lists_of, make_batch

_BATCH_BYTES = 512 * 1024  # as Python holds them; encoded they are less
_BATCH_ROWS = 16 * 1024
_TAKEN = 64  # records taken between two looks at their size
_SAMPLE = 4


class RowsWriter:
    """Writes the records of one attempt, with no more of them in memory than a batch.

    A block without rows makes no file.

    Args:
        target: where the finished block appears.
        compressed: whether it is to take less room, and more time.
    """

    spilled_bytes = 0  # nothing is written twice

    def __init__(self, target: Path, compressed: bool = False) -> None:
        self._writer = BlockWriter(target, 1, compressed=compressed)
        self._pending: list[Any] = []
        self._pending_bytes = 0
        self._taken = _TAKEN

    def consume(self, records: Iterator[Any]) -> None:
        """Take all of ``records``.

        Raises:
            UserCodeError: one of them cannot be pickled.
        """
        pending = self._pending
        while some := list(islice(records, self._taken)):
            pending += some
            sample = some[:: len(some) // _SAMPLE + 1]
            each = 8 + sum(map(weight, sample)) // len(sample)
            self._taken = max(1, min(_TAKEN, _BATCH_BYTES // each))
            self._pending_bytes += each * len(some)
            if self._pending_bytes >= _BATCH_BYTES or len(pending) >= _BATCH_ROWS:
                self._flush()

    def finish(self) -> BlockInfo:
        """Write what is left, and give the block its name."""
        if self._pending:
            self._flush()
        return self._writer.finish()

    def discard(self) -> None:
        """Leave nothing. Does nothing after :meth:`finish`."""
        self._writer.discard()

    def _flush(self) -> None:
        pending = self._pending
        self._writer.write(0, make_batch(INT, [0], [0], [len(pending)], encode_or_refuse(pending)))
        pending.clear()
        self._pending_bytes = 0


def read_rows(batches: Iterable[Any]) -> Iterator[list[Any]]:
    """The records of a block that a RowsWriter made, a bounded list at a time.

    Args:
        batches: from ``shuffle.blocks.read_segment(block, 0)``.
    """
    for batch in batches:
        yield from decode_in_parts(lists_of(batch).flatten())
