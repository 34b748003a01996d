"""Others are told what became of jobs, by one thread for each channel: nothing of that ever holds up a job.

What is to be told lies in the journal's outbox until it is told, so that a restart forgets nothing. A channel that does
not answer is tried again, later and later, until what is to be told is a day old.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from gristmill.runtime.journal import outbox
from gristmill.runtime.journal.facts import Fact
from gristmill.runtime.journal.journal import Journal
from gristmill.runtime.journal.outbox import Message

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 5.0  # also if nothing is heard
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 300.0
_GIVE_UP_SECONDS = 86400.0
_END_SECONDS = 5.0
_MOST_DEFECTS = 5  # of ours, with one message


class NotToldYet(Exception):
    """It could not be told now, and is to be tried again."""


class NeverTold(Exception):
    """It cannot be told, however often it is tried."""


class Channel(Protocol):
    """A way to tell others.

    Attributes:
        name: of the channel, in the outbox.
    """

    name: str

    def kinds(self, fact: Fact) -> Iterable[str]:
        """As what this fact is told: nothing, mostly. Quick, and must not fail."""
        ...

    def tell(self, message: Message) -> None:
        """Tell it. Takes some seconds at most.

        Raises:
            NotToldYet: not now.
            NeverTold: not ever.
        """
        ...


class Tellers:
    """The threads that tell others, until ``close``.

    Args:
        journal: whose facts are told.
        channels: by which ways.
        first_retry_seconds: after a failure; doubled by each further one.
    """

    def __init__(
        self, journal: Journal, channels: Sequence[Channel], first_retry_seconds: float = _FIRST_RETRY_SECONDS
    ) -> None:
        self._journal = journal
        self._channels = channels
        self._first_retry_seconds = first_retry_seconds
        self._closing = threading.Event()
        self._defects: dict[str, tuple[int, int]] = {}  # by channel: which message met one, and how often
        self._news = {channel.name: threading.Event() for channel in channels}
        self._threads = [
            threading.Thread(target=self._run, args=(channel,), name=f"gristmill-{channel.name}", daemon=True)
            for channel in channels
        ]

    def start(self) -> None:
        """Begin, with what was left in the outbox. To be called before the journal's next fact."""
        if not self._channels:
            return
        self._journal.address = self._address
        self._journal.follow(self._written)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End. What is not told by now is told by the next server. May be called again."""
        self._closing.set()
        for news in self._news.values():
            news.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_END_SECONDS)

    def _address(self, fact: Fact) -> Iterable[tuple[str, str]]:
        return [(channel.name, kind) for channel in self._channels for kind in channel.kinds(fact)]

    def _written(self, facts: Sequence[Fact]) -> None:
        if any(fact.kind not in ("task done", "attempt over") for fact in facts):
            for news in self._news.values():
                news.set()

    def _run(self, channel: Channel) -> None:
        patience = self._first_retry_seconds
        while not self._closing.is_set():
            try:
                self._tell_all(channel)
                patience = self._first_retry_seconds
            except NotToldYet as error:
                _log.warning("%s: %s It is tried again in %g s.", channel.name, error, patience)
                self._closing.wait(patience)
                patience = min(2 * patience, _LAST_RETRY_SECONDS)
                continue
            except Exception:  # the last line of this thread: a defect of ours must not end it for good, nor a job
                _log.exception("%s: what is to be told could not be.", channel.name)
                self._closing.wait(patience)
                patience = min(2 * patience, _LAST_RETRY_SECONDS)
                continue
            self._news[channel.name].wait(_LOOK_SECONDS)
            self._news[channel.name].clear()

    def _is_hopeless(self, channel: Channel, message: Message) -> bool:
        """Note that a message could not be told for a defect; whether it was so too often."""
        number, times = self._defects.get(channel.name, (message.number, 0))
        times = times + 1 if number == message.number else 1
        self._defects[channel.name] = message.number, times
        return times >= _MOST_DEFECTS

    def _tell_all(self, channel: Channel) -> None:
        while messages := outbox.pending(self._journal.path, channel.name):
            for message in messages:
                if self._closing.is_set():
                    return
                try:
                    if time.time() - message.at > _GIVE_UP_SECONDS:  # also what was left when nobody was to be told
                        raise NeverTold("it is of no use any more.")
                    channel.tell(message)
                except NeverTold as error:
                    _log.warning("%s: job %s, %s: %s", channel.name, message.job, message.kind, error)
                except NotToldYet:
                    raise
                except Exception:  # a defect of ours: what comes after it is to be told all the same
                    if not self._is_hopeless(channel, message):
                        raise
                    _log.exception("%s: job %s, %s: it is given up.", channel.name, message.job, message.kind)
                outbox.told(self._journal.path, message.number)
