"""Messages as they travel: with a checksum, for what was damaged on its way must not be believed."""

from __future__ import annotations

from typing import TypeVar
from zlib import crc32

from google.protobuf.message import DecodeError, Message

from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.transport.session import StreamBroken

M = TypeVar("M", bound=Message)


def sealed(message: Message) -> bytes:
    """A message as it travels."""
    data = message.SerializeToString()
    return pb.Sealed(message=data, crc32=crc32(data)).SerializeToString()


def opened(kind: type[M], data: bytes) -> M:
    """The inverse of :func:`sealed`.

    Raises:
        StreamBroken: the message is not what was sent.
    """
    try:
        seal = pb.Sealed.FromString(data)
        if crc32(seal.message) == seal.crc32:
            return kind.FromString(seal.message)
    except DecodeError:
        pass
    raise StreamBroken("A message was damaged on its way.")
