"""An executor's place as the agent sees it: its channel, what runs and waits there, and how it stands."""

from __future__ import annotations

import selectors
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from gristmill.runtime.contracts import JobSpec, Progress, TaskSpec
from gristmill.runtime.process.watch import Ending
from gristmill.runtime.process.wire import MAX_NOTE_BYTES, ChannelClosed, FrameReader, parse_note

_READ_BYTES = 1 << 18


@dataclass
class Run:
    """An attempt in a slot. Until its turn comes, ``started`` and ``moved`` mean nothing."""

    job: JobSpec
    spec: TaskSpec
    started: float = 0.0
    moved: float = 0.0  # when its progress last changed
    progress: Progress = field(default_factory=Progress)
    seen: tuple[int, ...] = ()  # the last progress note
    printed: int = 0  # bytes of its log
    stalled: bool = False  # its stack has been asked for since it moved
    peak_bytes: int = 0
    processes: int = 0  # below its executor, at the last look
    cancelled: bool = False

    def begin(self, now: float) -> None:
        """Its turn has come."""
        self.started = self.moved = now

    def take_progress(self, seen: tuple[int, ...], now: float) -> None:
        """Take note of how far the task is."""
        if seen != self.seen:
            self.seen, self.moved, self.stalled = seen, now, False
            self.progress = Progress(seen[0], seen[1])


@dataclass
class KnownJob:
    """What an executor knows of a job."""

    stages: set[int] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)  # where it has written


@dataclass
class Slot:
    """Lives from the request for a process until that process is gone.

    The executor works off its queue in order and answers each attempt before it begins the next. So the first that is
    not answered is the one that runs, and began when the one before it was answered.
    """

    id: str
    channel: socket.socket  # not blocking
    requested: float
    pid: int = 0
    idle_bytes: int = 0
    ready: bool = False  # it said hello
    jobs: dict[str, KnownJob] = field(default_factory=dict)  # whose code the executor has
    queue: deque[Run] = field(default_factory=deque)
    ending: Ending | None = None  # why the agent has asked for its end
    ending_since: float = 0.0
    complaint: str = ""  # what was wrong with what it said, if that is why
    silent_since: float | None = None  # its channel has ended
    leftovers: bool = False  # a job that is over has left processes behind: it goes when nothing runs there
    last_job: JobSpec | None = None  # the one whose task was launched there last
    drives: bool = False  # it has run a driver: it goes when that is over, and another stands in for it meanwhile
    look_at: float = 0.0  # when it must be looked after next
    events: int = selectors.EVENT_READ  # what its channel is looked at for
    _frames: FrameReader = field(default_factory=lambda: FrameReader(MAX_NOTE_BYTES))
    _outgoing: bytearray = field(default_factory=bytearray)

    @property
    def run(self) -> Run | None:
        """The attempt that runs."""
        return self.queue[0] if self.queue else None

    def push(self, run: Run, now: float) -> None:
        """One more attempt is on its way to the executor."""
        if not self.queue:
            run.begin(now)
        self.queue.append(run)

    def pop(self, now: float) -> None:
        """The attempt that ran is answered."""
        self.queue.popleft()
        if self.queue:
            self.queue[0].begin(now)

    @property
    def has_unsent(self) -> bool:
        """Something waits until the executor has taken what was sent before."""
        return bool(self._outgoing)

    def read(self, now: float) -> list[dict[str, Any]]:
        """All notes that the executor has sent. Finds out if the channel has ended."""
        notes: list[dict[str, Any]] = []
        while self.silent_since is None:
            try:
                data = self.channel.recv(_READ_BYTES)
                if not data:
                    raise ChannelClosed("the channel has ended")
                for payload in self._frames.feed(data):
                    notes.append(parse_note(payload))  # what comes before one that is none has been said
                if len(data) < _READ_BYTES:
                    break  # that was all; if the channel has ended, the next look finds out
            except BlockingIOError:
                break
            except (OSError, ChannelClosed):
                self.silent_since = now
        return notes

    def put(self, data: bytes) -> None:
        """Have this sent by the next ``send``."""
        self._outgoing += data

    def send(self) -> None:
        """Send what can be sent now, and keep the rest."""
        try:
            while self._outgoing:
                sent = self.channel.send(self._outgoing)
                del self._outgoing[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._outgoing.clear()  # reading finds the channel's end
