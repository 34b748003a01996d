"""A stage of which only the first tasks are to run."""

from __future__ import annotations

import pytest

from gristmill.plan.stages import Branch, RowsSink, SplitSource, Stage, StagePlan, branch_counts


@pytest.mark.parametrize(
    ("first", "counts"), [(0, (3, 4)), (1, (1, 0)), (3, (3, 0)), (5, (3, 2)), (7, (3, 4)), (99, (3, 4))]
)
def test_tasks_are_counted_through_the_branches(first: int, counts: tuple[int, ...]) -> None:
    branches = tuple(Branch((SplitSource(number),), ()) for number in range(2))
    plan = StagePlan((Stage(0, branches, RowsSink("", first), "read"),))
    assert branch_counts(plan, (3, 4)) == (counts,)
