"""A stage plan as text for people."""

from __future__ import annotations

from gristmill.plan.build import partitions_read
from gristmill.plan.stages import OutputSink, ShuffleSource, SplitSource, Stage, StagePlan


def explain(plan: StagePlan, *, map_tasks: int | None = None) -> str:
    """One block of lines a stage, in the order in which they run.

    Args:
        plan: what to describe.
        map_tasks: how many tasks read the input, if that is known already.
    """
    return "\n".join(_explain_stage(plan, stage, map_tasks) for stage in plan.stages)


def _explain_stage(plan: StagePlan, stage: Stage, map_tasks: int | None) -> str:
    tasks = _task_count(plan, stage, map_tasks)
    count = "" if tasks is None else f", {tasks} task{'' if tasks == 1 else 's'}"
    lines = [f"stage {stage.id}: {stage.name}{count}", f"  read   {_source(stage.source)}", f"  write  {_sink(stage)}"]
    return "\n".join(lines)


def _task_count(plan: StagePlan, stage: Stage, map_tasks: int | None) -> int | None:
    if isinstance(stage.source, SplitSource):
        return map_tasks
    return partitions_read(plan, stage)


def _source(source: SplitSource | ShuffleSource) -> str:
    if isinstance(source, SplitSource):
        return "splits of the input"
    return f"the groups of one partition of stage {source.parent}"


def _sink(stage: Stage) -> str:
    sink = stage.sink
    if isinstance(sink, OutputSink):
        return f"output, {sink.format}, part-{sink.letter}-*"
    combined = "combined, " if sink.combine else ""
    return f"shuffle to {sink.partitions} partition{'' if sink.partitions == 1 else 's'}, {combined}sorted by key"
