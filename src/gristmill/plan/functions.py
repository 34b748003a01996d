"""The user's functions as the engine sees them, and what those functions may reach while a task runs.

``JobCode`` is what is pickled (by value, with cloudpickle) and shipped to executors once per job.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

Pairs = Iterable[tuple[Any, Any]]
Mapper = Callable[[Any, Any], "Pairs | None"]
Folder = Callable[[Any, Iterator[Any]], "Pairs | None"]  # combiner and reducer
Hook = Callable[[], "Pairs | None"]  # *_init and *_final; may yield pairs
Partitioner = Callable[[Any, int], int]


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


@dataclass(frozen=True)
class JobCode:
    """All steps of a job, in order.

    Attributes:
        steps: their functions.
        classes: those of the job's script, so that executors know them by name: see :meth:`introduce_classes`.
    """

    steps: tuple[StepFunctions, ...]
    classes: tuple[type, ...] = ()

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
    """User counters of one attempt: group → name → sum. Integers only; addition is their only operation."""

    groups: dict[str, dict[str, int]] = field(default_factory=dict)

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


def count(group: str, name: str, n: int = 1) -> None:
    """Add to a counter of the attempt that runs in this process; outside of one, do nothing."""
    if _active is not None:
        _active.add(group, name, n)
