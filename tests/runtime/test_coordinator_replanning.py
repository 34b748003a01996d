"""Stages that are cut by what was measured: what tasks get; and a decision outlives the coordinator that made it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from coordinator_kit import Server, ended

from gristmill.plan import adapt
from gristmill.plan.adapt import Limits
from gristmill.plan.stages import (
    Branch,
    MergeOp,
    OutputSink,
    ProgramOp,
    ShuffleSink,
    ShuffleSource,
    SplitSource,
    Stage,
    StagePlan,
)
from gristmill.runtime.contracts import AttemptDone, JobSpec, TaskResult, TaskSpec
from gristmill.runtime.coordinator.jobs import PreparedJob
from gristmill.runtime.coordinator.registry import RunningJob
from gristmill.runtime.files.jobfolder import JobFolder
from gristmill.runtime.journal.history import replay
from gristmill.runtime.replay import find_task
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.storage.commit import OutputCommit
from gristmill.storage.contracts import PartFile, Split

SIZES = (10, 900, 20, 30)  # of each map task's block
NEVER = Limits(merged_bytes=0, skewed_bytes=1 << 60)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(merged_bytes=200, least_tasks=1, skewed_bytes=100, skewed_times=2, piece_bytes=500)
    monkeypatch.setattr(adapt, "LIMITS", limits)


def submitted(server: Server) -> RunningJob:
    """A job of two maps and a fold of four partitions."""
    reads = Branch((ShuffleSource(0, 0, True),), (ProgramOp(1),))
    plan = StagePlan(
        (
            Stage(0, (Branch((SplitSource(),), (ProgramOp(0),)),), ShuffleSink(0, 4, True, True), "read"),
            Stage(1, (reads,), OutputSink("text", "r"), "fold"),
        )
    )
    folder = JobFolder.create(server.place, {}, time.time())
    commit = OutputCommit.prepare(server.place / "out", folder.job, False, needed_by=folder.path)
    spec = JobSpec(folder.job, b"code", ("/p",), str(commit.staging), str(folder.path), 1, 0, 1, None, ticket="t")
    splits = (tuple((Split(f"in{index}", 0, 50, 50, "text"),) for index in range(2)),)
    prepared = PreparedJob(spec, "Job", plan, splits, commit, str(commit.output), place=str(commit.output))
    job = server.coordinator.submit(prepared, folder=folder)
    assert isinstance(job, RunningJob)
    server.jobs.append(job)
    server.turn()
    return job


def made(server: Server, job: RunningJob, stage: int, index: int, sizes: tuple[int, ...], number: int = 1) -> None:
    """A task has made a block of partitions of these sizes."""
    attempt = AttemptId(job.job, stage, index, number)
    assert attempt in server.fleet.launched
    segments = tuple(SegmentInfo(sum(sizes[:n]), size, size, stage + index) for n, size in enumerate(sizes))
    result = TaskResult(block=BlockInfo(f"/w#1/{stage}-{index}", segments, "w#1"), seconds=1.0)
    server.turn(AttemptDone(attempt, result))


def written(server: Server, job: RunningJob, index: int, **more: object) -> None:
    [staging] = server.place.glob(f".*gristmill-{job.job}")
    part = PartFile(f"attempts/{index}", f"part-r-{index:05d}", 1, 6)
    (staging / part.staged).write_text("done\n\n")
    result = TaskResult(records_out=1, parts=(part,), seconds=1.0, **more)  # type: ignore[arg-type]
    server.turn(AttemptDone(AttemptId(job.job, 1, index, 1), result))


def blocks_of(spec: TaskSpec) -> list[tuple[str, int]]:
    return [(block.path.rpartition("/")[-1], block.segments[0].length) for block in spec.blocks]


def launched(server: Server, stage: int) -> list[TaskSpec]:
    return [spec for attempt, spec in sorted(server.fleet.launched.items()) if attempt.stage == stage]


def begun(place: Path) -> tuple[Server, RunningJob]:
    server = Server(place)
    job = submitted(server)
    server.up("w#1")
    server.up("w#2")
    made(server, job, 0, 0, SIZES)
    made(server, job, 0, 1, SIZES)
    return server, job


def test_what_the_tasks_of_a_stage_that_was_cut_get(tmp_path: Path) -> None:
    server, job = begun(tmp_path)
    merging = launched(server, 2)
    assert [blocks_of(spec) for spec in merging] == [[("0-0", 900)], [("0-1", 900)]]
    assert {spec.stage.branches[0].ops for spec in merging} == {(MergeOp(0),)}
    assert launched(server, 1) == []
    made(server, job, 2, 0, (600,))
    made(server, job, 2, 1, (700,))
    specs = launched(server, 1)
    assert [blocks_of(spec) for spec in specs] == [
        [("0-0", 10), ("0-1", 10)],
        [("2-0", 600), ("2-1", 700)],
        [("0-0", 20), ("0-1", 20), ("0-0", 30), ("0-1", 30)],
    ]
    assert [(spec.part, spec.turns, spec.counts, spec.tasks) for spec in specs] == [
        (0, (), (), 4),
        (1, (), (), 4),
        (2, (2, 3), (2, 2), 4),
    ]
    assert [list(specs[2].places_of(0, turn)) for turn in range(2)] == [[0, 1], [2, 3]]
    for index in range(3):
        written(server, job, index, hot_keys=(("'a'", 20_000),) * (index == 1), records_in=10_000)
    outcome = ended(job)
    assert outcome.error is None
    assert [(stage.id, stage.tasks) for stage in outcome.view.stages] == [(0, 2), (2, 2), (1, 3)]
    assert [note.partition(": ")[2] for note in outcome.view.adaptations] == [
        "4 partitions are read by 3 tasks: small neighbours are merged",
        "partition 1 of stage 0 (1.8 KiB, and half of its partitions have 40 B or less) is merged by 2 tasks first",
    ]
    assert outcome.view.hot_keys == (("'a'", 20_000),)
    assert server.parts_of() == [f"part-r-{index:05d}" for index in range(3)]


def test_a_decision_outlives_its_coordinator_and_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, job = begun(tmp_path)
    made(server, job, 2, 1, (700,))
    server = server.crash()
    monkeypatch.setattr(adapt, "LIMITS", NEVER)
    [resumed] = server.resumed
    server.turn()
    server.up("w#3", {job.job: ("/w#1/0-0", "/w#1/0-1", "/w#1/2-1")})
    [merging] = launched(server, 2)
    assert (merging.attempt.index, blocks_of(merging)) == (0, [("0-0", 900)])
    made(server, resumed, 2, 0, (600,), merging.attempt.number)
    specs = launched(server, 1)
    assert blocks_of(specs[1]) == [("2-0", 600), ("2-1", 700)]
    server.up("w#4")
    assert [spec.turns for spec in launched(server, 1)] == [(), (), (2, 3)]
    for index in range(3):
        written(server, resumed, index)
    assert ended(resumed).error is None
    assert len(ended(resumed).view.adaptations) == 2


def test_what_was_not_decided_is_decided_by_the_next_coordinator(tmp_path: Path) -> None:
    server = Server(tmp_path)
    job = submitted(server)
    server.up("w#1")
    made(server, job, 0, 0, SIZES)
    server = server.crash()
    server.turn()
    server.up("w#2", {job.job: ("/w#1/0-0",)})
    made(server, job, 0, 1, SIZES, launched(server, 0)[0].attempt.number)
    assert [blocks_of(spec) for spec in launched(server, 2)] == [[("0-0", 900)], [("0-1", 900)]]


def test_a_task_of_a_stage_that_was_cut_is_found_for_a_replay(tmp_path: Path) -> None:
    server, job = begun(tmp_path)
    server.journal.durable(job._job.noted, timeout=60)
    task = find_task(tmp_path, job.job, "fold/2")
    assert task.tally.task_counts() == (2, 3, 2)
    assert [attempt.stage for attempt in task.missing] == [0, 0, 2, 2]
    assert find_task(tmp_path, job.job, "merge for stage 1/1").attempt.stage == 2


def test_the_history_of_a_job_tells_how_its_stages_were_cut(tmp_path: Path) -> None:
    server, job = begun(tmp_path)
    for index in range(2):
        made(server, job, 2, index, (600,))
    for index in range(3):
        written(server, job, index)
    outcome = ended(job)
    history = replay(server.journal.facts(job.job))[job.job]
    merging = history.stages[2]
    assert [(stage.id, stage.name, stage.tasks) for stage in outcome.view.stages] == [
        (stage.id, stage.name, stage.tasks) for stage in (history.stages[0], merging, history.stages[1])
    ]
    assert (merging.added, merging.parents, history.stages[1].parents) == (True, (0,), (0, 2))
    assert tuple(history.adaptations) == outcome.view.adaptations
    assert merging.partition_bytes == [1200] and history.stages[0].partition_bytes == [size * 2 for size in SIZES]
