"""What all writers of parts share: the file, batches of bounded size, full disks, giving up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from gristmill.config import KIB
from gristmill.errors import FailureReport, OutputUnencodable
from gristmill.storage.contracts import PartFile
from gristmill.storage.disk import translate_os_error

BATCH_ROWS = 4096  # of which the encoded form is held at once
_BUFFER_BYTES = 256 * KIB
_SHOWN_CHARS = 500


class PartWriter(ABC):
    """One part's file, written by one attempt. Made by :func:`~gristmill.storage.writers.open_part`."""

    def __init__(self, staging: Path, staged: str, final: str) -> None:
        self._staged = staged
        self._final = final
        self._path = staging / staged
        self._rows = 0
        self._closed = False
        with translate_os_error(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self._path.open("wb", buffering=_BUFFER_BYTES)

    def write(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Append pairs.

        Raises:
            OutputUnencodable: one of them does not fit the format.
            DiskFull: no space is left.
        """
        assert len(keys) == len(values), "a key for each value"
        with translate_os_error(self._path):
            for start in range(0, len(keys), BATCH_ROWS):
                stop = start + BATCH_ROWS
                self._write_batch(keys[start:stop], values[start:stop])
        self._rows += len(keys)

    def close(self) -> PartFile:
        """Complete the file.

        Raises:
            OutputUnencodable: a pair that was still held back does not fit the format.
            DiskFull: no space is left.
        """
        with translate_os_error(self._path):
            self._finish()
            size_bytes = self._file.tell()
            self._file.close()
        self._closed = True
        return PartFile(self._staged, self._final, self._rows, size_bytes)

    def discard(self) -> None:
        """Remove the file, unless it was closed. May be called at any time, and again."""
        if self._closed:
            return
        self._closed = True
        self._give_up()
        with suppress(OSError):  # a full disk fails once more here, and it does not matter now
            self._file.close()
        self._path.unlink(missing_ok=True)

    @abstractmethod
    def _write_batch(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Write at most BATCH_ROWS pairs."""

    def _finish(self) -> None:  # noqa: B027 - most formats hold nothing back
        """Write what was held back."""

    def _give_up(self) -> None:  # noqa: B027 - most formats hold nothing back
        """Let go of what was held back."""


def unencodable(format: str, problem: object, key: Any, value: Any, advice: str) -> OutputUnencodable:
    """The failure of a pair that does not fit ``format``."""
    pair = f"({_show(key)}, {_show(value)})"
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
