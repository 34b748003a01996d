"""Joins that could read one side as a whole: when they are offered, who waits for whom, and what is decided."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gristmill.plan import adapt
from gristmill.plan.adapt import Limits, carry_out, fits, turn_around, waits_for
from gristmill.plan.cut import Cut, cut
from gristmill.plan.decision import Decision
from gristmill.plan.encoding import plan_from_json, plan_to_json
from gristmill.plan.functions import Call, ExchangeFunctions, Fold
from gristmill.plan.logical import Exchange, Node, Pipe, Read
from gristmill.plan.stages import InputSpec, OutputSink, Reads, RowsSink, ShuffleSource, SplitSource, branch_counts


def files(name: str) -> Node:
    return Pipe((Read(InputSpec((name,))),), Call("map", (tuple,), name="map"))


def exchanged(node: Node, partitions: int = 0, **functions: Any) -> Node:
    return Exchange(node, ExchangeFunctions(**functions), partitions)


def joined(
    left: Node, right: Node, all_left: bool = False, all_right: bool = False, *, then: Sequence[str] = ()
) -> Node:
    node: Node = Pipe((left, right), Call("join", (all_left, all_right), 2, name="join"))
    for how in then:
        node = Pipe((node,), Call(how, (len,)))
    return node


def a_join(*args: bool, then: Sequence[str] = (), partitions: int = 0) -> Cut:
    left, right = (exchanged(files(name), partitions) for name in "ab")
    return cut(joined(left, right, *args, then=then), RowsSink("result"))


def sizes(*of_inputs: int) -> Callable[[int], int]:
    return lambda number: of_inputs[number]


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    made = Limits(whole_bytes=100, whole_blocks=6, held_bytes=1000, held_times=4)
    monkeypatch.setattr(adapt, "LIMITS", made)
    return made


def test_either_side_of_a_join_may_stream() -> None:
    made = a_join()
    assert [(one.streamed, one.whole) for one in made.plan.last.instead] == [(0, 1), (1, 0)]
    [branch] = made.plan.last.instead[0].branches
    assert branch.sources == (SplitSource(0), ShuffleSource(1, 1, False, Reads.ALL))
    *_, call = made.code.programs[branch.ops[0].program]  # type: ignore[union-attr]
    assert isinstance(call, Call)
    assert (call.how, call.arguments, call.inputs, call.sides) == ("broadcast_join", (False,), 1, (1,))


@pytest.mark.parametrize(
    ("outer", "streamed", "how"),
    [((True, False), [0], "broadcast_join"), ((False, True), [1], "broadcast_join_left"), ((True, True), [], "")],
)
def test_a_side_whose_values_all_come_is_never_read_as_a_whole(
    outer: tuple[bool, bool], streamed: list[int], how: str
) -> None:
    made = a_join(*outer)
    assert [one.streamed for one in made.plan.last.instead] == streamed
    for one in made.plan.last.instead:
        program = made.code.programs[one.branches[0].ops[0].program]  # type: ignore[union-attr]
        assert isinstance(program[-1], Call)
        assert (program[-1].how, program[-1].arguments) == (how, (True,))


def test_what_follows_must_take_one_record_at_a_time() -> None:
    assert len(a_join(then=("map", "filter")).plan.last.instead) == 2
    assert not a_join(then=("map", "map_partitions")).plan.last.instead
    assert not a_join(then=("regroup", "fold_values")).plan.last.instead


def test_sides_that_are_folded_or_read_twice_are_exchanged() -> None:
    folded = exchanged(files("a"), fold=Fold(None, max, max))
    assert not cut(joined(folded, exchanged(files("b"))), RowsSink()).plan.last.instead
    both = exchanged(files("a"))
    assert not cut(joined(both, both), RowsSink()).plan.last.instead


def test_the_larger_side_waits_until_the_smaller_is_measured() -> None:
    plan = a_join().plan
    left, right, join = plan.stages
    assert waits_for(plan, left, sizes(4000, 1000)) == (1, join, 0)
    assert waits_for(plan, right, sizes(4000, 1000)) is None
    assert waits_for(plan, right, sizes(100, 1000)) == (0, join, 1)
    assert waits_for(plan, left, sizes(3999, 1000)) is None, "not so much larger"
    assert waits_for(plan, left, sizes(999, 0)) is None, "not worth the wait"
    assert waits_for(plan, join, sizes(4000, 1000)) is None


def test_who_chose_a_number_of_files_gets_it() -> None:
    left, right = (exchanged(files(name), 6) for name in "ab")
    plan = cut(joined(left, right), OutputSink("text", "")).plan
    assert waits_for(plan, plan.stages[0], sizes(4000, 1000)) is None


def test_a_small_side_is_read_as_a_whole() -> None:
    plan = a_join().plan
    decision = turn_around(plan, plan.last, 0, [40, 60], 2)
    assert decision is not None
    assert decision.notes == (
        "stage 2 (exchange, join): stage 1 (read, map) has made only 100 B, so each task reads all of it, and stage 0 "
        "is not exchanged",
    )
    assert Decision.from_json(json.loads(json.dumps(decision.to_json()))) == decision
    turned = carry_out(plan.with_reducers(3), 2, decision)
    assert branch_counts(turned, (7, 2)) == ((0,), (2,), (7,))
    assert [(stage.settled, stage.skipped) for stage in turned.stages] == [(True, True), (False, False), (True, False)]
    assert turned.last.parents == (1,)
    assert waits_for(turned, turned.stages[0], sizes(4000, 1000)) is None


@pytest.mark.parametrize(("made", "blocks"), [([40, 61], 2), ([], 0), ([1, 1], 7)])
def test_a_side_that_is_not_small_or_not_known_is_exchanged(made: list[int], blocks: int) -> None:
    plan = a_join().plan
    assert turn_around(plan, plan.last, 0, made, blocks) is None


def test_a_decision_fits_only_what_could_do_the_same() -> None:
    plan, other = a_join().plan.with_reducers(3), a_join(True, False).plan.with_reducers(3)
    decision = Decision(instead=1)
    assert fits(plan, plan.last, decision, (7, 2, 3))
    assert not fits(other, other.last, decision, (7, 2, 3))


def test_the_alternatives_travel_with_the_plan() -> None:
    plan = a_join(then=("map",)).plan
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan
