"""A cluster for tests: a coordinator in this process, real workers beside it. ``with cluster(tmp_path) as c: …``"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

from gristmill import MapReduce
from gristmill.fleets.cluster import ClusterFleet
from gristmill.runtime.contracts import FleetEvent, Post, WorkerUp
from gristmill.runtime.coordinator.coordinator import Coordinator, RunningJob
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.outcome import Outcome

TOKEN = "open sesame"
WORKER = Path(__file__).parent / "worker_process.py"
PATIENCE = 60.0


class NotedFleet(ClusterFleet):
    """A cluster fleet that keeps what it told the coordinator."""

    def start(self, post: Post) -> None:
        self.said: list[FleetEvent] = []

        def note_and_post(event: FleetEvent) -> None:
            self.said.append(event)
            post(event)

        super().start(note_and_post)

    def heard(self, kind: type[Any]) -> list[Any]:
        """The events of a kind so far."""
        return [event for event in self.said if isinstance(event, kind)]


class Worker:
    """A worker's process. ``pid`` is the agent; executors are below it."""

    def __init__(self, cluster: Cluster, number: int, *arguments: str, token: str = TOKEN, **environment: str) -> None:
        self.data_dir = cluster.folder / f"worker{number}"
        self.log = cluster.folder / f"worker{number}.log"
        command = [
            *(sys.executable, str(WORKER), cluster.url),
            *("--data-dir", str(self.data_dir), "--name", f"w{number}", "--memory", "512MiB"),
            *("--patience-seconds", "30", *arguments),  # so that none outlives a test that was killed
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "GRISTMILL_TOKEN": token, **environment},
                start_new_session=True,
            )
        self.pid = self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the agent alone."""
        self.process.send_signal(number)

    def executors(self) -> list[int]:
        """The executors' processes."""
        try:
            return [child.pid for server in psutil.Process(self.pid).children() for child in server.children()]
        except psutil.NoSuchProcess:
            return []

    def said(self) -> str:
        """All that it said."""
        return self.log.read_text(errors="replace")

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(seconds)

    def end(self) -> None:
        """End it with all that it started."""
        try:
            family = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        self.process.kill()
        self.process.wait(PATIENCE)
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


