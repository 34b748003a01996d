"""A member of the fleet: what runs in a Ray actor. An agent with its executors, as any worker has them.

User code runs in the executors, which are processes of their own beside the actor's: so an attempt can be ended, and
its death be explained, while the actor and all blocks stay.
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import psutil
import ray

from gristmill.config import PYTHON_VERSION, VERSION, available_memory, default_data_dir
from gristmill.errors import ServerUnreachable
from gristmill.fleets.ray.folders import open_folder, sweep
from gristmill.fleets.ray.moving import ask_member
from gristmill.fleets.ray.placing import Node, memory_of_member
from gristmill.fleets.ray.settings import SCHEME, MemberSettings
from gristmill.runtime.process.environment import DROPPED_BY_WORKERS, hide_from_executors
from gristmill.runtime.process.processes import collect_garbage_rarely, hide_this_process
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.transport.outbox import Outbox, Refused
from gristmill.runtime.worker.premises import Premises
from gristmill.runtime.worker.usage import UsageSampler
from gristmill.runtime.worker.workplace import Broken, DrainOrdered, Workplace
from gristmill.shuffle.request import Request

_log = logging.getLogger(__name__)
_Method = TypeVar("_Method", bound=Callable[..., Any])

_GATHER_SECONDS = 0.005, 0.02  # between two calls, each of which takes a millisecond of CPU; when much is said
_DEPTH = 2048  # tasks that wait in a slot: enough for the time between two calls, however short they are
_BLOB_SECONDS = 60.0  # for code to come that a job needs: it was sent before the job was told of
_RAYLET_LOOK_SECONDS = 0.5  # how often is seen whether it lives
_MOST_FETCH_SECONDS = 300.0  # for blocks of another member: more than readers wait
_ONLY_OF_ACTORS = ("OMP_NUM_THREADS", "PYTHONUNBUFFERED")
_NO_VARIABLES = ("RAY_*", "PYTHONBREAKPOINT")  # of Ray's processes: some open doors, and one leads to Ray's debugger


def _by(group: str) -> Callable[[_Method], _Method]:
    """Let a method run in threads of a group, which do not wait for those of others. (See ``crew.py`` for the groups.)

    It is said here, where both ends of Ray Client find it.
    """
    decorate: Any = ray.method(concurrency_group=group)
    return cast("Callable[[_Method], _Method]", decorate)


class Member:
    """What an actor does. Its methods are called by the fleet's crew, and ``fetch`` by other members.

    Args:
        settings: how it is to be.
    """

    def __init__(self, settings: MemberSettings) -> None:
        from gristmill.runtime.executor.arrow_alone import defer_pandas
        from gristmill.shuffle.serve import BlockServer

        defer_pandas()  # it takes a second, and nobody needs it here
        logging.basicConfig(level=logging.WARNING)
        collect_garbage_rarely()
        hide_this_process()  # user code runs in what it starts
        threading.Thread(target=_end_with, args=(os.getppid(),), name="gristmill-raylet", daemon=True).start()
        hide_from_executors(*DROPPED_BY_WORKERS, *_NO_VARIABLES, *_set_by_ray())
        self._settings = settings
        node = ray.get_runtime_context().get_node_id()
        base = Path(settings.data_dir) if settings.data_dir else default_data_dir()
        self._folder = base / "ray" / settings.name
        dirs = open_folder(self._folder)
        threading.Thread(target=sweep, args=(self._folder.parent,), name="gristmill-sweep", daemon=True).start()
        memory = settings.memory_bytes or _memory_here(node, settings.cpus)
        self._blocks = BlockServer(dirs.paths, pass_on=partial(_pass_on, f"{SCHEME}{settings.namespace}/"))
        self._usage = UsageSampler(dirs.paths)
        self._blobs = _Blobs()
        self._memory_bytes = memory
        self._premises = Premises(
            executors=settings.executors,
            executor_memory_bytes=memory // settings.executors,
            machine=node,
            dirs=dirs,
            blocks=self._blocks,
            front=self._blobs,
            usage=self._usage.take,
            limits=settings.limits,
            depth=_DEPTH,
            relay=f"127.0.0.1:{self._blocks.port}",
        )
        self._session: _Session | None = None
        self._changing = threading.Lock()

    @_by("talk")
    def join(self) -> bytes:
        """Begin a session; whatever ran in one before is ended. Returns what the coordinator is to know."""
        with self._changing:
            if self._session is not None:
                self._session.close()
            self._session = _Session(self._premises)
        host = socket.gethostname()
        return pb.Join(
            session=self._session.id,
            name=host,
            host=host,
            python=PYTHON_VERSION,
            version=VERSION,
            machine=self._premises.machine,
            flight=self._settings.address,
            cpus=self._settings.cpus,
            memory_bytes=self._memory_bytes,
        ).SerializeToString()

    @_by("talk")
    def welcome(self, session: str, welcome: bytes) -> None:
        """The coordinator's answer: work begins."""
        self._in(session).welcomed(pb.Welcome.FromString(welcome))

    @_by("talk")
    def hear(self, session: str, message: bytes, blobs: Mapping[str, list[Any] | None]) -> int:
        """Carry out orders.

        Args:
            session: which one.
            message: a ``ToAgent``.
            blobs: what jobs need, by SHA-256, each a reference to it (in a list, so that Ray leaves it as one); None:
                it is not needed any more.

        Returns:
            The number of the last order that came.
        """
        self._blobs.note(blobs)
        return self._in(session).hear(pb.ToAgent.FromString(message))

    @_by("talk")
    def listen(self, session: str, heard: int) -> bytes:
        """What there is to tell, once there is something, or soon. ``heard``: the last event that the crew knows of."""
        return self._in(session).listen(heard)

    @_by("serve")
    def fetch(self, request: bytes) -> list[Any]:
        """Pieces of blocks, for another member or for the caller's process. One object for all of them.

        Raises:
            ValueError: this is no such request, or its ticket does not open those blocks.
        """
        return self._blocks.read(request)

    @_by("talk")
    def leave(self) -> None:
        """End everything, and delete what was kept. Bounded."""
        with self._changing:
            if self._session is not None:
                self._session.close()
        self._blocks.close()
        self._usage.close()
        self._premises.dirs.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _in(self, session: str) -> _Session:
        current = self._session
        if current is None or current.id != session:
            raise ValueError(f"session {session} is over")
        return current


