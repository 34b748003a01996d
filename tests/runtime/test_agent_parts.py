"""The agent's decisions and formats, without processes."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.config import MIB
from gristmill.errors import FailureReport, TaskError, task_error
from gristmill.plan.stages import Branch, MapOp, OutputSink, SplitSource, Stage
from gristmill.runtime.agent.slots import Run
from gristmill.runtime.contracts import JobSpec, TaskSpec
from gristmill.runtime.executor.attempts import unforeseen_report
from gristmill.runtime.executor.logs import crash_frames, log_tail, tail_of
from gristmill.runtime.process.environment import set_for_this_process
from gristmill.runtime.process.limits import Limits
from gristmill.runtime.process.processes import (
    ProcessEnd,
    child_environment,
    descendants,
    oom_kills,
    private_bytes,
    process_end,
    signal_name,
)
from gristmill.runtime.process.watch import (
    Death,
    Ending,
    Vitals,
    death_report,
    look_again,
    memory_limit,
    start_pause,
    verdict,
)
from gristmill.runtime.process.wire import (
    ChannelClosed,
    FrameReader,
    OrderReader,
    attempt_of,
    frame,
    note_frame,
    order_frame,
    parse_note,
    spec_of,
    task_order,
)
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo
from gristmill.storage.contracts import Split

LIMITS = Limits(processes=256)
JOB = JobSpec("j", b"", (), "", "", 100 * MIB, 0, MIB, 10.0)
SPEC = TaskSpec(
    AttemptId("j", 0, 3, 2), Stage(0, (Branch((SplitSource(),), (MapOp(0),)),), OutputSink("text", "m"), "map")
)
DEATH = Death(
    end=ProcessEnd(0, 0), ending=None, oom=False, seconds=1.0, peak_bytes=5 * MIB, idle_bytes=20 * MIB, log_tail="tail"
)


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 20))
def test_frames_arrive_whole_however_they_are_cut(payloads: list[bytes], size: int) -> None:
    stream = b"".join(frame(payload) for payload in payloads)
    reader = FrameReader()
    found = [got for at in range(0, len(stream), size) for got in reader.feed(stream[at : at + size])]
    assert found == payloads


def test_a_note_comes_back_as_it_was() -> None:
    note = {"type": "failed", "attempt": "a", "report": {"path": "caf\udce9", "offset": -1}}
    (payload,) = FrameReader().feed(note_frame(note))
    assert parse_note(payload) == {**note, "said": b""}
    (payload,) = FrameReader().feed(note_frame({"type": "done"}, {"records_in": 3}))
    assert parse_note(payload) == {"type": "done", "result": {"records_in": 3}, "said": b'{"records_in":3}'}


@pytest.mark.parametrize(
    "payload", [b"", b"nonsense", b"[1]", b"{}\n{", b"{}\n{}\n{}", b"\n{}", pickle.dumps({"type": "done"})]
)
def test_what_is_not_a_note_closes_the_channel(payload: bytes) -> None:
    with pytest.raises(ChannelClosed):
        parse_note(payload)


def test_orders_are_read_until_the_agent_is_gone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(order_frame(("job", JOB)) + order_frame(task_order(SPEC)))
        reader = OrderReader(theirs)
        assert reader.read() == ("job", JOB)
        verb, order = reader.read()
        assert (verb, attempt_of(order), spec_of(order, SPEC.stage)) == ("task", SPEC.attempt, SPEC)
        ours.close()
        with pytest.raises(ChannelClosed):
            reader.read()


def test_a_task_that_is_recalled_in_time_is_not_handed_out() -> None:
    specs = [replace(SPEC, attempt=AttemptId("j", 0, index, 1)) for index in range(3)]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"".join(order_frame(task_order(spec)) for spec in specs))
        reader = OrderReader(theirs, look_seconds=0)
        assert reader.read() == task_order(specs[0])
        for late in (0, 2):  # the first one has begun
            ours.sendall(order_frame(("recall", specs[late].attempt)))
        assert reader.read() == task_order(specs[1])
        assert reader.read() == ("recalled", specs[2].attempt)


def test_a_spec_travels_without_its_stage() -> None:
    split, block = Split("in", 0, 5, 5, "text"), BlockInfo("b", (), "w1")
    for spec in (SPEC, replace(SPEC, splits=(split,)), replace(SPEC, blocks=(block,), partition=3, folder="f")):
        assert spec_of(task_order(spec)[1], SPEC.stage) == spec


@pytest.mark.parametrize(
    ("vitals", "ending"),
    [
        (Vitals(seconds=9.9, memory_bytes=0, idle_bytes=0), None),
        (Vitals(seconds=10.1, memory_bytes=0, idle_bytes=0), Ending.TIMEOUT),
        (Vitals(seconds=1.0, memory_bytes=227 * MIB, idle_bytes=0), None),
        (Vitals(seconds=1.0, memory_bytes=229 * MIB, idle_bytes=0), Ending.MEMORY),
        (Vitals(seconds=1.0, memory_bytes=229 * MIB, idle_bytes=30 * MIB), None),
        (Vitals(seconds=1.0, memory_bytes=0, idle_bytes=0, processes=256), None),
        (Vitals(seconds=1.0, memory_bytes=0, idle_bytes=0, processes=257), Ending.PROCESSES),
    ],
)
def test_verdict(vitals: Vitals, ending: Ending | None) -> None:
    assert verdict(JOB, vitals, LIMITS) is ending


def test_without_a_timeout_time_does_not_matter() -> None:
    assert verdict(replace(JOB, task_timeout_seconds=None), Vitals(1e9, 0, 0), LIMITS) is None


def test_a_large_budget_has_half_of_itself_as_slack() -> None:
    assert memory_limit(replace(JOB, memory_bytes=1000 * MIB), 10 * MIB) == 1510 * MIB


@pytest.mark.parametrize(
    ("death", "error", "words"),
    [
        (
            replace(DEATH, end=ProcessEnd(3, 0)),
            "ExecutorDied",
            "The executor of map task 3, attempt 2 exited with code 3.",
        ),
        (replace(DEATH, end=ProcessEnd(0, 11)), "ExecutorDied", "killed by SIGSEGV (signal 11)"),
        (replace(DEATH, end=ProcessEnd(0, 9)), "ExecutorDied", "killed by SIGKILL (signal 9)"),
        (replace(DEATH, end=ProcessEnd(0, 9), oom=True), "MemoryLimitExceeded", "ran the system out of memory"),
        (replace(DEATH, end=ProcessEnd(3, 0), oom=True), "ExecutorDied", "code 3"),
        (
            replace(DEATH, end=ProcessEnd(0, 9), ending=Ending.MEMORY, peak_bytes=300 * MIB),
            "MemoryLimitExceeded",
            "grew to 300.0 MiB of memory; its limit is 248.0 MiB",
        ),
        (replace(DEATH, end=ProcessEnd(0, 9), ending=Ending.TIMEOUT, oom=True), "TaskTimeout", "longer than"),
        (replace(DEATH, end=ProcessEnd(0, 9), ending=Ending.UNREACHABLE), "ExecutorDied", "lost its channel"),
    ],
)
def test_death_report(death: Death, error: str, words: str) -> None:
    report = death_report(JOB, SPEC, death)
    assert report.error == error
    assert words in report.message
    assert report.log_tail == "tail"
    assert report.advice
    assert FailureReport.from_json(report.to_json()) == report


def test_an_engine_error_keeps_its_traceback_and_is_not_retried() -> None:
    report = unforeseen_report(SPEC, AttributeError("what our own code did"))  # no frame of user code in it
    assert report.error == "TaskError"
    assert type(task_error(report)) is TaskError
    assert "AttributeError" in report.log_tail


def test_a_full_disk_is_named() -> None:
    report = unforeseen_report(SPEC, OSError(errno.ENOSPC, "No space left on device", "/data/spill"))
    assert report.error == "DiskFull"
    assert report.details == {"path": "/data/spill"}


def test_progress_moves_only_when_it_changes() -> None:
    run = Run(JOB, SPEC)
    run.take_progress((1, 10, 5), 1.0)
    run.take_progress((1, 10, 5), 2.0)
    assert (run.moved, run.progress.records_in, run.progress.bytes_in) == (1.0, 1, 10)
    run.take_progress((1, 10, 4), 3.0)  # within a block: fewer records left
    assert run.moved == 3.0


def test_log_tail_is_short_and_never_fails(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\xff" * 20_000 + b"\n" + b"".join(b"line %d\n" % n for n in range(50)))
    assert log_tail(log).splitlines() == [f"line {n}" for n in range(30, 50)]
    assert log_tail(tmp_path / "none") == ""


def test_a_crash_is_told_from_its_first_line() -> None:
    stack = "".join(f'  File "{__file__}", line {n} in f{n}\n' for n in range(1, 40))
    text = f"before\nFatal Python error: Segmentation fault\n\nCurrent thread (most recent call first):\n{stack}"
    tail = tail_of(text.encode())
    assert tail.startswith("Fatal Python error: Segmentation fault")
    frames = crash_frames(tail)
    assert frames[-1].function == "f1"
    assert frames[-1].source == '"""The agent\'s decisions and formats, without processes."""'
    assert crash_frames(stack) == ()


