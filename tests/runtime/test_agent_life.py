"""The agent at work: heartbeats, logs, starting, ending."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agent_kit
import cloudpickle
import psutil
import pytest
from agent_kit import Mill, is_gone, read_when_there, wait_until

from gristmill.errors import FailureReport
from gristmill.runtime.agent.agent import AgentSettings
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    Beat,
    FleetBroken,
    SlotDown,
    SlotUp,
    TaskResult,
)
from gristmill.shuffle.contracts import BlockInfo

cloudpickle.register_pickle_by_value(sys.modules[__name__])
cloudpickle.register_pickle_by_value(agent_kit)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="forked executors are for Linux")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    mill = Mill(tmp_path_factory.mktemp("mill"))
    yield mill
    mill.fleet.close()


@pytest.fixture
def mill(shared: Mill, tmp_path: Path) -> Mill:
    shared.begin(tmp_path)
    return shared


def test_prints_go_to_the_log_and_harm_nothing(mill: Mill, tmp_path: Path) -> None:
    def mapper(_: Any, line: str) -> Any:
        print("from Python")
        os.write(1, b"\x00\x00\x00\x05hello\n")
        os.write(2, b"to stderr\n")
        subprocess.run(["echo", "from a child"], check=True)
        yield line, 1

    assert isinstance(mill.run(mapper), TaskResult)
    log = (tmp_path / "job1" / "logs" / "job1-s0-t00000-a1.log").read_bytes()
    assert log == b"from Python\n\x00\x00\x00\x05hello\nto stderr\nfrom a child\n"


def test_a_silent_attempt_leaves_no_log_and_no_scratch(mill: Mill, tmp_path: Path) -> None:
    def mapper(_: Any, line: str) -> Any:
        yield line, 1

    mill.success(mapper)
    assert not list((tmp_path / "job1" / "logs").glob("job1-*"))
    assert not list((tmp_path / "job1" / "scratch").iterdir())
    mill.fleet.drop_job("job1")
    wait_until(lambda: not list((tmp_path / "job1" / "logs").iterdir()))


def test_executors_are_one_core_with_fixed_hashes(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        import pyarrow

        where = os.environ["PYTHONHASHSEED"], hash("a"), pyarrow.cpu_count(), str(Path.cwd()), sys.stdin.read()
        raise RuntimeError(repr(where))

    known = int(
        subprocess.run(
            [sys.executable, "-c", "print(hash('a'))"], env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True
        ).stdout
    )
    report = mill.failure(mapper)
    assert repr(("0", known, 1, str(Path.cwd()), "")) in report.message


def test_import_paths_come_first_and_are_forgotten_with_their_job(mill: Mill, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "agent_helper.py").write_text(f"NAME = {name!r}\n")

    def mapper(_: Any, line: str) -> Any:
        import agent_helper  # type: ignore[import-not-found]

        raise RuntimeError(agent_helper.NAME)

    slot = mill.wait_for(SlotUp).slot
    for name in ("one", "two"):
        job = mill.job(mapper, import_paths=(str(tmp_path / name),))
        mill.fleet.launch(slot, mill.spec(job))
        assert name in mill.wait_for(AttemptFailed).report.message
        mill.fleet.drop_job(job.job)


def test_beats_go_on_while_user_code_holds_the_gil(tmp_path: Path) -> None:
    mill = Mill(tmp_path, settings=AgentSettings(beat_seconds=0.05))

    def mapper(_: Any, line: str) -> Any:
        import re

        re.match(r"(a+)+$", "a" * 64 + "b")  # one call into C that does not return

    try:
        attempt = mill.launch(mapper)
        while attempt not in mill.wait_for(Beat).attempts:
            pass
        assert all(attempt in mill.wait_for(Beat).attempts for _ in range(10))
    finally:
        started = time.monotonic()
        mill.fleet.close()
        assert time.monotonic() - started < 30


def test_progress_is_in_the_beat(tmp_path: Path) -> None:
    mill = Mill(tmp_path, settings=AgentSettings(beat_seconds=0.05))
    gate = tmp_path / "gate"

    def mapper(_: Any, line: str) -> Any:
        while line == "wait" and not gate.exists():
            time.sleep(0.01)
        yield line, 1

    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("go\n")
    two.write_text("wait\n")
    try:
        slot = mill.wait_for(SlotUp).slot
        spec = mill.spec(mill.job(mapper))
        splits = tuple(agent_kit.Split(str(path), 0, 5, 5, "text") for path in (one, two))
        mill.fleet.launch(slot, agent_kit.TaskSpec(spec.attempt, spec.stage, splits))
        while not ((beat := mill.wait_for(Beat)).attempts and beat.attempts[spec.attempt].records_in):
            pass
        assert beat.attempts[spec.attempt].records_in == 1
        gate.touch()
        assert mill.wait_for(AttemptDone).result.records_in == 2
    finally:
        mill.fleet.close()


def test_an_attempt_without_progress_shows_its_stack(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mill = Mill(tmp_path, settings=AgentSettings(watch_seconds=0.05, stall_seconds=0.2))

    def sleeps_for_ever() -> None:
        time.sleep(600)

    def mapper(_: Any, line: str) -> Any:
        sleeps_for_ever()

    try:
        mill.launch(mapper)
        log = tmp_path / "job1" / "logs" / "job1-s0-t00000-a1.log"
        wait_until(lambda: log.exists() and "sleeps_for_ever" in log.read_text())
        wait_until(lambda: "has made no progress for" in caplog.text)
    finally:
        mill.fleet.close()


def test_a_job_larger_than_the_channels_buffer(mill: Mill) -> None:
    ballast = os.urandom(8 << 20)

    def mapper(_: Any, line: str) -> Any:
        yield len(ballast), 1

    mill.success(mapper)


def test_a_freed_block_is_deleted(mill: Mill, tmp_path: Path) -> None:
    block = tmp_path / "some.block"
    block.write_bytes(b"x")
    mill.fleet.free(BlockInfo(str(block), ()))
    mill.fleet.free(BlockInfo(str(tmp_path / "was never there"), ()))
    wait_until(lambda: not block.exists())


def test_a_launch_into_a_slot_that_is_gone_is_answered(mill: Mill) -> None:
    spec = mill.spec(mill.job(lambda key, line: None))
    mill.fleet.launch("w0-999", spec)
    assert mill.wait_for(AttemptFailed).attempt == spec.attempt


def test_slot_ids_are_never_used_again(tmp_path: Path) -> None:
    mill = Mill(tmp_path, executors=2)

    def mapper(_: Any, line: str) -> Any:
        os._exit(1)

    try:
        seen = [mill.wait_for(SlotUp).slot, mill.wait_for(SlotUp).slot]
        job = mill.job(mapper)
        for number in (1, 2, 3):
            mill.fleet.launch(seen[-1], mill.spec(job, number=number))
            assert mill.wait_for(SlotDown).slot == seen[-1]
            seen.append(mill.wait_for(SlotUp).slot)
        assert len(set(seen)) == len(seen)
    finally:
        mill.fleet.close()


@linux_only
def test_a_killed_forkserver_is_replaced(mill: Mill, tmp_path: Path) -> None:
    marker = tmp_path / "pid"

    def mapper(_: Any, line: str) -> Any:
        child = subprocess.Popen(["sleep", "60"], start_new_session=True)
        marker.write_text(f"{os.getpid()} {child.pid}\n")
        time.sleep(60)

    attempt = mill.launch(mapper)
    started = [int(pid) for pid in read_when_there(marker).split()]
    forkserver = psutil.Process(started[0]).parent()
    assert forkserver is not None
    forkserver.kill()
    failed = mill.wait_for(AttemptFailed)
    assert failed.attempt == attempt
    assert failed.report.error == "ExecutorDied"
    wait_until(lambda: all(is_gone(pid) for pid in started))
    assert mill.success(lambda key, line: [(line, 1)]).records_in == 1


@linux_only
def test_the_forkserver_has_one_thread(mill: Mill) -> None:
    """Forking is sound only then."""
    mill.wait_for(SlotUp)
    (forkserver,) = mill.children()
    assert forkserver.num_threads() == 1


@linux_only
def test_arrow_works_after_a_fork(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        import pyarrow
        import pyarrow.compute

        column = pyarrow.array(["b", "a"] * 100_000)
        table = pyarrow.table({"word": column.take(pyarrow.compute.sort_indices(column))})
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        back = pyarrow.ipc.open_stream(sink.getvalue()).read_all()
        yield back.group_by("word").aggregate([("word", "count")]).num_rows, 1

    mill.success(mapper)


def test_executors_that_cannot_start_break_the_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ImportError('no Arrow today')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    mill = Mill(tmp_path)
    try:
        report = mill.wait_for(FleetBroken).report
        assert isinstance(report, FailureReport)
        assert "no Arrow today" in report.log_tail
    finally:
        mill.fleet.close()


@pytest.mark.parametrize("how", [pytest.param("fork", marks=linux_only), "spawn"])
def test_close_ends_everything_within_five_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setenv("GRISTMILL_START", how)
    mill = Mill(tmp_path, executors=2)
    before = {process.pid for process in mill.family()}
    marker = tmp_path / "ready"

    def mapper(_: Any, line: str) -> Any:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        subprocess.Popen(["sleep", "60"])
        marker.write_text("\n")
        while True:
            pass

    mill.launch(mapper)
    read_when_there(marker)
    family = mill.family()
    assert {process.pid for process in family} >= before
    started = time.monotonic()
    mill.fleet.close()
    assert time.monotonic() - started < 30
    wait_until(lambda: all(is_gone(process.pid) for process in family))
    mill.fleet.close()


def test_close_before_the_first_executor_is_up(tmp_path: Path) -> None:
    mill = Mill(tmp_path, executors=2)
    mill.fleet.close()
    wait_until(lambda: not [process for process in mill.family() if not is_gone(process.pid)])


CALLER = """
    import os, queue, subprocess, sys, time
    from pathlib import Path
    import cloudpickle
    sys.path.insert(0, {here!r})
    from agent_kit import Mill

    def mapper(_, line):
        child = subprocess.Popen(["sleep", "60"], start_new_session=True)
        Path({marker!r}).write_text(f"{{os.getppid()}} {{os.getpid()}} {{child.pid}}\\n")
        if {hold_gil}:
            import re
            re.match(r"(a+)+$", "a" * 64 + "b")
        time.sleep(60)

    mill = Mill(Path({folder!r}))
    mill.launch(mapper)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("how", "hold_gil"),
    [
        pytest.param("fork", True, marks=linux_only),
        pytest.param("fork", False, marks=linux_only),
        ("spawn", False),
    ],
)
def test_a_killed_caller_leaves_no_process(tmp_path: Path, how: str, hold_gil: bool) -> None:
    marker = tmp_path / "pids"
    here = str(Path(__file__).parent)
    script = CALLER.format(here=here, marker=str(marker), folder=str(tmp_path), hold_gil=hold_gil)
    env = {**os.environ, "GRISTMILL_START": how, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    caller = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=env)
    try:
        parent, *started = (int(pid) for pid in read_when_there(marker).split())
        family = [*started, parent] if parent != caller.pid else started
    finally:
        caller.kill()
        caller.wait(60)
    wait_until(lambda: all(is_gone(pid) for pid in family))


def test_a_fleet_that_never_started_can_be_closed() -> None:
    fleet = agent_kit.LocalFleet(1)
    fleet.close()
    fleet.close()


@linux_only
def test_user_code_may_fork(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            yield sum(pool.map(abs, [-1, -2])), 1

    assert mill.success(mapper).records_out == 1


@linux_only
def test_close_does_not_depend_on_the_forkserver(mill: Mill) -> None:
    attempt = mill.launch(lambda key, line: time.sleep(60))
    while attempt not in mill.wait_for(Beat).attempts:
        pass
    (forkserver,) = mill.children()
    family = mill.family()
    forkserver.suspend()
    started = time.monotonic()
    mill.fleet.close()
    assert time.monotonic() - started < 30
    wait_until(lambda: all(is_gone(process.pid) for process in family))
