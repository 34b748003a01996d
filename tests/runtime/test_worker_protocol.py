"""The protocol's files agree, and what goes over the wire comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from gristmill.errors import FailureReport, Frame
from gristmill.plan.stages import Branch, MapOp, OutputSink, ReduceOp, ShuffleSink, ShuffleSource, SplitSource, Stage
from gristmill.runtime.answers import result_of
from gristmill.runtime.contracts import JobSpec, TaskResult, TaskSpec
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.protocol import convert
from gristmill.runtime.protocol import generate as generator
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, BlockSource, SegmentInfo
from gristmill.storage.contracts import PartFile, Split


def test_the_made_files_are_those_of_the_definition(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    generator.generate(tmp_path)
    binary, types = generator.MADE
    made, kept = ((folder / binary).read_bytes() for folder in (tmp_path, generator.HERE))
    parse = descriptor_pb2.FileDescriptorSet.FromString
    assert parse(made) == parse(kept)
    assert (tmp_path / types).read_text() == (generator.HERE / types).read_text()


STAGES = (
    Stage(0, (Branch((SplitSource(),), (MapOp(0),)),), ShuffleSink(0, 7, True), "map"),
    Stage(1, (Branch((ShuffleSource(0, 0),), (ReduceOp(0), MapOp(1))),), ShuffleSink(1, 3, False), "reduce 1 + map 2"),
    Stage(2, (Branch((ShuffleSource(1, 1, False),), (ReduceOp(1),)),), OutputSink("jsonl", "r"), "reduce 2"),
    Stage(3, (Branch((SplitSource(),), ()),), OutputSink("text", "m"), "copy"),
)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_stages_come_back(stage: Stage) -> None:
    wire = convert.stage_message("j", stage).SerializeToString()
    assert convert.stage_of(pb.AddStage.FromString(wire)) == stage


def over_the_wire(order: pb.Order) -> pb.Order:
    return pb.Order.FromString(order.SerializeToString())


def test_a_launch_on_splits_comes_back() -> None:
    splits = (Split("/in/é", 5, 1 << 40, 77, "text", "é"), Split("/b", 0, 0, 0, "csv"))
    spec = TaskSpec(AttemptId("j", 0, 70_000, 3), STAGES[0], splits=splits)
    order = over_the_wire(convert.launch_order("w#1-1", spec, {}))
    assert order.launch.slot == "w#1-1"
    assert convert.launch_spec(order.launch, spec.attempt, STAGES[0], "", "") == spec


def test_a_launch_on_blocks_names_their_keepers_once() -> None:
    blocks = (
        BlockInfo("/a", (SegmentInfo(0, 10, 1, 5), SegmentInfo(10, 1 << 33, 2, 0xFFFFFFFF)), "w#2"),
        BlockInfo("/shared", (SegmentInfo(0, 1, 1, 1), SegmentInfo(0, 0, 0, 0))),
        BlockInfo("/c", (SegmentInfo(0, 1, 1, 1), SegmentInfo(1, 3, 1, 9)), "w#2"),
        BlockInfo("/d", (SegmentInfo(0, 1, 1, 1), SegmentInfo(2, 4, 1, 9)), "gone#1"),
    )
    sources = {"w#2": BlockSource("w#2", "host:99", "m2"), "w#3": BlockSource("w#3", "other:1", "m3")}
    spec = TaskSpec(AttemptId("j", 1, 1, 1), STAGES[1], blocks=blocks, partition=1)
    order = over_the_wire(convert.launch_order("s", spec, sources))
    got = convert.launch_spec(order.launch, spec.attempt, STAGES[1], "/dir/jobs/j", "m1")
    assert got.partition == 0
    assert got.blocks == tuple(BlockInfo(block.path, (block.segments[1],), block.worker) for block in blocks)
    assert got.sources == (sources["w#2"], BlockSource("gone#1", "", ""))
    assert (got.folder, got.machine) == ("/dir/jobs/j", "m1")


def test_a_job_comes_back_with_what_the_worker_adds() -> None:
    job = JobSpec(
        job="j",
        code=b"",
        import_paths=("/src", "/lib"),
        staging="/out/.stage",
        folder="/coordinators",
        memory_bytes=1,
        max_bad_records=3,
        max_record_bytes=1 << 26,
        task_timeout_seconds=1.5,
        epoch=2,
        bundles=("abc",),
        ticket="secret",
        shuffle_dir="s3://b/x",
        inputs=(("/in/a", 5), ("/in/b", 0)),
        broadcasts=("def",),
        driver=True,
    )
    message = convert.job_message(job, "sha", "/out/.stage/probe", "text")
    heard = pb.AddJob.FromString(message.SerializeToString())
    got = convert.job_spec(heard, b"code", ["/blobs/abc"], ["/blobs/def"], "/mine", 99)
    assert (got.code, got.bundles, got.folder, got.memory_bytes) == (b"code", ("/blobs/abc",), "/mine", 99)
    for name in ("job", "import_paths", "staging", "max_bad_records", "max_record_bytes", "epoch", "ticket", "driver"):
        assert getattr(got, name) == getattr(job, name)
    assert got.broadcasts == ("/blobs/def",)
    assert (got.task_timeout_seconds, got.shuffle_dir) == (1.5, "s3://b/x")
    assert [(file.path, file.size_bytes) for file in message.inputs] == list(job.inputs)


def test_results_and_reports_come_back() -> None:
    report = FailureReport("UserCodeError", "x", (Frame("f.py", 3, "m", "1/0"),), details={"peak": 3, "why": "ü"})
    result = TaskResult(
        records_in=4,
        counters={"g": {"n": 2}},
        last_bad=report,
        block=BlockInfo("/b", (SegmentInfo(0, 1, 2, 3),)),
        parts=(PartFile("s", "f", 1, 2),),
        seconds=0.25,
        accumulated={"a": 3, "b": 0.1},
    )
    assert result_of(json.loads(convert.json_bytes(result))) == result
    assert FailureReport.from_json(json.loads(convert.json_bytes(report))) == report
