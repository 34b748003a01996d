"""The coordinator's end of the agents' streams: a gRPC server in a thread of its own.

Everything here happens in that thread but for ``start``, ``ask`` and ``close``. What is said in a session outlives the
streams that carry it (see :mod:`gristmill.runtime.transport.session` and ``protocol/agents.proto``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gristmill.errors import GristmillError, UsageError
from gristmill.runtime.protocol import ATTEND
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.protocol.quiet import grpc
from gristmill.runtime.transport.link import Desk, Link
from gristmill.runtime.transport.loop_thread import LoopThread
from gristmill.runtime.transport.seal import opened, sealed
from gristmill.runtime.transport.session import SessionBroken, StreamBroken
from gristmill.runtime.transport.tls import Identity, check_roots

_log = logging.getLogger(__name__)

_GRACE_SECONDS = 0.2
_JOIN_SECONDS = 10.0  # from a stream's begin to its first message
_MAX_ENDED = 10_000  # sessions that are remembered after their end

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # batches are bounded where they are made
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error
    ("grpc.keepalive_time_ms", 30_000),  # an agent's machine that is gone does not say so
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.server_handshake_timeout_ms", 10_000),  # two minutes, otherwise
)


Allows = Callable[[str], bool]
"""Whether a token lets an agent in."""

IsHere = Callable[[str], bool]
"""Whether a host, ``NAME:PORT``, is the one that serves."""


@dataclass(frozen=True)
class AgentTls:
    """How agents are served by TLS.

    Attributes:
        identity: the server's certificate.
        client_ca: who must have issued the agents' certificates; None: they need none.
        peers_ca: a file with the CAs of workers, for those who read their blocks.
    """

    identity: Identity
    client_ca: Path | None = None
    peers_ca: Path | None = None

    def add_port(self, server: Any, where: str) -> int:
        """Serve at an address; the port."""
        roots = None if self.client_ca is None else check_roots(self.client_ca)
        pair = (self.identity.private, self.identity.chain)
        credentials = grpc.ssl_server_credentials([pair], roots, require_client_auth=roots is not None)
        return int(server.add_secure_port(where, credentials))


class _Doorkeeper(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses every call, of whatever method, that a page makes, that names another host, or has no worker's token."""

    def __init__(self, allows: Allows, is_here: IsHere | None) -> None:
        self._allows = allows
        self._is_here = is_here
        self._stranger = grpc.stream_stream_rpc_method_handler(_refuse)
        self._astray = grpc.stream_stream_rpc_method_handler(_refuse_astray)

    async def intercept_service(self, continuation: Any, call: Any) -> Any:
        """What is to answer a call."""
        metadata = call.invocation_metadata
        if _values(metadata, "origin") or (self._is_here is not None and not self._is_meant(metadata, self._is_here)):
            return self._astray
        return await continuation(call) if self._allows(_token_in(metadata)) else self._stranger

    def _is_meant(self, metadata: Any, is_here: IsHere) -> bool:
        """Whether the host that a call names is this one. Python is not told of ``:authority``: agents say it again."""
        hosts = _values(metadata, "host")
        return len(hosts) == 1 and is_here(hosts[0])


async def _refuse(_requests: object, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "The coordinator does not know this token.")


async def _refuse_astray(_requests: object, context: Any) -> None:
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, "This is not meant for this coordinator, or a page calls.")


def _token_in(metadata: Any) -> str:
    scheme, _, token = next(reversed(_values(metadata, "authorization")), "").partition(" ")
    return token if scheme == "Bearer" else ""


def _values(metadata: Any, name: str) -> list[str]:
    """What stands under a name in metadata, as often as it does."""
    found = [value for key, value in metadata or () if key == name]
    return [value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in found]