def test_process_end() -> None:
    assert process_end(-9).signal == 9
    assert process_end(3) == ProcessEnd(3, 0, 0)
    assert signal_name(signal.SIGSEGV) == "SIGSEGV"
    assert signal_name(250) == "signal 250"


def test_what_the_system_says_of_this_process() -> None:
    assert private_bytes(os.getpid()) > MIB
    assert private_bytes(2**22 + 1) == 0
    assert oom_kills() >= 0
    assert descendants(2**22 + 1) == []


def test_hashes_are_fixed_whatever_the_caller_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    env = child_environment()
    assert env["PYTHONHASHSEED"] == "0"
    assert env["MALLOC_ARENA_MAX"] == "3"  # the user's own choice stands


def test_what_is_set_for_this_process_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    monkeypatch.setenv("GRPC_TRACE", "http")
    monkeypatch.setattr("gristmill.runtime.process.environment._for_this_process", set())
    for name in ("GRPC_VERBOSITY", "GRPC_TRACE"):
        set_for_this_process(name, "ours")
    assert os.environ["GRPC_VERBOSITY"] == "ours"
    assert "GRPC_VERBOSITY" not in child_environment()
    assert child_environment()["GRPC_TRACE"] == "http"  # it was the user's before


@pytest.mark.parametrize(
    ("memory_bytes", "seconds"),
    [(0, 0.111), (100 * MIB, 0.062), (227 * MIB, 0.02), (300 * MIB, 0.02)],
)
def test_what_nears_its_limit_is_looked_at_more_often(memory_bytes: int, seconds: float) -> None:
    vitals = Vitals(seconds=1.0, memory_bytes=memory_bytes, idle_bytes=0)
    assert look_again(JOB, vitals, LIMITS, 0.25) == pytest.approx(seconds, abs=0.001)
    assert look_again(replace(JOB, memory_bytes=4096 * MIB), vitals, LIMITS, 0.25) == 0.25
    forking = replace(vitals, processes=200)
    assert look_again(replace(JOB, memory_bytes=4096 * MIB), forking, LIMITS, 0.25) == pytest.approx(0.0224)


def test_the_pause_after_failed_starts_grows_to_a_limit() -> None:
    pauses = [start_pause(failed) for failed in range(1, 20)]
    assert pauses[0] == 0.1
    assert pauses == sorted(pauses)
    assert pauses[-1] == 10.0
