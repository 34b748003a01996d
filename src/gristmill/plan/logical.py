"""What a chain of a dataset's methods asks for, as a tree: nothing is decided in it, and nothing computed.

A node stands for a dataset. Its tasks are cut alike ("aligned") with those of other nodes if they stand for the same
partitions of the same number; only such nodes can be children of one :class:`Pipe`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from gristmill.plan.functions import Call, ExchangeFunctions, Maker
from gristmill.plan.stages import InputSpec

_numbers = count()


@dataclass(frozen=True, eq=False)
class _Numbered:
    """A node has a number that no other node of this process has."""

    number: int = field(default_factory=lambda: next(_numbers), init=False, repr=False)


@dataclass(frozen=True, eq=False)
class Read(_Numbered):
    """Records of files, or of a maker. Their order is (file, offset)."""

    input: InputSpec
    maker: Maker | None = None
    name: str = "read"
    where: str = ""


@dataclass(frozen=True, eq=False)
class Pipe(_Numbered):
    """An operator that each task applies to its own part of the children.

    ``call.inputs`` is the number of children; ``call.sides`` is filled in when the plan is cut: every task reads all of
    ``sides``.
    """

    children: tuple[Node, ...]
    call: Call
    sides: tuple[Node, ...] = ()


@dataclass(frozen=True, eq=False)
class Union(_Numbered):
    """All records of the children, one child after another."""

    children: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Exchange(_Numbered):
    """Pairs go to the partition of their key. Comes out as groups: (key, iterator of values), in the order of keys.

    Attributes:
        child: gives (key, value) pairs.
        step: its ``fold`` or ``combiner``, ``partitioner``, ``ranges`` and ``descending`` are used.
        partitions: how many; 0: it follows from the size of the job's input.
        samples: if keys go by ranges: a node of samples of the keys.
    """

    child: Node
    step: ExchangeFunctions
    partitions: int = 0
    samples: Node | None = None
    name: str = "exchange"
    where: str = ""


@dataclass(frozen=True, eq=False)
class Keep(_Numbered):
    """The child's records, written down once and read by all that follows, in the same tasks and order.

    Attributes:
        child: what is kept.
        kept: under which name the session keeps it for later jobs; empty: only for this one.
    """

    child: Node
    kept: str = ""


Node = Read | Pipe | Union | Exchange | Keep
