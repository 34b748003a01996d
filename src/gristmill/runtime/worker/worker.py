"""A worker: the process that keeps a machine's executors at work for a coordinator, for as long as both want.

The main thread decides: it joins, reconnects, drains, leaves. It hears of everything through one queue.
"""

from __future__ import annotations

import logging
import queue
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gristmill.config import (
    MIN_EXECUTOR_MEMORY_BYTES,
    PYTHON_VERSION,
    VERSION,
    available_cpus,
    available_memory,
    default_data_dir,
    format_size,
)
from gristmill.errors import GristmillError, NotAuthorized, ServerUnreachable, UsageError, VersionMismatch
from gristmill.runtime.process.environment import DROPPED_BY_WORKERS, hide_from_executors, pass_to_executors
from gristmill.runtime.process.limits import Limits, limits_of
from gristmill.runtime.process.processes import hide_this_process
from gristmill.runtime.process.whereabouts import address_towards, machine_seen
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.transport.attendance import Attendance, Crashed, Secured, StreamOver
from gristmill.runtime.transport.outbox import Refused
from gristmill.runtime.transport.tls import Identity, Trust
from gristmill.runtime.worker.arrow_lean import import_arrow
from gristmill.runtime.worker.datadirs import DataDirs
from gristmill.runtime.worker.front import Front, JoinFacts
from gristmill.runtime.worker.logsending import Printing
from gristmill.runtime.worker.premises import Premises
from gristmill.runtime.worker.usage import UsageSampler
from gristmill.runtime.worker.workplace import Broken, DrainOrdered, Workplace
from gristmill.shuffle.fetch import TLS_SCHEME

_log = logging.getLogger(__name__)

_TICK_SECONDS = 0.1
_GONE_SECONDS = 3.0  # a coordinator that does not answer for so long is not waited for in a drain: it has no use for us
_CERTAIN_TRIES = 3  # a refusal for good that came damaged, or damaged our question, does not come so often in a row
_GOODBYE_SECONDS = 2.0  # to be heard; then we are gone anyway
_PAUSE_LIMIT_SECONDS = 2.0  # between two tries to connect
_WENT_WELL_SECONDS = 60.0
_REFUSED_LIMIT_SECONDS = 30.0  # … to join again after a refusal
_TIDY_SECONDS = 120.0  # for the blocks of a session that was lost to be deleted, before the next one begins
_JOIN_SECONDS = 10.0  # for the coordinator to answer, before it has said how long it wants to be waited for
_OWN_FOLDER = "worker"  # below each data directory: jobs of a caller on this machine have their folders beside it


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """How a worker is to be: the options of ``gristmill worker``, parsed.

    Attributes:
        url: the coordinator's.
        token: what it wants to see.
        executors: processes that run tasks; None: as many as there are CPUs.
        memory_bytes: of all executors together; None: a share of what there is.
        data_dirs: where blocks, spills and logs go.
        rack: where this machine stands.
        name: how this machine is called, for people and in inputs of the form file://NAME/…; None: as the host is.
        machine: which file system is seen; None: found out. Workers of one machine read each other's files.
        host: the address where others ask for blocks; None: the one from which the coordinator is reached.
        limits: of each executor.
        pass_env: patterns of variables that executors get though they are kept back otherwise.
        drop_env: patterns of variables that they do not get.
        patience_seconds: how long to look for a coordinator that does not answer.
        drain_seconds: how long blocks stay to be read once the last attempt is over.
        trust: whom to believe, if the coordinator speaks TLS.
        identity: the worker's certificate, for the coordinator and those who read its blocks; None: there is none.
    """

    url: str
    token: str
    executors: int | None = None
    memory_bytes: int | None = None
    data_dirs: tuple[Path, ...] = field(default_factory=lambda: (default_data_dir(),))
    rack: str = ""
    name: str | None = None
    machine: str | None = None
    host: str | None = None
    limits: Limits = field(default_factory=lambda: limits_of(None, None))
    pass_env: tuple[str, ...] = ()
    drop_env: tuple[str, ...] = ()
    patience_seconds: float = 600.0
    drain_seconds: float = 60.0
    trust: Trust = field(default_factory=Trust)
    identity: Identity | None = None

    @property
    def executor_count(self) -> int:
        """Executor processes to keep up."""
        return self.executors or available_cpus()

    @property
    def total_memory_bytes(self) -> int:
        """Budget of all executors together.

        Raises:
            UsageError: less than they can work with.
        """
        total = self.memory_bytes or int(available_memory() * 0.6)
        if total // self.executor_count < MIN_EXECUTOR_MEMORY_BYTES:
            raise UsageError(
                f"{format_size(total)} of memory for {self.executor_count} executors is too little; "
                f"an executor needs {format_size(MIN_EXECUTOR_MEMORY_BYTES)}. Give more --memory or fewer --executors."
            )
        return total


