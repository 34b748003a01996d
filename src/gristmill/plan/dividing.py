"""Which programs give the same records, in another order, when what a task reads of one source is divided among tasks.

Each of the tasks reads what some of the source's parent's tasks made of the part, and all of the other sources. That is
right for the side of a join whose values are each joined by themselves; and only if what follows takes one record at a
time, or gathers figures that are put together later in any case.
"""

from __future__ import annotations

from collections.abc import Sequence

from gristmill.plan.functions import Call, Open, Program
from gristmill.plan.stages import Reads, ShuffleSource, Source

_ONE_BY_ONE = frozenset(
    (
        *("map", "filter", "flat_map", "key_by", "map_values", "flat_map_values", "keys", "values"),
        *("alone", "with_itself", "sort_pairs", "foreach"),
        *("broadcast_join", "broadcast_join_left", "broadcast_subtract", "cartesian"),
        *("take", "count", "reduce_all", "total", "spread_of", "first_few", "last_few", "histogram"),
    )
)


def splits_of(sources: Sequence[Source], program: Program) -> tuple[int, ...]:
    """The places of the sources that may be divided.

    Args:
        sources: of a branch.
        program: what its tasks do.
    """
    stack: list[tuple[int, ...]] = []  # of each stream: the places, if it is a source itself, or made of a join
    joined = False
    for op in program:
        if isinstance(op, Open):
            stack.append((op.source,) if _is_partition(sources[op.source]) else ())
            continue
        streams = stack[len(stack) - op.inputs :]
        del stack[len(stack) - op.inputs :]
        if not joined and len(streams) == 2 and (sides := _divisible(op)):
            stack.append(tuple(place for side in sides for place in streams[side]))
            joined = True
        else:
            stack.append(streams[0] if joined and len(streams) == 1 and op.how in _ONE_BY_ONE else ())
    return stack[-1] if joined and stack else ()


def _is_partition(source: Source) -> bool:
    return isinstance(source, ShuffleSource) and source.reads is Reads.PARTITION


def _divisible(call: Call) -> tuple[int, ...]:
    """The streams, by their number, whose values an operator treats each by itself."""
    if call.how == "join":
        all_left, all_right = call.arguments
        return () if all_left and all_right else (0,) if all_left else (1,) if all_right else (0, 1)
    return (0,) if call.how in ("subtract", "subtract_by_key") else ()
