"""How an attempt runs a program: as it is written, or with chains of narrow operators compiled into loops.

A fused function may fail in other ways than the operators that it stands for. So whatever fails in one is forgotten,
and the attempt is run once more without fusing: then it fails as the user would expect, or succeeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gristmill.compute.fuse import Grouping, Streaming, fuse
from gristmill.plan.functions import Call, ExchangeFunctions, Fold, JobCode, Open, Program
from gristmill.plan.stages import ProgramOp, ShuffleSink, Sink


class FusedFailed(Exception):
    """Something failed in an attempt that ran fused functions."""


@dataclass(frozen=True)
class Fused:
    """Calls of a program that one function stands for."""

    calls: tuple[Call, ...]
    function: Streaming


@dataclass(frozen=True)
class ProgramPlan:
    """A program, ready to be run.

    Attributes:
        program: as the user wrote it.
        ops: what is run instead.
        grouping: takes what ``ops`` give right into the groups of a fold; None: they give what goes to the sink.
        last: the calls that ``grouping`` stands for.
        may_fuse: whether anything may be done otherwise than element by element.
    """

    program: Program
    ops: tuple[Open | Call | Fused, ...]
    grouping: Grouping | None = None
    last: tuple[Call, ...] = ()
    may_fuse: bool = False

    @property
    def is_fused(self) -> bool:
        """Whether anything is compiled."""
        return self.grouping is not None or any(isinstance(op, Fused) for op in self.ops)


def plan_of(code: JobCode, op: ProgramOp, sink: Sink, fusing: bool) -> ProgramPlan:
    """How a stage's program is to be run.

    Args:
        code: the job's.
        op: names the program.
        sink: what it ends in.
        fusing: whether anything may be compiled.
    """
    program = code.programs[op.program]
    if not fusing:
        return ProgramPlan(program, program)
    before, last = _cut(program)
    fold = _fold_of(code, sink)
    if fold is not None and last and (grouping := fuse(last, fold)) is not None:
        return ProgramPlan(program, _streams(before), grouping, last, may_fuse=True)
    return ProgramPlan(program, _streams(program), may_fuse=True)


def _fold_of(code: JobCode, sink: Sink) -> Fold | None:
    step = code.steps[sink.step] if isinstance(sink, ShuffleSink) else None
    return step.fold if isinstance(step, ExchangeFunctions) and not step.ranges else None


def _cut(program: Sequence[Open | Call]) -> tuple[Program, tuple[Call, ...]]:
    """A program, and the calls at its end that take one stream each."""
    place = len(program)
    last: list[Call] = []
    while place and isinstance(op := program[place - 1], Call) and _is_simple(op):
        last.insert(0, op)
        place -= 1
    return tuple(program[:place]), tuple(last)


def _streams(program: Program) -> tuple[Open | Call | Fused, ...]:
    """The program with every run of simple calls as one, if that is faster."""
    ops: list[Open | Call | Fused] = []
    run: list[Call] = []

    def close() -> None:
        if run:
            function = fuse(run)
            ops.extend(run if function is None else [Fused(tuple(run), function)])
            run.clear()

    for op in program:
        if isinstance(op, Call) and _is_simple(op):
            run.append(op)
        else:
            close()
            ops.append(op)
    close()
    return tuple(ops)


def _is_simple(call: Call) -> bool:
    return call.how in _SIMPLE and call.inputs == 1 and not call.sides


_SIMPLE = frozenset(("map", "filter", "flat_map", "map_values", "flat_map_values", "key_by", "keys", "values"))
