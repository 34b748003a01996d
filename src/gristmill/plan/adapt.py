"""Cutting a stage into tasks by the measured sizes of what it reads: once its parents are whole, before it begins.

Pure: the decision follows from the plan and the sizes alone, never from machines, so it is the same wherever the job
runs. It is a fact of the job, noted and never made again; :func:`carry_out` makes the plan from it. What it can say:

* Small neighbouring partitions are read by one task, one after the other, each as if by a task of its own. The records
  that come out, and their order, stay; there are fewer tasks, and so fewer files.
* A skewed partition of a join is read by several tasks: each reads it as some of the parent's tasks made it, and the
  other side whole. Their records come one task after the other: of this partition the order is no longer that of the
  keys, but (range of the parent's tasks, key).
* A join of which one side proves small reads it as a whole in every task, and the other side's input itself, which so
  is never exchanged: records come in the order of that input. For this the side with the larger input waits until the
  smaller one was measured.
* A skewed partition whose values are folded, or combined, is first merged by several tasks of a stage in between: each
  takes it as some of the parent's tasks made it. The order of values stays, and the order of records.

None of it is done to a stage of map-reduce, nor are partitions merged whose number the user has chosen, or whose
numbers mean something to others: those of a stage that is kept, or read task by task.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median_low

from gristmill.config import MIB, format_size
from gristmill.plan.decision import BranchCut, Decision, Piece
from gristmill.plan.stages import (
    Branch,
    MergeOp,
    OutputSink,
    ProgramOp,
    Reads,
    RowsSink,
    ShuffleSink,
    ShuffleSource,
    Slice,
    Stage,
    StagePlan,
    Turn,
)
from gristmill.plan.streaming import input_of


@dataclass(frozen=True)
class Limits:
    """Constants of the decision; bytes are those of blocks.

    Attributes:
        merged_bytes: partitions are merged up to so many …
        least_tasks: … but not to fewer tasks than this, for what is done with few bytes may take long.
        skewed_bytes: a partition is skewed if it has more than this …
        skewed_times: … and more than so many times the median.
        piece_bytes: about so many each task of a skewed partition reads; and as many as it reads of other sources.
        most_pieces: in no more it is divided.
        whole_bytes: if one side of a join has so few, all tasks of the other may read it as a whole …
        whole_blocks: … in so few segments of blocks.
        held_bytes: a side whose input has at least so many waits for one …
        held_times: … whose input is so many times smaller, for that may prove small.
    """

    merged_bytes: int = 16 * MIB
    least_tasks: int = 4
    skewed_bytes: int = 16 * MIB
    skewed_times: int = 4
    piece_bytes: int = 8 * MIB
    most_pieces: int = 64
    whole_bytes: int = 8 * MIB
    whole_blocks: int = 10_000
    held_bytes: int = 16 * MIB
    held_times: int = 4


LIMITS = Limits()


@dataclass(frozen=True)
class Sizes:
    """What the parents of a stage have made.

    Attributes:
        partitions: of a stage, the bytes of each of its partitions; empty if that is not known.
        blocks: (stage, partition) → the bytes of it in the block of each of the stage's tasks.
    """

    partitions: Callable[[int], Sequence[int]]
    blocks: Callable[[int, int], Sequence[int]]


# Before


def may_adapt(plan: StagePlan, stage: Stage) -> bool:
    """Whether a stage is to wait until it is known what its parents made, for it could then be cut otherwise."""
    if stage.settled:
        return False
    fixed = _is_fixed(plan, stage)
    return any(
        _may_merge(plan, stage, branch, fixed) or _may_split(plan, stage, branch, fixed) or _folding(branch)
        for branch in stage.branches
    )


def _is_fixed(plan: StagePlan, stage: Stage) -> bool:
    """Whether the numbers of the stage's tasks mean something to others."""
    if isinstance(stage.sink, RowsSink) and stage.sink.kept and stage is not plan.last:
        return True
    return any(
        isinstance(source, ShuffleSource) and source.parent == stage.id and source.reads is Reads.TASK
        for other in plan.stages
        for source in other.sources
    )


def _partitioned(branch: Branch) -> list[int]:
    """The places of the sources of which each task reads a partition; none if the branch is not of a dataset."""
    if not branch.ops or not isinstance(branch.ops[0], ProgramOp):
        return []
    return [
        place
        for place, source in enumerate(branch.sources)
        if isinstance(source, ShuffleSource) and source.reads is Reads.PARTITION
    ]


def _may_merge(plan: StagePlan, stage: Stage, branch: Branch, fixed: bool) -> bool:
    if fixed or not _partitioned(branch) or not _is_free(plan, branch):
        return False
    return not (isinstance(stage.sink, RowsSink) and stage.sink.first)  # who wants few records wants small tasks


