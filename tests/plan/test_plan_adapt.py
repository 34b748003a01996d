"""How stages are cut by what was measured: by tables, and by Hypothesis for what must hold of every decision."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.plan.adapt import Limits, Sizes, adapt, carry_out, fits, may_adapt, ranges_of
from gristmill.plan.build import StepShape, build_plan
from gristmill.plan.decision import Decision
from gristmill.plan.encoding import plan_from_json, plan_to_json
from gristmill.plan.explain import explain
from gristmill.plan.stages import (
    Branch,
    MergeOp,
    OutputSink,
    ProgramOp,
    Reads,
    RowsSink,
    ShuffleSink,
    ShuffleSource,
    Sink,
    Slice,
    SplitSource,
    Stage,
    StagePlan,
    Turn,
    branch_counts,
    part_counts,
)

LIMITS = Limits(merged_bytes=100, least_tasks=2, skewed_bytes=200, skewed_times=4, piece_bytes=100, most_pieces=8)
Made = Sequence[Sequence[int]]  # of each task of a stage: the bytes of each partition


def a_plan(
    partitions: int,
    *,
    sides: int = 1,
    free: bool = True,
    combine: bool = False,
    splits: tuple[int, ...] = (),
    sink: Sink | None = None,
) -> StagePlan:
    """Map stages, one for each side, and a last stage that reads them all."""
    maps = [
        Stage(
            n,
            (Branch((SplitSource(n),), (ProgramOp(n),)),),
            ShuffleSink(n, partitions, combine, free),
            f"map {n}",
        )
        for n in range(sides)
    ]
    sources = tuple(ShuffleSource(n, n, combine) for n in range(sides))
    last = Branch(sources, (ProgramOp(sides),), splits)
    return StagePlan((*maps, Stage(sides, (last,), sink or RowsSink("result"), "reduce")))


def sizes_of(*made: Made) -> Sizes:
    """What each of some stages has made."""
    return Sizes(
        lambda stage: [sum(each) for each in zip(*made[stage], strict=True)], lambda s, p: [m[p] for m in made[s]]
    )


def decided(plan: StagePlan, *made: Made, limits: Limits = LIMITS) -> StagePlan:
    """The plan once its last stage is cut."""
    last = plan.last
    return carry_out(plan, last.id, adapt(plan, last, sizes_of(*made), limits))


def turns_of(plan: StagePlan) -> list[list[object]]:
    """Of each task of the last stage: the parts that it reads, each with its slices (source, stage, begin, end)."""

    def shown(turn: Turn) -> object:
        slices = [(one.source, one.stage, one.begin, one.end) for one in turn.slices]
        return (turn.part, *slices) if slices else turn.part

    return [[shown(turn) for turn in task] for task in plan.last.branches[0].turns]


# Tables


def test_small_neighbours_are_merged_up_to_a_limit_in_order() -> None:
    plan = decided(a_plan(6), [[30, 30, 60, 10, 90, 20]])
    assert turns_of(plan) == [[0, 1], [2, 3], [4], [5]]
    assert ranges_of(plan.last) == ((0, 2), (2, 4), (4, 5), (5, 6))
    assert plan.notes == ("stage 1 (reduce): 6 partitions are read by 4 tasks: small neighbours are merged",)
    assert branch_counts(plan, (3,)) == ((3,), (4,))
    assert part_counts(plan, (3,)) == ((3,), (6,))


def test_not_to_fewer_tasks_than_the_least() -> None:
    assert turns_of(decided(a_plan(6), [[1, 1, 1, 1, 1, 1]])) == [[0, 1, 2], [3, 4, 5]]
    assert turns_of(decided(a_plan(2), [[1, 1]])) == []
    assert turns_of(decided(a_plan(5), [[0, 0, 0, 0, 9]])) == [[0, 1, 2, 3], [4]]


def test_large_partitions_stay_alone() -> None:
    plan = decided(a_plan(4), [[150, 150, 150, 150]])
    assert (plan.last.branches[0].turns, plan.notes, plan.last.settled) == ((), (), True)


def test_the_sides_of_a_join_are_merged_by_their_sum() -> None:
    assert turns_of(decided(a_plan(4, sides=2), [[40, 10, 40, 40]], [[40, 0, 70, 40]])) == [[0, 1], [2], [3]]


def test_partitions_that_the_user_chose_stay() -> None:
    plan = a_plan(6, free=False)
    assert not may_adapt(plan, plan.last)


def test_a_skewed_side_of_a_join_is_divided_by_the_tasks_that_made_it() -> None:
    left = [[10, 90, 10], [10, 90, 10], [10, 90, 10], [10, 90, 10]]
    plan = decided(a_plan(3, sides=2, splits=(0, 1)), left, [[5, 5, 5]])
    assert turns_of(plan) == [
        [0],
        [(1, (0, 0, 0, 1))],
        [(1, (0, 0, 1, 2))],
        [(1, (0, 0, 2, 3))],
        [(1, (0, 0, 3, 4))],
        [2],
    ]
    assert plan.notes == (
        "stage 2 (reduce): partition 1 of stage 0 (360 B, and half of its partitions have 40 B or less) is "
        "read by 4 tasks",
    )
    assert plan.added == 0


def test_the_larger_side_is_divided_and_a_large_other_side_makes_the_pieces_larger() -> None:
    left, right = [[1, 300, 1]], [[1, 200, 1]] * 5
    plan = decided(a_plan(3, sides=2, splits=(0, 1)), left, right)
    assert turns_of(plan) == [[0], [(1, (1, 1, 0, 2))], [(1, (1, 1, 2, 4))], [(1, (1, 1, 4, 5))], [2]]


def test_of_a_join_only_the_sides_that_may_be_divided_are() -> None:
    assert turns_of(decided(a_plan(3, sides=2, splits=(1,)), [[9, 900, 9]] * 4, [[5, 5, 5]])) == []


def test_what_one_task_has_made_is_not_divided() -> None:
    assert turns_of(decided(a_plan(3, splits=(0,)), [[9, 900, 9], [0, 0, 0]])) == []


def test_skewed_values_that_are_folded_are_merged_in_between() -> None:
    made = [[10, 90, 10, 10], [10, 90, 10, 10], [10, 90, 10, 10]]
    plan = decided(a_plan(4, combine=True), made)
    between = plan.stages[2]
    assert (plan.added, plan.last.id, [stage.id for stage in plan.in_order]) == (1, 1, [0, 2, 1])
    assert (between.parents, between.branches[0].ops, between.settled) == ((0,), (MergeOp(0),), True)
    assert between.sink == ShuffleSink(0, 1, True)
    assert [task[0].slices[0].begin for task in between.branches[0].turns] == [0, 1, 2]
    assert turns_of(plan) == [[0], [(1, (0, 2, 0, 3))], [2, 3]]
    assert plan.last.parents == (0, 2)
    assert branch_counts(plan, (3,)) == ((3,), (3,), (3,))
    assert plan.notes[-1].endswith("is merged by 3 tasks first")


def test_folds_do_not_touch_tasks_whose_numbers_mean_something() -> None:
    plan = a_plan(4, combine=True, free=False, sink=OutputSink("text", "r"))
    cut = decided(plan, [[10, 90, 10, 10]] * 3)
    assert turns_of(cut) == [[0], [(1, (0, 2, 0, 3))], [2], [3]]


def test_who_chose_a_number_of_partitions_wants_as_many_files() -> None:
    made = [[9, 90, 9]] * 4, [[5, 5, 5]]
    written = a_plan(3, sides=2, free=False, splits=(0,), sink=OutputSink("text", "r"))
    assert not may_adapt(written, written.last)
    collected = a_plan(3, sides=2, free=False, splits=(0,))
    assert len(turns_of(decided(collected, *made))) == 6


def test_unknown_sizes_change_nothing() -> None:
    plan = a_plan(6)
    assert adapt(plan, plan.last, Sizes(lambda _: (), lambda _stage, _part: ()), LIMITS) == Decision()


@pytest.mark.parametrize("sink", [RowsSink(), RowsSink("MEMORY:1")])
def test_what_is_read_task_by_task_or_kept_is_cut_as_planned(sink: RowsSink) -> None:
    plan = a_plan(6, splits=(0,), sink=sink)
    reader = Stage(2, (Branch((ShuffleSource(1, reads=Reads.TASK),), (ProgramOp(2),)),), RowsSink("result"), "read")
    plan = StagePlan((*plan.stages, reader))
    assert not any(may_adapt(plan, stage) for stage in plan.stages)


def test_what_is_read_as_a_whole_is_cut_anew() -> None:
    plan = a_plan(6, sink=RowsSink())
    reader = Stage(2, (Branch((ShuffleSource(1, reads=Reads.ALL),), (ProgramOp(2),)),), RowsSink("result"), "read")
    plan = StagePlan((*plan.stages, reader))
    assert [may_adapt(plan, stage) for stage in plan.stages] == [False, True, False]


def test_who_wants_few_records_gets_small_tasks_in_the_same_order() -> None:
    plan = a_plan(4, sides=2, splits=(0,), sink=RowsSink("result", first=2))
    cut = decided(plan, [[9, 90, 9, 9]] * 4, [[5, 5, 5, 5]])
    assert ranges_of(cut.last)[:3] == ((0, 1), (1, 2), (1, 2))
    assert branch_counts(cut, (4, 1))[-1] == (2,)


def test_map_reduce_is_cut_as_planned() -> None:
    plan = build_plan([StepShape(True, True), StepShape(True)], reducers=9, output_format="text")
    assert not any(may_adapt(plan, stage) for stage in plan.stages)


def test_each_branch_is_cut_by_itself() -> None:
    plan = a_plan(4, sides=2)
    branches = tuple(Branch((source,), (ProgramOp(9),)) for source in plan.last.branches[0].sources)
    plan = StagePlan((*plan.stages[:-1], replace(plan.last, branches=branches)))
    cut = decided(plan, [[10, 10, 10, 10]], [[90, 90, 90, 90]])
    assert [[[turn.part for turn in task] for task in branch.turns] for branch in cut.last.branches] == [
        [[0, 1], [2, 3]],
        [],
    ]
    assert (branch_counts(cut, (1, 1))[-1], ranges_of(cut.last)) == ((2, 4), ())


def test_a_decision_fits_only_what_is_cut_alike() -> None:
    plan = a_plan(4, sides=2, splits=(0,))
    decision = adapt(plan, plan.last, sizes_of([[9, 90, 9, 9]] * 4, [[5, 5, 5, 5]]), LIMITS)
    assert fits(plan, plan.last, decision, (4, 1, 4))
    assert not fits(plan, plan.last, decision, (3, 1, 4))  # its tasks are of four
    other = a_plan(5, sides=2, splits=(0,))
    assert not fits(other, other.last, decision, (4, 1, 5))
    assert fits(other, other.last, Decision(), (4, 1, 5))


def test_the_explanation_tells_what_was_adapted() -> None:
    plan = decided(a_plan(4, combine=True), [[10, 90, 10, 10]] * 3)
    text = explain(plan, inputs=(3,))
    assert text.index("stage 2: merge for stage 1, 3 tasks") < text.index("stage 1: reduce, 3 tasks")
    assert "  adapted: partition 1 of stage 0 (270 B" in text


def test_what_the_plan_says_of_dividing_travels_with_it() -> None:
    plan = a_plan(4, sides=2, splits=(0, 1))
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


# What holds of every decision

some_sizes = st.integers(0, 60) | st.sampled_from((0, 500, 3000))


@st.composite
def cases(draw: st.DrawFn) -> tuple[StagePlan, tuple[Made, ...]]:
    partitions, sides = draw(st.integers(1, 7)), draw(st.integers(1, 2))
    row = st.lists(some_sizes, min_size=partitions, max_size=partitions)
    made = tuple(draw(st.lists(row, min_size=1, max_size=6)) for _ in range(sides))
    splits = draw(st.sampled_from(((), (0,), (1,), (0, 1)) if sides == 2 else ((), (0,))))
    free, combine = draw(st.booleans()), draw(st.booleans())
    return a_plan(partitions, sides=sides, free=free, combine=combine, splits=splits), made


@given(cases())
def test_every_row_is_read_exactly_once(case: tuple[StagePlan, tuple[Made, ...]]) -> None:
    plan, made = case
    cut = decided(plan, *made)
    tasks = [len(each) for each in made]
    read: Counter[tuple[int, int, int]] = Counter()  # source, part, task of its parent
    divided: set[tuple[int, int]] = set()
    for task in cut.last.branches[0].turns or [[Turn(part)] for part in range(len(made[0][0]))]:
        for turn in task:
            for source in range(len(made)):
                found = [one for one in turn.slices if one.source == source]
                if not found:
                    rows = [(turn.part, n) for n in range(tasks[source])]
                else:
                    rows = [pair for one in found for pair in _origin(cut, one)]
                    if len(found) == 1 and found[0].stage == source:
                        divided.add((source, turn.part))
                read.update((source, part, n) for part, n in rows)
                assert {part for part, _ in rows} <= {turn.part}
    for (source, part, _), times in read.items():
        others = [other for other, divided_part in divided if divided_part == part and other != source]
        assert times == 1 or (others and (source, part) not in divided), "only beside what is divided it is read again"
    assert set(read) == {(s, p, n) for s in range(len(made)) for p in range(len(made[s][0])) for n in range(tasks[s])}


def _origin(plan: StagePlan, slice: Slice) -> list[tuple[int, int]]:
    """The (part, task) of map stages that some blocks are made of."""
    turns = plan.stages[slice.stage].branches[0].turns
    if not turns:
        return [(slice.partition, task) for task in range(slice.begin, slice.end)]
    slices = [turn.slices[0] for task in turns[slice.begin : slice.end] for turn in task]
    return [(one.partition, task) for one in slices for task in range(one.begin, one.end)]


@given(cases())
def test_a_decision_is_the_same_each_time_and_as_it_was_noted(case: tuple[StagePlan, tuple[Made, ...]]) -> None:
    plan, made = case
    decision = adapt(plan, plan.last, sizes_of(*made), LIMITS)
    assert adapt(plan, plan.last, sizes_of(*made), LIMITS) == decision
    assert Decision.from_json(json.loads(json.dumps(decision.to_json()))) == decision
    cut = carry_out(plan, plan.last.id, decision)
    assert cut.last.settled and not may_adapt(cut, cut.last), "it is decided once"
    assert fits(plan, plan.last, decision, [*map(len, made), len(made[0][0])])


@given(cases())
def test_decisions_keep_to_the_limits(case: tuple[StagePlan, tuple[Made, ...]]) -> None:
    plan, made = case
    decision = adapt(plan, plan.last, sizes_of(*made), LIMITS)
    sums = [sum(each[part] for side in made for each in side) for part in range(len(made[0][0]))]
    for cut in decision.branches:
        for begin, end in cut.tasks:
            assert begin < end
            assert end - begin == 1 or sum(sums[begin:end]) <= LIMITS.merged_bytes
        assert not cut.tasks or len(cut.tasks) >= min(LIMITS.least_tasks, len(sums))
        found = Counter((piece.source, piece.part) for piece in (*cut.pieces, *cut.folds))
        assert all(2 <= count <= LIMITS.most_pieces for count in found.values())
        assert all(piece.begin < piece.end for piece in (*cut.pieces, *cut.folds))
