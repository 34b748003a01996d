"""The coordinator's loop with a fleet that the test plays by hand: what it launches, keeps, frees and says."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from coordinator_kit import USER_ERROR, HandPlayedFleet, NotedOutput

from gristmill.errors import FailureReport, JobCancelled, JobFailed, TooManyBadRecords
from gristmill.plan.build import StepShape, build_plan
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    Beat,
    FleetBroken,
    JobSpec,
    Progress,
    SlotDown,
    SlotUp,
    TaskResult,
)
from gristmill.runtime.coordinator.coordinator import Coordinator, RunningJob
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import JobView
from gristmill.scheduling.commands import JobState
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.storage.contracts import PartFile, Split


class Bench:
    """A coordinator, its fleet, one job of two map and two reduce tasks, and (without thread) a clock that stands."""

    def __init__(
        self, tmp_path: Path, threaded: bool = False, output: NotedOutput | None = None, maps: int = 2
    ) -> None:
        self.maps = maps
        self.now = 100.0
        self.staging = tmp_path / "staging"
        self.staging.mkdir()
        self.fleet = HandPlayedFleet()
        self.output = output or NotedOutput()
        self.views: list[JobView] = []
        clock = time.monotonic if threaded else lambda: self.now
        self.coordinator = Coordinator(self.fleet, threaded=threaded, clock=clock)
        self.coordinator.start()
        self.folder = str(tmp_path / "folder")
        self.running = self.submit("j1")

    def submit(self, job: str, max_bad_records: int = 0) -> RunningJob:
        spec = JobSpec(job, b"", (), str(self.staging), self.folder, 1, max_bad_records, 1, None)
        plan = build_plan([StepShape(reduces=True)], reducers=2, output_format="text")
        splits = (tuple((Split(f"in{index}", 0, 50, 50, "text"),) for index in range(self.maps)),)
        prepared = PreparedJob(spec, "Job", plan, splits, self.output, "out", max_attempts=2)
        return self.coordinator.submit(prepared, self.views.append)

    def slot(self, name: str) -> None:
        self.post(SlotUp(name, "w"))

    def post(self, *events: Any) -> Outcome | None:
        for event in events:
            self.fleet.post(event)
        self.now += 0.2
        for _ in range(5):  # a turn of the loop does not handle all that is queued if the job's view is due
            outcome = self.running.wait(0)
        return outcome

    def attempt(self, stage: int, index: int, number: int = 1, job: str = "j1") -> AttemptId:
        return AttemptId(job, stage, index, number)

    def mapped(self, index: int, number: int = 1, job: str = "j1", **more: Any) -> Outcome | None:
        attempt = self.attempt(0, index, number, job)
        segments = (SegmentInfo(0, 10, 1, 0), SegmentInfo(10, 20, 2, 0))
        block = BlockInfo(f"block-{attempt}", segments)
        result = TaskResult(records_in=5, bytes_in=50, records_out=3, bytes_out=30, block=block)
        return self.post(AttemptDone(attempt, replace(result, **more)))

    def reduced(self, index: int, number: int = 1, job: str = "j1", **more: Any) -> Outcome | None:
        attempt = self.attempt(1, index, number, job)
        parts = (PartFile(f"attempts/{attempt}", f"part-r-{index:05d}", 4, 40),)
        result = TaskResult(records_in=3, bytes_in=30, records_out=4, bytes_out=40, parts=parts)
        return self.post(AttemptDone(attempt, replace(result, **more)))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.slot("s1")
    bench.slot("s2")
    return bench


def test_a_job_from_beginning_to_end(bench: Bench) -> None:
    assert [spec.splits[0].path for spec in bench.fleet.launched.values()] == ["in0", "in1"]
    bench.mapped(1, counters={"g": {"n": 2}})
    bench.mapped(0, counters={"g": {"n": 1, "m": 7}})
    spec = bench.fleet.launched[bench.attempt(1, 1)]
    assert [block.path for block in spec.blocks] == ["block-j1-s0-t00000-a1", "block-j1-s0-t00001-a1"]
    assert [block.segments for block in spec.blocks] == [(SegmentInfo(10, 20, 2, 0),)] * 2  # its own alone
    assert (spec.partition, spec.splits) == (0, ())
    assert bench.running.view().stages[1].bytes_total == 60
    bench.reduced(1)
    outcome = bench.reduced(0)

    assert outcome is not None
    assert outcome.error is None
    assert bench.output.parts == ["part-r-00000", "part-r-00001"]
    assert not bench.output.aborted
    assert sorted(bench.fleet.freed) == ["block-j1-s0-t00000-a1", "block-j1-s0-t00001-a1"]
    assert bench.fleet.jobs == []
    seconds = bench.output.summary.pop("seconds")
    assert seconds > 0
    assert bench.output.summary == {
        "job_id": "j1",
        "state": "succeeded",
        "output": "out",
        "map_tasks": 2,
        "reduce_tasks": 2,
        "attempts": 4,
        "failed_attempts": 0,
        "records_in": 10,
        "records_out": 8,
        "shuffle_bytes": 60,
        "counters": {"g": {"n": 3, "m": 7}},
    }
    assert bench.views[-1] == outcome.view == bench.running.view()
    assert bench.views[-1].state is JobState.SUCCEEDED


def test_views_count_running_attempts_too(bench: Bench) -> None:
    bench.mapped(0)
    bench.post(Beat("w", {bench.attempt(0, 1): Progress(2, 20)}))
    stage = bench.running.view().stages[0]
    assert (stage.done, stage.running, stage.records_in, stage.bytes_in, stage.bytes_total) == (1, 1, 7, 70, 100)
    assert bench.running.view().records_in == 5  # totals: accepted ones only


def test_views_come_at_most_ten_times_a_second(bench: Bench) -> None:
    before = len(bench.views)
    for _ in range(50):
        bench.fleet.post(Beat("w", {}))
        bench.now += 0.01
        bench.running.wait(0)
    assert 4 <= len(bench.views) - before <= 6


def test_a_late_result_leaves_nothing(bench: Bench) -> None:
    late = bench.attempt(0, 0)
    bench.post(SlotDown("s1"))  # without a word: the attempt is lost, and runs again
    bench.slot("s3")
    bad = bench.staging / "attempts" / "bad.jsonl"
    bad.parent.mkdir(exist_ok=True)
    bad.write_text("x")
    bench.mapped(0, parts=(PartFile("attempts/bad.jsonl", "_bad_records/m0-00000.jsonl", 1, 1),))
    assert bench.fleet.freed == [f"block-{late}"]
    assert not bad.exists()
    bench.mapped(0, number=2)
    bench.mapped(1)
    bench.reduced(0)
    outcome = bench.reduced(1)
    assert outcome is not None
    assert (outcome.view.attempts, outcome.view.failed_attempts, outcome.view.records_in) == (5, 1, 10)
    assert outcome.view.failures[0].error == "ExecutorDied"


def test_a_launch_that_crosses_the_end_of_its_slot_is_no_attempt(bench: Bench) -> None:
    crossed = bench.attempt(0, 0)
    bench.post(SlotDown("s1"))
    bench.post(AttemptFailed(crossed, FailureReport("AttemptNotBegun", "came too late"), slot_leaves=True))
    bench.slot("s3")
    bench.mapped(0, number=2)
    bench.mapped(1)
    bench.reduced(0)
    outcome = bench.reduced(1)
    assert outcome is not None
    assert (outcome.view.attempts, outcome.view.failed_attempts) == (4, 0)


def test_a_launch_that_never_began_is_found_lost(bench: Bench) -> None:
    bench.mapped(0)
    bench.post(Beat("w", {}))  # it may be older than the launch
    for seconds in (1, 2):
        assert bench.attempt(0, 1, 2) not in bench.fleet.launched
        bench.post(Beat("w", {}, began=bench.now + seconds))
    assert bench.fleet.cancelled == [bench.attempt(0, 1)]
    bench.slot("s9")
    assert bench.attempt(0, 1, 2) in bench.fleet.launched


def test_what_is_recalled_before_it_began_is_no_attempt(tmp_path: Path) -> None:
    """Short tasks are sent ahead; when one takes long after all, those behind it are called back."""
    bench = Bench(tmp_path, maps=12)
    bench.post(SlotUp("s1", "w", 8))
    recalled: list[AttemptId] = []
    for _ in range(40):
        waiting = [attempt for attempt in bench.fleet.launched if attempt not in bench.fleet.cancelled]
        for attempt in waiting[:1]:
            del bench.fleet.launched[attempt]
            done = bench.mapped if attempt.stage == 0 else bench.reduced
            outcome = done(attempt.index, attempt.number, seconds=0.001)
        if not recalled:
            bench.now += 1.0  # the next one takes longer than its like
            bench.running.wait(0)
            recalled += bench.fleet.cancelled
            for attempt in recalled:
                bench.post(AttemptFailed(attempt, FailureReport("AttemptNotBegun", "was recalled"), slot_leaves=False))
    assert recalled
    assert outcome is not None and outcome.error is None
    assert (outcome.view.attempts, outcome.view.failed_attempts) == (14, 0)


def test_a_failure_is_retried_then_ends_the_job(bench: Bench) -> None:
    bench.mapped(1)
    assert bench.post(AttemptFailed(bench.attempt(0, 0), USER_ERROR)) is None
    bench.now += 60  # past the backoff
    assert bench.running.wait(0) is None
    outcome = bench.post(AttemptFailed(bench.attempt(0, 0, 2), USER_ERROR))
    assert outcome is not None
    assert outcome.view.state is JobState.FAILED
    assert (outcome.view.attempts, outcome.view.failed_attempts) == (3, 2)
    assert bench.output.aborted
    assert bench.output.parts is None
    error = outcome.error
    assert isinstance(error, JobFailed)
    assert error.report is not None
    assert error.report.details == {"task": "map task 0", "attempts": 2}
    assert error.job_folder == bench.folder
    assert str(error) == (
        "Job j1 failed.\n/home/me/job.py:7, in mapper\n    1 / 0\nZeroDivisionError: division by zero\n"
        f"record: 'x'\nread from: in.txt, offset 12\nin: map task 0, attempt 2\n"
        f"What is kept of it is in {bench.folder}"
    )


def test_a_lost_block_is_made_again_and_counted_once(bench: Bench) -> None:
    bench.mapped(0, counters={"g": {"n": 1}})
    bench.mapped(1, counters={"g": {"n": 1}})
    gone = FailureReport("BlockMissing", "gone", details={"block": f"block-{bench.attempt(0, 1)}"})
    bench.post(AttemptFailed(bench.attempt(1, 0), gone))
    assert bench.attempt(0, 1, 2) in bench.fleet.launched
    assert bench.running.view().stages[0].done == 1
    bench.reduced(1)
    bench.mapped(1, number=2, counters={"g": {"n": 1}})
    spec = bench.fleet.launched[bench.attempt(1, 0, 2)]
    assert spec.blocks[1].path == "block-j1-s0-t00001-a2"
    assert bench.fleet.freed == []  # whoever could read the old one may still do so
    outcome = bench.reduced(0, number=2)
    assert outcome is not None
    assert outcome.error is None
    assert outcome.view.counters == {"g": {"n": 2}}
    assert (outcome.view.records_in, outcome.view.shuffle_bytes) == (10, 60)
    assert sorted(bench.fleet.freed) == [f"block-j1-s0-t{task}" for task in ("00000-a1", "00001-a1", "00001-a2")]


def test_too_many_bad_records(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.running.cancel()
    bench.running = bench.submit("j2", max_bad_records=3)
    bench.slot("s1")
    bench.mapped(0, job="j2", bad_records=2)
    outcome = bench.mapped(1, job="j2", bad_records=2)
    assert outcome is not None
    assert isinstance(outcome.error, TooManyBadRecords)
    assert "4 records failed, and --max-bad-records allows 3" in str(outcome.error)


def test_one_attempt_with_too_many_bad_records(bench: Bench) -> None:
    report = replace(USER_ERROR, error="BadRecordLimit")
    outcome = bench.post(AttemptFailed(bench.attempt(0, 0), report))
    assert outcome is not None
    assert isinstance(outcome.error, TooManyBadRecords)
    assert outcome.error.report is not None
    assert outcome.error.report.frames == USER_ERROR.frames


def test_cancel(bench: Bench) -> None:
    bench.mapped(0)
    bench.running.cancel()
    outcome = bench.post()
    assert outcome is not None
    assert isinstance(outcome.error, JobCancelled)
    assert outcome.view.state is JobState.CANCELLED
    assert bench.output.aborted
    assert bench.fleet.cancelled == [bench.attempt(0, 1)]
    assert bench.fleet.freed == []  # another run may take the job up


def test_the_end_waits_for_cancelled_attempts_to_be_gone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, threaded=True)
    bench.slot("s1")
    while not bench.fleet.launched:
        bench.running.wait(0.01)
    bench.running.cancel()
    while not bench.fleet.cancelled:
        bench.running.wait(0.01)
    assert bench.running.wait(0.05) is None
    assert not bench.output.aborted
    bench.fleet.post(SlotDown("s1"))
    assert bench.running.wait(60) is not None
    assert bench.output.aborted
    bench.coordinator.close()


def test_a_broken_fleet_fails_all_jobs_and_those_to_come(bench: Bench) -> None:
    other = bench.submit("j2")
    report = FailureReport("ExecutorDied", "Executors cannot be started.")
    outcome = bench.post(FleetBroken(report))
    for ended in (outcome, other.wait(0), bench.submit("j3").wait(0)):
        assert ended is not None
        assert isinstance(ended.error, JobFailed)
        assert ended.error.report == report
    bench.slot("s9")  # comes too late for anything
    bench.running.cancel()
    bench.post(SlotDown("s1"))


def test_a_job_that_is_submitted_too_late_is_cancelled(bench: Bench) -> None:
    late = bench.submit("j2")
    bench.coordinator.close()
    outcome = late.wait(0)
    assert outcome is not None
    assert isinstance(outcome.error, JobCancelled)


def test_an_output_that_cannot_be_put_in_place_fails_the_job(tmp_path: Path) -> None:
    bench = Bench(tmp_path, output=NotedOutput(PermissionError(13, "Permission denied", "/out")))
    bench.slot("s1")
    for act in (bench.mapped, bench.reduced):
        act(0)
        outcome = act(1)
    assert outcome is not None
    assert isinstance(outcome.error, JobFailed)
    assert "could not be put in place: Permission denied: /out" in str(outcome.error)
    assert outcome.view.state is JobState.FAILED
    assert bench.output.aborted


def test_several_jobs_share_the_fleet(bench: Bench) -> None:
    other = bench.submit("j2")
    bench.slot("s3")
    bench.slot("s4")
    bench.post()
    first = bench.running
    for job, bench.running in (("j1", first), ("j2", other)):
        for act in (bench.mapped, bench.reduced):
            act(0, job=job)
            act(1, job=job)
    for ended in (first.wait(0), other.wait(0)):
        assert ended is not None
        assert ended.view.state is JobState.SUCCEEDED


def test_close_ends_what_still_runs(bench: Bench) -> None:
    bench.coordinator.close()
    bench.coordinator.close()
    assert bench.fleet.closed == 1
    outcome = bench.running.wait(0)
    assert outcome is not None
    assert isinstance(outcome.error, JobCancelled)
    assert bench.output.aborted


def test_a_defect_of_the_loop_reaches_whoever_waits(tmp_path: Path) -> None:
    def broken(view: JobView) -> None:
        raise RuntimeError("observer")

    bench = Bench(tmp_path, threaded=True)
    bench.views = type("Broken", (list,), {"append": staticmethod(broken)})()
    running = bench.submit("j2")
    with pytest.raises(RuntimeError, match="observer"):
        running.wait(60)
    bench.coordinator.close()


def test_a_wait_that_takes_too_long_says_so(bench: Bench) -> None:
    assert bench.running.wait(0) is None
    assert bench.running.view().state is JobState.RUNNING
