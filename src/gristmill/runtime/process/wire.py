"""The channel between an agent and an executor: frames of a length and that many bytes.

Towards the executor a frame is a pickle of our own specs. From the executor it is JSON, because user code lives there
and what it says is never unpickled.

An executor may be sent many tasks at a time, so a task's frame is small: its stage and its job have gone before.
"""

from __future__ import annotations

import json
import pickle
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from gristmill.config import MIB
from gristmill.errors import GristmillError
from gristmill.plan.stages import Stage
from gristmill.runtime.contracts import TaskSpec
from gristmill.runtime.process.plain import read_json
from gristmill.scheduling.ids import AttemptId

_HEADER = struct.Struct("!I")
_MAX_FRAME_BYTES = (1 << 32) - 1
_READ_BYTES = 1 << 16
_LOOK_SECONDS = 0.001  # several empty tasks take as long; to look before each takes a part of its time
_NOTES = json.JSONEncoder(default=str, separators=(",", ":"))
_DO_NOT_WAIT = getattr(socket, "MSG_DONTWAIT", None)  # not on Windows


MAX_NOTE_BYTES = 64 * MIB
"""What an executor says at a time has so many bytes at most."""


class ChannelClosed(GristmillError):
    """The other end is gone, or says what is not in the protocol."""


def frame(payload: bytes) -> bytes:
    """``payload`` as it travels."""
    if len(payload) > _MAX_FRAME_BYTES:
        raise GristmillError(f"a message of {len(payload)} bytes is longer than the channel can carry")
    return _HEADER.pack(len(payload)) + payload


Order = tuple[str, Any]
"""A verb and its object."""


def order_frame(*orders: Order) -> bytes:
    """What an agent tells an executor. Many orders in one frame cost much less than one by one."""
    return frame(pickle.dumps(orders, protocol=pickle.HIGHEST_PROTOCOL))


def task_order(spec: TaskSpec) -> Order:
    """The order to run an attempt. The executor knows the stage by its id."""
    where = spec.folder, spec.sources, spec.machine, spec.branch, spec.counts
    parts = spec.tasks, spec.part, spec.before, spec.turns
    rest = spec.splits, spec.blocks, spec.partition, *where, *parts, spec.ticket, spec.session_ticket
    return "task", (tuple(spec.attempt), rest if any(rest) else ())


def attempt_of(order: Any) -> AttemptId:
    """The attempt that a task's order names."""
    return AttemptId(*order[0])


def spec_of(order: Any, stage: Stage) -> TaskSpec:
    """The inverse of :func:`task_order`."""
    return TaskSpec(AttemptId(*order[0]), stage, *order[1])


def note_frame(note: dict[str, Any], result: dict[str, Any] | None = None) -> bytes:
    """What an executor tells its agent. A result is a text of its own behind it: it may be passed on as it is."""
    text = _NOTES.encode(note)
    return frame((text if result is None else f"{text}\n{_NOTES.encode(result)}").encode())


def parse_note(payload: bytes) -> dict[str, Any]:
    """The inverse of :func:`note_frame`, without its header. ``said`` is the text of the ``result``.

    Raises:
        ChannelClosed: it is not a note; whatever wrote it cannot be talked to.
    """
    try:
        text, _, result = payload.partition(b"\n")  # which JSON has within no value
        note = read_json(text, files=True)
        if not isinstance(note, dict):
            raise ChannelClosed("an executor sent what is not a note")
        note["said"] = result
        if result:
            note["result"] = read_json(result, files=True)
    except ValueError as error:
        raise ChannelClosed("an executor sent what is not JSON") from error
    return note


class FrameReader:
    """Cuts a stream of bytes into frames, however it arrives.

    Args:
        most_bytes: how long a frame may be.
    """

    def __init__(self, most_bytes: int = _MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._most_bytes = most_bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes in; hand out every frame that is complete.

        Raises:
            ChannelClosed: a frame is too long.
        """
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer, start)
            if length > self._most_bytes:
                raise ChannelClosed(f"a message of {length} bytes is longer than any can be")
            end = start + _HEADER.size + length
            if len(self._buffer) < end:
                break
            yield bytes(self._buffer[start + _HEADER.size : end])
            start = end
        del self._buffer[:start]


class OrderReader:
    """The executor's end of reading: one order at a time, waiting for it as long as the agent lives.

    What is recalled before it was read is handed out as ("recalled", attempt) in the place of its task.

    Args:
        channel: to the agent.
        look_seconds: while orders are at hand, so often it is looked whether something was recalled.
    """

    def __init__(self, channel: socket.socket, look_seconds: float = _LOOK_SECONDS) -> None:
        self._channel = channel
        self._look_seconds = look_seconds
        self._frames = FrameReader()
        self._ready: deque[Order] = deque()
        self._look_at = 0.0  # not before this time, though orders are at hand

    def read(self) -> Order:
        """The next order.

        Raises:
            ChannelClosed: the agent is gone.
        """
        if self._ready and _DO_NOT_WAIT is not None and time.monotonic() >= self._look_at:
            self._take(_DO_NOT_WAIT)  # a recall may have come
        while not self._ready:
            self._take(0)
        return self._ready.popleft()

    def _take(self, flags: int) -> None:
        self._look_at = time.monotonic() + self._look_seconds
        try:
            data = self._channel.recv(_READ_BYTES, flags)
        except BlockingIOError:
            return
        except OSError as error:
            raise ChannelClosed("the channel broke") from error
        if not data:
            raise ChannelClosed("the agent is gone")
        for payload in self._frames.feed(data):
            for order in pickle.loads(payload):
                if order[0] == "recall":
                    self._recall(order[1])
                else:
                    self._ready.append(order)

    def _recall(self, attempt: AttemptId) -> None:
        for place, (verb, subject) in enumerate(self._ready):
            if verb == "task" and attempt_of(subject) == attempt:
                self._ready[place] = "recalled", attempt
