"""A cluster whose every part is a process that can be hit: a server, workers, clients, and who hits them."""

from __future__ import annotations

import glob
import itertools
import json
import os
import random
import shutil
import signal
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import chaos_cluster_jobs
import psutil
from chaos_kit import Command, end_family, family, forkservers, litter, looks
from netns_kit import Network

CLUSTER_JOBS = Path(chaos_cluster_jobs.__file__)
PATIENCE_SECONDS = 60.0


class Worker:
    """One ``gristmill worker``.

    Attributes:
        name: what it is called; with its data directories, it may be started again under the same.
        dirs: its data directories.
        command: the process.
    """

    def __init__(
        self, site: Site, name: str, dirs: Sequence[Path], executors: int, machine: str | None, prefix: Sequence[str]
    ) -> None:
        self._site = site
        self.name = name
        self.dirs = tuple(dirs)
        self.executors_wanted = executors
        self._machine = machine
        self.prefix = prefix
        self._log = site.folder / f"{name}.log"
        self.command = self._start()

    def _start(self) -> Command:
        dirs = [word for path in self.dirs for word in ("--data-dir", path)]
        options = ["--name", self.name, "--token-file", self._site.token_file]
        if self._machine is not None:
            options += ["--machine", self._machine]
        sizes = ["--executors", str(self.executors_wanted), "--memory", f"{256 * self.executors_wanted}MiB"]
        return self._site.command(self._log, self._site.url, *options, *sizes, *dirs, verb="worker", prefix=self.prefix)

    def start(self) -> None:
        """Start it again."""
        self.command = self._start()

    @property
    def pid(self) -> int:
        """The agent's."""
        return self.command.process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the agent alone."""
        self.command.process.send_signal(number)

    def kill(self) -> None:
        """``kill -9`` the agent; its executors find out."""
        self.command.process.kill()
        self.command.process.wait(PATIENCE_SECONDS)

    def is_up_or_gone(self) -> bool:
        """Whether it minds SIGTERM by now, which would simply end it right after its start; or has ended."""
        return self.command.minds(signal.SIGTERM) or self.command.process.poll() is not None

    def executors(self) -> list[psutil.Process]:
        """Its executors' processes."""
        try:
            return [executor for server in forkservers(self.pid) for executor in server.children()]
        except psutil.NoSuchProcess:
            return []

    def forget(self) -> None:
        """Delete its data directories, in which somebody may still write for a moment."""
        for path in self.dirs:
            for _ in range(20):
                shutil.rmtree(path, ignore_errors=True)
                if not path.exists():
                    break
                time.sleep(0.05)

    def blocks(self) -> list[Path]:
        """The finished blocks that lie in its data directories."""
        # Not Path.glob, which stumbles over folders that vanish while it looks.
        found = [glob.glob(str(path / "worker/jobs/*/blocks/*.block")) for path in self.dirs]  # noqa: PTH207
        return [Path(block) for blocks in found for block in blocks]