def _is_free(plan: StagePlan, branch: Branch) -> bool:
    """Whether the user did not choose how many partitions the branch reads."""
    sinks = (plan.stages[_parent(branch, place)].sink for place in _partitioned(branch))
    return all(isinstance(sink, ShuffleSink) and sink.free for sink in sinks)


def _may_split(plan: StagePlan, stage: Stage, branch: Branch, fixed: bool) -> bool:
    if fixed or not branch.splits or not _partitioned(branch):
        return False
    return _is_free(plan, branch) or not isinstance(stage.sink, OutputSink)  # who chose a number wants as many files


def _folding(branch: Branch) -> list[int]:
    """The places of the sources whose values are folded, or combined, wherever blocks are merged."""
    return [place for place in _partitioned(branch) if getattr(branch.sources[place], "combine", False)]


def _parent(branch: Branch, place: int) -> int:
    source = branch.sources[place]
    assert isinstance(source, ShuffleSource), "it is read block by block"
    return source.parent


# Deciding


def adapt(plan: StagePlan, stage: Stage, sizes: Sizes, limits: Limits | None = None) -> Decision:
    """Decide how a stage is cut, now that its parents are whole.

    Args:
        plan: the job's.
        stage: one that :func:`may_adapt` has named.
        sizes: what its parents made.
        limits: the constants of the decision.
    """
    limits = limits or LIMITS
    fixed = _is_fixed(plan, stage)
    cuts = [_cut(plan, stage, branch, fixed, sizes, limits) for branch in stage.branches]
    if not any(cut.tasks or cut.folds for cut, _ in cuts):
        return Decision()
    notes = [f"stage {stage.id} ({stage.name}): {note}" for _, made in cuts for note in made]
    return Decision(tuple(cut for cut, _ in cuts), tuple(notes))


def _cut(
    plan: StagePlan, stage: Stage, branch: Branch, fixed: bool, sizes: Sizes, limits: Limits
) -> tuple[BranchCut, list[str]]:
    places = _partitioned(branch)
    measured = {place: sizes.partitions(_parent(branch, place)) for place in places}
    if not places or not all(measured.values()):
        return BranchCut(), []
    parts = len(measured[places[0]])
    weights = [sum(column) for column in zip(*measured.values(), strict=True)]
    notes: list[str] = []
    pieces: dict[int, list[Piece]] = {}
    folds: list[Piece] = []
    split_places = branch.splits if _may_split(plan, stage, branch, fixed) else ()
    skewed = {place: _skewed(measured[place], limits) for place in places}
    for place in sorted(split_places, key=lambda place: -sum(measured[place])):
        for part in skewed[place]:
            others = weights[part] - measured[place][part]
            divided = _divided(branch, place, part, others, sizes, limits)
            if part not in pieces and len(divided) > 1:
                pieces[part] = divided
                notes.append(f"{_large(branch, place, part, measured)} is read by {len(divided)} tasks")
    for place in _folding(branch):
        for part in skewed[place]:
            divided = _divided(branch, place, part, 0, sizes, limits)
            if len(divided) > 1 and not any(piece.source == place for piece in pieces.get(part, ())):
                folds += divided
                notes.append(f"{_large(branch, place, part, measured)} is merged by {len(divided)} tasks first")
    alone = {*pieces, *(piece.part for piece in folds)}
    merges = _may_merge(plan, stage, branch, fixed) and _only_partitions(branch)
    tasks = _merged(weights, alone, limits) if merges else [(part, part + 1) for part in range(parts)]
    if len(tasks) < parts:
        notes.insert(0, f"{parts:,} partitions are read by {len(tasks):,} tasks: small neighbours are merged")
    laid = [task for task in tasks for _ in pieces.get(task[0], (None,))]
    if len(laid) == parts and not pieces:
        laid = []
    return BranchCut(tuple(laid), tuple(one for part in sorted(pieces) for one in pieces[part]), tuple(folds)), notes


def _only_partitions(branch: Branch) -> bool:
    """Whether all that the tasks read part by part is partitions: of what is kept the sizes are not looked at."""
    return all(isinstance(source, ShuffleSource) and source.reads is not Reads.TASK for source in branch.sources)


def _large(branch: Branch, place: int, part: int, measured: Mapping[int, Sequence[int]]) -> str:
    size, usual = measured[place][part], median_low(measured[place])
    of = f"partition {part} of stage {_parent(branch, place)}"
    return f"{of} ({format_size(size)}, and half of its partitions have {format_size(usual)} or less)"