def run_worker(settings: WorkerSettings) -> bool:
    """Be a worker, until the coordinator has no more work for it or a signal ends it.

    True: the coordinator wants it gone for good, so that no other is to be started in its place.

    SIGTERM lets running attempts finish and their blocks be read, then leaves; a second one, or SIGINT, leaves at once.

    Raises:
        ServerUnreachable: the coordinator did not answer for too long.
        NotAuthorized: it does not know the token.
        VersionMismatch: it is of another version.
        UsageError: a data directory cannot be used.
    """
    import_arrow()
    from gristmill.shuffle.serve import BlockServer

    hide_this_process()  # user code of all clients runs in its executors
    hide_from_executors(*DROPPED_BY_WORKERS, *settings.drop_env)
    pass_to_executors(*settings.pass_env)
    front = Front(settings.url, settings.token, settings.trust)
    memory_bytes = settings.total_memory_bytes
    host = settings.host or address_towards(front.host)
    news: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with ExitStack() as stack:
        dirs = DataDirs.open([path / _OWN_FOLDER for path in settings.data_dirs])
        stack.callback(dirs.close)
        identity = settings.identity
        pair = None if identity is None else (identity.chain, identity.private)
        blocks = stack.enter_context(BlockServer(dirs.paths, host, pair=pair))
        stack.enter_context(_signals(news))
        usage = UsageSampler(dirs.paths)
        stack.callback(usage.close)
        premises = Premises(
            executors=settings.executor_count,
            executor_memory_bytes=memory_bytes // settings.executor_count,
            machine=settings.machine or machine_seen(),
            dirs=dirs,
            blocks=blocks,
            front=front,
            usage=usage.take,
            limits=settings.limits,
        )
        worker = _Worker(settings, premises, front, _flight_address(host, blocks.port, identity), memory_bytes, news)
        worker.run()
        return worker.is_retired


def _flight_address(host: str, port: int, identity: Identity | None) -> str:
    """Where others ask for blocks; with the name that the worker's certificate is for, if it has one."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return where if identity is None else f"{TLS_SCHEME}{where}#{identity.name}"


@dataclass(frozen=True)
class _Signalled:
    number: int


class _Session:
    """One session: its streams, and the work that is done in it once the coordinator has said welcome."""

    def __init__(self, premises: Premises, news: queue.SimpleQueue[Any], cut_off: Sequence[Printing] = ()) -> None:
        self._premises = premises
        self._cut_off = cut_off
        self._news = news
        self._lock = threading.Lock()
        self._closed = False
        self.attendance = Attendance(self, news)
        self.workplace: Workplace | None = None
        self._left: Workplace | None = None  # the same, once it was closed
        self.welcome = pb.Welcome()

    def welcomed(self, welcome: pb.Welcome) -> None:
        """In the stream's thread: the session begins."""
        with self._lock:
            if not self._closed:
                self.welcome = welcome
                self.workplace = Workplace(self._premises, welcome, self.attendance, self._news, self._cut_off)
        _log.info("joined %s as %s", self._premises.front.url, welcome.worker)

    def hear(self, orders: Sequence[pb.Order]) -> None:
        """In the stream's thread: carry these out."""
        if (workplace := self.workplace) is not None:  # another thread may close it meanwhile
            workplace.hear(orders)

    def say_goodbye(self, reason: str, *, idle: bool = False, failed: bool = False) -> None:
        """Let the coordinator know, if it listens; that nothing runs here, if that is so. Bounded."""
        attendance = self.attendance
        if not attendance.is_welcome:
            return
        attendance.say(pb.Event(goodbye=pb.Goodbye(reason=reason, idle=idle, failed=failed)))
        deadline = time.monotonic() + _GOODBYE_SECONDS
        while attendance.is_connected and not attendance.all_heard() and time.monotonic() < deadline:
            time.sleep(0.01)

    def close(self, *, delete: bool) -> None:
        """End everything; ``delete`` the blocks, too. May be called again."""
        self.attendance.disconnect()
        with self._lock:
            self._closed = True
            workplace, self.workplace = self.workplace, None
        if workplace is not None:
            self._left = workplace
            workplace.close(delete=delete)

    @property
    def cut_off(self) -> Sequence[Printing]:
        """The attempts that ended with it; of one that did not come to begin, those that it had yet to tell of."""
        return self._cut_off if self._left is None else self._left.cut_off

    @property
    def is_tidying(self) -> bool:
        """Whether it was closed, and its blocks are still being deleted."""
        return self._left is not None and self._left.is_tidying