class Site:
    """A server with workers. ``with site(tmp_path) as s: …``

    Args:
        folder: for all that they write.
        own_executors: of the server itself.
        beat: how often workers say that they live.
        limit: without that for so long they are lost.
        prefix: in front of the server's command.
        host: where it listens, and is reached.
        data_dir: the server's; unless told otherwise, below ``folder``.
        seen: the same folder as this process sees it, if that is elsewhere.
        serve_options: further ones of ``gristmill serve``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        own_executors: int = 0,
        beat: str = "0.2s",
        limit: str = "2s",
        prefix: Sequence[str] = (),
        host: str = "127.0.0.1",
        data_dir: Path | None = None,
        seen: Path | None = None,
        serve_options: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        data_dir = data_dir or folder / "server"
        self.data_dir = seen or data_dir
        self.token_file = self.data_dir / "token"
        self.log = folder / "server.log"
        self.workers: list[Worker] = []
        self.clients: list[Command] = []
        self.network: Network | None = None
        self._numbers = itertools.count()
        self._prefix = prefix
        self._options = [
            *("--host", host, "--port", str(free_port()), "--data-dir", str(data_dir), "--insecure"),
            *("--executors", str(own_executors), "--heartbeat", beat, "--heartbeat-limit", limit),
            *serve_options,
        ]
        self.url = f"http://{host}:{self._options[3]}"
        self.start_server()

    # Its processes.

    def command(self, log: Path, *arguments: str | Path, verb: str, prefix: Sequence[str] = ()) -> Command:
        """Start a process of this family."""
        return Command(log, *arguments, verb=verb, prefix=prefix, mark=self.mark)

    def start_server(self) -> None:
        """Start the server, or another one on the same data directory and port; return when it listens."""
        self.spawn_server()
        self.wait_until(lambda: self.listens() or self.server.process.poll() is not None)
        assert self.server.process.poll() is None, self.said()

    def spawn_server(self) -> None:
        """The same, but return at once."""
        (self.data_dir / "server.json").unlink(missing_ok=True)
        self.server = self.command(self.log, *self._options, verb="serve", prefix=self._prefix)

    def listens(self) -> bool:
        """Whether the server that was started last has said where it is."""
        try:
            facts = json.loads((self.data_dir / "server.json").read_text())
        except (OSError, ValueError):
            return False
        return bool(facts["pid"] == self.server.process.pid)

    def kill_all(self) -> None:
        """``kill -9`` to everybody: the server, its workers, their executors, and clients."""
        end_family(self.mark)
        for command in (self.server, *self.clients, *(worker.command for worker in self.workers)):
            command.process.wait(PATIENCE_SECONDS)
        self.wait_until(lambda: not family(self.mark))

    def kill_server(self) -> None:
        """``kill -9``."""
        self.server.process.kill()
        self.server.process.wait(PATIENCE_SECONDS)

    def add_worker(
        self,
        *,
        executors: int = 1,
        dirs: Sequence[Path] = (),
        machine: str | None = "",
        prefix: Sequence[str] = (),
    ) -> Worker:
        """Start one more worker. Unless told otherwise it is a machine, and fetches what others have."""
        name = f"w{next(self._numbers)}"
        worker = Worker(self, name, dirs or [self.folder / name], executors, name if machine == "" else machine, prefix)
        self.workers.append(worker)
        return worker

    def replace(self, worker: Worker) -> Worker:
        """Start a worker anew, with another name and data directory, in place of one that is gone."""
        self.workers.remove(worker)
        return self.add_worker(executors=worker.executors_wanted, prefix=worker.prefix)

    def run(self, job: str, inputs: Path, output: Path, *options: str | Path, prefix: Sequence[str] = ()) -> Command:
        """Begin ``gristmill run … --on`` this server."""
        where = ["-o", output, "--on", self.url, "--token-file", self.token_file, "--data-dir", self.folder / "client"]
        log = self.folder / f"client{len(self.clients)}.log"
        client = self.command(log, job, inputs, *where, "--json", *options, verb="run", prefix=prefix)
        self.clients.append(client)
        return client

    def finish(self, client: Command, seconds: float = 110.0) -> dict[str, Any]:
        """Wait for a client that must succeed. Returns its summary."""
        code = client.process.wait(seconds)
        assert code == 0, self.said()
        summary: dict[str, Any] = json.loads(client.said().splitlines()[-1])
        return summary

    # What there is to see.

    def said(self) -> str:
        """What all of them have said."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')}" for log in logs)

    def staged(self) -> list[str]:
        """Files of the second stage's attempts beside the output, finished or not."""
        # Not Path.glob, which stumbles over folders that are renamed while it looks.
        return glob.glob(str(self.folder / ".out.gristmill-*" / "attempts" / "*-s1-*"))  # noqa: PTH207

    def wait_until(self, condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for something that nobody tells."""
        for _ in looks(seconds, self.said):
            if condition():
                return

    def wait_for_executors(self, count: int) -> None:
        """Wait until so many run. A worker starts them when it has joined."""
        self.wait_until(lambda: sum(len(worker.executors()) for worker in self.workers) >= count)

    def blocks(self) -> list[Path]:
        """The finished blocks on all workers."""
        return [block for worker in self.workers for block in worker.blocks()]

    def assert_clean(self, *places: Path) -> None:
        """A while after its end nothing of a job lies about: not beside the output, nor where anybody worked."""
        where = [self.data_dir / "jobs", *(path / "worker/jobs" for worker in self.workers for path in worker.dirs)]

        def left() -> list[str]:
            return [str(path) for folder in where if folder.exists() for path in folder.iterdir()]

        self.wait_until(lambda: not left())
        for place in places:
            assert litter(place) == []

    def end(self) -> None:
        """Let all of them leave in order; nobody may stay behind, and nobody may have a complaint."""
        living = [worker for worker in self.workers if worker.command.process.poll() is None]
        self.wait_until(lambda: all(worker.is_up_or_gone() for worker in living))
        for worker in living:
            worker.send(signal.SIGTERM)
        for worker in living:
            assert worker.command.process.wait(PATIENCE_SECONDS) == 0, self.said()
        self.server.process.send_signal(signal.SIGTERM)
        assert self.server.process.wait(PATIENCE_SECONDS) == 0, self.said()
        self.wait_until(lambda: not family(self.mark))
        assert "Traceback" not in self.said()

    def close(self) -> None:
        """End what a failed test would leave."""
        self.kill_all()


@contextmanager
def site(folder: Path, workers: int = 0, executors: int = 1, **options: Any) -> Iterator[Site]:
    """A server with so many workers, of so many executors each; all of it gone afterwards."""
    made = Site(folder, **options)
    try:
        for _ in range(workers):
            made.add_worker(executors=executors)
        made.wait_for_executors(workers * executors)
        yield made
    finally:
        made.close()


def free_port() -> int:
    """A port to come back to: not one of those that the system gives to whoever connects."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


class Havoc:
    """Kills executors, agents and the server of a site by SIGKILL, and starts them again, until it is left.

    An agent comes back on its data directory, or another one comes in its place, with or without what it left. The
    server comes back on its data directory and port.

    Args:
        site: the cluster.
        seed: for whom, when, and how.
        pause_seconds: between two kills, at least and at most.
        round: what is killed, in an order that the seed shuffles; then again.
        rounds: how many, all of which come to pass, also if the job is over before; None: until the end.
    """

    def __init__(
        self,
        site: Site,
        seed: int,
        pause_seconds: tuple[float, float],
        round: Sequence[str],
        rounds: int | None = None,
    ) -> None:
        self._site = site
        self._chance = random.Random(seed)
        self._pause_seconds = pause_seconds
        self._round = list(round)
        self._rounds = rounds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="havoc", daemon=True)
        self.error: BaseException | None = None
        self.kills: Counter[str] = Counter()

    def __enter__(self) -> Havoc:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._rounds is None or error is not None:
            self._over.set()
        self._thread.join(PATIENCE_SECONDS)
        self._over.set()
        assert not self._thread.is_alive()
        if self.error is not None and error is None:
            raise self.error

    def _run(self) -> None:
        try:
            for _ in itertools.count() if self._rounds is None else range(self._rounds):
                self._chance.shuffle(self._round)
                for target in self._round:
                    if self._over.wait(self._chance.uniform(*self._pause_seconds)):
                        return
                    getattr(self, f"_kill_{target}")()
        except BaseException as error:  # raised again by whoever waits for us
            self.error = error

    def _kill_executor(self) -> None:
        all_at_once = self._chance.random() < 0.2  # of a worker
        while not self._over.wait(0.01):
            executors = [executor for worker in self._site.workers for executor in worker.executors()]
            if executors and all_at_once:
                executors = [server for worker in self._site.workers for server in forkservers(worker.pid)]
            try:
                self._chance.choice(executors).kill()
            except (IndexError, psutil.NoSuchProcess):  # it is gone, and another one on its way
                continue
            self.kills["executor"] += 1
            return

    def _kill_agent(self) -> None:
        worker = self._chance.choice(self._site.workers)
        worker.kill()
        how = self._chance.choice(["restarted", "emptied", "replaced"])
        if how != "restarted":
            worker.forget() if how == "emptied" else None
        if how == "replaced":
            self._site.replace(worker)
        else:
            worker.start()
        self.kills["agent"] += 1
        self.kills[f"agent {how}"] += 1

    def _kill_own_worker(self) -> None:
        for child in psutil.Process(self._site.server.process.pid).children():
            child.kill()  # the server starts another
            self.kills["own worker"] += 1

    def _kill_server(self) -> None:
        self._site.kill_server()
        self._over.wait(self._chance.uniform(0, 1))
        self._site.start_server()
        self.kills["server"] += 1


def read_rows(output: Path) -> dict[str, str]:
    """Keys and values of a complete text output in which each key stands once."""
    assert (output / "_SUCCESS").is_file(), f"{output} is not complete"
    rows = [line.split("\t") for part in sorted(output.glob("part-*")) for line in part.read_text().splitlines()]
    found = dict(rows)
    assert len(found) == len(rows), "a key stands in the output twice"
    return found


def split_size(path: Path, tasks: int) -> list[str]:
    """The option that makes about so many map tasks of a file."""
    return ["--split-size", str(max(1, path.stat().st_size // tasks))]


def is_alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def go_on(pid: int) -> None:
    """Let a stopped process go on."""
    os.kill(pid, signal.SIGCONT)


def stop(pid: int) -> None:
    """Stop a process, and wait until it stands."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
        time.sleep(0.001)
