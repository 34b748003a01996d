"""Only what is certainly a sum is taken for one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gristmill.compute.fold import is_sum


class Job:
    def combiner(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        """With a docstring."""
        yield word, sum(counts)

    def other(self, word: str, counts: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts) + 0


def bare(k: Any, vs: Any) -> Iterator[Any]:
    yield (k, sum(vs))


def swapped(k: Any, vs: Any) -> Iterator[Any]:
    yield sum(k), vs


def returns(k: Any, vs: Any) -> Any:
    return [(k, sum(vs))]


def starts(k: Any, vs: Any) -> Iterator[Any]:
    yield k, sum(vs, 10)


def largest(k: Any, vs: Any) -> Iterator[Any]:
    yield k, max(vs)


@pytest.mark.parametrize("function", [bare, Job().combiner])
def test_sums(function: Any) -> None:
    assert is_sum(function)


@pytest.mark.parametrize("function", [None, swapped, returns, starts, largest, Job().other, Job.combiner, len])
def test_anything_else(function: Any) -> None:
    assert not is_sum(function)


def test_a_sum_of_the_users_own_is_not_one() -> None:
    scope: dict[str, Any] = {"sum": max}
    exec("def combiner(k, vs):\n    yield k, sum(vs)", scope)
    assert not is_sum(scope["combiner"])


def test_how_the_module_was_compiled_does_not_matter() -> None:
    scope: dict[str, Any] = {}
    exec(compile("class J:\n def combiner(self, w, c): yield w, sum(c)", "job.py", "exec", dont_inherit=True), scope)
    assert is_sum(scope["J"]().combiner)