class Cluster:
    """A coordinator, its address, and its workers.

    Attributes:
        folder: where all files go.
        fleet: the coordinator's fleet.
        coordinator: runs in this process.
        url: what workers are told.
        token: likewise.
        workers: those that were started, in order.
    """

    def __init__(self, folder: Path, executors: int, **settings: Any) -> None:
        self.folder = folder
        self.token = TOKEN
        self.workers: list[Worker] = []
        self._executors = executors
        self._settings = settings
        self._front = _front(self)
        self.url = f"http://127.0.0.1:{self._front.server_port}"
        self.asked: list[str] = []  # of the REST interface
        self.blobs: dict[str, bytes] = {}
        self.facts: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda facts: facts  # a test may bend the truth
        self.start()

    def start(self, await_jobs: Sequence[str] = ()) -> None:
        """Start the coordinator, or another one after ``stop``."""
        self.fleet = NotedFleet(TOKEN, **self._settings)
        self.fleet.await_jobs(await_jobs)
        self.coordinator = Coordinator(self.fleet)
        self.coordinator.start()

    def stop(self) -> None:
        """End the coordinator. Workers look for another."""
        self.coordinator.close()

    def add_worker(self, *arguments: str, executors: int | None = None, **more: str) -> Worker:
        """Start one more worker. Returns at once."""
        count = str(executors or self._executors)
        worker = Worker(self, len(self.workers), "--executors", count, *arguments, **more)
        self.workers.append(worker)
        return worker

    def wait_for_workers(self, count: int) -> None:
        """Wait until so many have joined since the coordinator began."""
        self.wait_until(lambda: len(self.fleet.heard(WorkerUp)) >= count)

    def wait_until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait for something that nobody tells."""
        deadline = time.monotonic() + seconds
        while True:
            began = time.monotonic()
            if condition():
                return
            assert began < deadline, self.said()
            time.sleep(max(0.01, 3 * (time.monotonic() - began)))  # to look may take a while, on a busy machine

    def said(self) -> str:
        """What all workers have said."""
        return "\n".join(f"--- {worker.log.name}\n{worker.said()}" for worker in self.workers)

    def submit(self, job: type[MapReduce], inputs: Any, output: Path, **options: Any) -> RunningJob:
        """Begin a job."""
        return self.coordinator.submit(self.prepare(job, inputs, output, **options))

    def prepare(self, job: type[MapReduce], inputs: Any, output: Path, **options: Any) -> PreparedJob:
        """Make a job ready."""
        from gristmill.api.loading import job_of_class
        from gristmill.api.mapreduce import parse_options
        from gristmill.api.pickling import pickle_code
        from gristmill.api.prepare import Submission, prepare
        from gristmill.plan.stages import InputSpec

        parsed = parse_options({"data_dir": self.folder / "data", "memory": "1GiB", **options})
        made = job_of_class(job, parsed.params)
        resolved = made.resolve(parsed, output)
        submission = Submission(
            name=made.name,
            code=pickle_code(made.code),
            plan=made.plan(resolved, private=False),
            inputs=(InputSpec(tuple(map(str, inputs)) if isinstance(inputs, (list, tuple)) else (str(inputs),)),),
            output=str(output),
            options=resolved,
            import_paths=made.import_paths,
        )
        return prepare(submission).prepared

    def run(self, job: type[MapReduce], inputs: Any, output: Path, **options: Any) -> Outcome:
        """Run a job to its end; it must succeed."""
        return self.finish(self.submit(job, inputs, output, **options))

    def finish(self, running: RunningJob, seconds: float = 60.0) -> Outcome:
        """Wait for a job; it must succeed."""
        outcome = running.wait(seconds)
        assert outcome is not None, f"the job still runs: {running.view()}\n{self.said()}"
        assert outcome.error is None, f"{outcome.error}\n{self.said()}"
        return outcome

    def close(self) -> None:
        """End everything."""
        for worker in self.workers:
            worker.end()
        self.coordinator.close()
        self._front.shutdown()
        self._front.server_close()


@contextmanager
def cluster(folder: Path, workers: int = 2, executors: int = 1, **settings: Any) -> Iterator[Cluster]:
    """A coordinator and workers that have joined it.

    Args:
        folder: for all files.
        workers: how many.
        executors: of each.
        **settings: of the ClusterFleet.
    """
    made = Cluster(folder, executors, **settings)
    try:
        for _ in range(workers):
            made.add_worker()
        made.wait_for_workers(workers)
        yield made
    finally:
        made.close()


class Proxy:
    """A way to the coordinator's server for agents that a test can cut or stop."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._target = host, int(port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self.connections = 0
        self.damage: random.Random | None = None  # flips a byte of every so many …
        self.damage_bytes = 100_000
        self.flips = 0
        self._flows = threading.Event()
        self._flows.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections."""
        sockets, self._open = self._open, []
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        """Carry nothing in either direction; connections stay open."""
        self._flows.clear()

    def flow(self) -> None:
        """Go on."""
        self._flows.set()

    def close(self) -> None:
        """End it."""
        self._listening.close()
        self.cut()
        self.flow()

    def _damaged(self, data: bytes) -> bytes:
        if self.damage is None:
            return data
        is_sure = not self.flips and len(data) > self.damage_bytes // 200  # one at least
        if not is_sure and self.damage.random() > len(data) / self.damage_bytes:
            return data
        changed = bytearray(data)
        changed[self.damage.randrange(len(data))] ^= 1 << self.damage.randrange(8)
        self.flips += 1
        return bytes(changed)

    def _accept(self) -> None:
        while True:
            try:
                near = self._listening.accept()[0]
                far = socket.create_connection(self._target, 5)
            except OSError:
                return
            self.connections += 1
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                self._flows.wait(PATIENCE)
                other.sendall(self._damaged(data))
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        one.close()


def _front(cluster: Cluster) -> ThreadingHTTPServer:
    """What workers need of a REST interface: where to connect, and blobs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                self.send_error(401)
                return
            cluster.asked.append(self.path)
            if self.path == "/api/v1/join":
                self._answer(json.dumps(cluster.facts(cluster.fleet.join_facts)).encode())
            else:
                name = self.path.rpartition("/")[2]
                data = cluster.fleet.blob(name) or cluster.blobs.get(name)
                self._answer(data) if data is not None else self.send_error(404)

        def _answer(self, data: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server
