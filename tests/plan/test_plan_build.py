"""Steps in, stages out: a table."""

from __future__ import annotations

from typing import Any

import pytest

from gristmill.errors import UsageError
from gristmill.plan.build import StepShape, build_plan, shapes_of
from gristmill.plan.explain import explain
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
    branch_counts,
)

MAP_ONLY = StepShape(reduces=False)
REDUCE = StepShape(reduces=True)
COMBINE = StepShape(reduces=True, combines=True)
OUT_M, OUT_R = OutputSink("text", "m"), OutputSink("text", "r")


def build(*steps: StepShape, combiner: bool = True) -> tuple[Stage, ...]:
    return build_plan(steps, reducers=3, output_format="text", combiner=combiner).stages


def test_map_only_is_one_stage_and_its_parts_are_m() -> None:
    assert build(MAP_ONLY) == (Stage(0, (Branch((SplitSource(),), (MapOp(0),)),), OUT_M, "map"),)


def test_map_reduce_is_two_stages() -> None:
    assert build(REDUCE) == (
        Stage(0, (Branch((SplitSource(),), (MapOp(0),)),), ShuffleSink(0, 3, combine=False), "map"),
        Stage(1, (Branch((ShuffleSource(0, step=0, combine=False),), (ReduceOp(0),)),), OUT_R, "reduce"),
    )


@pytest.mark.parametrize(("combiner", "expected"), [(True, True), (False, False)])
def test_a_combiner_runs_unless_switched_off(combiner: bool, expected: bool) -> None:
    first, second = build(COMBINE, combiner=combiner)
    assert first.sink == ShuffleSink(0, 3, combine=expected)
    assert second.sources == (ShuffleSource(0, step=0, combine=expected),)


def test_map_only_steps_are_fused() -> None:
    assert build(MAP_ONLY, MAP_ONLY) == (
        Stage(0, (Branch((SplitSource(),), (MapOp(0), MapOp(1))),), OUT_M, "map 1 + map 2"),
    )


def test_a_map_only_step_is_fused_with_the_next_map() -> None:
    assert build(MAP_ONLY, COMBINE) == (
        Stage(0, (Branch((SplitSource(),), (MapOp(0), MapOp(1))),), ShuffleSink(1, 3, combine=True), "map 1 + map 2"),
        Stage(1, (Branch((ShuffleSource(0, step=1, combine=True),), (ReduceOp(1),)),), OUT_R, "reduce 2"),
    )


def test_a_reducer_and_the_next_map_run_in_one_stage() -> None:
    assert build(REDUCE, COMBINE) == (
        Stage(0, (Branch((SplitSource(),), (MapOp(0),)),), ShuffleSink(0, 3, combine=False), "map 1"),
        Stage(
            1,
            (Branch((ShuffleSource(0, step=0, combine=False),), (ReduceOp(0), MapOp(1))),),
            ShuffleSink(1, 3, combine=True),
            "reduce 1 + map 2",
        ),
        Stage(2, (Branch((ShuffleSource(1, step=1, combine=True),), (ReduceOp(1),)),), OUT_R, "reduce 2"),
    )


def test_a_last_map_only_step_is_fused_with_the_reducer_and_its_parts_are_r() -> None:
    last = build(REDUCE, MAP_ONLY)[-1]
    assert last == Stage(
        1, (Branch((ShuffleSource(0, step=0, combine=False),), (ReduceOp(0), MapOp(1))),), OUT_R, "reduce 1 + map 2"
    )


def test_a_reader_has_as_many_tasks_as_its_parent_has_partitions() -> None:
    plan = StagePlan(build(REDUCE))
    assert branch_counts(plan, (2,)) == ((2,), (3,))


def nothing(*_: Any) -> Any:
    return None


def test_shapes() -> None:
    steps = (StepFunctions(mapper=nothing), StepFunctions(combiner=nothing, reducer=nothing))
    assert shapes_of(steps) == (MAP_ONLY, COMBINE)


@pytest.mark.parametrize("role", ["combiner", "partitioner", "reducer_init", "reducer_final"])
def test_what_nothing_would_call_is_refused(role: str) -> None:
    with pytest.raises(UsageError, match=f"Step 2 has a {role} but no reducer"):
        shapes_of((StepFunctions(), StepFunctions(**{role: nothing})))


def test_no_steps_are_refused() -> None:
    with pytest.raises(UsageError, match="no steps"):
        shapes_of(())


def test_explain() -> None:
    plan = build_plan((REDUCE, COMBINE), reducers=1, output_format="jsonl")
    assert explain(plan, inputs=(4,)) == (
        "stage 0: map 1, 4 tasks\n"
        "  read   splits of the input\n"
        "  write  shuffle to 1 partition, sorted by key\n"
        "stage 1: reduce 1 + map 2, 1 task\n"
        "  read   the groups of one partition of stage 0\n"
        "  write  shuffle to 1 partition, combined, sorted by key\n"
        "stage 2: reduce 2, 1 task\n"
        "  read   the groups of one partition of stage 1\n"
        "  write  output, jsonl, part-r-*"
    )
    assert explain(plan).startswith("stage 0: map 1\n")
