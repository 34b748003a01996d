"""Between the messages of ``agents.proto`` and the contracts of the runtime, both ways."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from gristmill.errors import FailureReport
from gristmill.plan.stages import MapOp, OutputSink, ReduceOp, ShuffleSink, ShuffleSource, SplitSource, Stage
from gristmill.runtime.contracts import JobSpec, TaskResult, TaskSpec
from gristmill.runtime.protocol import agents as pb
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, BlockSource, SegmentInfo
from gristmill.storage.contracts import Split


def attempt_message(attempt: AttemptId) -> pb.Attempt:
    """An attempt's id as it travels."""
    return pb.Attempt(job=attempt.job, stage=attempt.stage, index=attempt.index, number=attempt.number)


def attempt_id(message: pb.Attempt) -> AttemptId:
    """The inverse of :func:`attempt_message`."""
    return AttemptId(message.job, message.stage, message.index, message.number)


def json_bytes(value: TaskResult | FailureReport) -> bytes:
    """A result or a report as it travels."""
    return json.dumps(value, default=vars, separators=(",", ":")).encode()


def job_message(job: JobSpec, code: str, probe: str, probe_text: str) -> pb.AddJob:
    """A job as workers are told of it: all but the code, which they fetch by its SHA-256."""
    return pb.AddJob(
        job=job.job,
        code=code,
        import_paths=job.import_paths,
        bundles=job.bundles,
        staging=job.staging,
        max_bad_records=job.max_bad_records,
        max_record_bytes=job.max_record_bytes,
        task_timeout_seconds=job.task_timeout_seconds or 0.0,
        epoch=job.epoch,
        ticket=job.ticket,
        shuffle_dir=job.shuffle_dir,
        inputs=[pb.File(path=path, size_bytes=size) for path, size in job.inputs],
        probe=probe,
        probe_text=probe_text,
    )


def job_spec(message: pb.AddJob, code: bytes, bundles: Sequence[str], folder: str, memory_bytes: int) -> JobSpec:
    """The job for this worker's executors.

    Args:
        message: what the coordinator said.
        code: what was fetched.
        bundles: where this worker keeps them.
        folder: where its attempts write.
        memory_bytes: of one executor here.
    """
    return JobSpec(
        job=message.job,
        code=code,
        import_paths=tuple(message.import_paths),
        staging=message.staging,
        folder=folder,
        memory_bytes=memory_bytes,
        max_bad_records=message.max_bad_records,
        max_record_bytes=message.max_record_bytes,
        task_timeout_seconds=message.task_timeout_seconds or None,
        epoch=message.epoch,
        bundles=tuple(bundles),
        ticket=message.ticket,
        shuffle_dir=message.shuffle_dir,
    )


def stage_message(job: str, stage: Stage) -> pb.AddStage:
    """A stage of a job as it travels."""
    message = pb.AddStage(job=job, id=stage.id, name=stage.name)
    if isinstance(stage.source, ShuffleSource):
        source = stage.source
        message.shuffle_source.CopyFrom(
            pb.ShuffleSource(parent=source.parent, step=source.step, combine=source.combine)
        )
    for op in stage.ops:
        kind = pb.Operator.MAP if isinstance(op, MapOp) else pb.Operator.REDUCE
        message.operators.append(pb.Operator(kind=kind, step=op.step))
    sink = stage.sink
    if isinstance(sink, ShuffleSink):
        message.shuffle_sink.CopyFrom(pb.ShuffleSink(step=sink.step, partitions=sink.partitions, combine=sink.combine))
    else:
        message.output_sink.CopyFrom(pb.OutputSink(format=sink.format, letter=sink.letter))
    return message


def stage_of(message: pb.AddStage) -> Stage:
    """The inverse of :func:`stage_message`."""
    read, wrote, part = message.shuffle_source, message.shuffle_sink, message.output_sink
    reads = message.HasField("shuffle_source")
    keeps = message.WhichOneof("sink") == "shuffle_sink"
    return Stage(
        id=message.id,
        source=ShuffleSource(read.parent, read.step, read.combine) if reads else SplitSource(),
        ops=tuple(MapOp(op.step) if op.kind == pb.Operator.MAP else ReduceOp(op.step) for op in message.operators),
        sink=(
            ShuffleSink(wrote.step, wrote.partitions, wrote.combine) if keeps else OutputSink(part.format, part.letter)
        ),
        name=message.name,
    )


def launch_order(slot: str, spec: TaskSpec, sources: Mapping[str, BlockSource]) -> pb.Order:
    """The order to run an attempt, whose stage was sent before.

    Args:
        slot: where to run it.
        spec: what to do.
        sources: where the blocks of each worker are; the workers named by the attempt's blocks are picked out.
    """
    order = pb.Order()
    launch = order.launch
    launch.slot = slot
    launch.attempt.CopyFrom(attempt_message(spec.attempt))
    for split in spec.splits:
        launch.splits.add(
            path=split.path,
            start=split.start,
            length=split.length,
            size_bytes=split.size_bytes,
            format=split.format,
            name=split.name,
        )
    if spec.blocks:
        keepers = list(dict.fromkeys(block.worker for block in spec.blocks if block.worker))
        places = {"": 0, **{worker: place for place, worker in enumerate(keepers, 1)}}
        _fill_blocks(launch.blocks, spec.blocks, places, spec.partition)
        nowhere = BlockSource("", "", "")  # of a worker that is gone: its blocks cannot be read, and that is reported
        for worker in keepers:
            source = sources.get(worker, nowhere)
            launch.sources.add(worker=worker, flight=source.address, machine=source.machine)
    return order


def _fill_blocks(columns: pb.Blocks, blocks: Sequence[BlockInfo], places: Mapping[str, int], partition: int) -> None:
    segments = [block.segments[partition] for block in blocks]
    columns.path.extend([block.path for block in blocks])
    columns.worker.extend([places[block.worker] for block in blocks])
    columns.offset.extend([segment.offset for segment in segments])
    columns.length.extend([segment.length for segment in segments])
    columns.rows.extend([segment.rows for segment in segments])
    columns.crc32.extend([segment.crc32 for segment in segments])


def launch_spec(message: pb.Launch, stage: Stage, folder: str, machine: str) -> TaskSpec:
    """The inverse of :func:`launch_order`, for a worker that sees ``machine`` and runs the attempt in ``folder``."""
    sources = tuple(BlockSource(source.worker, source.flight, source.machine) for source in message.sources)
    keepers = ("", *(source.worker for source in sources))
    columns = message.blocks
    segments = map(SegmentInfo, columns.offset, columns.length, columns.rows, columns.crc32)
    return TaskSpec(
        attempt=attempt_id(message.attempt),
        stage=stage,
        splits=tuple(
            Split(split.path, split.start, split.length, split.size_bytes, split.format, split.name)
            for split in message.splits
        ),
        blocks=tuple(
            BlockInfo(path, (segment,), keepers[place])
            for path, segment, place in zip(columns.path, segments, columns.worker, strict=True)
        ),
        folder=folder,
        sources=sources,
        machine=machine,
    )
