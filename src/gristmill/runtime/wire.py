"""The channel between an agent and an executor: frames of a length and that many bytes.

Towards the executor a frame is a pickle of our own specs. From the executor it is JSON, because user code lives there
and what it says is never unpickled.
"""

from __future__ import annotations

import json
import pickle
import socket
import struct
from collections.abc import Iterator
from typing import Any

from gristmill.errors import GristmillError

_HEADER = struct.Struct("!I")
_MAX_FRAME_BYTES = (1 << 32) - 1
_READ_BYTES = 1 << 16


class ChannelClosed(GristmillError):
    """The other end is gone, or says what is not in the protocol."""


def frame(payload: bytes) -> bytes:
    """``payload`` as it travels."""
    if len(payload) > _MAX_FRAME_BYTES:
        raise GristmillError(f"a message of {len(payload)} bytes is longer than the channel can carry")
    return _HEADER.pack(len(payload)) + payload


def order_frame(order: tuple[str, Any]) -> bytes:
    """What an agent tells an executor: a verb and its object."""
    return frame(pickle.dumps(order, protocol=pickle.HIGHEST_PROTOCOL))


def note_frame(note: dict[str, Any]) -> bytes:
    """What an executor tells its agent."""
    return frame(json.dumps(note, default=str, separators=(",", ":")).encode())


def parse_note(payload: bytes) -> dict[str, Any]:
    """The inverse of :func:`note_frame`, without its header.

    Raises:
        ChannelClosed: it is not a note; whatever wrote it cannot be talked to.
    """
    try:
        note = json.loads(payload)
    except ValueError as error:
        raise ChannelClosed("an executor sent what is not JSON") from error
    if not isinstance(note, dict):
        raise ChannelClosed("an executor sent what is not a note")
    return note


class FrameReader:
    """Cuts a stream of bytes into frames, however it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes in; hand out every frame that is complete."""
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer, start)
            end = start + _HEADER.size + length
            if len(self._buffer) < end:
                break
            yield bytes(self._buffer[start + _HEADER.size : end])
            start = end
        del self._buffer[:start]


class OrderReader:
    """The executor's end of reading: one order at a time, waiting for it as long as the agent lives."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._frames = FrameReader()
        self._ready: list[bytes] = []

    def read(self) -> tuple[str, Any]:
        """The next order.

        Raises:
            ChannelClosed: the agent is gone.
        """
        while not self._ready:
            try:
                data = self._channel.recv(_READ_BYTES)
            except OSError as error:
                raise ChannelClosed("the channel broke") from error
            if not data:
                raise ChannelClosed("the agent is gone")
            self._ready.extend(self._frames.feed(data))
        order: tuple[str, Any] = pickle.loads(self._ready.pop(0))
        return order
