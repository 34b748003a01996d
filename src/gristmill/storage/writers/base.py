"""What all writers of parts share: the file, batches of bounded size, full disks, giving up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gristmill.errors import FailureReport, OutputUnencodable
from gristmill.storage.contracts import PartFile
from gristmill.storage.targets import Target
from gristmill.storage.writers.compression import compressing
from gristmill.storage.writers.options import WriteOptions

if TYPE_CHECKING:
    import pyarrow as pa

    from gristmill.storage.writers.layout import Layout
    from gristmill.storage.writers.rows import ElementLayout

BATCH_ROWS = 4096  # of which the encoded form is held at once
_SHOWN_CHARS = 500


class PartWriter(ABC):
    """One part's file, written by one attempt. Made by :func:`~gristmill.storage.writers.open_part`.

    Attributes:
        rows: how many it was given.
    """

    format = ""
    compresses = False  # the file as a whole, as ``options`` say; other formats see to it themselves

    def __init__(self, target: Target, staged: str, final: str, options: WriteOptions) -> None:
        self._target = target
        self._staged = staged
        self._final = final
        self._options = options
        self.rows = 0
        self._closed = False
        with target.errors(staged):
            self._raw = target.create(staged)
            self._file = compressing(self._raw, options.compression) if self.compresses else self._raw

    @property
    def written_bytes(self) -> int:
        """How large the file is so far; what is held back is not counted. It follows from the rows alone."""
        return self._raw.tell()

    def write(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Append pairs.

        Raises:
            OutputUnencodable: one of them does not fit the format.
            DiskFull: no space is left.
            OutputUnreachable: the object store does not take it.
        """
        assert len(keys) == len(values), "a key for each value"
        with self._target.errors(self._staged):
            for start in range(0, len(keys), BATCH_ROWS):
                stop = start + BATCH_ROWS
                self._write_batch(keys[start:stop], values[start:stop])
        self.rows += len(keys)

    def write_column(self, column: pa.Array) -> bool:
        """Append elements that are there as an Arrow array; False if they are wanted as values.

        Raises:
            DiskFull: no space is left.
            OutputUnreachable: the object store does not take it.
        """
        with self._target.errors(self._staged):
            written = self._write_column(column)
        if written:
            self.rows += len(column)
        return written

    def close(self) -> PartFile:
        """Complete the file.

        Raises:
            OutputUnencodable: a pair that was still held back does not fit the format.
            DiskFull: no space is left.
            OutputUnreachable: the object store does not take it.
        """
        with self._target.errors(self._staged):
            self._finish()
            if self._file is not self._raw:
                self._file.close()
            size_bytes = self._raw.tell()
            self._raw.close()
        self._closed = True
        return PartFile(self._staged, self._final, self.rows, size_bytes)

    def discard(self) -> None:
        """Remove the file, unless it was closed. May be called at any time, and again."""
        if self._closed:
            return
        self._closed = True
        self._give_up()
        for file in (self._file, self._raw):
            with suppress(OSError):  # a full disk fails once more here, and it does not matter now
                file.close()
        self._target.remove(self._staged)

    def _layout_of(self, key: Any, value: Any) -> Layout | ElementLayout:
        """The columns, as the first pair or the options tell them."""
        from gristmill.storage.writers.layout import Layout
        from gristmill.storage.writers.rows import ElementLayout

        if not self._options.elements:
            return Layout(self.format, key, value)
        schema = self._options.arrow_schema()
        return ElementLayout(self.format, self._options.columns if schema is None else schema.names, value)

    @abstractmethod
    def _write_batch(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Write at most BATCH_ROWS pairs."""

    def _write_column(self, column: pa.Array) -> bool:  # noqa: ARG002 - most formats make a form of their own of each
        """Write elements that are an array, if the format can; at best as they are."""
        return False

    def _finish(self) -> None:  # noqa: B027 - most formats hold nothing back
        """Write what was held back."""

    def _give_up(self) -> None:  # noqa: B027 - most formats hold nothing back
        """Let go of what was held back."""


def unencodable(
    format: str, problem: object, key: Any, value: Any, advice: str, *, element: bool = False
) -> OutputUnencodable:
    """The failure of a pair, or of an element of a dataset, that does not fit ``format``."""
    pair = _show(value) if element else f"({_show(key)}, {_show(value)})"
    if element:
        advice = advice.replace(": --output-format jsonl", "").replace("Yield", "Write")
    return OutputUnencodable(
        FailureReport(
            error="OutputUnencodable",
            message=f"A record cannot be written as {format}: {problem}",
            record=pair[:_SHOWN_CHARS],
            advice=advice,
        )
    )


def first_failing(attempt: Callable[[int], object], count: int, errors: tuple[type[Exception], ...]) -> int:
    """The smallest index such that ``attempt(index + 1)``, over the rows up to it, raises; found by halving."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        try:
            attempt(middle + 1)
        except errors:
            high = middle
        else:
            low = middle + 1
    return low


def _show(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # a user's __repr__ may raise anything
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
