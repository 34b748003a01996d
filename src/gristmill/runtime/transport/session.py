"""One end of a session: numbered, acknowledged delivery that survives the streams it travels on.

Both ends are alike. Each numbers what it says, keeps it until the other end has heard it, and passes over what it hears
twice. A stream carries whatever it carries, in order; when it breaks, the next one begins where the other end's hearing
ended. No clock, no sockets, no threads: whoever uses this from several threads locks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from gristmill.errors import GristmillError

T = TypeVar("T")  # what this end says
U = TypeVar("U")  # what the other end says

MAX_KEPT = 1_000_000  # items that the other end has not heard; far more than it could be given to do
BATCH_ITEMS = 1000
BATCH_BYTES = 1 << 17


class StreamBroken(GristmillError):
    """A stream does not carry what was given to it. Another one may."""


class SessionBroken(GristmillError):
    """The other end does not keep to the protocol, or has not heard anything for far too long."""


class Session(Generic[T]):
    """What this end has said and the other has not yet heard, and how much this end has heard.

    Args:
        max_kept: how much may be kept for the other end.
    """

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        # Everything said and not yet heard, in order, each with about how many bytes it is:
        self._sent: deque[tuple[T, int]] = deque()  # on this stream; the first has the number _first
        self._waiting: deque[tuple[T, int]] = deque()
        self._first = 1
        self.unheard_bytes = 0  # about what they all take together
        self._heard = 0  # the number of the last that was heard here

    @property
    def heard(self) -> int:
        """The number of the last item that came from the other end."""
        return self._heard

    @property
    def said(self) -> int:
        """The number of the last item that this end said, whether sent or not."""
        return self._first + self.unheard - 1

    @property
    def unheard(self) -> int:
        """How many items are kept until the other end has heard them."""
        return len(self._sent) + len(self._waiting)

    @property
    def has_more(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._waiting)

    def say(self, item: T, size_bytes: int = 100) -> None:
        """Take an item for the other end.

        Raises:
            SessionBroken: too much is kept already.
        """
        if self.unheard >= self._max_kept:
            raise SessionBroken(f"{self.unheard} messages wait to be heard, and no more can be kept.")
        self._waiting.append((item, size_bytes))
        self.unheard_bytes += size_bytes

    def take(self, max_items: int = BATCH_ITEMS, max_bytes: int = BATCH_BYTES) -> tuple[int, list[T]]:
        """What is to be sent next: the number of the first, and at least one item if any waits."""
        batch: list[T] = []
        first, total = self._first + len(self._sent), 0
        while self._waiting and len(batch) < max_items:
            item, size = self._waiting[0]
            if batch and total + size > max_bytes:
                break
            self._sent.append(self._waiting.popleft())
            batch.append(item)
            total += size
        return first, batch

    def acknowledge(self, heard: int) -> None:
        """The other end has heard everything up to this number. What it has said of this before is passed over.

        Raises:
            SessionBroken: it cannot have.
        """
        if heard >= self._first + len(self._sent):
            raise SessionBroken(f"Message {heard} was heard before it was sent.")
        while self._first <= heard:
            self.unheard_bytes -= self._sent.popleft()[1]
            self._first += 1

    def resume(self, heard: int) -> None:
        """A new stream begins; the other end has heard everything up to this number, and nothing after it.

        Raises:
            SessionBroken: it has forgotten what it had heard before, or cannot have heard this.
        """
        if heard < self._first - 1:
            raise SessionBroken(f"Message {self._first - 1} was heard once, and now only those up to {heard}.")
        self.acknowledge(heard)
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()

    def hear(self, first: int, items: Sequence[U]) -> Sequence[U]:
        """Take what the other end says, ``items[0]`` being number ``first``; hand out what is new.

        Raises:
            SessionBroken: something between was left out.
        """
        if not items:
            return items
        if first > self._heard + 1:
            raise SessionBroken(f"Message {first} came after message {self._heard}.")
        new = items[self._heard + 1 - first :]
        self._heard += len(new)
        return new
