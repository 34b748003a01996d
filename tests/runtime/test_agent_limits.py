"""User code that would do harm: it is stopped and named, nothing of it stays, and secrets are not there for it.

The bombs bound themselves: they start no more than ``MOST`` processes, and each of those ends after some seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import agent_kit
import cloudpickle
import pytest
from agent_kit import Mill, is_gone, wait_until

from gristmill.config import MIB
from gristmill.errors import FailureReport
from gristmill.runtime.agent.agent import AgentSettings
from gristmill.runtime.contracts import AttemptDone, AttemptFailed, FleetEvent, SlotDown, SlotUp, TaskResult
from gristmill.runtime.process.limits import Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and needs a subreaper")

cloudpickle.register_pickle_by_value(sys.modules[__name__])
cloudpickle.register_pickle_by_value(agent_kit)

MOST = 10_000
LINGER_SECONDS = 15
LIMITS = Limits(processes=20, file_bytes=8 * MIB)


class Shop(Mill):
    """One executor after the other, for many tests. ``up``: the slots that are there."""

    up: Sequence[str] = ()

    def run(self, mapper: Callable[[Any, Any], Any], **options: Any) -> TaskResult | FailureReport:
        goes_on, number = options.pop("goes_on", False), 0
        job = self.job(mapper, **options)
        while True:
            while not self.up:
                self.hear()
            spec = self.spec(job, number=(number := number + 1))
            self.fleet.launch(slot := self.up[-1], spec)
            while not isinstance(event := self.hear(), (AttemptDone, AttemptFailed)):
                continue
            if isinstance(event, AttemptDone):
                if not goes_on:
                    self.fleet.drop_job(job.job)
                return event.result
            if event.slot_leaves:
                self.up = [other for other in self.up if other != slot]
            if event.report.error != "AttemptNotBegun":  # what was left there has ended the slot meanwhile
                self.fleet.drop_job(job.job)
                return event.report

    def hear(self) -> FleetEvent:
        """The next event."""
        event = self.events.get(timeout=60)
        if isinstance(event, SlotUp):
            self.up = [*self.up, event.slot]
        elif isinstance(event, SlotDown):
            self.up = [slot for slot in self.up if slot != event.slot]
        return event


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("mill"), settings=AgentSettings(limits=LIMITS))
    with closing(shop.fleet):
        yield shop


def strays(mark: Path) -> list[int]:
    """Processes that a bomb has left, by what they have noted."""
    return [pid for pid in map(int, mark.read_text().split()) if not is_gone(pid)] if mark.exists() else []


def note(mark: Path) -> None:
    """In a process of a bomb: say that it is there."""
    with mark.open("a") as file:
        file.write(f"{os.getpid()} ")


def linger() -> None:
    """In a process of a bomb: stay for a while, then be gone whatever happens."""
    time.sleep(LINGER_SECONDS)
    os._exit(0)


def test_a_task_that_forks_thousands_is_stopped(mill: Shop, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def bomb(_: Any, line: str) -> Any:
        for _ in range(MOST):
            if os.fork() == 0:
                note(mark)
                linger()
        yield line, 1

    report = mill.failure(bomb)
    assert report.error == "ProcessLimitExceeded"
    started = report.details["processes"]
    assert isinstance(started, int) and 20 < started < 3000, report
    assert f"had started {started} processes; it may have 20 at a time" in report.message
    assert "--max-processes" in report.advice
    wait_until(lambda: not strays(mark))


def test_a_tree_that_doubles_and_hides_is_stopped(mill: Shop, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def bomb(_: Any, line: str) -> Any:
        until, first = time.monotonic() + LINGER_SECONDS, os.getpid()
        for _ in range(9):  # 2 ** 9 processes, each in a session of its own, and most without a parent
            if os.fork() == 0:
                os.setsid()
                note(mark)
            elif os.getpid() % 3 == 0 and os.getpid() != first:
                os._exit(0)
        time.sleep(max(0.0, until - time.monotonic()))
        os._exit(0)
        yield line, 1

    report = mill.failure(bomb)
    assert report.error == "ProcessLimitExceeded"
    wait_until(lambda: not strays(mark))


def test_children_that_nobody_waits_for_are_stopped(mill: Shop) -> None:
    def bomb(_: Any, line: str) -> Any:
        for _ in range(MOST):
            if os.fork() == 0:
                os._exit(0)
        time.sleep(LINGER_SECONDS)
        yield line, 1

    report = mill.failure(bomb)
    assert report.error == "ProcessLimitExceeded"


def test_a_daemon_is_ended_with_its_job(mill: Shop, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def mapper(_: Any, line: str) -> Any:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                note(mark)
                linger()
            os._exit(0)
        os.wait()
        while not mark.exists():
            time.sleep(0.01)
        yield line, 1

    assert mill.success(mapper).records_in == 1
    wait_until(lambda: not strays(mark))


def test_what_an_attempt_has_left_is_bounded_too(mill: Shop, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def mapper(_: Any, line: str) -> Any:
        if os.fork() == 0:
            os.setsid()
            note(mark)  # before there are others: it may be ended before they come to noting anything
            time.sleep(0.3)  # by then the attempt is over
            for _ in range(MOST):
                if os.fork() == 0:
                    note(mark)
                    linger()
            linger()
        yield line, 1

    assert mill.success(mapper, goes_on=True).records_in == 1
    wait_until(mark.exists)
    wait_until(lambda: not strays(mark))
    assert len(mark.read_text().split()) < MOST


@pytest.mark.parametrize("doublings", [7, pytest.param(12, marks=pytest.mark.soak)])
def test_the_machine_stays_usable_meanwhile(
    mill: Shop, doublings: int, record_property: Callable[[str, object], None]
) -> None:
    def bomb(_: Any, line: str) -> Any:
        until = time.monotonic() + LINGER_SECONDS
        for _ in range(doublings):
            os.fork()
        while time.monotonic() < until:
            pass
        os._exit(0)
        yield line, 1

    began = time.monotonic()
    report = mill.failure(bomb)
    assert report.error == "ProcessLimitExceeded"  # by then it is gone, and did not end by itself
    stopped = time.monotonic()
    subprocess.run([sys.executable, "-S", "-c", ""], check=True, timeout=10)
    ran = time.monotonic()
    record_property(
        "note",
        f"{2**doublings:,} processes were wanted, {report.details['processes']} were there when all were ended, "
        f"{stopped - began:.2f} s after the job began; another program then ran in {ran - stopped:.2f} s",
    )


def test_memory_of_many_processes_counts_together(mill: Shop) -> None:
    def filler(_: Any, line: str) -> Any:
        kept = []
        for _ in range(12):
            if os.fork() == 0:
                kept = [bytearray(os.urandom(1) * (24 * MIB))]
                linger()
            time.sleep(0.05)
        time.sleep(LINGER_SECONDS)
        yield line, len(kept)

    report = mill.failure(filler)
    assert report.error == "MemoryLimitExceeded"


def test_pools_and_commands_work(mill: Shop) -> None:
    def mapper(_: Any, line: str) -> Any:
        with multiprocessing.get_context("fork").Pool(8) as pool:
            squares = pool.map(abs, range(-50, 0))
        said = subprocess.run(["sh", "-c", "echo said"], capture_output=True, text=True, check=True).stdout
        yield said.strip(), sum(squares)

    assert mill.success(mapper).records_out == 1


def test_a_file_that_grows_too_large(mill: Shop, tmp_path: Path) -> None:
    def mapper(_: Any, line: str) -> Any:
        with (tmp_path / "huge").open("wb") as file:
            for _ in range(1000):
                file.write(bytes(MIB))
        yield line, 1

    report = mill.failure(mapper)
    assert report.error == "FileTooLarge"
    assert report.frames[-1].source == "file.write(bytes(MIB))"
    assert "beyond the limit of 8.0 MiB" in report.message and "--max-file-size" in report.advice
    assert (tmp_path / "huge").stat().st_size <= 8 * MIB


def test_an_output_that_grows_too_large(mill: Shop) -> None:
    def mapper(_: Any, line: str) -> Any:
        for _ in range(40):
            yield "x" * MIB, 1

    report = mill.failure(mapper)
    assert report.error == "FileTooLarge", report


def test_no_secret_reaches_user_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the environment, nor by that of the forkserver, nor by a descriptor."""
    for name in ("GRISTMILL_TOKEN", "GRISTMILL_SERVE_SMTP_URL", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"):
        monkeypatch.setenv(name, "the canary")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "for the data")
    leak = os.open(tmp_path / "leak", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(leak, True)
    seen = tmp_path / "seen"

    def mapper(_: Any, line: str) -> Any:
        seen.mkdir()
        (seen / "environ").write_text(repr(dict(os.environ)))
        (seen / "proc").write_bytes(Path("/proc/self/environ").read_bytes())
        (seen / "parent").write_bytes(Path(f"/proc/{os.getppid()}/environ").read_bytes())
        (seen / "command").write_bytes(Path(f"/proc/{os.getppid()}/cmdline").read_bytes())
        own = [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]
        (seen / "fds").write_text("\n".join(own))
        below = subprocess.run(["ls", "/proc/self/fd"], capture_output=True, text=True, check=True).stdout
        (seen / "below").write_text(below)
        (seen / "core").write_text(str(resource.getrlimit(resource.RLIMIT_CORE)[0]))
        (seen / "oom").write_text(Path("/proc/self/oom_score_adj").read_text())
        yield line, 1

    try:
        mill = Mill(tmp_path)
        with closing(mill.fleet):
            mill.success(mapper)
    finally:
        os.close(leak)
    for file in ("environ", "proc", "parent", "command"):
        assert "canary" not in (seen / file).read_text(), file
    assert "for the data" in (seen / "environ").read_text()
    assert "leak" not in (seen / "fds").read_text()
    assert not [path for path in (seen / "fds").read_text().split() if "sock" in path and "[" not in path]
    assert (seen / "fds").read_text().count("socket:") == 1  # the channel to the agent
    assert (seen / "below").read_text().split() == ["0", "1", "2", "3"]  # the last is the folder that it lists
    assert (seen / "core").read_text() == "0"
    assert int((seen / "oom").read_text()) >= 500
