"""A stage plan as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from gristmill.plan.stages import (
    OutputSink,
    Reads,
    RowsSink,
    Sink,
    Source,
    SplitSource,
    Stage,
    StagePlan,
    branch_counts,
)

_READS = {
    Reads.PARTITION: "the groups of one partition of stage {}",
    Reads.TASK: "the records of one task of stage {}",
    Reads.ALL: "all records of stage {}",
}


def explain(plan: StagePlan, *, inputs: Sequence[int] | None = None, names: Sequence[str] = ()) -> str:
    """One block of lines a stage, in the order in which they run, with what was adapted and why.

    Args:
        plan: what to describe.
        inputs: how many tasks read each of the job's inputs, if that is known already.
        names: of the job's inputs, for people.
    """
    names = names or _numbered(plan, len(inputs or ""))
    counts = None if inputs is None else branch_counts(plan, tuple(inputs))
    return "\n".join(
        "\n".join(
            [
                *_explain_stage(stage, None if counts is None else sum(counts[stage.id]), names),
                *(f"  adapted: {text}" for text in _notes_of(plan, stage)),
            ]
        )
        for stage in plan.in_order
    )


def _numbered(plan: StagePlan, inputs: int) -> list[str]:
    """Names of inputs that have none."""
    sources = (source for stage in plan.stages for source in stage.sources if isinstance(source, SplitSource))
    last = max((source.input for source in sources), default=0)
    return ["the input", *(f"input {number}" for number in range(1, max(last + 1, inputs)))]


def _notes_of(plan: StagePlan, stage: Stage) -> list[str]:
    """What was adapted of a stage, and why."""
    prefix = f"stage {stage.id} ({stage.name}): "
    return [note.removeprefix(prefix) for note in plan.notes if note.startswith(prefix)]


def _explain_stage(stage: Stage, tasks: int | None, names: Sequence[str]) -> list[str]:
    count = "" if tasks is None else f", {tasks} task{'' if tasks == 1 else 's'}"
    lines = [f"stage {stage.id}: {stage.name}{count}"]
    for branch in stage.branches:
        verbs = ["read  ", *["with  "] * len(branch.sources)]
        if len(stage.branches) > 1 and branch is not stage.branches[0]:
            verbs[0] = "and   "
        lines += [f"  {verb} {_source(source, names)}" for verb, source in zip(verbs, branch.sources, strict=False)]
    return [*lines, f"  write  {_sink(stage.sink)}"]


def _source(source: Source, names: Sequence[str]) -> str:
    if isinstance(source, SplitSource):
        return f"splits of {names[source.input]}"
    return _READS[source.reads].format(source.parent)


def _sink(sink: Sink) -> str:
    if isinstance(sink, OutputSink):
        return f"output, {sink.format}, part-{sink.letter}-*"
    if isinstance(sink, RowsSink):
        return "records in their order" + (", kept by the session" if sink.kept else "")
    combined = "combined, " if sink.combine else ""
    number = f" {sink.partitions}" if sink.partitions else ""
    return f"shuffle to{number} partition{'' if sink.partitions == 1 else 's'}, {combined}sorted by key"