class AgentServer(LoopThread):
    """Serves the streams of agents.

    Args:
        desk: who decides.
        host: the address to bind.
        port: likewise; 0: a free one.
        allows: whether a token lets an agent in. It is asked again while the agent is there.
        beat_seconds: how often to say something on a stream that is idle.
        tls: what to show agents, and what they must show; None: nothing is encrypted.
        is_here: whether the host that a call names is this one; None: any is.
    """

    def __init__(
        self,
        desk: Desk,
        host: str,
        port: int,
        allows: Allows,
        beat_seconds: float,
        tls: AgentTls | None = None,
        is_here: IsHere | None = None,
    ) -> None:
        super().__init__("gristmill-cluster")
        self._desk = desk
        self._host, self._port = host, port
        self._allows = allows
        self._tls = tls
        self._is_here = is_here
        self._beat_seconds = beat_seconds
        self._links: dict[str, Link] = {}  # sessions that go on
        self._ended: OrderedDict[str, pb.Refusal] = OrderedDict()  # sessions that were, and how they ended

    def start(self) -> int:
        """Begin to serve; the port.

        Raises:
            UsageError: the address cannot be bound.
        """
        try:
            self.begin()
        except GristmillError:
            raise
        except Exception as error:  # whatever gRPC says of an address
            where = f"{self._host}:{self._port}"
            raise UsageError(f"Agents cannot be served at {where}: {error}. Name another host or port.") from error
        return self._port

    def end(self, link: Link, kind: int, reason: str) -> None:
        """End a session: nothing that it says counts from now on, and it is told so when it is heard."""
        if link.refusal is not None:
            return
        link.refusal = pb.Refusal(kind=kind, reason=reason)  # type: ignore[arg-type]  # enums are ints
        self._links.pop(link.id, None)
        self._ended[link.id] = link.refusal
        while len(self._ended) > _MAX_ENDED:
            self._ended.popitem(last=False)
        link.wake()

    # The server's thread.

    async def serve(self) -> None:
        """Serve streams until it is told to stop."""
        server = grpc.aio.server(options=_OPTIONS, interceptors=(_Doorkeeper(self._allows, self._is_here),))
        handler = grpc.stream_stream_rpc_method_handler(self._attend)
        _, service, method = ATTEND.split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        name = f"[{self._host}]" if ":" in self._host else self._host
        where = f"{name}:{self._port}"
        self._port = server.add_insecure_port(where) if self._tls is None else self._tls.add_port(server, where)
        await server.start()
        self.ready()
        await self.stopped()
        for link in self._links.values():
            link.wake()
        await server.stop(_GRACE_SECONDS)

    async def _attend(self, _requests: object, context: Any) -> None:
        """One stream, from its begin to its end."""
        first = None
        with contextlib.suppress(TimeoutError, StreamBroken):
            data = await asyncio.wait_for(context.read(), _JOIN_SECONDS)
            first = None if data is grpc.aio.EOF else opened(pb.FromAgent, data)
        if first is None or not first.HasField("join"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "A stream begins with Join.")
            return  # abort raises
        answer = self._admit(first.join)
        if isinstance(answer, pb.Refusal):
            await context.write(sealed(pb.ToAgent(refusal=answer)))
            return
        stream = answer.stream = object()  # another one, if there is one, is given up
        answer.wake()
        try:
            answer.session.resume(first.heard)
        except SessionBroken as error:
            self._break(answer, error)
        await context.write(sealed(pb.ToAgent(welcome=answer.welcome, heard=answer.session.heard)))
        reader = asyncio.create_task(self._read(answer, stream, context))
        try:
            await self._write(answer, stream, context)
        finally:
            reader.cancel()
            if answer.stream is stream:
                answer.stream = None

    def _admit(self, join: pb.Join) -> Link | pb.Refusal:
        if link := self._links.get(join.session):
            return link  # back, or its welcome was lost
        if refusal := self._ended.get(join.session):
            return refusal
        if join.resumes:
            return pb.Refusal(kind=pb.Refusal.UNKNOWN, reason="The coordinator was started again.")
        link = Link(join.session)
        answer = self._desk.join(link, join)
        if isinstance(answer, pb.Refusal):
            return answer
        link.welcome = answer
        if link.refusal is None:
            self._links[link.id] = link
        return link

    async def _read(self, link: Link, stream: object, context: Any) -> None:
        """Take what the agent says, until the stream ends. Its errors are the writer's, too: they end there."""
        token = _token_in(context.invocation_metadata())
        try:
            while (data := await context.read()) is not grpc.aio.EOF and link.stream is stream:
                message = opened(pb.FromAgent, data)
                if link.refusal is not None or (message.HasField("beat") and not self._allows(token)):
                    return  # a token that was taken back opens no stream any more either
                self._take(link, message)
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError, StreamBroken):
            pass  # the stream is broken
        finally:
            if link.stream is stream and link.refusal is None:
                link.stream = None
            link.wake()

    def _take(self, link: Link, message: pb.FromAgent) -> None:
        try:
            link.session.acknowledge(message.heard)
            if events := link.session.hear(message.first, message.events):
                self._desk.hear(link, events)
            if message.HasField("beat") and link.refusal is None:
                link.beat = message.beat.number
                self._desk.beat(link, message.beat)
                link.wake()
        except (SessionBroken, ValueError, KeyError, TypeError) as error:  # not what our agents say
            self._break(link, error)

    def _break(self, link: Link, error: Exception) -> None:
        reason = f"The session cannot go on: {type(error).__name__}: {error}"
        _log.warning("worker %s: %s", link.worker, reason)
        self.end(link, pb.Refusal.FENCED, reason)
        self._desk.lose(link, reason)

    async def _write(self, link: Link, stream: object, context: Any) -> None:
        idle = False
        while link.stream is stream:
            message = link.next_message(idle)
            if message is None:
                if self.is_stopping:
                    return
                idle = not await link.wait(self._beat_seconds)
                continue
            idle = False
            await context.write(sealed(message))
            if message.HasField("refusal"):
                return
