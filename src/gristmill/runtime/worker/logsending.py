"""What attempts at a worker print, on its way to the server: with each beat what is new, with the answer the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gristmill.config import MIB
from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.executor.logs import log_to_send
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.protocol.convert import attempt_message
from gristmill.scheduling.events import AttemptId

MAX_UNHEARD_BYTES = 8 * MIB
"""While the coordinator has not heard so much, what is printed waits, or is left out."""


class Voice(Protocol):
    """What is needed of a session."""

    def say(self, event: pb.Event, size_bytes: int = 100) -> None: ...

    @property
    def unheard_bytes(self) -> int: ...


@dataclass(frozen=True)
class Printing:
    """An attempt, and where its log is."""

    attempt: AttemptId
    job: JobSpec
    folder: str


class LogSender:
    """Sends logs, each from where it was sent before; of much at once only the end.

    Args:
        voice: of the session.
    """

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._sent: dict[AttemptId, int] = {}  # of attempts that are not over: how much of what they printed

    def printed(self, log: Printing, size: int) -> None:
        """An attempt that runs has printed so much by now: send what is new."""
        start = self._sent.get(log.attempt, 0)
        if size > start and self._voice.unheard_bytes <= MAX_UNHEARD_BYTES:
            data, start = log_to_send(log.folder, log.job, log.attempt, start)
            if data:
                self._sent[log.attempt] = start + len(data)
                self._say(log, data, start, last=False)

    def rest(self, log: Printing) -> tuple[bytes, int]:
        """What an attempt that is over has printed and was not sent yet, for its answer; and where that begins."""
        return log_to_send(log.folder, log.job, log.attempt, self._sent.pop(log.attempt, 0))

    def forget(self, attempt: AttemptId) -> None:
        """An attempt is over, and has nothing to send."""
        self._sent.pop(attempt, None)

    def send_rest(self, log: Printing) -> None:
        """Send it without an answer."""
        data, start = self.rest(log)
        if data:
            self._say(log, data, start, last=True)

    def _say(self, log: Printing, data: bytes, start: int, *, last: bool) -> None:
        attempt = attempt_message(log.attempt)
        said = pb.Log(attempt=attempt, epoch=log.job.epoch, data=data, start=start, last=last)
        self._voice.say(pb.Event(log=said), len(data) + 100)
