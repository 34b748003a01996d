"""The inline fleet: everything happens within ``launch``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from bdb import BdbQuit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from gristmill.config import MIB
from gristmill.fleets.inline import InlineFleet
from gristmill.plan.functions import JobCode, StepFunctions, count
from gristmill.plan.stages import Branch, MapOp, OutputSink, SplitSource, Stage
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    Beat,
    FleetEvent,
    JobAdmitted,
    JobSpec,
    SlotUp,
    TaskSpec,
    WorkerUp,
)
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo
from gristmill.storage.contracts import Split

cloudpickle.register_pickle_by_value(sys.modules[__name__])
STAGE = Stage(0, (Branch((SplitSource(),), (MapOp(0),)),), OutputSink("text", "m"), "map")


def launch(folder: Path, mapper: Callable[[Any, Any], Any], **options: Any) -> list[FleetEvent]:
    """What the fleet says by the time ``launch`` returns."""
    events: list[FleetEvent] = []
    (folder / "staging" / "attempts").mkdir(parents=True)
    (folder / "input.txt").write_text("one\ntwo\n")
    code = cloudpickle.dumps(JobCode((StepFunctions(mapper=mapper),)))
    paths = options.get("import_paths", ())
    job = JobSpec("job", code, paths, str(folder / "staging"), str(folder), 64 * MIB, 0, MIB, None)
    fleet = InlineFleet()
    fleet.start(events.append)
    fleet.add_job(job)
    up, slot, admitted = events
    assert isinstance(up, WorkerUp)
    assert isinstance(slot, SlotUp)
    assert admitted == JobAdmitted("job")
    split = Split(str(folder / "input.txt"), 0, 8, 8, "text")
    fleet.launch(slot.slot, TaskSpec(AttemptId("job", 0, 0, 1), STAGE, (split,)))
    fleet.drop_job("job")
    fleet.close()
    return events[3:]


def test_a_task_is_done_when_launch_returns(tmp_path: Path) -> None:
    def mapper(_: Any, line: str) -> Any:
        assert threading.current_thread() is threading.main_thread()
        count("lines", line)
        yield line, 1

    beat, done = launch(tmp_path, mapper)
    assert isinstance(beat, Beat)
    assert isinstance(done, AttemptDone)
    assert done.result.records_in == 2
    assert done.result.counters == {"lines": {"one": 1, "two": 1}}
    assert not list((tmp_path / "scratch").iterdir())


def test_a_failure_is_a_report(tmp_path: Path) -> None:
    def mapper(_: Any, line: str) -> Any:
        raise ValueError(line)

    _, failed = launch(tmp_path, mapper)
    assert isinstance(failed, AttemptFailed)
    assert failed.report.error == "UserCodeError"
    assert failed.report.frames[-1].file == __file__


def test_prints_go_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def mapper(_: Any, line: str) -> Any:
        print("seen", line)
        yield line, 1

    launch(tmp_path, mapper)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "seen one\nseen two\n"


def test_an_interrupt_passes_through(tmp_path: Path) -> None:
    def mapper(_: Any, line: str) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(tmp_path, mapper)
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupt_ends_what_the_task_has_started(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]

    def mapper(_: Any, line: str) -> Any:
        (tmp_path / "pid").write_text(str(os.spawnv(os.P_NOWAIT, sys.executable, command)))
        raise KeyboardInterrupt

    with subprocess.Popen(command) as ours:
        with pytest.raises(KeyboardInterrupt):
            launch(tmp_path, mapper)
        _, status = os.waitpid(int((tmp_path / "pid").read_text()), 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        assert ours.poll() is None
        ours.kill()


def test_leaving_the_debugger_is_an_interrupt(tmp_path: Path) -> None:
    def mapper(_: Any, line: str) -> Any:
        raise BdbQuit

    with pytest.raises(KeyboardInterrupt):
        launch(tmp_path, mapper)


def test_import_paths_hold_while_the_task_runs(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "inline_helper.py").write_text("NAME = 'helper'\n")

    def mapper(_: Any, line: str) -> Any:
        import inline_helper  # type: ignore[import-not-found]

        yield inline_helper.NAME, 1

    before = list(sys.path)
    _, done = launch(tmp_path, mapper, import_paths=(str(tmp_path / "lib"),))
    assert isinstance(done, AttemptDone)
    assert sys.path == before


def test_a_freed_block_is_deleted(tmp_path: Path) -> None:
    block = tmp_path / "some.block"
    block.write_bytes(b"x")
    fleet = InlineFleet()
    fleet.free(BlockInfo(str(block), ()))
    fleet.free(BlockInfo(str(block), ()))
    assert not block.exists()