class _Worker:
    """The worker's life, from one session to the next. All of it in the main thread."""

    def __init__(
        self,
        settings: WorkerSettings,
        premises: Premises,
        front: Front,
        flight: str,
        memory_bytes: int,
        news: queue.SimpleQueue[Any],
    ) -> None:
        self._settings = settings
        self._front = front
        self._premises = premises
        self._flight = flight
        self._memory_bytes = memory_bytes
        self._news = news
        self._session = _Session(premises, news)
        self._last: _Session | None = None  # the one before
        self._began = time.monotonic()  # the session
        self._contact = time.monotonic()  # when the coordinator was last there
        self._tries = 0  # to connect, since it was
        self._next_try = 0.0
        self._refusals = 0  # since a session last went well
        self._delete = False  # the blocks, at the end: nobody will ask for them
        self._draining = False
        self.is_retired = False  # the coordinator wants it gone for good
        self._drain_until: float | None = None  # when blocks are given up, once no attempt runs any more

    def run(self) -> None:
        """Join, work, and join again when a session has ended; until it is time to leave."""
        try:
            while self._turn():
                pass
            workplace = self._session.workplace
            self._session.say_goodbye("It was told to leave.", idle=workplace is None or not workplace.running)
            self._delete = True
        finally:
            self._session.close(delete=self._delete)

    def _turn(self) -> bool:
        """What happened, and what time brings. False when it is time to leave."""
        try:
            item = self._news.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            item = None
        match item:
            case _Signalled(number):
                if self._draining or number != signal.SIGTERM:
                    return False
                self._drain()
            case DrainOrdered(reason):
                self.is_retired = True
                _log.info("told to leave: %s", reason)
                self._drain()
            case Refused():
                return self._refused(item)
            case StreamOver():
                self._stream_over(item)
            case Broken(report):
                self._session.say_goodbye(report.message, failed=True)
                raise GristmillError(f"{report.message}\n{report.log_tail}".rstrip())
            case Crashed(error):
                self._session.say_goodbye(f"It failed: {type(error).__name__}: {error}", failed=True)
                raise error
        now = time.monotonic()
        self._keep_connected(now)
        return not (self._draining and self._is_drained(now))

    # Streams.

    def _keep_connected(self, now: float) -> None:
        attendance, seconds = self._session.attendance, self._session.welcome.lost_seconds or _JOIN_SECONDS
        if attendance.is_connected:
            if attendance.is_live:
                self._contact, self._tries = now, 0
            if attendance.unseen_seconds(now) > seconds / 2:
                _log.warning("the coordinator is not heard any more; connecting again")
                attendance.disconnect()
                self._next_try = now
        elif now >= self._next_try and not self._is_tidying(now):
            self._connect(now)

    def _is_tidying(self, now: float) -> bool:
        """Whether what the last session left is still being deleted: the next one would make files there."""
        return self._last is not None and self._last.is_tidying and now < self._began + _TIDY_SECONDS

    def _connect(self, now: float) -> None:
        self._tries += 1
        self._next_try = now + _pause(self._tries, _PAUSE_LIMIT_SECONDS)
        try:
            facts = self._front.join_facts()
        except ServerUnreachable as error:
            if now - self._contact > self._settings.patience_seconds:
                raise
            if self._tries == 1:
                _log.warning("%s Trying again.", error)
            return
        except UsageError:  # another version, a token that it does not know, no TLS
            if self._tries >= _CERTAIN_TRIES:
                raise
            return
        secured = self._secured(facts)
        self._session.attendance.connect(facts.address, self._settings.token, self._join(), secured)

    def _secured(self, facts: JoinFacts) -> Secured | None:
        """How to speak TLS with the coordinator; None if it does not.

        Raises:
            UsageError: it wants to see a certificate, and there is none.
        """
        if not facts.tls:
            return None
        if facts.client_certificates and self._settings.identity is None:
            raise UsageError(
                f"The coordinator at {self._premises.front.url} wants to see a certificate of this worker's: name it "
                "and its key with --tls-cert and --tls-key."
            )
        return Secured(self._settings.trust, self._settings.identity)

    def _join(self) -> pb.Join:
        if self._session.attendance.is_welcome:
            return pb.Join()
        settings, premises = self._settings, self._premises
        kept = premises.dirs.inventory()
        return pb.Join(
            name=settings.name or socket.gethostname(),
            host=settings.name or socket.gethostname(),
            rack=settings.rack,
            python=PYTHON_VERSION,
            version=VERSION,
            machine=premises.machine,
            flight=self._flight,
            cpus=premises.executors,
            memory_bytes=self._memory_bytes,
            kept=[pb.Kept(job=job, paths=paths) for job, paths in kept.items()],
        )

    def _stream_over(self, over: StreamOver) -> None:
        if over.code == "UNAUTHENTICATED" and self._tries >= _CERTAIN_TRIES:
            raise NotAuthorized(over.details)
        now = time.monotonic()
        self._next_try = now + _pause(self._tries, _PAUSE_LIMIT_SECONDS)
        if self._tries > 1 and over.details:  # it answered our question where to connect, and then this
            message = f"The coordinator at {self._premises.front.url} cannot be joined: {over.details}."
            if (identity := self._settings.identity) is not None and not self._session.attendance.is_welcome:
                message += f" The CA that it names by --tls-client-ca must have issued {identity.certificate}."
            if now - self._contact > self._settings.patience_seconds:
                raise ServerUnreachable(message)
            if self._tries == 2:
                _log.warning("%s Trying again.", message)

    # The end of sessions, and of all.

    def _refused(self, refusal: Refused) -> bool:
        """A session has ended, or did not begin. False if there is to be no other."""
        if refusal.kind == pb.Refusal.VERSION:
            raise VersionMismatch(refusal.reason)
        # One that was started again, and one whose files are not mounted here yet, may want the blocks later.
        self._session.close(delete=refusal.kind not in (pb.Refusal.UNKNOWN, pb.Refusal.NOT_SHARED))
        if refusal.kind == pb.Refusal.DISMISSED or self._draining:
            _log.info("leaving: %s", refusal.reason)
            return False
        _log.warning("%s Joining again.", refusal.reason)
        now = time.monotonic()
        self._refusals = 1 if now - self._began > _WENT_WELL_SECONDS else self._refusals + 1
        self._last, self._began = self._session, now
        self._session = _Session(self._premises, self._news, self._last.cut_off)
        shared = refusal.kind != pb.Refusal.NOT_SHARED
        pause = 0.0 if shared and self._refusals == 1 else _pause(self._refusals + 3, _REFUSED_LIMIT_SECONDS)
        self._next_try = now + pause
        return True

    def _drain(self) -> None:
        if self._draining:
            return
        self._draining = True
        if self._session.attendance.is_welcome:
            _log.info("draining: running attempts finish; a second SIGTERM ends them")
            self._session.attendance.say(pb.Event(leaving=pb.Leaving()))

    def _is_drained(self, now: float) -> bool:
        """Whether nobody needs this worker any more, or has needed it for too long."""
        workplace = self._session.workplace
        if workplace is None:
            return True
        if workplace.running:
            self._drain_until = None
            return False
        if not self._session.attendance.is_live and now - self._contact > _GONE_SECONDS:
            _log.info("leaving: the coordinator does not answer, and no attempt runs")
            return True
        if self._drain_until is None:
            self._drain_until = now + self._settings.drain_seconds
        if now < self._drain_until and (workplace.keeps_blocks() or not self._session.attendance.all_heard()):
            return False
        return True


def _pause(tries: int, limit_seconds: float) -> float:
    """How long to wait before the next try; not the same for all who wait."""
    return float(min(limit_seconds, 0.05 * 2 ** min(tries, 20)) * random.uniform(0.5, 1.0))


@contextmanager
def _signals(news: queue.SimpleQueue[Any]) -> Iterator[None]:
    """Make news of SIGTERM and SIGINT (only the main thread hears of them)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda number, _: news.put(_Signalled(number))) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
