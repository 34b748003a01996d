"""Executors that die, each in its own way, and what is said of them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agent_kit
import cloudpickle
import pytest
from agent_kit import Mill, is_gone, read_when_there, wait_until

from gristmill.config import MIB
from gristmill.runtime.agent.agent import AgentSettings
from gristmill.runtime.contracts import AttemptFailed, SlotDown, SlotUp

cloudpickle.register_pickle_by_value(sys.modules[__name__])
cloudpickle.register_pickle_by_value(agent_kit)

QUICK = AgentSettings(watch_seconds=0.05, orphan_seconds=0.2)


@pytest.fixture(scope="module", params=["fork", "spawn"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    if request.param == "fork" and sys.platform != "linux":
        pytest.skip("forked executors are for Linux")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRISTMILL_START", request.param)
        mill = Mill(tmp_path_factory.mktemp("mill"), settings=QUICK)
        yield mill
        mill.fleet.close()


@pytest.fixture
def mill(shared: Mill, tmp_path: Path) -> Mill:
    shared.begin(tmp_path)
    return shared


def harmless(_: Any, line: str) -> Iterator[tuple[str, int]]:
    yield line, 1


def still_works(mill: Mill) -> None:
    """After a death there is a new slot, and it is as good as the old one."""
    assert mill.success(harmless).records_in == 1


def test_an_exception_is_the_users(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        raise ValueError(f"bad {len(line)}")

    report = mill.failure(mapper)
    assert report.error == "UserCodeError"
    assert report.exception == "ValueError"
    assert report.frames[-1].file == __file__
    assert "raise ValueError" in report.frames[-1].source


def test_an_exception_leaves_the_executor_in_place(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        raise ValueError

    slot = mill.wait_for(SlotUp).slot
    mill.fleet.launch(slot, mill.spec(mill.job(mapper)))
    mill.wait_for(AttemptFailed)
    mill.fleet.launch(slot, mill.spec(mill.job(harmless)))
    mill.wait_for(agent_kit.AttemptDone)


@pytest.mark.parametrize("code", [0, 3])
def test_exit_code(mill: Mill, code: int) -> None:
    def mapper(_: Any, line: str) -> Any:
        print("last words", flush=True)
        os._exit(code)

    report = mill.failure(mapper)
    assert report.error == "ExecutorDied"
    assert report.details["exit_code"] == code
    assert f"exited with code {code}" in report.message
    assert report.log_tail == "last words"
    assert int(report.details["peak_bytes"]) > 0
    mill.wait_for(SlotDown)
    still_works(mill)


def test_segfault_leaves_its_stack(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        ctypes.string_at(0)

    report = mill.failure(mapper)
    assert report.error == "ExecutorDied"
    assert report.details["signal_name"] == "SIGSEGV"
    assert "SIGSEGV (signal 11)" in report.message
    assert "Fatal Python error: Segmentation fault" in report.log_tail
    assert report.frames[-1].file == __file__
    assert report.frames[-1].source == "ctypes.string_at(0)"
    still_works(mill)


def test_sigkill_from_outside(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    report = mill.failure(mapper)
    assert report.error == "ExecutorDied"
    assert report.details["signal"] == signal.SIGKILL
    still_works(mill)


def test_an_interrupt_of_the_users_own_is_a_users_error(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        raise KeyboardInterrupt

    report = mill.failure(mapper)
    assert (report.error, report.exception) == ("UserCodeError", "KeyboardInterrupt")
    assert report.frames[-1].file == __file__


def test_sys_exit_is_a_users_error(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        sys.exit("enough")

    report = mill.failure(mapper)
    assert report.error == "UserCodeError"
    assert report.exception == "SystemExit"


def test_memory_limit(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        hoard = []
        for _ in range(400):
            hoard.append(bytearray(b"x" * MIB))
            time.sleep(0.005)
        time.sleep(60)
        yield len(hoard), 1

    report = mill.failure(mapper, memory_bytes=64 * MIB)
    assert report.error == "MemoryLimitExceeded"
    assert report.details["peak_bytes"] > report.details["limit_bytes"] > 128 * MIB  # type: ignore[operator]
    assert "its limit is" in report.message
    still_works(mill)


def test_memory_error(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        yield len(bytearray(1 << 60)), 1

    report = mill.failure(mapper)
    assert report.error == "MemoryLimitExceeded"
    assert report.frames[-1].file == __file__


def test_timeout(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)

    report = mill.failure(mapper, task_timeout_seconds=0.2)
    assert report.error == "TaskTimeout"
    assert report.details["timeout_seconds"] == 0.2
    still_works(mill)


def test_a_closed_channel_is_noticed(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        os.closerange(3, 256)
        time.sleep(60)

    report = mill.failure(mapper)
    assert report.error == "ExecutorDied"
    assert "lost its channel" in report.message
    still_works(mill)


def test_a_channel_that_is_closed_by_a_task_that_ends(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        os.closerange(3, 256)
        yield line, 1

    report = mill.failure(mapper)
    assert report.error == "ExecutorDied"
    assert "lost its channel" in report.message
    still_works(mill)


def test_a_debugger_has_no_terminal(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        breakpoint()
        yield line, 1

    report = mill.failure(mapper)
    assert report.exception == "BdbQuit"
    assert "--on inline" in report.advice


def test_code_that_cannot_be_loaded(mill: Mill) -> None:
    class Explosive:
        def __reduce__(self) -> Any:
            return (__import__, ("no_such_module",))

    explosive = Explosive()

    def mapper(_: Any, line: str) -> Any:
        yield explosive, 1

    report = mill.failure(mapper)
    assert report.error == "UserCodeError"
    assert "No module named 'no_such_module'" in report.message


def test_cancel_ends_what_the_task_started(mill: Mill, tmp_path: Path) -> None:
    """A grandchild in a session of its own, deaf to SIGTERM, and its parent gone: it ends too."""
    pids = tmp_path / "pids"

    def mapper(_: Any, line: str) -> Any:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            middle = os.getpid()
            if os.fork() == 0:
                pids.write_text(f"{middle} {os.getpid()}\n")
                time.sleep(60)
            time.sleep(60)
        time.sleep(60)

    attempt = mill.launch(mapper)
    started = [int(pid) for pid in read_when_there(pids).split()]
    mill.fleet.cancel(attempt)
    mill.wait_for(SlotDown)
    wait_until(lambda: all(is_gone(pid) for pid in started))
    still_works(mill)


def test_scratch_is_removed_after_a_death(mill: Mill, tmp_path: Path) -> None:
    def mapper(_: Any, line: str) -> Any:
        scratch = tmp_path / "job1" / "scratch" / "job1-s0-t00000-a1"
        scratch.mkdir()
        (scratch / "spill").write_bytes(b"x" * 1000)
        os._exit(1)

    mill.failure(mapper)
    wait_until(lambda: not list((tmp_path / "job1" / "scratch").iterdir()))
