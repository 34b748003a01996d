"""A plan as values that ``json.dumps`` takes, and back: for the journal, and for the way to a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gristmill.plan.stages import (
    Branch,
    InputSpec,
    Instead,
    MapOp,
    OutputSink,
    ProgramOp,
    Reads,
    ReduceOp,
    RowsSink,
    ShuffleSink,
    ShuffleSource,
    SplitSource,
    Stage,
    StagePlan,
)

_PARTS: dict[str, Any] = {
    cls.__name__: cls
    for cls in (SplitSource, ShuffleSource, MapOp, ReduceOp, ProgramOp, ShuffleSink, RowsSink, OutputSink)
}


def plan_to_json(plan: StagePlan) -> list[Any]:
    """A plan as plain values, as it was made: what ``plan.adapt`` has decided since is noted by itself."""
    return [
        {
            "name": stage.name,
            "branches": list(map(_branch, stage.branches)),
            "instead": [[one.streamed, one.whole, list(map(_branch, one.branches))] for one in stage.instead],
            "sink": _part(stage.sink),
        }
        for stage in plan.stages
    ]


def plan_from_json(data: Sequence[Any]) -> StagePlan:
    """The inverse of :func:`plan_to_json`.

    Raises:
        KeyError, TypeError, ValueError: it is no plan.
    """
    return StagePlan(
        tuple(
            Stage(
                number,
                tuple(map(_branch_of, stage["branches"])),
                _part_of(stage["sink"]),
                str(stage["name"]),
                tuple(
                    Instead(streamed, whole, tuple(map(_branch_of, branches)))
                    for streamed, whole, branches in stage.get("instead", ())
                ),
            )
            for number, stage in enumerate(data)
        )
    )


def inputs_to_json(inputs: Sequence[InputSpec]) -> list[Any]:
    """The inputs of a job as plain values."""
    return [vars(input) for input in inputs]


def inputs_from_json(data: Sequence[Any]) -> tuple[InputSpec, ...]:
    """The inverse of :func:`inputs_to_json`.

    Raises:
        TypeError, ValueError: these are no inputs.
    """
    return tuple(InputSpec(**{str(name): tupled(value) for name, value in fields.items()}) for fields in data)


def tupled(value: Any) -> Any:
    """The same with tuples for lists: JSON does not tell them apart."""
    return tuple(map(tupled, value)) if isinstance(value, list) else value


def _part(value: Any) -> list[Any]:
    return [type(value).__name__, vars(value)]


def _part_of(value: Any) -> Any:
    name, fields = value
    return _PARTS[name](**{key: Reads(field) if key == "reads" else tupled(field) for key, field in fields.items()})


def _branch(branch: Branch) -> list[Any]:
    return [list(map(_part, branch.sources)), list(map(_part, branch.ops)), list(branch.splits)]


def _branch_of(value: Any) -> Branch:
    sources, ops, *splits = value
    return Branch(tuple(map(_part_of, sources)), tuple(map(_part_of, ops)), *map(tuple, splits))
