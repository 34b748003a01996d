"""A folder in which ``mr-coordinator`` and ``mr-worker`` really run. ``with lab(tmp_path) as here: …``"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import psutil

PATIENCE = 60.0


class Process:
    """One of the two commands, as its console script starts it."""

    def __init__(self, name: str, folder: Path, log: Path, *arguments: str) -> None:
        self.name = name
        self.log = log
        main = f"{name.removeprefix('mr-')}_main"
        script = f"import sys; from gristmill.cli.mr import {main}; sys.exit({main}())"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", script, *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is gone. Does not wait."""
        return self._process.poll() is not None

    def said(self) -> str:
        """All that it said."""
        return self.log.read_text(errors="replace")

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code, once it is gone."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {seconds:g} s:\n{self.said()}") from None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, and nobody else."""
        self._process.send_signal(number)

    def end(self) -> None:
        """End it with all that it started."""
        try:
            family = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        self._process.kill()
        self._process.wait(PATIENCE)
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


class Lab:
    """The folder where all happens.

    Attributes:
        folder: where the commands are run.
        started: every process that was started, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "lab"
        self.folder.mkdir()
        self.started: list[Process] = []

    def write(self, name: str, text: str) -> Path:
        """Put a file there."""
        path = self.folder / name
        path.write_text(text)
        return path

    def coordinator(self, reducers: int, *arguments: str) -> Process:
        """Start ``mr-coordinator``. Returns at once."""
        return self._start("mr-coordinator", str(reducers), *arguments)

    def worker(self, app: str, *arguments: str, folder: Path | None = None) -> Process:
        """Start ``mr-worker``, here or in another folder. Returns at once."""
        return self._start("mr-worker", app, *arguments, folder=folder)

    def _start(self, name: str, *arguments: str, folder: Path | None = None) -> Process:
        log = self.folder.parent / f"{len(self.started)}-{name}.log"
        process = Process(name, folder or self.folder, log, *arguments)
        self.started.append(process)
        return process

    def run(self, app: str, reducers: int, files: list[str], *arguments: str, workers: int = 2) -> dict[str, str]:
        """Run an app to its end, with this many workers; the result."""
        coordinator = self.coordinator(reducers, *files, *arguments)
        crew = [self.worker(app) for _ in range(workers)]
        for process in (*crew, coordinator):
            assert process.wait() == 0, self.said()
        return self.result(reducers)

    def result(self, reducers: int) -> dict[str, str]:
        """The values by key. All files must be there, no others, and no key twice."""
        assert sorted(path.name for path in self.folder.glob("mr-out*")) == sorted(
            f"mr-out-{number}" for number in range(reducers)
        ), self.said()
        lines = [
            line for number in range(reducers) for line in (self.folder / f"mr-out-{number}").read_text().splitlines()
        ]
        found = dict(line.split(" ", 1) for line in lines)
        assert len(found) == len(lines), f"a key came twice\n{self.said()}"
        return found

    def wait_until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait for something that nobody tells."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.005)

    def leftovers(self) -> list[str]:
        """What the commands have left beside the result, though nobody asked for it."""
        return sorted(path.name for path in self.folder.iterdir() if path.name.startswith((".", "mr-coordinator")))

    def said(self) -> str:
        """What all processes have said."""
        return "\n".join(f"--- {process.name} {process.pid}\n{process.said()}" for process in self.started)


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    """A folder for the two commands, whose processes are ended with it."""
    made = Lab(folder)
    try:
        yield made
    finally:
        for process in made.started:
            process.end()


def write_texts(here: Lab, files: int = 6, words: int = 400, seed: int = 0) -> dict[str, Counter[str]]:
    """Some files of words; how often each file has each word."""
    random = Random(seed)
    found: dict[str, Counter[str]] = {}
    for number in range(files):
        chosen = [f"w{random.randrange(300)}" for _ in range(words)]
        lines = [" ".join(chosen[start : start + 10]) for start in range(0, words, 10)]
        here.write(f"text-{number}.txt", "\n".join(lines) + "\n")
        found[f"text-{number}.txt"] = Counter(chosen)
    return found


def executors_of(worker: Process) -> list[int]:
    """The processes that a worker has started."""
    try:
        return [child.pid for child in psutil.Process(worker.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
