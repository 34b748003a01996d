"""What the scheduler was told last, kept for the day when it fails: a failure in the field replays as a unit test.

``step`` is a pure function of its events and the clock, so its events are all that is needed. They are written as lines
of Python, ``(now, event)``, in the names of ``scheduling.events``.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gristmill.scheduling.events import Event, TaskFinished

EVENT_LOG = "scheduler-events.txt"
"""The file's name, beside the journal."""

_MOST_EVENTS = 10_000
_MOST_SIZES = 1_000_000  # sizes of partitions, in all events that are kept: each may have a thousand
_ENUM = re.compile(r"<(\w+\.\w+): [^>]*>")


class EventLog:
    """The last events, in order.

    Args:
        most_events: how many are kept.
        most_sizes: how many sizes of partitions are kept with them.
    """

    def __init__(self, most_events: int = _MOST_EVENTS, most_sizes: int = _MOST_SIZES) -> None:
        self._most_events, self._most_sizes = most_events, most_sizes
        self._kept: deque[tuple[float, Event]] = deque()
        self._sizes = 0
        self._left_out = 0

    def add(self, now: float, event: Event) -> None:
        """Note an event that is about to be handled."""
        self._kept.append((now, event))
        if type(event) is TaskFinished:
            self._sizes += len(event.partition_bytes)
        while len(self._kept) > self._most_events or self._sizes > self._most_sizes:
            _, old = self._kept.popleft()
            self._left_out += 1
            if type(old) is TaskFinished:
                self._sizes -= len(old.partition_bytes)

    def leave_in(self, folders: Iterable[Path], error: Exception) -> None:
        """Write the file to some folders, as far as it can be written, and add to the error where it is."""
        for folder in folders:
            with suppress(OSError):  # the disk may be why there is an error
                error.add_note(f"The last events before it are in {self.write(folder, error)}.")

    def write(self, folder: Path, error: Exception) -> Path:
        """Write the file, in place of one that is there.

        Args:
            folder: where.
            error: what happened while the last event was handled, or after it.

        Raises:
            OSError: it cannot be written.
        """
        path = folder / EVENT_LOG
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"# {reason}\n# {len(self._kept)} events; {self._left_out} before them are left out.\n")
            for entry in self._kept:
                file.write(_ENUM.sub(r"\1", repr(entry)) + "\n")
        return path
