"""The facts of jobs as they come, for any number of listeners: the journal is read once a job, not once a listener."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress

from fastapi.concurrency import run_in_threadpool

from gristmill.service.looking.history import event_json
from gristmill.service.submission.jobs import JobService

_POLL_SECONDS = 0.25
_BEAT_SECONDS = 15.0
_LOOK_SECONDS = 1.0
_BATCH = 1000
_HELD = 5000  # events of a job that are kept for those who are behind

Event = tuple[int, str]
"""The number of a fact, and what is sent of it."""


class Events:
    """The events of all jobs. Belongs to one event loop."""

    def __init__(self, jobs: JobService) -> None:
        self._jobs = jobs
        self._feeds: dict[str, _Feed] = {}

    async def stream(self, job: str, after: int = -1) -> AsyncGenerator[bytes]:
        """The events of a job from behind a number, as they come, until it is over; in the form of server-sent events.

        Now and then a comment comes, so that both ends see that the other is there.
        """
        feed = self._feeds.get(job)
        if feed is None or feed.is_over:  # it may be tried again meanwhile
            feed = self._feeds[job] = _Feed(self._jobs, job, after)
        feed.listeners += 1
        try:
            async for text in feed.listen(after):
                yield text
        finally:
            feed.listeners -= 1
            if not feed.listeners:
                feed.close()
                if self._feeds.get(job) is feed:
                    del self._feeds[job]


class _Feed:
    """The events of one job.

    Attributes:
        listeners: so many listen.
    """

    def __init__(self, jobs: JobService, job: str, after: int) -> None:
        self.listeners = 0
        self._jobs = jobs
        self._job = job
        self._floor = self._top = after  # what is held comes after the one, and ends with the other
        self._held: deque[Event] = deque()
        self._over = False
        self._state = ""
        self._changed = asyncio.Event()
        self._reader = asyncio.ensure_future(self._read())

    @property
    def is_over(self) -> bool:
        """Whether all has been read."""
        return self._over

    def close(self) -> None:
        """Nobody listens any more."""
        self._reader.cancel()

    async def listen(self, after: int) -> AsyncGenerator[bytes]:
        """See :meth:`Events.stream`."""
        silent = 0.0
        yield b": the facts of a job, as they come\n\n"
        while not self._jobs.closing:
            changed = self._changed
            if after < self._floor:
                some = await run_in_threadpool(self._facts, after)  # what the others have had is not held any more
            else:
                some = [event for event in self._held if event[0] > after]
            if some:
                silent, after = 0.0, some[-1][0]
                yield "".join(text for _, text in some).encode()
            elif self._over:
                yield f"event: end\ndata: {json.dumps({'state': self._state})}\n\n".encode()
                return
            elif self._reader.done():
                return  # the journal cannot be read: whoever listens asks again
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _LOOK_SECONDS)
                    continue
                silent += _LOOK_SECONDS
                if silent >= _BEAT_SECONDS:
                    silent = 0.0
                    yield b": still here\n\n"

    async def _read(self) -> None:
        while not self._over:
            state = await run_in_threadpool(self._final_state)  # before the facts: what comes after the end is seen
            some = await run_in_threadpool(self._facts, self._top)
            if some:
                self._held.extend(some)
                self._top = some[-1][0]
                while len(self._held) > _HELD:
                    self._floor = self._held.popleft()[0]
            elif state:
                self._over, self._state = True, state
            if some or self._over:
                self._changed.set()
                self._changed = asyncio.Event()
            if len(some) < _BATCH and not self._over:
                await asyncio.sleep(_POLL_SECONDS)

    def _final_state(self) -> str:
        status = self._jobs.status(self._job)
        return status.view.state.value if status is not None and status.is_over else ""

    def _facts(self, after: int) -> list[Event]:
        facts = self._jobs.histories.events(self._job, after, _BATCH)
        return [(number, _event(number, event_json(number, fact))) for number, fact in facts]


def _event(number: int, data: dict[str, object]) -> str:
    kind = str(data["kind"]).replace(" ", "-")
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
