"""The user's functions as the engine sees them, and what those functions may reach while a task runs.

``JobCode`` is what is pickled (by value, with cloudpickle) and shipped to executors once per job.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

Pairs = Iterable[tuple[Any, Any]]
Mapper = Callable[[Any, Any], "Pairs | None"]
Folder = Callable[[Any, Iterator[Any]], "Pairs | None"]  # combiner and reducer
Hook = Callable[[], "Pairs | None"]  # *_init and *_final; may yield pairs
Partitioner = Callable[[Any, int], int]


@dataclass(frozen=True)
class Fold:
    """How the values of a key become one: Spark's ``combineByKey``.

    Attributes:
        create: what the first value of a key is folded to; None: the value itself.
        merge_value: what is folded so far and a value give this.
        merge_combiners: two that are folded give this, the one whose values came first being the first argument.
    """

    create: Callable[[Any], Any] | None
    merge_value: Callable[[Any, Any], Any]
    merge_combiners: Callable[[Any, Any], Any]


@dataclass(frozen=True, kw_only=True)
class StepFunctions:
    """One map-reduce step. Everything is optional: no mapper is identity, no reducer is map-only."""

    mapper: Mapper | None = None
    mapper_init: Hook | None = None
    mapper_final: Hook | None = None
    combiner: Folder | None = None
    reducer: Folder | None = None
    reducer_init: Hook | None = None
    reducer_final: Hook | None = None
    partitioner: Partitioner | None = None


@dataclass(frozen=True, kw_only=True)
class ExchangeFunctions(StepFunctions):
    """An exchange of a dataset. It has no mapper and no reducer: programs do that.

    Attributes:
        fold: values are folded as they come, and again when blocks are merged. Not together with a combiner.
        ranges: keys go to partitions by ranges; the last source of each branch, which every task reads as a whole,
            holds samples of the keys.
        descending: keys are sorted the other way around.
        name: the method that the user called.
        where: the user's line that called it, such as ``count.py:12``.
    """

    fold: Fold | None = None
    ranges: bool = False
    descending: bool = False
    name: str = ""
    where: str = ""


@dataclass(frozen=True)
class Open:
    """Put the stream of a source on the stack: records of splits or rows; of a partition, (key, values) groups."""

    source: int


@dataclass(frozen=True)
class Call:
    """Take streams from the stack, and put what an operator makes of them there.

    Attributes:
        how: the operator's name in ``compute.pipes``.
        arguments: the user's functions, and whatever else the operator takes.
        inputs: how many streams it takes, the last one from the top.
        sides: sources that each task reads as a whole.
        name: the method that the user called.
        where: the user's line that called it, such as ``count.py:12``.
    """

    how: str
    arguments: tuple[Any, ...] = ()
    inputs: int = 1
    sides: tuple[int, ...] = ()
    name: str = ""
    where: str = ""


Program = tuple[Open | Call, ...]
"""What a task of a dataset does, for a machine with a stack of streams; one stream is left, and goes to the sink.

Into a shuffle it must be (key, value) pairs.
"""


class Maker(Protocol):
    """Makes an input that does not come from files."""

    def make(self, task: int) -> Iterator[Any]:
        """The records of one of its tasks."""
        ...


@dataclass(frozen=True)
class JobCode:
    """All that a job's executors need to know of it, in the user's own functions.

    Attributes:
        steps: of map-reduce, in order; or the exchanges of a dataset.
        classes: those of the job's script, so that executors know them by name: see :meth:`introduce_classes`.
        programs: what the stages of a dataset do.
        makers: of the job's inputs that are made, by the input's number.
    """

    steps: tuple[StepFunctions, ...]
    classes: tuple[type, ...] = ()
    programs: tuple[Program, ...] = ()
    makers: Mapping[int, Maker] = field(default_factory=dict)

    def introduce_classes(self) -> None:
        """Make the script's classes importable here, under their own names.

        The script itself is never loaded in an executor. Without this each instance of its classes would be pickled
        with its class.
        """
        for cls in self.classes:
            module = sys.modules.setdefault(cls.__module__, ModuleType(cls.__module__))
            setattr(module, cls.__name__, cls)


@dataclass
class Counters:
    """What user code counts in one attempt. Addition is the only operation.

    Attributes:
        groups: counters: group → name → sum, of whole numbers.
        accumulated: what was added to accumulators, by their ids.
    """

    groups: dict[str, dict[str, int]] = field(default_factory=dict)
    accumulated: dict[str, int | float] = field(default_factory=dict)

    def add(self, group: str, name: str, n: int = 1) -> None:
        """Add ``n`` to a counter."""
        names = self.groups.setdefault(group, {})
        names[name] = names.get(name, 0) + n

    def merge(self, other: dict[str, dict[str, int]]) -> None:
        """Add all of another's counters."""
        for group, names in other.items():
            for name, n in names.items():
                self.add(group, name, n)


_active: Counters | None = None


def activate_counters(counters: Counters | None) -> None:
    """Make ``counters`` the ones that user code in this process adds to. An executor runs one task at a time."""
    global _active
    _active = counters


def accumulate(accumulator: str, n: int | float) -> None:
    """Add to an accumulator in the attempt that runs in this process; outside of one, do nothing."""
    if _active is not None:
        sums = _active.accumulated
        sums[accumulator] = sums.get(accumulator, 0) + n


def count(group: str, name: str, n: int = 1) -> None:
    """Add to a counter of the attempt that runs in this process; outside of one, do nothing."""
    if _active is not None:
        _active.add(group, name, n)
