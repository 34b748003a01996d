"""What the chaos tests share: inputs, oracles, a killer, a command that can be hit, what must not be left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import chaos_jobs
import psutil
import pytest

JOBS = Path(chaos_jobs.__file__)
_MARK = "CHAOS_MARK"  # executors do not get variables that begin with GRISTMILL


def write_text(folder: Path, seed: int, lines: int) -> Path:
    """Lines of words of very different frequency, in three files with different line ends."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    words = [f"{'bdfgk'[n % 5]}{'aeiou'[n // 5 % 5]}{'lmnrs'[n // 25 % 5]}{n // 125}é" for n in range(600)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    for number, ending in enumerate(("\n", "\r\n", "\n")):
        drawn = chance.choices(words, weights, k=lines // 3 * 8)
        text = ending.join(" ".join(drawn[at : at + chance.randrange(3, 9)]) for at in range(0, len(drawn), 8))
        (folder / f"text{number}.txt").write_bytes(text.encode() + ending.encode() * (number % 2))
    return folder


def lines_of(folder: Path) -> list[str]:
    """All lines of the inputs, in order."""
    files = sorted(folder.iterdir())
    return [line for file in files for line in file.read_bytes().decode().replace("\r\n", "\n").splitlines()]


def counts_of(folder: Path) -> dict[str, int]:
    """How often each word stands in the inputs."""
    return Counter(word for line in lines_of(folder) for word in line.split())


def read_output(output: Path) -> dict[str, bytes]:
    """The parts of a complete output."""
    assert (output / "_SUCCESS").is_file(), f"{output} is not complete"
    return {path.name: path.read_bytes() for path in output.iterdir() if path.name != "_SUCCESS"}


def counted(parts: dict[str, bytes]) -> dict[str, int]:
    """The words of an output of WordCount."""
    rows = [line.split("\t") for part in parts.values() for line in part.decode().splitlines()]
    assert len({word for word, _ in rows}) == len(rows), "a word stands in the output twice"
    return {word: int(count) for word, count in rows}


def litter(folder: Path) -> list[str]:
    """Hidden names in a folder: nothing of ours may stay there."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".") or "gristmill" in path.name)


class Killer:
    """Ends random executors of this process's jobs by SIGKILL until it is left; every fifth shot is for the forkserver.

    Args:
        seed: for which and when.
        pause_seconds: between two kills, at least and at most.
    """

    def __init__(self, seed: int, pause_seconds: tuple[float, float] = (0.05, 0.3)) -> None:
        self._chance = random.Random(seed)
        self._pause_seconds = pause_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)
        self._shots = 0
        self.executors = 0  # killed, those that went with a forkserver included
        self.forkservers = 0

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._over.wait(self._chance.uniform(*self._pause_seconds)):
            for server in forkservers(os.getpid()):
                if not (executors := server.children()):
                    continue  # they are on their way
                self._shots += 1
                if self._shots % 5 == 0:
                    self.executors += len(executors)
                    self.forkservers += _shoot(server)
                else:
                    self.executors += _shoot(self._chance.choice(executors))


def _shoot(process: psutil.Process) -> int:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return 0
    return 1


def forkservers(pid: int) -> list[psutil.Process]:
    """The forkservers of a process."""
    found = []
    for child in psutil.Process(pid).children():
        try:
            if "gristmill.runtime.agent.forkserver" in child.cmdline():
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def looks(seconds: float, said: Callable[[], object]) -> Iterator[None]:
    """Look again and again, for so long. What takes a while is done less often: the machine has other things to do."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        yield
        assert time.monotonic() < deadline, said()
        time.sleep(max(0.01, 3 * (time.monotonic() - began)))


class Command:
    """``gristmill`` in a process of its own, whose whole family can be found, orphans included.

    Args:
        log: gets all that it says.
        *arguments: after the verb.
        verb: ``run``, ``serve`` or ``worker``.
        prefix: a command in front that becomes it, such as ``ip netns exec NAME``.
        mark: names the family; commands may share one.
    """

    def __init__(
        self,
        log: Path,
        *arguments: str | Path,
        verb: str = "run",
        prefix: Sequence[str] = (),
        mark: str | None = None,
        **environment: str,
    ) -> None:
        self._mark = mark or uuid.uuid4().hex
        self._log = log
        command = [*prefix, sys.executable, "-m", "gristmill.cli.main", verb, *map(str, arguments)]
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **environment, _MARK: self._mark},
            )

    def said(self) -> str:
        """All it said on stdout and stderr."""
        return self._log.read_text(errors="replace")

    def hit(self, number: signal.Signals, seconds: float, sign: Callable[[], bool] | None = None) -> bool:
        """Send a signal, that long after a sign was seen (or after the start); False if it was over before."""
        deadline = time.monotonic() + 60
        while sign is not None and not sign():
            assert time.monotonic() < deadline, f"the sign never came: {self.said()}"
            if self.process.poll() is not None:
                return False
            time.sleep(0.001)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(number)
            return True
        return False

    def minds(self, number: signal.Signals) -> bool:
        """Whether it is there, and has come so far that this signal does not simply end it."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return False
        caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
        return bool(int(caught, 16) >> (number - 1) & 1)

    def family(self) -> list[int]:
        """Living processes that descend from it, whoever their parent is by now."""
        return family(self._mark)

    def assert_gone(self, within_seconds: float = 5.0) -> float:
        """Wait until nobody of the family lives. Returns how long it took."""
        began = time.monotonic()
        while left := self.family():
            if time.monotonic() - began > within_seconds:
                names = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ") for pid in left]
                raise AssertionError(f"still alive after {within_seconds} s: {names}; it said: {self.said()}")
            time.sleep(0.05)  # to look takes as long
        return time.monotonic() - began

    def close(self) -> None:
        """End what a failed test would leave."""
        end_family(self._mark)
        self.process.wait(60)


def family(mark: str) -> list[int]:
    """Living processes that descend from those that were started with this mark."""
    entry_of = f"{_MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:  # it is gone, or somebody else's
                continue
            if entry_of in environment:  # a zombie has no environment any more
                found.append(int(entry.name))
    return found


def end_family(mark: str) -> None:
    """End them all, those that are stopped included."""
    for pid in family(mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def run_to_end(log: Path, *arguments: str | Path) -> Command:
    """Run a command to its end; it must succeed."""
    command = Command(log, *arguments)
    try:
        code = command.process.wait(120)
    finally:
        command.close()
    assert code == 0, command.said()
    return command


def seeds(short: Sequence[int], soak: int) -> list[object]:
    """Parameters: a few seeds for every run of the suite, many more for the soak."""
    long = [seed for seed in range(soak) if seed not in short]
    return [*short, *(pytest.param(seed, marks=pytest.mark.soak) for seed in long)]
