"""Brings segments of one keeper (a worker, or shared storage) into one file, however the way is.

Each segment is checked as soon as it is whole. What came before a call broke is not asked for again. A segment that
arrives damaged is: it may have been damaged on its way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from gristmill.config import KIB, MIB
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.shuffle.request import GONE, MAX_REQUEST_PIECES, Piece, Request

SMALL_BATCH_BYTES = 64 * KIB  # after a call without any progress: the way may be slow
_PAUSE_SECONDS = 0.1
_LEAST_REQUEST_BYTES = MIB


@dataclass(frozen=True)
class FetchSettings:
    """How much may be in flight, and how patient to be.

    Attributes:
        budget_bytes: in flight together, from all keepers.
        call_seconds: the deadline of a call. What came until then counts; doubled for a call that follows one in vain.
        tries: calls in a row without progress, until a keeper counts as out of reach.
        backoff_seconds: before the second of them; doubled each time.
        faults: how often a segment may arrive damaged, until it counts as damaged where it lies.
        grace_seconds: after the first block that is bad: how long to look for others.
        request_bytes: of one call, so that its deadline can be a short one; after a call in vain it is a quarter.
    """

    budget_bytes: int = 32 * MIB
    call_seconds: float = 6.0
    tries: int = 4
    backoff_seconds: float = 0.25
    faults: int = 3
    grace_seconds: float = 2.0
    request_bytes: int = 64 * MIB


class Vain(Exception):
    """A call broke, and may go better next time."""


Answer = Iterator[tuple[int, Any, str | None]]
"""Rows: the place of a piece in the request, some of its bytes (a buffer), why no more of it come."""

Call = Callable[[Request, float], Answer]
"""Asks a keeper: a request, and the seconds until it must be answered. Raises Vain."""


@dataclass
class Wanted:
    """A segment on its way."""

    block: BlockInfo
    segment: SegmentInfo
    target: int  # where it begins in the file
    received: int = 0
    crc: int = 0
    faults: int = 0
    done: bool = False  # whole, or known to be bad

    @property
    def left(self) -> int:
        """Bytes that have not come."""
        return self.segment.length - self.received


@dataclass
class BadBlocks:
    """Blocks that cannot be had, each with what is wrong. The transfers of an attempt share it."""

    corrupt: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    unreachable: dict[str, str] = field(default_factory=dict)
    give_up_at: float | None = None

    @property
    def is_over(self) -> bool:
        """The attempt has failed, and the time to look for others that are bad has passed."""
        return self.give_up_at is not None and time.monotonic() > self.give_up_at


class Transfer:
    """All that is wanted of one keeper.

    Args:
        keeper: for people: who it is.
        path: the file to write.
        wanted: the segments.
        call: asks the keeper.
        template: a request without pieces.
        settings: how patient to be.
        bad: takes what cannot be had.
    """

    def __init__(
        self,
        keeper: str,
        path: Path,
        wanted: Sequence[Wanted],
        call: Call,
        template: Request,
        settings: FetchSettings,
        bad: BadBlocks,
    ) -> None:
        self._keeper, self._path = keeper, path
        self._pending = list(wanted)
        self._call, self._template = call, template
        self._settings, self._bad = settings, bad
        self._position = 0  # of the file
        self._most_bytes = settings.request_bytes  # of a call

    def run(self) -> None:
        """Go on until everything is there, or known to be bad.

        Raises:
            OSError: the file cannot be written; it is named.
        """
        try:
            with self._path.open("wb") as file:
                self._run(file)
        except OSError as error:
            error.filename = error.filename or str(self._path)
            self._bad.give_up_at = time.monotonic()  # the attempt has failed: the others need not go on
            raise

    def _run(self, file: BinaryIO) -> None:
        vain = 0
        while self._pending and not self._bad.is_over:
            before = self._outstanding()
            why = self._ask(file, vain)
            self._pending = [one for one in self._pending if not one.done]
            if self._outstanding() < before:
                vain = 0
                continue
            vain += 1
            self._most_bytes = max(self._most_bytes // 4, _LEAST_REQUEST_BYTES)  # it may have been too much
            if vain >= self._settings.tries:
                message = f"{self._keeper} cannot be read from: {why}."
                self._note(self._bad.unreachable, [one.block for one in self._pending], message)
                return
            self._pause(self._settings.backoff_seconds * 2 ** (vain - 1))

    def _outstanding(self) -> tuple[int, int]:
        """Segments and bytes that have to come. A segment that must come again is progress too, but a bounded one."""
        limit = self._settings.faults
        bytes_left = sum(one.segment.length * (limit - one.faults) - one.received for one in self._pending)
        return len(self._pending), bytes_left

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._bad.is_over and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _PAUSE_SECONDS))

    def _ask(self, file: BinaryIO, vain: int) -> str:
        """One call, for as much as one may ask for. Returns what was wrong with it, in case nothing came."""
        asked: list[Wanted] = []
        pieces: list[Piece] = []
        room = self._most_bytes
        for one in self._pending:
            if room <= 0 or len(asked) >= MAX_REQUEST_PIECES:
                break
            asked.append(one)
            pieces.append(Piece(one.block.path, one.segment.offset + one.received, min(one.left, room)))
            room -= one.left
        batch_bytes = min(self._template.batch_bytes, SMALL_BATCH_BYTES) if vain else self._template.batch_bytes
        seconds = self._settings.call_seconds * 2**vain
        request = replace(self._template, pieces=tuple(pieces), batch_bytes=batch_bytes, seconds=seconds)
        try:
            with closing(self._call(request, seconds)) as answer:  # type: ignore[type-var]
                for place, data, error in answer:
                    if not 0 <= place < len(asked) or asked[place].done:
                        raise Vain("it sends what it was not asked for")
                    self._take(asked[place], data, error, file)
        except Vain as reason:
            return str(reason)
        return "it sends less than it was asked for"

    def _take(self, one: Wanted, data: Any, error: str | None, file: BinaryIO) -> None:
        path = one.block.path
        if error is not None:
            one.done = True
            if error == GONE:
                self._note(self._bad.missing, [one.block], f"The block {path} is gone from {self._keeper}.")
            else:
                self._note(self._bad.corrupt, [one.block], f"The block {path} of {self._keeper} is damaged: {error}.")
            return
        if len(data) > one.left:
            self._fault(one, "it is longer than it should be")
            raise Vain("it sends more than it was asked for")
        if self._position != one.target + one.received:
            file.seek(one.target + one.received)
        file.write(data)
        one.crc = crc32(data, one.crc)
        one.received += len(data)
        self._position = one.target + one.received
        if not one.left:
            if one.crc == one.segment.crc32:
                one.done = True
            else:
                self._fault(one, "its checksum is wrong")

    def _fault(self, one: Wanted, why: str) -> None:
        """It arrived damaged: once more, or it is damaged where it lies."""
        one.received = one.crc = 0
        one.faults += 1
        if one.faults >= self._settings.faults:
            one.done = True
            message = f"The block {one.block.path} of {self._keeper} is damaged: {why}, {one.faults} times in a row."
            self._note(self._bad.corrupt, [one.block], message)

    def _note(self, group: dict[str, str], blocks: Iterable[BlockInfo], why: str) -> None:
        group.update((block.path, why) for block in blocks)
        if self._bad.give_up_at is None:
            self._bad.give_up_at = time.monotonic() + self._settings.grace_seconds
