"""What a worker has to say in one session, until it is taken; whatever carries it.

Whoever has something to say only queues it. Whoever carries it waits for it, and gathers: many events share a message.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gristmill.runtime.contracts import Progress, Usage
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.protocol.convert import attempt_message
from gristmill.runtime.transport.session import Session, SessionBroken
from gristmill.scheduling.events import AttemptId

_ACK_ITEMS = 200  # orders that arrive before they are acknowledged on their own; beats acknowledge the rest
_MANY = 32  # events of a message

GATHER_SECONDS = 0.005
"""Between two messages, so that many events share one; the first goes at once."""


@dataclass(frozen=True)
class Refused:
    """The session has ended, or has not begun."""

    kind: int
    reason: str


class Outbox:
    """One end of a session.

    Args:
        news: gets Refused, if too much is kept for the other end.
        gather_seconds: between two messages.
        most_gather_seconds: after a message with many events: much is going on, and fuller messages cost less.
    """

    def __init__(
        self,
        news: queue.SimpleQueue[Any],
        gather_seconds: float = GATHER_SECONDS,
        most_gather_seconds: float = GATHER_SECONDS,
    ) -> None:
        self._news = news
        self._gather_seconds = self._few_seconds = gather_seconds
        self._many_seconds = most_gather_seconds
        self._session: Session[pb.Event] = Session()
        self._changed = threading.Condition()  # guards all that follows, and the session
        self._acked = 0  # orders that the coordinator knows to have arrived
        self._beat: pb.Beat | None = None  # to be sent
        self._beats = 0
        self._idle = False  # the sender waits for something to send
        self._sent_at = 0.0

    # For any thread.

    def say(self, event: pb.Event, size_bytes: int = 100) -> None:
        """Tell the coordinator, now or when it can be reached."""
        with self._changed:
            try:
                self._session.say(event, size_bytes)
            except SessionBroken as error:
                self._news.put(Refused(pb.Refusal.FENCED, str(error)))
                return
            self._wake_sender()

    def beat(self, attempts: Mapping[AttemptId, Progress], usage: Usage | None = None) -> None:
        """Say that this worker lives, how far its attempts are, and what is in use here."""
        used = None if usage is None else pb.Usage(**vars(usage))
        running = [
            pb.Running(attempt=attempt_message(attempt), records_in=progress.records_in, bytes_in=progress.bytes_in)
            for attempt, progress in attempts.items()
        ]
        with self._changed:
            self._beats += 1
            self._beat = pb.Beat(number=self._beats, after=self._session.said, running=running, usage=used)
            self._wake_sender()

    @property
    def unheard_bytes(self) -> int:
        """About how much was said that the coordinator has not heard yet."""
        return self._session.unheard_bytes

    def all_heard(self) -> bool:
        """Whether the coordinator has heard all that was said."""
        with self._changed:
            return not self._session.unheard

    # For whoever carries it; with the condition held.

    def _wake_sender(self) -> None:
        if self._idle:
            self._idle = False
            self._changed.notify_all()

    def _has_news(self) -> bool:
        return self._session.has_more or self._beat is not None or self._session.heard - self._acked >= _ACK_ITEMS

    def _wait_for_news(self, is_ready: bool, seconds: float) -> pb.FromAgent | None:
        """A message, if there is something to say, or else a wait; both bounded. The caller asks again."""
        if not (is_ready and self._has_news()):
            self._idle = True
            self._changed.wait(seconds)
        elif (pause := self._sent_at + self._gather_seconds - time.monotonic()) > 0:
            self._changed.wait(pause)
        else:
            self._sent_at = time.monotonic()
            return self._message()
        return None

    def _message(self) -> pb.FromAgent:
        number, events = self._session.take()
        self._gather_seconds = self._many_seconds if len(events) >= _MANY else self._few_seconds
        self._acked = self._session.heard
        message = pb.FromAgent(heard=self._acked, first=number, events=events)
        if self._beat is not None:
            message.beat.CopyFrom(self._beat)
            self._beat = None
        return message
