"""Several attempts in one slot: in order, each with its own log and limits, and only the one that ran is to blame."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import agent_kit
import cloudpickle
import pytest
from agent_kit import Mill, read_when_there, wait_until

from gristmill.runtime.agent.agent import AgentSettings
from gristmill.runtime.contracts import AttemptDone, AttemptFailed, Beat, SlotDown, SlotUp
from gristmill.scheduling.events import AttemptId

cloudpickle.register_pickle_by_value(sys.modules[__name__])
cloudpickle.register_pickle_by_value(agent_kit)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    mill = Mill(tmp_path_factory.mktemp("mill"), settings=AgentSettings(beat_seconds=0.05))
    yield mill
    mill.fleet.close()


@pytest.fixture
def mill(shared: Mill, tmp_path: Path) -> Mill:
    shared.begin(tmp_path)
    return shared


def endless(begun: Path) -> Callable[[Any, str], Any]:
    """A mapper that says that it has begun, and comes to no end."""

    def mapper(_: Any, _line: str) -> None:
        begun.write_text("\n")
        time.sleep(60)

    return mapper


def harmless(_: Any, line: str) -> Iterator[tuple[str, int]]:
    yield line, 1


def launch_all(mill: Mill, mappers: list[Callable[[Any, Any], Any]], **options: Any) -> list[AttemptId]:
    """Launch an attempt of a job of its own for each mapper, all in one slot."""
    slot = mill.wait_for(SlotUp).slot
    specs = [mill.spec(mill.job(mapper, **options)) for mapper in mappers]
    for spec in specs:
        mill.fleet.launch(slot, spec)
    return [spec.attempt for spec in specs]


def answers(mill: Mill, count: int) -> dict[AttemptId, str]:
    """The next answers in order: "done", or the name of the error."""
    found: dict[AttemptId, str] = {}
    while len(found) < count:
        event = mill.events.get(timeout=agent_kit.PATIENCE)
        if isinstance(event, AttemptDone):
            found[event.attempt] = "done"
        elif isinstance(event, AttemptFailed):
            found[event.attempt] = event.report.error
    return found


def until_heard(mill: Mill) -> None:
    """Wait until the agent has done what it was asked, and executors have been told.

    It does one thing after the other, and answers this at once; what is for executors it sends in one go after that,
    and only then says that it lives.
    """
    late = mill.spec(mill.job(harmless))
    mill.fleet.launch("no such slot", late)
    assert answers(mill, 1) == {late.attempt: "AttemptNotBegun"}
    mill.wait_for(Beat)


def test_a_slot_says_how_many_it_takes(mill: Mill) -> None:
    assert mill.wait_for(SlotUp).depth > 1


def test_many_attempts_in_a_slot_are_answered_in_order(mill: Mill) -> None:
    slot = mill.wait_for(SlotUp).slot
    job = mill.job(harmless)
    specs = [mill.spec(job, index) for index in range(300)]
    for spec in specs:
        mill.fleet.launch(slot, spec)
    found = answers(mill, len(specs))
    assert list(found) == [spec.attempt for spec in specs]
    assert set(found.values()) == {"done"}


def test_an_executor_measures_how_long_an_attempt_ran(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        time.sleep(0.2)
        yield line, 1

    began = time.monotonic()
    launch_all(mill, [mapper, harmless])
    first, second = (mill.wait_for(AttemptDone).result.seconds for _ in range(2))
    assert first >= 0.2 and second > 0
    assert first + second <= time.monotonic() - began, "they ran one after the other, and waiting is no running"


def test_the_attempt_that_ran_is_to_blame_and_those_behind_it_go_back(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        os._exit(3)

    attempts = launch_all(mill, [harmless, mapper, harmless, harmless])
    found = answers(mill, 4)
    assert list(found.values()) == ["done", "ExecutorDied", "AttemptNotBegun", "AttemptNotBegun"]
    assert list(found) == attempts
    mill.wait_for(SlotDown)
    assert mill.success(harmless).records_in == 1


def test_what_waits_is_called_back_and_what_runs_goes_on(mill: Mill, tmp_path: Path) -> None:
    begun, gate, never = tmp_path / "begun", tmp_path / "gate", tmp_path / "never"

    def first(_: Any, line: str) -> Any:
        begun.write_text("\n")
        while not gate.exists():
            time.sleep(0.01)
        yield line, 1

    def second(_: Any, line: str) -> Any:
        never.touch()
        yield line, 1

    one, two, three = launch_all(mill, [first, second, harmless])
    read_when_there(begun)
    mill.fleet.cancel(two)
    until_heard(mill)
    gate.touch()
    assert answers(mill, 3) == {one: "done", two: "AttemptNotBegun", three: "done"}
    assert not never.exists()


def test_a_cancelled_attempt_takes_its_process_along_and_those_behind_it_go_back(mill: Mill, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    mapper = endless(begun)
    one, two, three = launch_all(mill, [mapper, harmless, harmless])
    read_when_there(begun)
    mill.fleet.cancel(one)
    assert answers(mill, 2) == {two: "AttemptNotBegun", three: "AttemptNotBegun"}
    mill.wait_for(SlotDown)


def test_all_of_a_slot_may_be_cancelled(mill: Mill, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    mapper = endless(begun)
    attempts = launch_all(mill, [mapper, harmless, harmless])
    read_when_there(begun)
    for attempt in attempts:
        mill.fleet.cancel(attempt)
    mill.wait_for(SlotDown)
    assert mill.success(harmless).records_in == 1


def test_what_was_recalled_from_an_executor_that_ends_has_not_begun(mill: Mill, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    mapper = endless(begun)
    one, two, three = launch_all(mill, [mapper, harmless, harmless])
    read_when_there(begun)
    for attempt in (two, three):
        mill.fleet.cancel(attempt, recalled=True)
    mill.fleet.cancel(one)
    assert answers(mill, 2) == {two: "AttemptNotBegun", three: "AttemptNotBegun"}


def test_time_counts_from_an_attempts_own_begin(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        time.sleep(0.2)
        yield line, 1

    attempts = launch_all(mill, [mapper] * 15, task_timeout_seconds=2.5)
    assert answers(mill, 15) == dict.fromkeys(attempts, "done")


def test_beats_name_what_waits_as_well(mill: Mill, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def mapper(_: Any, line: str) -> Any:
        while not gate.exists():
            time.sleep(0.01)
        yield line, 1

    attempts = launch_all(mill, [mapper, mapper])
    while set(mill.wait_for(Beat).attempts) != set(attempts):
        pass
    gate.touch()
    assert answers(mill, 2) == dict.fromkeys(attempts, "done")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the forkserver")
def test_an_executor_that_ends_slowly_is_reported_with_its_reason(mill: Mill, tmp_path: Path) -> None:
    """Its attempt must not be missed in beats until then: it would be found lost, at no cost to the user's code."""
    file = tmp_path / "forkserver"

    def tells(_: Any, line: str) -> Any:
        file.write_text(f"{os.getppid()}\n")
        yield line, 1

    def mapper(_: Any, line: str) -> Any:
        time.sleep(60)
        yield line, 1

    slot = mill.wait_for(SlotUp).slot
    mill.fleet.launch(slot, mill.spec(mill.job(tells)))
    mill.wait_for(AttemptDone)
    forkserver = int(file.read_text())
    os.kill(forkserver, signal.SIGSTOP)  # it is the one who ends executors
    try:
        late = mill.spec(mill.job(mapper, task_timeout_seconds=0.5))
        attempt = late.attempt
        mill.fleet.launch(slot, late)
        while attempt not in mill.wait_for(Beat).attempts:
            pass
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            assert attempt in mill.wait_for(Beat).attempts
    finally:
        os.kill(forkserver, signal.SIGCONT)
    assert answers(mill, 1) == {attempt: "TaskTimeout"}


