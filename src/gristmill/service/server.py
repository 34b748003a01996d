"""``gristmill serve``: coordinator, journal, agents' server and REST in one process, and a worker of its own."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from gristmill.api.prepare import check_replaced
from gristmill.config import default_data_dir
from gristmill.errors import JournalFailed, UsageError
from gristmill.fleets.cluster import BEAT_SECONDS, LOST_SECONDS, ClusterFleet
from gristmill.runtime.coordinator.coordinator import Coordinator, QueueLimits, RunningJob
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.files.blobs import BlobStore
from gristmill.runtime.files.joblogs import LogKeeper
from gristmill.runtime.journal.journal import JOURNAL, Journal
from gristmill.runtime.process.private import claim_folder
from gristmill.runtime.transport.cluster import AgentTls
from gristmill.runtime.transport.tls import Trust, check_roots, load_identity
from gristmill.service.app import create_app
from gristmill.service.doors.guard import keys_of
from gristmill.service.doors.listening import WILDCARDS, listen, public_name, serve, url_of
from gristmill.service.doors.paths import Roots
from gristmill.service.doors.roles import Role
from gristmill.service.doors.site import is_loopback
from gristmill.service.doors.tokens import TOKEN, server_token
from gristmill.service.lock import FACTS, lock_data_dir
from gristmill.service.metrics.metrics import Metrics
from gristmill.service.operations import HistoryKeeper, OperationSettings, tellers_of
from gristmill.service.own_worker import OWN_CERTIFICATE, PEERS, OwnWorker
from gristmill.service.sessions import LEASE_SECONDS, SessionService
from gristmill.service.signing import signing_key
from gristmill.service.submission.checks import paths_found
from gristmill.service.submission.jobs import JobService
from gristmill.service.submission.loader import Loader

DEFAULT_PORT = 7077


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """What ``gristmill serve`` is told.

    Attributes:
        host: the address to listen on.
        port: likewise; 0: a free one.
        data_dir: the journal, job folders, uploaded code, and the token.
        executors: of the worker of its own; 0: there is none.
        memory_bytes: of that worker's executors together; None: it chooses.
        worker_arguments: further options of that worker.
        beat_seconds: how often each worker says that it lives.
        lost_seconds: without that for so long it is lost.
        token_file: holds the token; None: ``DATA_DIR/token``, drawn when there is none.
        lease_seconds: the client of a session may be silent for so long.
        allowed_hosts: further names by which it may be called, beside the address and the machine's name.
        tls_cert: its certificate, in PEM, with those that lead to the CA; None: nothing is encrypted.
        tls_key: the key of that.
        tls_client_ca: who must have issued the certificates of workers; None: they need none.
        insecure: whether it may listen for other machines without TLS.
        allowed_paths: below which inputs and outputs of jobs must be; empty: they may be anywhere.
        limits: how many jobs run at a time, and wait.
        operations: what it remembers, and whom it tells.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    data_dir: Path = field(default_factory=default_data_dir)
    executors: int = 0
    memory_bytes: int | None = None
    worker_arguments: tuple[str, ...] = ()
    beat_seconds: float = BEAT_SECONDS
    lost_seconds: float = LOST_SECONDS
    token_file: Path | None = None
    lease_seconds: float = LEASE_SECONDS
    allowed_hosts: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    insecure: bool = False
    allowed_paths: tuple[str, ...] = ()
    limits: QueueLimits = field(default_factory=QueueLimits)
    operations: OperationSettings = field(default_factory=OperationSettings)

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None) or (self.tls_client_ca and self.tls_cert is None):
            raise UsageError("For TLS there must be both --tls-cert and --tls-key; --tls-client-ca goes with these.")
        if self.tls_cert is None and not self.insecure and not is_loopback(self.host):
            raise UsageError(
                f"Whoever reaches {self.host} could read tokens and data on their way. Give --tls-cert and --tls-key; "
                "or listen on 127.0.0.1, which others reach through SSH or a proxy with TLS; or say --insecure, in a "
                "network that you trust."
            )
        if self.lost_seconds < 2 * self.beat_seconds:
            raise UsageError(
                f"A worker that says every {self.beat_seconds:g} s that it lives cannot be lost after "
                f"{self.lost_seconds:g} s: --heartbeat-limit must be at least twice --heartbeat."
            )


