"""Between the messages of ``agents.proto`` and the contracts of the runtime, both ways."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from gristmill.errors import FailureReport
from gristmill.plan.stages import (
    Branch,
    MapOp,
    MergeOp,
    Op,
    OutputSink,
    ProgramOp,
    Reads,
    ReduceOp,
    RowsSink,
    ShuffleSink,
    ShuffleSource,
    Sink,
    Source,
    SplitSource,
    Stage,
)
from gristmill.runtime.contracts import JobSpec, TaskResult, TaskSpec
from gristmill.runtime.protocol import agents as pb
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, BlockSource, SegmentInfo
from gristmill.storage.contracts import Split

_encode = json.JSONEncoder(default=vars, separators=(",", ":")).encode  # made once: results are many


def attempt_message(attempt: AttemptId) -> pb.Attempt:
    """An attempt's id as it travels."""
    message = pb.Attempt()
    fill_attempt(message, attempt)
    return message


def fill_attempt(message: pb.Attempt, attempt: AttemptId) -> None:
    """Put an attempt's id into a message that is part of another: to make it apart takes several times as long."""
    message.job, message.stage, message.index, message.number = attempt


def attempt_id(message: pb.Attempt) -> AttemptId:
    """The inverse of :func:`attempt_message`."""
    return AttemptId(message.job, message.stage, message.index, message.number)


def json_bytes(value: TaskResult | FailureReport) -> bytes:
    """A result or a report as it travels."""
    return _encode(value.to_json()).encode()


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
        session=job.session,
        session_ticket=job.session_ticket,
        broadcasts=job.broadcasts,
        driver=job.driver,
    )