def test_each_attempt_has_its_own_output(mill: Mill, tmp_path: Path) -> None:
    def says(text: str) -> Callable[[Any, Any], Any]:
        def mapper(_: Any, line: str) -> Any:
            print(text)
            os.write(2, b"by descriptor\n")
            yield line, 1

        return mapper

    slot = mill.wait_for(SlotUp).slot
    jobs = [mill.job(mapper) for mapper in (says("one"), harmless, says("two"))]
    for index in range(2):
        for job in jobs:
            mill.fleet.launch(slot, mill.spec(job, index))
    answers(mill, 6)
    for number, text in (1, "one"), (3, "two"):
        for index in range(2):
            log = tmp_path / f"job{number}" / "logs" / f"job{number}-s0-t{index:05d}-a1.log"
            assert log.read_text() == f"{text}\nby descriptor\n"
    assert not list((tmp_path / "job2" / "logs").glob("job2-*"))
    for job in jobs:
        mill.fleet.drop_job(job.job)
    wait_until(lambda: not list(tmp_path.glob("job*/logs/executor-*")))


def test_the_log_of_an_attempt_that_runs_can_be_read(mill: Mill, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def mapper(_: Any, line: str) -> Any:
        print("so far so good")
        while not gate.exists():
            time.sleep(0.01)
        print("done")
        yield line, 1

    launch_all(mill, [mapper])
    log = tmp_path / "job1" / "logs" / "job1-s0-t00000-a1.log"
    assert read_when_there(log) == "so far so good\n"
    gate.touch()
    mill.wait_for(AttemptDone)
    assert log.read_text() == "so far so good\ndone\n"


def test_the_last_words_of_the_attempt_that_died_are_its_own(mill: Mill, tmp_path: Path) -> None:
    def chatty(_: Any, line: str) -> Any:
        print("not me")
        yield line, 1

    def mapper(_: Any, line: str) -> Any:
        os.write(1, b"last words\n")
        os._exit(1)

    launch_all(mill, [chatty, mapper, chatty])
    assert mill.wait_for(AttemptFailed).report.log_tail == "last words"
    wait_until(lambda: not list(tmp_path.glob("job*/logs/executor-*")))


def test_no_spool_is_left_when_the_fleet_is_closed(mill: Mill, tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def mapper(_: Any, line: str) -> Any:
        print("interrupted", flush=True)
        begun.write_text("\n")
        time.sleep(60)

    launch_all(mill, [harmless, mapper, harmless])
    read_when_there(begun)
    mill.fleet.close()
    assert not list(tmp_path.glob("job*/logs/executor-*"))
    assert (tmp_path / "job2" / "logs" / "job2-s0-t00000-a1.log").read_text() == "interrupted\n"


def test_output_comes_back_after_an_attempt_that_closed_it(mill: Mill, tmp_path: Path) -> None:
    def closes(_: Any, line: str) -> Any:
        mine = os.fstat(1)
        for number in range(40):
            try:
                if os.path.samestat(os.fstat(number), mine):
                    os.close(number)
            except OSError:
                continue
        yield line, 1

    def says(_: Any, line: str) -> Any:
        os.write(1, b"still here\n")
        yield line, 1

    slot = mill.wait_for(SlotUp).slot
    job, other = mill.job(closes), mill.job(says)
    for index in range(2):
        mill.fleet.launch(slot, mill.spec(job, index))
        mill.fleet.launch(slot, mill.spec(other, index))
    assert set(answers(mill, 4).values()) == {"done"}
    assert (tmp_path / "job2" / "logs" / "job2-s0-t00001-a1.log").read_text() == "still here\n"


def test_what_is_called_back_too_late_may_end_by_itself_but_not_go_on(mill: Mill, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    mapper = endless(begun)
    slot = mill.wait_for(SlotUp).slot
    first = mill.spec(mill.job(harmless))
    mill.fleet.launch(slot, first)
    mill.wait_for(AttemptDone)
    mill.fleet.cancel(first.attempt, recalled=True)  # it is done
    spec = mill.spec(mill.job(mapper))
    mill.fleet.launch(slot, spec)
    read_when_there(begun)
    mill.fleet.cancel(spec.attempt, recalled=True)
    assert mill.wait_for(SlotDown).slot == slot
    assert mill.success(harmless).records_in == 1
