"""The log of the scheduler's events: bounded, written when the loop fails, and good for playing the failure again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from coordinator_kit import HandPlayedFleet, NotedOutput

from gristmill.errors import FailureKind
from gristmill.plan.build import StepShape, build_plan
from gristmill.runtime.contracts import AttemptDone, JobSpec, SlotUp, TaskResult, TaskSpec
from gristmill.runtime.coordinator.coordinator import Coordinator
from gristmill.runtime.coordinator.event_log import EVENT_LOG, EventLog
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.journal.journal import Journal
from gristmill.scheduling import events
from gristmill.scheduling.commands import Command, Launch
from gristmill.scheduling.events import AttemptId, Event, TaskFailed, TaskFinished, TimePassed
from gristmill.scheduling.state import SchedulerState
from gristmill.scheduling.step import step
from gristmill.storage.contracts import Split

DEFECT = RuntimeError("a defect\nof two lines")


def read(path: Path) -> list[tuple[float, Event]]:
    """The events of a file."""
    names = {**vars(events), "FailureKind": FailureKind, "inf": math.inf}
    lines = path.read_text().splitlines()
    return [eval(line, dict(names)) for line in lines if not line.startswith("#")]


class PlayingFleet(HandPlayedFleet):
    """All that is launched is done at once, but for one task: there the loop meets a defect."""

    def launch(self, slot: str, spec: TaskSpec) -> None:
        super().launch(slot, spec)
        if spec.attempt.index == 7:
            raise RuntimeError("a defect")
        self.post(AttemptDone(spec.attempt, TaskResult(records_in=1)))


def test_the_last_events_are_kept(tmp_path: Path) -> None:
    log = EventLog(most_events=3)
    for number in range(5):
        log.add(float(number), TimePassed())
    assert read(log.write(tmp_path, DEFECT)) == [(float(number), TimePassed()) for number in (2, 3, 4)]
    assert (tmp_path / EVENT_LOG).read_text().startswith("# RuntimeError: a defect of two lines\n# 3 events; 2 before")


def test_many_partitions_leave_room_for_fewer_events(tmp_path: Path) -> None:
    log = EventLog(most_sizes=100)
    done = [TaskFinished(AttemptId("j", 0, index, 1), True, (5,) * 40) for index in range(4)]
    for event in done:
        log.add(1.5, event)
    assert read(log.write(tmp_path, DEFECT)) == [(1.5, done[2]), (1.5, done[3])]


def test_failures_are_read_back(tmp_path: Path) -> None:
    log = EventLog()
    failed = TaskFailed(AttemptId("it's <j>", 0, 1, 2), FailureKind.FETCH)
    log.add(2.0, failed)
    assert read(log.write(tmp_path, DEFECT)) == [(2.0, failed)]


@pytest.mark.parametrize("whose", ["server", "job"])
def test_a_defect_of_the_loop_leaves_its_events_beside_the_journal(tmp_path: Path, whose: str) -> None:
    fleet = PlayingFleet()
    journal = Journal(tmp_path / "journal.db", essential=False)
    coordinator = Coordinator(fleet, journal=journal if whose == "server" else None)
    coordinator.start()
    spec = JobSpec("j1", b"", (), str(tmp_path / "staging"), str(tmp_path), 1, 0, 1, None)
    plan = build_plan([StepShape(reduces=True)], reducers=2, output_format="text")
    splits = (tuple((Split(f"in{index}", 0, 50, 50, "text"),) for index in range(20)),)
    job = coordinator.submit(PreparedJob(spec, "Job", plan, splits, NotedOutput(), "out"), journal=journal)
    fleet.post(SlotUp("s", "w"))
    with pytest.raises(RuntimeError, match="a defect") as raised:
        job.wait(60)
    coordinator.close()
    journal.close()
    assert raised.value.__notes__ == [f"The last events before it are in {tmp_path / EVENT_LOG}."]

    commands: list[Command] = []
    state = SchedulerState()
    logged = read(tmp_path / EVENT_LOG)
    for now, event in logged:
        commands += step(state, event, now)
    launched = [command.attempt for command in commands if isinstance(command, Launch)]
    assert launched == list(fleet.launched)
    assert launched[-1] == AttemptId("j1", 0, 7, 1)