def job_spec(
    message: pb.AddJob, code: bytes, bundles: Sequence[str], broadcasts: Sequence[str], folder: str, memory_bytes: int
) -> JobSpec:
    """The job for this worker's executors.

    Args:
        message: what the coordinator said.
        code: what was fetched.
        bundles: where this worker keeps them.
        broadcasts: likewise.
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
        session=message.session,
        session_ticket=message.session_ticket,
        broadcasts=tuple(broadcasts),
        driver=message.driver,
    )


def stage_message(job: str, stage: Stage) -> pb.AddStage:
    """A stage of a job as it travels."""
    message = pb.AddStage(job=job, id=stage.id, name=stage.name)
    for branch in stage.branches:
        sources, operators = map(_source_message, branch.sources), map(_op_message, branch.ops)
        message.branches.append(pb.Branch(sources=sources, operators=operators))
    match stage.sink:
        case ShuffleSink(step, partitions, combine):
            message.shuffle_sink.CopyFrom(pb.ShuffleSink(step=step, partitions=partitions, combine=combine))
        case RowsSink(kept):
            message.rows_sink.CopyFrom(pb.RowsSink(kept=kept))
        case OutputSink(format, letter, options):
            message.output_sink.CopyFrom(pb.OutputSink(format=format, letter=letter, options=_options(options)))
    return message


def stage_of(message: pb.AddStage) -> Stage:
    """The inverse of :func:`stage_message`."""
    branches = tuple(
        Branch(tuple(map(_source_of, branch.sources)), tuple(_OPS[op.kind](op.step) for op in branch.operators))
        for branch in message.branches
    )
    return Stage(message.id, branches, _sink_of(message), message.name)


_OPS: Mapping[int, type[MapOp] | type[ReduceOp] | type[ProgramOp] | type[MergeOp]] = {
    pb.Operator.MAP: MapOp,
    pb.Operator.REDUCE: ReduceOp,
    pb.Operator.PROGRAM: ProgramOp,
    pb.Operator.MERGE: MergeOp,
}


def _source_message(source: Source) -> pb.BranchSource:
    if isinstance(source, SplitSource):
        return pb.BranchSource(input=source.input)
    shuffle = pb.ShuffleSource(parent=source.parent, step=source.step, combine=source.combine, reads=source.reads.name)
    return pb.BranchSource(shuffle=shuffle)


def _source_of(message: pb.BranchSource) -> Source:
    if message.WhichOneof("source") == "input":
        return SplitSource(message.input)
    shuffle = message.shuffle
    return ShuffleSource(
        shuffle.parent, shuffle.step, shuffle.combine, Reads[pb.ShuffleSource.Reads.Name(shuffle.reads)]
    )


def _op_message(op: Op) -> pb.Operator:
    match op:
        case MapOp(step):
            return pb.Operator(kind=pb.Operator.MAP, step=step)
        case ReduceOp(step):
            return pb.Operator(kind=pb.Operator.REDUCE, step=step)
        case ProgramOp(program):
            return pb.Operator(kind=pb.Operator.PROGRAM, step=program)
        case MergeOp(step):
            return pb.Operator(kind=pb.Operator.MERGE, step=step)


def _sink_of(message: pb.AddStage) -> Sink:
    match message.WhichOneof("sink"):
        case "shuffle_sink":
            wrote = message.shuffle_sink
            return ShuffleSink(wrote.step, wrote.partitions, wrote.combine)
        case "rows_sink":
            return RowsSink(message.rows_sink.kept)
        case _:
            part = message.output_sink
            return OutputSink(part.format, part.letter, _pairs(part.options))


def _options(pairs: Sequence[tuple[str, str]]) -> list[pb.Option]:
    return [pb.Option(name=name, value=value) for name, value in pairs]


def _pairs(options: Iterable[pb.Option]) -> tuple[tuple[str, str], ...]:
    return tuple([(option.name, option.value) for option in options])


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
    fill_attempt(launch.attempt, spec.attempt)
    for split in spec.splits:
        launch.splits.add(
            path=split.path,
            start=split.start,
            length=split.length,
            size_bytes=split.size_bytes,
            format=split.format,
            name=split.name,
            options=_options(split.options),
        )
    if spec.blocks:
        keepers = list(dict.fromkeys(block.worker for block in spec.blocks if block.worker))
        places = {"": 0, **{worker: place for place, worker in enumerate(keepers, 1)}}
        _fill_blocks(launch.blocks, spec.blocks, places, spec.partition)
        nowhere = BlockSource("", "", "")  # of a worker that is gone: its blocks cannot be read, and that is reported
        for worker in keepers:
            source = sources.get(worker, nowhere)
            launch.sources.add(worker=worker, flight=source.address, machine=source.machine)
    if spec.branch or spec.tasks or spec.counts or spec.turns:
        launch.branch, launch.tasks, launch.part, launch.before = spec.branch, spec.tasks, spec.part, spec.before
        launch.counts.extend(spec.counts)
        launch.turns.extend(spec.turns)
    return order


def _fill_blocks(columns: pb.Blocks, blocks: Sequence[BlockInfo], places: Mapping[str, int], partition: int) -> None:
    segments = [block.segments[partition] for block in blocks]
    columns.path.extend([block.path for block in blocks])
    columns.worker.extend([places[block.worker] for block in blocks])
    columns.offset.extend([segment.offset for segment in segments])
    columns.length.extend([segment.length for segment in segments])
    columns.rows.extend([segment.rows for segment in segments])
    columns.crc32.extend([segment.crc32 for segment in segments])


_MEAGRE = 2  # fields of a launch: the slot and the attempt


def launch_spec(message: pb.Launch, attempt: AttemptId, stage: Stage, folder: str, machine: str) -> TaskSpec:
    """The inverse of :func:`launch_order`, for a worker that sees ``machine`` and runs the attempt in ``folder``."""
    spec = TaskSpec(attempt, stage, (), (), 0, folder, (), machine)
    if len(message.ListFields()) == _MEAGRE:
        return spec  # as the launches of many short tasks are; to ask for each field takes as long as all the rest
    if message.splits:
        spec.splits = tuple(map(_split_of, message.splits))
    if message.HasField("blocks"):
        spec.sources = tuple([BlockSource(one.worker, one.flight, one.machine) for one in message.sources])
        keepers = ("", *(source.worker for source in spec.sources))
        columns = message.blocks
        segments = map(SegmentInfo, columns.offset, columns.length, columns.rows, columns.crc32)
        spec.blocks = tuple(
            BlockInfo(path, (segment,), keepers[place])
            for path, segment, place in zip(columns.path, segments, columns.worker, strict=True)
        )
    spec.branch, spec.tasks, spec.part, spec.before = message.branch, message.tasks, message.part, message.before
    spec.counts, spec.turns = tuple(message.counts), tuple(message.turns)
    return spec


def _split_of(split: pb.Split) -> Split:
    return Split(
        path=split.path,
        start=split.start,
        length=split.length,
        size_bytes=split.size_bytes,
        format=split.format,
        name=split.name,
        options=_pairs(split.options),
    )
