"""A server and workers, each a process as its user would start it, for the benchmarks that need several of them."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import data
import measure
import psutil
from settings import gristmill, job

NAME_VARIABLE = "GRISTMILL_BENCH_WORKER"  # in a worker's environment, for jobs that are to know where they run
_UP_SECONDS = 60.0
_DOWN_SECONDS = 15.0
_LOOK_SECONDS = 0.02
_TAIL_LINES = 20


@dataclass(frozen=True)
class Pace:
    """How often workers say that they live, and without that for how long they are lost."""

    beat: str = "1s"
    limit: str = "10s"


DEFAULT_PACE = Pace()


class Worker:
    """One ``gristmill worker`` with a data directory of its own, on what passes for a machine of its own.

    Attributes:
        name: what it is called.
        data_dir: where its blocks are.
        process: the agent.
    """

    def __init__(self, cluster: Cluster, name: str, executors: int, memory: str) -> None:
        self.name = name
        self.executors = executors
        self.data_dir = cluster.folder / name
        # As a machine of its own it reads nobody's files: every block of another worker goes over Flight.
        options = ["--name", name, "--machine", name, "--executors", str(executors), "--memory", memory]
        where: list[str | Path] = ["--data-dir", self.data_dir, "--token-file", cluster.token_file]
        command = gristmill("worker", cluster.url, *options, *where)
        self.process = cluster.start(command, name, {NAME_VARIABLE: name})

    def is_up(self) -> bool:
        """Whether its executors are there. They are children of a child, a forkserver."""
        try:
            children = psutil.Process(self.process.pid).children()
            return sum(len(child.children()) for child in children) >= self.executors
        except psutil.NoSuchProcess:
            return False

    def blocks(self) -> int:
        """How many finished blocks it keeps."""
        return sum(1 for _ in self.data_dir.glob("worker/jobs/*/blocks/*.block"))

    def destroy(self) -> None:
        """``kill -9`` the agent and its executors, and delete its data directory: the machine is gone."""
        _kill(self.process)
        while self.data_dir.exists():  # whoever is being killed may still write for a moment
            shutil.rmtree(self.data_dir, ignore_errors=True)


class Cluster:
    """See :func:`cluster`.

    Attributes:
        folder: for all that they write.
        url: where the server listens.
        token_file: its token.
        workers: those that should be alive.
    """

    def __init__(self, folder: Path, executors: int, memory: str, pace: Pace) -> None:
        self.folder = folder
        self.workers: list[Worker] = []
        self._executors, self._memory = executors, memory
        self._numbers = itertools.count()
        self._processes: list[subprocess.Popen[bytes]] = []
        data_dir = folder / "server"
        self.token_file = data_dir / "token"
        options = ["--port", "0", "--executors", "0", "--heartbeat", pace.beat, "--heartbeat-limit", pace.limit]
        self._server = self.start(gristmill("serve", "--data-dir", data_dir, *options), "server")
        facts = data_dir / "server.json"
        self.wait_until(facts.exists)
        self.url = str(json.loads(facts.read_text())["url"])

    @property
    def server_pid(self) -> int:
        """The server's process."""
        return self._server.pid

    def start(
        self, command: Sequence[str | Path], name: str, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process that ends with the cluster."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})},
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def add_workers(self, count: int) -> None:
        """Start so many more, and wait for them."""
        names = [f"w{next(self._numbers)}" for _ in range(count)]
        self.workers += [Worker(self, name, self._executors, self._memory) for name in names]
        self.wait_until(lambda: all(worker.is_up() for worker in self.workers))

    def blocks(self) -> int:
        """How many finished blocks all workers keep."""
        return sum(worker.blocks() for worker in self.workers)

    def run(
        self,
        name: str,
        source: Path,
        output: Path,
        *options: str,
        observe: Callable[[int, measure.Memory], None] | None = None,
    ) -> tuple[measure.Run, dict[str, Any]]:
        """Run a job of ``bench/jobs`` on it.

        Args:
            name: the job's.
            source: the input.
            output: where the result goes; what is there is removed.
            *options: of ``gristmill run``.
            observe: is called every few milliseconds meanwhile.

        Returns:
            The run of the command, and the job's summary; empty if it failed.
        """
        where: list[str | Path] = ["--on", self.url, "--token-file", self.token_file, "-o", output, "--json"]
        shutil.rmtree(output, ignore_errors=True)  # a run that was cut off leaves one
        self.wait_until(lambda: not self.blocks())  # those of the job before go a moment after its end
        pids = [self._server.pid, *(worker.process.pid for worker in self.workers)]
        done = measure.run(
            gristmill("run", job(name), source, *where, *options),
            {"GRISTMILL_DATA_DIR": str(self.folder / "client")},
            sample_seconds=_LOOK_SECONDS if observe else measure.SAMPLE_SECONDS,
            observe=observe,
            helpers=pids,
        )
        if done.error:
            return done, {}
        return done, json.loads(done.stdout.splitlines()[-1])

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait for something that comes soon.

        Raises:
            RuntimeError: it does not.
        """
        deadline = time.monotonic() + _UP_SECONDS
        while not condition():
            ended = [process for process in (self._server, *(w.process for w in self.workers)) if process.poll()]
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"the cluster does not do what it should\n{self._said()}")
            time.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """End all of it."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _DOWN_SECONDS
        for process in reversed(self._processes):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _kill(process)

    def _said(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        tails = {log.name: log.read_text(errors="replace").splitlines()[-_TAIL_LINES:] for log in logs}
        return "\n".join(f"{name}: {line}" for name, lines in tails.items() for line in lines)


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.kill()
    for each in family:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(family, timeout=_DOWN_SECONDS)


@contextmanager
def cluster(
    workers: int, executors: int = 1, *, memory: str = "128MiB", pace: Pace = DEFAULT_PACE
) -> Iterator[Cluster]:
    """A server with so many workers, of so many executors each; all of it gone afterwards.

    Args:
        workers: how many.
        executors: of each.
        memory: of each worker's executors together.
        pace: how soon a worker counts as lost; as users have it by default.
    """
    with tempfile.TemporaryDirectory(prefix="cluster-", dir=data.folder(), ignore_cleanup_errors=True) as folder:
        made = Cluster(Path(folder), executors, memory, pace)
        try:
            made.add_workers(workers)
            yield made
        finally:
            made.close()