def _skewed(sizes: Sequence[int], limits: Limits) -> list[int]:
    least = max(limits.skewed_bytes, limits.skewed_times * median_low(sizes))
    return [part for part, size in enumerate(sizes) if size > least]


def _divided(branch: Branch, place: int, part: int, others: int, sizes: Sizes, limits: Limits) -> list[Piece]:
    """A part in pieces of about one size: of neighbouring tasks of the source's parent.

    With each of them ``others`` bytes of other sources are read again.
    """
    made = sizes.blocks(_parent(branch, place), part)
    total = sum(made)
    target = max(limits.piece_bytes, others, -(-total // limits.most_pieces))
    pieces: list[Piece] = []
    begin = held = 0
    for task, size in enumerate(made):
        if held and held + size / 2 > target:  # the bound lies in the middle of it, or before
            pieces.append(Piece(place, part, begin, task))
            begin, held = task, 0
        held += size
    if held:
        pieces.append(Piece(place, part, begin, len(made)))
    elif pieces:
        pieces[-1] = replace(pieces[-1], end=len(made))
    return pieces


def _merged(weights: Sequence[int], alone: set[int], limits: Limits) -> list[tuple[int, int]]:
    """Neighbours together, as long as they are small; none with what is divided."""
    if len(weights) <= limits.least_tasks:
        return [(part, part + 1) for part in range(len(weights))]
    # Each counts as a byte at least, so that empty ones are shared out as well.
    counted = [weight + 1 for weight in weights]
    # The more a task may have the fewer there are: so much that they are not too few …
    most = bisect_left(
        range(limits.merged_bytes), True, key=lambda most: len(_greedy(counted, alone, most + 1)) < limits.least_tasks
    )
    tasks = len(_greedy(counted, alone, most))
    # … and then no more than so many need: else the last one would have what is left over.
    return _greedy(
        counted, alone, bisect_left(range(most), True, key=lambda most: len(_greedy(counted, alone, most)) <= tasks)
    )


def _greedy(weights: Sequence[int], alone: set[int], most: int) -> list[tuple[int, int]]:
    """Each task takes what comes next, as long as it has no more than ``most``."""
    tasks: list[tuple[int, int]] = []
    begin = held = 0
    for part, weight in enumerate(weights):
        if held and (part in alone or begin in alone or held + weight > most):
            tasks.append((begin, part))
            begin, held = part, 0
        held += weight
    tasks.append((begin, len(weights)))
    return tasks


def waits_for(plan: StagePlan, stage: Stage, input_bytes: Callable[[int], int]) -> tuple[int, Stage, int] | None:
    """What must be known before a stage begins, for it may turn out that it is not needed.

    Args:
        plan: the job's.
        stage: any.
        input_bytes: how large each of the job's inputs is; 0 if that is not known.

    Returns:
        The stage that is to be measured, the one that could do something else then, and what; None: nothing.
    """
    if stage.settled or (inputs := input_of(stage)) is None:
        return None
    size = sum(map(input_bytes, inputs))
    for reader in plan.stages:
        for number, instead in enumerate(reader.instead):
            if reader.settled or instead.streamed != stage.id or _is_fixed(plan, reader):
                continue
            others = input_of(plan.stages[instead.whole])
            if others is None or not _may_split(plan, reader, reader.branches[0], fixed=False):
                continue
            if size >= max(LIMITS.held_bytes, LIMITS.held_times * sum(map(input_bytes, others))):
                return instead.whole, reader, number
    return None


def turn_around(
    plan: StagePlan, reader: Stage, number: int, made: Sequence[int], blocks: int, limits: Limits | None = None
) -> Decision | None:
    """Decide whether a join reads one side as a whole, now that it is measured; None: it does not.

    Args:
        plan: the job's.
        reader: the stage that joins.
        number: of what it could do instead.
        made: the bytes of each partition of that side; empty if that is not known.
        blocks: how many segments of blocks it has.
        limits: the constants of the decision.
    """
    limits = limits or LIMITS
    size, instead = sum(made), reader.instead[number]
    if not made or size > limits.whole_bytes or blocks > limits.whole_blocks:
        return None
    note = (
        f"stage {reader.id} ({reader.name}): stage {instead.whole} ({plan.stages[instead.whole].name}) has made only "
        f"{format_size(size)}, so each task reads all of it, and stage {instead.streamed} is not exchanged"
    )
    return Decision((), (note,), number)


# Carrying out


@dataclass
class _Change:
    """A plan in the making."""

    plan: StagePlan
    stage: Stage
    added: list[Stage] = field(default_factory=list)

    def branch(self, branch: Branch, cut: BranchCut) -> Branch:
        slices: dict[int, list[Slice]] = {}
        for place in dict.fromkeys(piece.source for piece in cut.folds):
            pieces = [piece for piece in cut.folds if piece.source == place]
            merging = self.merge_stage(branch, place, pieces)
            parts = [piece.part for piece in pieces]
            for part in dict.fromkeys(parts):
                first = parts.index(part)
                slices.setdefault(part, []).append(Slice(place, merging, first, first + parts.count(part), 0))
        if not cut.tasks and not slices:
            return branch
        tasks = cut.tasks or tuple((part, part + 1) for part in range(_parts(self.plan, branch)))
        divided: dict[int, list[Piece]] = {}
        for piece in cut.pieces:
            divided.setdefault(piece.part, []).append(piece)
        turns: list[tuple[Turn, ...]] = []
        for begin, end in tasks:
            if begin in divided:
                piece = divided[begin].pop(0)
                parent = _parent(branch, piece.source)
                one = Slice(piece.source, parent, piece.begin, piece.end, piece.part)
                others = [slice for slice in slices.get(begin, ()) if slice.source != piece.source]
                turns.append((Turn(begin, (one, *others)),))
            else:
                turns.append(tuple(Turn(part, tuple(slices.get(part, ()))) for part in range(begin, end)))
        return replace(branch, turns=tuple(turns))

    def merge_stage(self, branch: Branch, place: int, pieces: Sequence[Piece]) -> int:
        """Add the stage that merges pieces of a source's parts: its id."""
        source = branch.sources[place]
        assert isinstance(source, ShuffleSource), "it is merged by key"
        turns = tuple(
            (Turn(piece.part, (Slice(0, source.parent, piece.begin, piece.end, piece.part),)),) for piece in pieces
        )
        id = len(self.plan.stages) + len(self.added)
        merging = Branch((source,), (MergeOp(source.step),), turns=turns)
        name = f"merge for stage {self.stage.id}"
        self.added.append(Stage(id, (merging,), ShuffleSink(source.step, 1, True), name, settled=True))
        return id


def _parts(plan: StagePlan, branch: Branch) -> int:
    sink = plan.stages[_parent(branch, _partitioned(branch)[0])].sink
    assert isinstance(sink, ShuffleSink), "it has partitions"
    return sink.partitions


def carry_out(plan: StagePlan, stage: int, decision: Decision) -> StagePlan:
    """The plan with a stage cut as it was decided, and settled. Stages in between are added at the end."""
    if decision.instead >= 0:
        return _turned(plan, plan.stages[stage], decision)
    change = _Change(plan, plan.stages[stage])
    branches = change.stage.branches
    if decision.branches:
        branches = tuple(map(change.branch, branches, decision.branches))
    changed = replace(change.stage, branches=branches, settled=True)
    stages = [changed if other.id == stage else other for other in plan.stages]
    return StagePlan((*stages, *change.added), plan.added + len(change.added), plan.notes + decision.notes)


def _turned(plan: StagePlan, stage: Stage, decision: Decision) -> StagePlan:
    """The plan with a stage that does something else, and without the one that it does not need then."""
    instead = stage.instead[decision.instead]
    changed = {
        stage.id: replace(stage, branches=instead.branches, settled=True),
        instead.streamed: replace(plan.stages[instead.streamed], settled=True, skipped=True),
    }
    stages = tuple(changed.get(other.id, other) for other in plan.stages)
    return replace(plan, stages=stages, notes=plan.notes + decision.notes)


def fits(plan: StagePlan, stage: Stage, decision: Decision, tasks: Sequence[int]) -> bool:
    """Whether a decision that was made for the like of a stage can be carried out for it.

    Args:
        plan: the stage's.
        stage: one that :func:`may_adapt` has named.
        decision: made for a stage that does the same.
        tasks: how many each stage of the plan has.
    """
    if decision.instead >= len(stage.instead):
        return False
    if not decision.branches:
        return True
    if len(decision.branches) != len(stage.branches):
        return False
    for branch, cut in zip(stage.branches, decision.branches, strict=True):
        if not (cut.tasks or cut.folds):
            continue
        parts = _parts(plan, branch)
        if cut.tasks and cut.tasks[-1][1] != parts:
            return False
        if any(
            piece.part >= parts or piece.end > tasks[_parent(branch, piece.source)] for piece in cut.pieces + cut.folds
        ):
            return False
    return True


def ranges_of(stage: Stage) -> tuple[tuple[int, int], ...]:
    """Which partitions each task of a stage reads, from the first to the one after the last; empty: as planned."""
    if len(stage.branches) != 1 or not stage.branches[0].turns:
        return ()
    return tuple((task[0].part, task[-1].part + 1) for task in stage.branches[0].turns)