class Server:
    """A server that runs from ``with`` to its end. One runs on a data directory at a time.

    Attributes:
        url: where it listens, for programs on this machine.
        public_url: the same for other machines.
        token_file: where its token is.
        link: where a browser is logged in.
        keys: what it knows callers by. Only while it runs.
        logs: keeps what attempts print. Only while it runs.
        resumed: the jobs that an earlier server on this data directory had not ended.
        doubt: why others may get at what is in the data directory, in a sentence; empty if they cannot.

    Raises:
        UsageError: the data directory or the address is taken, or cannot be used.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._close = ExitStack()
        self.url = self.public_url = self._token = self.doubt = ""
        self.token_file = settings.token_file or settings.data_dir.absolute() / TOKEN
        self.resumed: tuple[str, ...] = ()
        self._resumed: list[RunningJob] = []
        self._coordinator: Coordinator | None = None
        self._roots = Roots()
        self._rest: threading.Thread | None = None
        self._fleet: ClusterFleet | None = None
        self._jobs: JobService | None = None
        self._journal: Journal | None = None

    @property
    def link(self) -> str:
        """Where a browser is logged in, once it is opened: it carries the token."""
        return f"{self.public_url if self._settings.tls_cert else self.url}/?token={self._token}"

    @property
    def jobs(self) -> JobService:
        """What its REST interface speaks for. Only while it runs."""
        assert self._jobs is not None, "the server does not run"
        return self._jobs

    @property
    def coordinator(self) -> Coordinator:
        """What runs its jobs. Only while it runs."""
        assert self._coordinator is not None, "the server does not run"
        return self._coordinator

    def dismiss(self) -> None:
        """Tell all workers, those that come later too, that there is no more to do: they end."""
        if self._fleet is not None:
            self._fleet.dismiss()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._start(undo)
            self._close = undo.pop_all()
        return self

    def check(self) -> None:
        """See that it goes on. If not, the process must end; its jobs go on with the next one.

        Raises:
            JournalFailed: nothing can be noted any more.
            RuntimeError: a defect has ended a part of it.
        """
        if self._rest is not None and not self._rest.is_alive():
            raise RuntimeError("nobody answers calls any more")
        crash = None if self._coordinator is None else self._coordinator.crash
        if isinstance(crash, JournalFailed):
            raise crash
        if crash is not None:
            raise RuntimeError("the coordinator has ended") from crash

    def __exit__(self, *_error: object) -> None:
        self._close.close()

    def _start(self, close: ExitStack) -> None:
        settings = self._settings
        data_dir = settings.data_dir.absolute()
        self.doubt = claim_folder(data_dir)
        close.callback(os.close, lock_data_dir(data_dir))
        token = self._token = server_token(data_dir, settings.token_file)
        roots = self._roots = Roots(settings.allowed_paths, closed=data_dir)
        listening = close.enter_context(listen(settings.host, settings.port))
        port = listening.getsockname()[1]
        tls = _tls(settings)
        scheme = "http" if tls is None else "https"
        self.url = url_of(scheme, "127.0.0.1" if settings.host in WILDCARDS else settings.host, port)
        self.public_url = url_of(scheme, public_name(settings.host, tls), port)
        told = self._told_url(scheme, port)
        names = (*settings.allowed_hosts, urlsplit(told).hostname or "", *(() if tls is None else tls.identity.names))
        keys = self.keys = keys_of(token, data_dir, settings.host, names)
        blobs = BlobStore(data_dir / "blobs")
        blobs.prune(time.time())

        self.logs = LogKeeper()
        close.callback(self.logs.close)
        fleet = ClusterFleet(
            lambda given: keys.tokens.opens(given, Role.WORKER),
            host=settings.host,
            beat_seconds=settings.beat_seconds,
            lost_seconds=settings.lost_seconds,
            logs=self.logs,
            tls=tls,
            is_here=keys.site.is_here,
        )
        coordinator = self._open_coordinator(fleet, data_dir, told, close)
        self._fleet = fleet
        assert self._journal is not None
        jobs = self._jobs = JobService(coordinator, blobs, data_dir, self.logs, self._journal)
        jobs.check_paths, jobs.check_written = roots.check, roots.check_written
        resumed = self._resumed
        loader = Loader(jobs, resumed)
        close.callback(loader.close)
        coordinator.hooks.on_turn = loader.on_turn
        coordinator.hooks.on_begun = lambda running: jobs.drivers.note(running, "", running.user)
        for running in coordinator.running_jobs():  # some may have begun just now
            jobs.drivers.note(running, "", running.user)
        sessions = SessionService(coordinator, fleet, jobs, data_dir, settings.lease_seconds, resumed=resumed)
        close.callback(sessions.close)
        keeper = HistoryKeeper(
            self._journal,
            settings.operations.keep,
            data_dir,
            jobs.histories,
            logs_bytes=settings.operations.logs_bytes,
            gone=coordinator.forget_jobs,
        )
        close.callback(keeper.close)
        keeper.start()
        metrics = Metrics(self._journal, coordinator)
        app = create_app(jobs, sessions, keys, lambda host: _join_facts(fleet, host), fleet.blob, metrics=metrics)
        self._rest = serve(app, listening, close, tls)
        close.callback(setattr, jobs, "closing", True)
        if settings.executors:
            worker = OwnWorker(
                self.url,
                self.token_file,
                data_dir,
                settings.executors,
                settings.memory_bytes,
                tls,
                settings.worker_arguments,
            )
            close.callback(worker.close)
            worker.start()
        facts = data_dir / FACTS
        known = {"url": self.url, "token_file": str(self.token_file.absolute()), "pid": os.getpid()}
        if tls is not None:  # whoever reads this needs no CA to believe it
            known |= {"tls_ca": str(data_dir / OWN_CERTIFICATE), "tls_name": tls.identity.name}
        _write_privately(facts, known)
        close.callback(facts.unlink, missing_ok=True)

    def _told_url(self, scheme: str, port: int) -> str:
        """Where people find the server: for links in notices."""
        if self._settings.operations.public_url:
            return self._settings.operations.public_url
        named = self._settings.allowed_hosts
        return url_of(scheme, named[0], port) if named else self.public_url

    def _open_coordinator(self, fleet: ClusterFleet, data_dir: Path, told: str, close: ExitStack) -> Coordinator:
        """The coordinator, with the jobs that an earlier one had not ended."""
        journal = self._journal = Journal(data_dir / JOURNAL)
        close.callback(journal.close)
        journal.open()
        tellers = tellers_of(self._settings.operations, journal, told)
        close.callback(tellers.close)
        tellers.start()
        # A worker that is not back by then would count as lost.
        coordinator = Coordinator(
            fleet,
            journal=journal,
            rejoin_seconds=self._settings.lost_seconds,
            signing_key=signing_key(data_dir),
            limits=self._settings.limits,
        )
        close.callback(coordinator.close)
        coordinator.hooks.check = self._check_found
        self._resumed = coordinator.resume_all()
        self.resumed = tuple(running.job for running in self._resumed)
        fleet.await_jobs((*self.resumed, *coordinator.kept_jobs))
        coordinator.start()
        self._coordinator = coordinator
        return coordinator

    def _check_found(self, prepared: PreparedJob) -> None:
        """See that a job that has waited may read and write what it is about to."""
        self._roots.check(paths_found(prepared))
        if prepared.output_path is not None:
            self._roots.check_written([prepared.place])
        check_replaced(prepared)


def _tls(settings: ServeSettings) -> AgentTls | None:
    """What to show clients and workers, checked; None: nothing."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    identity = load_identity(settings.tls_cert.absolute(), settings.tls_key.absolute())
    ca = settings.tls_client_ca
    if ca is not None:
        check_roots(ca)
        if settings.executors:
            identity.check_issued(ca)
    data_dir = settings.data_dir.absolute()
    (data_dir / OWN_CERTIFICATE).write_bytes(identity.own)
    issuers = (ca, Trust.from_environment().ca)
    peers = b"\n".join([identity.chain, *(check_roots(one) for one in issuers if one is not None)])
    (data_dir / PEERS).write_bytes(peers)
    return AgentTls(identity, ca, data_dir / PEERS)


def _join_facts(fleet: ClusterFleet, host: str) -> dict[str, Any]:
    """What a worker is told. A server that listens everywhere is where the worker has reached it."""
    facts = dict(fleet.join_facts)
    listens, _, port = str(facts["grpc"]).rpartition(":")
    if listens.strip("[]") in WILDCARDS and host:
        facts["grpc"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return facts


def _write_privately(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        partial.unlink()
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(value, file)
    partial.replace(path)
