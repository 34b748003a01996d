"""Made-up jobs for the tests of the page: as many tasks as wanted, without running any."""

from __future__ import annotations

from collections.abc import Sequence

from gristmill.errors import FailureReport, Frame
from gristmill.runtime.contracts import TaskResult
from gristmill.runtime.journal.facts import AttemptOver, JobAccepted, Span, TaskDone
from gristmill.runtime.journal.history import JobHistory
from gristmill.runtime.views import JobView, RunningView, StageView
from gristmill.scheduling.commands import JobState
from gristmill.service.page.jobview import JobValues
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo

JOB = "20261121-091402-a3f9"
BEGUN = 1_795_000_000.0

REPORT = FailureReport(
    "UserCodeError",
    "invalid literal for int() with base 10: 'x'",
    (
        Frame("/jobs/latency.py", 41, "mapper", "for part in self.fields(line):"),
        Frame("/jobs/latency.py", 29, "fields", "return [int(part) for part in line.split()]"),
    ),
    "ValueError",
    "'GET x'",
    "/data/web.log",
    812,
    "mapper",
    {"task": "map 17", "attempts": 4},
    "parsing\n",
)


def history(name: str = "latency") -> JobHistory:
    """A job that was accepted."""
    plan = {"plan": [{"name": "map"}, {"name": "reduce"}], "spec": {}}
    return JobHistory(JobAccepted(JOB, name, BEGUN, "", "boot", ((), (0,)), plan, user="ada"))


def done(index: int, slot: str, began: float, ended: float, *, stage: int = 0, speculative: bool = False) -> TaskDone:
    """An attempt that counted; times are seconds of the job."""
    block = BlockInfo("block", (SegmentInfo(0, 100, 10, 1), SegmentInfo(100, 900, 90, 1)), "w1") if not stage else None
    span = Span(slot, BEGUN + began, BEGUN + began, BEGUN + ended, speculative)
    return TaskDone(JOB, stage, index, 1, 0, TaskResult(block=block, records_in=5, bytes_in=50, records_out=3), span)


def failed(index: int, slot: str, began: float, ended: float, *, number: int = 1, stage: int = 0) -> AttemptOver:
    """An attempt that failed."""
    span = Span(slot, BEGUN + began, BEGUN + began, BEGUN + ended)
    return AttemptOver(JOB, stage, index, number, 0, "failed", span, REPORT)


def running(index: int, slot: str, began: float, *, stage: int = 0, speculative: bool = False) -> RunningView:
    """An attempt that runs."""
    return RunningView(stage, index, 1, slot, BEGUN + began, BEGUN + began, speculative)


def job(
    tasks: int = 10,
    finished: int = 5,
    runs: Sequence[RunningView] = (),
    *,
    state: JobState = JobState.RUNNING,
    name: str = "latency",
    slots: int = 4,
) -> JobValues:
    """A job in which each task takes a second, and some are done."""
    past = history(name)
    for index in range(finished):
        began = float(index // slots)
        past.add(done(index, f"w{index % slots // 2}-{index % 2}", began, began + 1))
    stages = (
        StageView(0, "map", False, tasks, finished, len(runs), 5 * finished, 50 * finished, 50 * tasks),
        StageView(1, "reduce", True, 2, 0, 0, 0, 0, 0),
    )
    view = JobView(JOB, name, state, 30.0, stages, finished)
    return JobValues(view, "ada", "/data/out", BEGUN, BEGUN + 30, past, runs)
