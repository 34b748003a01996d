"""What a stage that joins by an exchange could do instead: read one side's input itself, and the other side as a whole.

That is only known to be better when the other side has proved small. So the programs for it are made when the plan is
cut, where the user's functions are, and ``plan.adapt`` may choose them later by plain data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gristmill.plan.functions import Call, ExchangeFunctions, Open, Program
from gristmill.plan.stages import (
    Branch,
    Instead,
    ProgramOp,
    Reads,
    ShuffleSink,
    ShuffleSource,
    SplitSource,
    Stage,
)

_WHOLE = {0: "broadcast_join", 1: "broadcast_join_left"}  # by the place of the side that streams


def with_alternatives(
    stages: Sequence[Stage], programs: list[Program], steps: Sequence[ExchangeFunctions]
) -> tuple[Stage, ...]:
    """The same stages, with what they could do instead; the programs for that are added to ``programs``."""
    readers: dict[int, int] = {}
    for stage in stages:
        for source in stage.sources:
            if isinstance(source, ShuffleSource):
                readers[source.parent] = readers.get(source.parent, 0) + 1
    made = []
    for stage in stages:
        instead: list[Instead] = []
        if len(stage.branches) == 1:
            [branch] = stage.branches
            for place in branch.splits:
                found = _alternative(stages, programs, steps, branch, place)
                if found is not None and readers[found.streamed] == 1:
                    instead.append(found)
        made.append(replace(stage, instead=tuple(instead)) if instead else stage)
    return tuple(made)


def _alternative(
    stages: Sequence[Stage],
    programs: list[Program],
    steps: Sequence[ExchangeFunctions],
    branch: Branch,
    place: int,
) -> Instead | None:
    """What a branch could do if one of its sources streamed."""
    op = branch.ops[0]
    assert isinstance(op, ProgramOp), "it is of a dataset"
    program = programs[op.program]
    if len(program) < 3 or program[:2] != (Open(0), Open(1)):
        return None
    join = program[2]
    if not isinstance(join, Call) or join.how != "join":
        return None
    streamed, whole = branch.sources[place], branch.sources[1 - place]
    if not (_is_plain(streamed, steps) and _is_plain(whole, steps)):
        return None
    assert isinstance(streamed, ShuffleSource) and isinstance(whole, ShuffleSource), "they are plain"
    if streamed.parent == whole.parent or not all(_reads_input(one) for one in stages[streamed.parent].branches):
        return None
    sides = branch.sources[2:]
    if not all(isinstance(side, ShuffleSource) and side.reads is Reads.ALL for side in sides):
        return None
    branches = []
    for one in stages[streamed.parent].branches:
        own = one.ops[0]
        assert isinstance(own, ProgramOp), "it is of a dataset"
        here = len(one.sources)
        call = replace(join, how=_WHOLE[place], arguments=(join.arguments[place],), inputs=1, sides=(here,))
        # The sides of what follows are behind the streamed side's sources, and the one that is read as a whole.
        rest = [
            replace(after, sides=tuple(side - 2 + here + 1 for side in after.sides))
            for after in program[3:]
            if isinstance(after, Call)
        ]
        branches.append(Branch((*one.sources, replace(whole, reads=Reads.ALL), *sides), (ProgramOp(len(programs)),)))
        programs.append((*programs[own.program], call, *rest))
    return Instead(streamed.parent, whole.parent, tuple(branches))


def _is_plain(source: object, steps: Sequence[ExchangeFunctions]) -> bool:
    """Whether the pairs of a side come as they were given, each in the partition of its key."""
    if not isinstance(source, ShuffleSource) or source.reads is not Reads.PARTITION:
        return False
    step = steps[source.step]
    return step.fold is None and step.combiner is None and not step.ranges


def _reads_input(branch: Branch) -> bool:
    return any(isinstance(source, SplitSource) for source in branch.sources)


def input_of(stage: Stage) -> tuple[int, ...] | None:
    """The inputs that a stage reads, if it reads nothing else but what is broadcast."""
    if not isinstance(stage.sink, ShuffleSink) or not all(map(_reads_input, stage.branches)):
        return None
    return tuple(source.input for source in stage.sources if isinstance(source, SplitSource))
