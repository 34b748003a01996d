"""How a stage is cut, as ``plan.adapt`` has decided it: plain data, which is noted as a fact of the job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Piece:
    """What some tasks of a source's parent made of one part.

    Attributes:
        source: its place in the branch.
        part: the partition.
        begin: the first of the parent's tasks.
        end: the one after the last.
    """

    source: int
    part: int
    begin: int
    end: int


@dataclass(frozen=True)
class BranchCut:
    """How one branch is cut.

    Attributes:
        tasks: of each task, the first part that it reads and the one after the last. Several with the same single part
            are its pieces, in the order of ``pieces``. Empty: a task for each part.
        pieces: parts that are divided among tasks.
        folds: parts that are merged in pieces before they are read.
    """

    tasks: tuple[tuple[int, int], ...] = ()
    pieces: tuple[Piece, ...] = ()
    folds: tuple[Piece, ...] = ()


@dataclass(frozen=True)
class Decision:
    """How a stage is cut.

    Attributes:
        branches: one for each branch; empty: as it was planned.
        notes: what was adapted and why, for people.
        instead: which of ``Stage.instead`` it does, and not what was planned; -1: none.
    """

    branches: tuple[BranchCut, ...] = ()
    notes: tuple[str, ...] = ()
    instead: int = -1

    def to_json(self) -> list[Any]:
        """As values that ``json.dumps`` takes."""
        cuts = [
            [cut.tasks, *([[*vars(one).values()] for one in some] for some in (cut.pieces, cut.folds))]
            for cut in self.branches
        ]
        return [cuts, self.notes, self.instead]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Decision:
        """The inverse of :meth:`to_json`."""
        cuts, notes, instead = data
        branches = tuple(
            BranchCut(
                tuple((begin, end) for begin, end in tasks),
                tuple(Piece(*one) for one in pieces),
                tuple(Piece(*one) for one in folds),
            )
            for tasks, pieces, folds in cuts
        )
        return cls(branches, tuple(notes), instead)
