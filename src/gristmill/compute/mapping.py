"""Mappers as one lazy chain: records in, pairs out, with as little Python between them as can be."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, repeat, starmap
from typing import Any

from gristmill.compute.group import Group
from gristmill.compute.guard import misuse
from gristmill.plan.functions import Folder, StepFunctions

Pair = tuple[Any, Any]


class MapChain:
    """The mappers of some steps, one after another. A step without a mapper hands its records on."""

    def __init__(self, steps: Sequence[StepFunctions]) -> None:
        self._steps = steps

    @cached_property
    def _mappers(self) -> list[Callable[..., Iterable[Pair]] | None]:
        return [step.mapper and always_iterable(step.mapper, "mapper") for step in self._steps]

    @property
    def only_mapper(self) -> Callable[..., Any] | None:
        """The mapper, if the chain is one mapper and nothing else."""
        return self._steps[0].mapper if len(self._steps) == 1 else None

    def begin(self) -> Iterator[Pair] | None:
        """What the ``mapper_init`` hooks yield, each through the mappers behind it; None if there are none."""
        return self._all_of([step.mapper_init for step in self._steps])

    def end(self) -> Iterator[Pair] | None:
        """What the ``mapper_final`` hooks yield, likewise."""
        return self._all_of([step.mapper_final for step in self._steps])

    def _all_of(self, hooks: Sequence[Callable[[], Any] | None]) -> Iterator[Pair] | None:
        if not any(hooks):
            return None
        return chain.from_iterable(self._hook(hook, place) for place, hook in enumerate(hooks))

    def apply(self, key: Any, values: Iterable[Any]) -> Iterator[Pair]:
        """The pairs that records of one key become."""
        if not self._mappers or self._mappers[0] is None:
            return self._through(zip(repeat(key), values), 1)
        return self._through(chain.from_iterable(map(self._mappers[0], repeat(key), values)), 1)

    def apply_pairs(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """The pairs that records with keys of their own become."""
        return self._through(pairs, 0)

    def _through(self, pairs: Iterable[Pair], start: int) -> Iterator[Pair]:
        for mapper in self._mappers[start:]:
            if mapper is not None:
                pairs = chain.from_iterable(starmap(mapper, pairs))
        return iter(pairs)

    def _hook(self, hook: Callable[[], Any] | None, place: int) -> Iterator[Pair]:
        return self._through(hook() or () if hook else (), place + 1)


def always_iterable(function: Callable[..., Any], role: str) -> Callable[..., Iterable[Pair]]:
    """The function, whose result may be None, as one whose result never is."""
    if inspect.isgeneratorfunction(function):
        return function

    def call(key: Any, value: Any) -> Iterable[Pair]:
        try:
            made = function(key, value)
        except StopIteration as error:  # it would pass for the end of the input
            raise RuntimeError(f"{role} raised StopIteration") from error
        if made is None:
            return ()
        if not isinstance(made, Iterable):
            message = f"A {role} must yield pairs (key, value); this one returned {made!r:.200}."
            raise misuse(function, role, message, "Write `yield key, value`, or return a list of pairs.")
        return made

    return call


def reduce_groups(groups: Iterable[Group], reducer: Folder, on_group: Callable[[Any], None]) -> Iterator[Pair]:
    """What a reducer yields for each group. ``on_group`` is told each key before the reducer is called."""
    call = always_iterable(reducer, "reducer")
    for key, values in groups:
        on_group(key)
        yield from call(key, values)