class _Session(Outbox):
    """One session: the work in it, and what is to be said."""

    def __init__(self, premises: Premises) -> None:
        self._told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        super().__init__(self._told, *_GATHER_SECONDS)
        self.id = secrets.token_hex(16)
        self._premises = premises
        self._workplace: Workplace | None = None
        self._listeners = 0  # calls of ``listen``, ever
        self._look_seconds = 1.0  # no wait for something to say is longer
        self._hearing = threading.Lock()  # orders keep their order

    def welcomed(self, welcome: pb.Welcome) -> None:
        self._look_seconds = welcome.beat_seconds
        self._workplace = Workplace(self._premises, welcome, self, self._told)

    def hear(self, message: pb.ToAgent) -> int:
        with self._hearing:
            with self._changed:
                orders = self._session.hear(message.first, message.orders)
                heard = self._session.heard
            if orders and self._workplace is not None:
                self._workplace.hear(orders)
        return heard

    def listen(self, heard: int) -> bytes:
        until = time.monotonic() + self._look_seconds
        with self._changed:
            self._listeners += 1
            listener = self._listeners
            self._session.resume(heard)  # what the answer before held did not come, if the crew has not heard it
            self._say_news()
            message = None
            while message is None and (left := until - time.monotonic()) > 0 and listener == self._listeners:
                message = self._wait_for_news(True, left)
            if listener != self._listeners:  # nobody waits for this answer any more
                return (message or pb.FromAgent()).SerializeToString()
            return (message or self._message()).SerializeToString()

    def _say_news(self) -> None:
        while True:
            try:
                item = self._told.get_nowait()
            except queue.Empty:
                return
            match item:
                case Broken(report):
                    self.say(pb.Event(goodbye=pb.Goodbye(reason=report.message, failed=True)))
                case DrainOrdered():
                    self.say(pb.Event(leaving=pb.Leaving()))
                case Refused():
                    raise ValueError(item.reason)

    def close(self) -> None:
        if self._workplace is not None:
            self._workplace.close(delete=True)


class _Blobs:
    """What jobs bring along, as references into Ray's object store."""

    url = ""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._changed = threading.Condition()

    def note(self, blobs: Mapping[str, list[Any] | None]) -> None:
        """Take note of what came, and of what is not needed any more."""
        with self._changed:
            for name, reference in blobs.items():
                if reference is None:
                    self._known.pop(name, None)
                else:
                    self._known[name] = reference[0]
            self._changed.notify_all()

    def blob(self, name: str) -> bytes:
        """What is kept under this SHA-256.

        Raises:
            ServerUnreachable: it did not come, or is lost.
        """
        with self._changed:
            self._changed.wait_for(lambda: name in self._known, _BLOB_SECONDS)
            reference = self._known.get(name)
        if reference is None:
            raise ServerUnreachable(f"The code {name} has not come.")
        try:
            data: bytes = ray.get(reference, timeout=_BLOB_SECONDS)
        except ray.exceptions.RayError as error:
            raise ServerUnreachable(f"The code {name} cannot be read: {error}") from error
        return data


def _memory_here(node: str, cpus: float) -> int:
    """What executors may use on this node, if nobody said it."""
    has: dict[str, float] = next((one["Resources"] for one in ray.nodes() if one["NodeID"] == node), {})
    here = Node(float(has.get("CPU", 0)), int(has.get("memory", 0)))
    return memory_of_member(here, cpus, available_memory())


def _set_by_ray() -> list[str]:
    """Variables that Ray sets for actors, and that the user has not set: on other fleets tasks do not have them."""
    try:
        before = psutil.Process(os.getppid()).environ()  # the raylet's
    except (psutil.Error, OSError):
        before = {}
    return [name for name in _ONLY_OF_ACTORS if name not in before]


def _end_with(raylet: int) -> None:
    """End this process when its node's Ray has ended; what it has started ends with it.

    Ray looks too, but sees a process that is dead as alive until somebody asks how it ended. Where nobody does (below
    a supervisor that adopts orphans and leaves them) it would be a minute.
    """
    while os.getppid() == raylet:
        time.sleep(_RAYLET_LOOK_SECONDS)
    os._exit(1)


def _pass_on(fleet: str, address: str, request: Request) -> Iterator[Any]:
    """Ask another member of the fleet; executors, which name it, may be made to name anybody."""
    if not address.startswith(fleet):
        raise ValueError(f"{address} is no member of this fleet")
    return iter(ask_member(address, request, min(request.seconds, _MOST_FETCH_SECONDS)))
