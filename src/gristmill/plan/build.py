"""From a job's steps to its stages: a plan is cut at every shuffle, and everything between two cuts runs in one task.

Pure: only which functions a step has matters here, not what they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gristmill.errors import UsageError
from gristmill.plan.functions import StepFunctions
from gristmill.plan.stages import (
    Branch,
    MapOp,
    OutputSink,
    ReduceOp,
    ShuffleSink,
    ShuffleSource,
    SplitSource,
    Stage,
    StagePlan,
)


@dataclass(frozen=True)
class StepShape:
    """What the planner needs to know of one step."""

    reduces: bool  # has a reducer, hence a shuffle before it
    combines: bool = False

    @classmethod
    def of(cls, step: StepFunctions, place: int) -> StepShape:
        """The shape of a step's functions.

        Args:
            step: the functions.
            place: the step's number, from 1, for messages.

        Raises:
            UsageError: a function is given that would never be called.
        """
        if step.reducer is None:
            for role in ("combiner", "partitioner", "reducer_init", "reducer_final"):
                if getattr(step, role) is not None:
                    raise UsageError(
                        f"Step {place} has a {role} but no reducer, so nothing would call it. Add a reducer, or "
                        f"remove the {role}."
                    )
        return cls(reduces=step.reducer is not None, combines=step.combiner is not None)


def shapes_of(steps: Sequence[StepFunctions]) -> tuple[StepShape, ...]:
    """The shapes of all steps.

    Raises:
        UsageError: there is no step, or one holds a function that nothing would call.
    """
    if not steps:
        raise UsageError("The job has no steps. A job needs at least one mapper or reducer.")
    return tuple(StepShape.of(step, place) for place, step in enumerate(steps, start=1))


def build_plan(
    steps: Sequence[StepShape], *, reducers: int = 0, output_format: str, combiner: bool = True
) -> StagePlan:
    """Cut a job's steps into stages.

    A step without reducer needs no shuffle, so the next step's mapper runs in the same task; likewise what follows a
    reducer up to the next shuffle runs where that reducer runs.

    Args:
        steps: the steps in order, at least one.
        reducers: partitions of every shuffle; 0 until the size of the input is known.
        output_format: what the last stage writes.
        combiner: False to leave out all combiners.
    """
    stages: list[Stage] = []
    source: SplitSource | ShuffleSource = SplitSource()
    ops: list[MapOp | ReduceOp] = []

    def close_stage(sink: ShuffleSink | OutputSink) -> None:
        branch = Branch((source,), tuple(ops))
        stages.append(Stage(len(stages), (branch,), sink, _name(ops, numbered=len(steps) > 1)))
        ops.clear()

    for number, step in enumerate(steps):
        ops.append(MapOp(number))
        if step.reduces:
            combine = combiner and step.combines
            close_stage(ShuffleSink(number, reducers, combine))
            source = ShuffleSource(len(stages) - 1, number, combine)
            ops.append(ReduceOp(number))
    # What follows a reducer is written once for each reduce task, hence its letter.
    close_stage(OutputSink(output_format, "m" if isinstance(source, SplitSource) else "r"))
    return StagePlan(tuple(stages))


def _name(ops: Sequence[MapOp | ReduceOp], *, numbered: bool) -> str:
    verbs = ("reduce" if isinstance(op, ReduceOp) else "map" for op in ops)
    if not numbered:
        return " + ".join(verbs)
    return " + ".join(f"{verb} {op.step + 1}" for verb, op in zip(verbs, ops, strict=True))
