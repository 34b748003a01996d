"""The coordinator's end of the agents' streams: a gRPC server in a thread of its own.

Everything here happens in that thread but for ``start``, ``ask`` and ``close``. What is said in a session outlives the
streams that carry it (see :mod:`gristmill.runtime.transport.session` and ``protocol/agents.proto``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gristmill.errors import GristmillError, UsageError
from gristmill.runtime.protocol import ATTEND
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.protocol.quiet import grpc
from gristmill.runtime.transport.seal import opened, sealed
from gristmill.runtime.transport.session import Session, SessionBroken, StreamBroken
from gristmill.runtime.transport.tls import Identity, check_roots

_log = logging.getLogger(__name__)

START_SECONDS = 10.0
CLOSE_SECONDS = 3.0
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


class Link:
    """One agent's session, as the coordinator holds it.

    Attributes:
        id: the session.
        worker: the worker's name in it.
    """

    def __init__(self, session: str) -> None:
        self.id = session
        self.worker = ""
        self.welcome = pb.Welcome()
        self.session: Session[pb.Order] = Session()
        self.stream: object | None = None  # which one carries the session now; None: none does
        self.refusal: pb.Refusal | None = None  # the session is over
        self.beat = 0  # the number of the last one that came
        self._echoed = 0
        self._wake = asyncio.Event()

    def say(self, order: pb.Order, size_bytes: int = 100) -> None:
        """Send an order, now or when the agent is back. It is lost if the session ends first."""
        if self.refusal is None:
            self.session.say(order, size_bytes)
            self._wake.set()

    def wake(self) -> None:
        """Let the stream's writer look again."""
        self._wake.set()

    def next_message(self, idle: bool) -> pb.ToAgent | None:
        """What is to be written now, if anything. ``idle``: nothing was written for a while."""
        if self.refusal is not None:
            return pb.ToAgent(refusal=self.refusal, heard=self.session.heard)
        if not (idle or self.session.has_more or self.beat > self._echoed):
            return None
        self._echoed = self.beat
        first, orders = self.session.take()
        return pb.ToAgent(heard=self.session.heard, first=first, orders=orders, beat=self.beat)

    async def wait(self, seconds: float) -> bool:
        """Wait until there may be something to write; False if nothing came in time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        woken = self._wake.is_set()
        self._wake.clear()
        return woken


class Desk(Protocol):
    """Who decides on what agents say. All calls come from the server's thread and return at once."""

    def join(self, link: Link, join: pb.Join) -> pb.Welcome | pb.Refusal:
        """A worker wants in."""
        ...

    def hear(self, link: Link, events: Sequence[pb.Event]) -> None:
        """A worker tells what happened there."""
        ...

    def beat(self, link: Link, beat: pb.Beat) -> None:
        """A worker lives."""
        ...

    def lose(self, link: Link, reason: str) -> None:
        """A session cannot go on, through a fault of one of its ends; it has ended."""
        ...


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


class AgentServer:
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
        self._desk = desk
        self._host, self._port = host, port
        self._allows = allows
        self._tls = tls
        self._is_here = is_here
        self._beat_seconds = beat_seconds
        self._links: dict[str, Link] = {}  # sessions that go on
        self._ended: OrderedDict[str, pb.Refusal] = OrderedDict()  # sessions that were, and how they ended
        self._calls: deque[Callable[[], None]] = deque()
        self._awake = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="gristmill-cluster", daemon=True)

    def start(self) -> int:
        """Begin to serve; the port.

        Raises:
            UsageError: the address cannot be bound.
        """
        self._thread.start()
        if not self._started.wait(START_SECONDS):
            raise GristmillError("The server for agents did not start in time.")
        if self._error is not None:
            where = f"{self._host}:{self._port}"
            raise UsageError(f"Agents cannot be served at {where}: {self._error}. Name another host or port.")
        return self._port

    def ask(self, call: Callable[[], None]) -> None:
        """Have something done in the server's thread. Calls are done in order; from any thread."""
        self._calls.append(call)
        if not self._awake and self._loop is not None:
            self._awake = True
            with contextlib.suppress(RuntimeError):  # the loop has ended: there is nobody to be told anything
                self._loop.call_soon_threadsafe(self._work)

    def close(self) -> None:
        """Break all streams and end the thread. Sessions are not ended: agents look for a coordinator. Bounded."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)
            self._thread.join(CLOSE_SECONDS)

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

    def _work(self) -> None:
        self._awake = False  # first: what is asked from here on wakes again
        while self._calls:
            self._calls.popleft()()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # the thread's last line: start() says it, or the log
            self._error = error
            if self._started.is_set():
                _log.exception("the server for agents failed")
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = grpc.aio.server(options=_OPTIONS, interceptors=(_Doorkeeper(self._allows, self._is_here),))
        handler = grpc.stream_stream_rpc_method_handler(self._attend)
        _, service, method = ATTEND.split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        name = f"[{self._host}]" if ":" in self._host else self._host
        where = f"{name}:{self._port}"
        self._port = server.add_insecure_port(where) if self._tls is None else self._tls.add_port(server, where)
        await server.start()
        self._work()
        self._started.set()
        await self._stop.wait()
        self._work()
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
        assert self._stop is not None, "the server runs"
        while link.stream is stream:
            message = link.next_message(idle)
            if message is None:
                if self._stop.is_set():
                    return
                idle = not await link.wait(self._beat_seconds)
                continue
            idle = False
            await context.write(sealed(message))
            if message.HasField("refusal"):
                return
