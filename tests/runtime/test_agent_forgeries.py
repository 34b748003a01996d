"""User code that writes into its executor's channel: it costs the attempt, by name, and the agent goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agent_kit
import cloudpickle
import pytest
from agent_kit import Mill

from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.process.wire import MAX_NOTE_BYTES

cloudpickle.register_pickle_by_value(sys.modules[__name__])
cloudpickle.register_pickle_by_value(agent_kit)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks for its channel in /proc")

FORGED: dict[str, dict[str, Any]] = {
    "a result of nothing": {"type": "done", "result": None},
    "figures below nothing": {"type": "done", "result": {"records_in": -1}},
    "segments": {"type": "done", "result": {"block": {"path": "/x", "segments": [[5, 1, 1, 1]]}}},
    "progress in words": {"type": "progress", "progress": ["a", "b", "c"], "printed": 0},
    "a second hello": {"type": "hello", "pid": 1, "idle_bytes": 0},
    "that it has not begun": {"type": "failed", "report": {"error": "AttemptNotBegun", "message": "Again, please."}},
    "a report of nothing": {"type": "failed", "report": {"error": "UserCodeError"}},
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    mill = Mill(tmp_path_factory.mktemp("mill"))
    yield mill
    mill.fleet.close()


@pytest.fixture
def mill(shared: Mill, tmp_path: Path) -> Mill:
    shared.begin(tmp_path)
    return shared


def channel() -> int:
    """The descriptor of the executor's channel."""
    return min(int(path.name) for path in Path("/proc/self/fd").iterdir() if path.is_socket())


@pytest.mark.parametrize("note", FORGED.values(), ids=FORGED)
def test_what_makes_no_sense_costs_the_attempt(mill: Mill, note: dict[str, Any]) -> None:
    said = {"attempt": ["job1", 0, 0, 1], **note}

    def mapper(_: Any, line: str) -> Any:
        import os
        import time

        from gristmill.runtime.process.wire import note_frame

        os.write(channel(), note_frame(said))
        time.sleep(30)
        yield line, 1

    report = mill.failure(mapper)
    assert report.error == "AnswerInvalid" and "cannot be" in report.message
    assert isinstance(mill.run(lambda _, line: [(line, 1)]), TaskResult)


def test_a_message_without_end_is_not_waited_for(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        import os
        import time

        os.write(channel(), (MAX_NOTE_BYTES + 1).to_bytes(4, "big"))
        time.sleep(30)
        yield line, 1

    report = mill.failure(mapper)
    assert report.error == "ExecutorDied" and "lost its channel" in report.message
    assert isinstance(mill.run(lambda _, line: [(line, 1)]), TaskResult)


def test_an_answer_that_is_too_long_is_named(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        from gristmill.plan.functions import count

        for number in range(70):
            count("a group", f"{number}" + "x" * 1_000_000)
        yield line, 1

    report = mill.failure(mapper, memory_bytes=1 << 30)
    assert report.error == "AnswerInvalid" and "it may have 64" in report.message
