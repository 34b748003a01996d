"""The agent's end of a session with a coordinator, over as many streams as it takes.

A stream is read in a thread of its own; what goes out is taken by a thread of gRPC. Whoever has something to say only
queues it.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gristmill.runtime.protocol import ATTEND
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.protocol.quiet import grpc
from gristmill.runtime.transport.outbox import Outbox, Refused
from gristmill.runtime.transport.seal import opened, sealed
from gristmill.runtime.transport.session import SessionBroken, StreamBroken
from gristmill.runtime.transport.tls import Identity, Trust

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0  # no wait for something to say is longer
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # batches are bounded where they are made
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a new stream is a new connection, tried at once
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # whoever holds the session opens another stream
)


@dataclass(frozen=True)
class StreamOver:
    """A stream has ended, for whatever reason but a refusal."""

    code: str  # of gRPC; empty: the other end closed it
    details: str


@dataclass(frozen=True)
class Crashed:
    """What the coordinator said could not be followed: a defect here, or nothing works here."""

    error: Exception


class Listener(Protocol):
    """Whoever does what the coordinator orders. Calls come from the stream's thread, and return at once."""

    def welcomed(self, welcome: pb.Welcome) -> None:
        """The session begins."""
        ...

    def hear(self, orders: Sequence[pb.Order]) -> None:
        """Carry these out, in order."""
        ...


@dataclass(frozen=True)
class Secured:
    """How to speak TLS with a coordinator.

    Attributes:
        trust: whom to believe.
        identity: what to show; None: nothing.
    """

    trust: Trust
    identity: Identity | None = None


def _channel(address: str, secured: Secured | None) -> Any:
    if secured is None:
        return grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
    identity, name = secured.identity, secured.trust.name
    shown = (None, None) if identity is None else (identity.private, identity.chain)
    credentials = grpc.ssl_channel_credentials(secured.trust.roots(), *shown)
    options = (*_CHANNEL_OPTIONS, *((("grpc.ssl_target_name_override", name),) if name else ()))
    return grpc.secure_channel(address, credentials, options=options)


class Attendance(Outbox):
    """One session.

    Args:
        listener: who hears the orders.
        news: gets StreamOver, Refused and Crashed.
    """

    def __init__(self, listener: Listener, news: queue.SimpleQueue[Any]) -> None:
        super().__init__(news)
        self.id = secrets.token_hex(16)
        self._listener = listener
        self._taking = threading.Lock()  # held by the stream whose message is being taken: orders keep their order
        self._stream: _Stream | None = None
        self._is_welcome = False
        self._echoed = 0
        self._seen_at = 0.0  # when the coordinator last showed that it sees our beats

    # For any thread.

    @property
    def is_connected(self) -> bool:
        """Whether there is a stream, or one is being opened."""
        return self._stream is not None

    @property
    def is_live(self) -> bool:
        """Whether there is a stream on which the coordinator has answered."""
        stream = self._stream
        return stream is not None and stream.is_welcome

    @property
    def is_welcome(self) -> bool:
        """Whether the session has begun."""
        return self._is_welcome

    def unseen_seconds(self, now: float) -> float:
        """For how long the coordinator has not shown that it sees our beats; 0 when there is no stream."""
        return now - self._seen_at if self._stream is not None else 0.0

    def connect(self, address: str, token: str, join: pb.Join, secured: Secured | None = None) -> None:
        """Open a stream; another one, if there is one, is given up. Its end is news.

        Args:
            address: ``HOST:PORT`` of the coordinator's server for agents.
            token: what it wants to see.
            join: what to say first.
            secured: how to speak TLS; None: not at all.
        """
        self.disconnect()
        join.session, join.resumes = self.id, self._is_welcome
        channel = _channel(address, secured)
        stream = _Stream(channel)
        with self._changed:
            self._stream = stream
            self._seen_at = time.monotonic()
            first = pb.FromAgent(join=join, heard=self._session.heard)
        attend = channel.stream_stream(ATTEND, sealed)
        metadata = (("authorization", f"Bearer {token}"), ("host", address))
        stream.call = attend(self._outgoing(stream, first), metadata=metadata)
        threading.Thread(target=self._read, args=(stream,), name="gristmill-attendance", daemon=True).start()

    def disconnect(self) -> None:
        """Give the stream up, without news. The session goes on with the next one."""
        with self._changed:
            stream, self._stream = self._stream, None
            self._changed.notify_all()
        if stream is not None:
            stream.close()

    # A thread of gRPC.

    def _outgoing(self, stream: _Stream, first: pb.FromAgent) -> Iterator[pb.FromAgent]:
        yield first
        while (message := self._next(stream)) is not None:
            yield message

    def _next(self, stream: _Stream) -> pb.FromAgent | None:
        """The next message of a stream, waiting for it; None when the stream is over."""
        with self._changed:
            while self._stream is stream:
                if message := self._wait_for_news(stream.is_welcome, _LOOK_SECONDS):
                    return message
        return None

    # The stream's thread.

    def _read(self, stream: _Stream) -> None:
        over = StreamOver("", "")
        try:
            for message in stream.call:
                with self._taking:
                    if not self._take(stream, opened(pb.ToAgent, message)):
                        break
        except grpc.RpcError as error:
            over = StreamOver(error.code().name, error.details() or "")
        except StreamBroken as error:
            over = StreamOver("", str(error))
        except SessionBroken as error:
            self._news.put(Refused(pb.Refusal.FENCED, str(error)))
        except Exception as error:  # the thread's last line: nobody else would hear of it
            _log.debug("an order could not be followed", exc_info=True)
            self._news.put(Crashed(error))
        with self._changed:
            was_present = self._stream is stream
            if was_present:
                self._stream = None
            self._changed.notify_all()
        stream.close()
        if was_present:
            self._news.put(over)

    def _take(self, stream: _Stream, message: pb.ToAgent) -> bool:
        """Take a message; False if it is the last.

        A stream that was given up may still be at it when the next one is there.
        """
        if message.HasField("welcome"):
            with self._changed:
                if self._stream is not stream:
                    return False
            if not self._is_welcome:
                self._listener.welcomed(message.welcome)
            with self._changed:
                self._is_welcome = True
                if self._stream is not stream:
                    return False
                self._session.resume(message.heard)
                stream.is_welcome = True
                self._seen_at = time.monotonic()
                self._wake_sender()
            return True
        with self._changed:
            if self._stream is not stream:
                return False
            self._session.acknowledge(message.heard)
            orders = self._session.hear(message.first, message.orders)
            if message.beat > self._echoed:
                self._echoed = message.beat
                self._seen_at = time.monotonic()
            if self._has_news():
                self._wake_sender()
        if orders:
            self._listener.hear(orders)
        if message.HasField("refusal"):
            self._news.put(Refused(message.refusal.kind, message.refusal.reason))
            return False
        return True


class _Stream:
    """One call on a connection of its own."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.call: Any = ()
        self.is_welcome = False

    def close(self) -> None:
        if self.call:
            self.call.cancel()
        self.channel.close()
