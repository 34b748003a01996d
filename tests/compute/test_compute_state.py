"""Which functions may serve several attempts: those in which none can leave anything for the next."""

from __future__ import annotations

import functools
import math
import operator
import pickle
import re
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from gristmill.compute.state import keeps_nothing
from gristmill.plan.functions import Call, Fold, JobCode, Open, StepFunctions

SCRIPT = """
import collections, math, re, string, types

WORD = re.compile("[a-z]+")
LIMITS = 3, 4.5, ("a", frozenset({b"x"}))
SEEN = []
COUNTS = collections.Counter()
BUFFER = {"n": 0}
ODD = types.ModuleType("odd")
total = 0

class Kept:
    n = 0

def helper(text):
    return WORD.findall(text)

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

def with_default(_, line, seen=[]):
    yield line, 1

def with_constant_default(_, line, *, least=2):
    yield line, least

def made(n, steps):
    def mapper(_, line):
        yield line, n + len(steps)
    return mapper

def counting():
    n = 0
    def mapper(_, line):
        nonlocal n
        n += 1
        yield line, n
    return mapper

def inner_counts(_, line):
    n = 0
    def more():
        nonlocal n
        n += 1
    more()
    yield line, n

def plain(_, line):
    for word in helper(line.lower()):
        yield word, math.floor(1.5) + len(LIMITS)

def recursive(_, line):
    yield line, even(len(line))

def lists(_, line):
    SEEN.append(line)
    yield line, len(SEEN)

def rebinds(_, line):
    global total
    total += 1
    yield line, total

def marks_itself(_, line):
    marks_itself.n = 1
    yield line, 1

def counts(_, line):
    COUNTS[line] += 1
    yield line, COUNTS[line]

def table(_, line):
    yield line, BUFFER["n"]

def of_class(_, line):
    Kept.n += 1
    yield line, Kept.n

def reads_class(_, line):
    yield line, Kept.n

def by_name(_, line):
    globals()["total"] += 1
    yield line, total

def by_text(_, line):
    getattr(by_text, "__dict__")["n"] = 1
    yield line, 1

def in_lambda(_, line):
    return [(line, 1) for _ in map(lambda n: SEEN.append(n), "ab")]

def own_module(_, line):
    yield line, ODD.n

def wrapped(_, line):
    yield line, 1
wrapped.label = "x"

append = SEEN.append
def bound(_, line):
    append(line)
    yield line, 1

join = ",".join
def bound_to_text(_, line):
    yield join(line), 1
"""


def script() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}  # as a script's functions are, they travel by value
    exec(SCRIPT, names)
    return names


def travelled(code: JobCode) -> JobCode:
    """As an executor has it."""
    loaded = pickle.loads(cloudpickle.dumps(code))
    assert isinstance(loaded, JobCode)
    return loaded


def of(mapper: Callable[..., Any]) -> JobCode:
    return travelled(JobCode((StepFunctions(mapper=mapper),)))


@pytest.mark.parametrize(
    "name", ["plain", "recursive", "with_constant_default", "bound_to_text", "helper", "reads_module"]
)
def test_what_is_made_of_constants_keeps_nothing(name: str) -> None:
    names = script()
    names["reads_module"] = math.floor
    assert keeps_nothing(of(names[name]))


@pytest.mark.parametrize(
    "name",
    [
        "with_default",
        "lists",
        "rebinds",
        "marks_itself",
        "counts",
        "table",
        "of_class",
        "reads_class",
        "by_name",
        "by_text",
        "in_lambda",
        "inner_counts",  # it keeps nothing, and that is not seen
        "wrapped",
        "bound",
        "own_module",
    ],
)
def test_what_may_keep_something_is_not_used_twice(name: str) -> None:
    names = script()
    assert not keeps_nothing(of(names[name]))


def test_closures_count() -> None:
    names = script()
    assert keeps_nothing(of(names["made"](1, (2, 3))))
    assert not keeps_nothing(of(names["made"](1, [2, 3])))
    assert not keeps_nothing(of(names["counting"]()))


def test_every_function_of_a_job_counts() -> None:
    names = script()
    plain, lists = names["plain"], names["lists"]
    assert keeps_nothing(travelled(JobCode((StepFunctions(mapper=plain, reducer=plain, mapper_init=plain),))))
    assert not keeps_nothing(travelled(JobCode((StepFunctions(mapper=plain, reducer_final=lists),))))
    assert not keeps_nothing(travelled(JobCode((StepFunctions(mapper=plain),), classes=(names["Kept"],))))


def test_programs_count() -> None:
    def program(*arguments: Any) -> JobCode:
        return travelled(JobCode((), programs=((Open(0), Call("map", arguments)),)))

    assert keeps_nothing(program(lambda x: x + 1))
    assert keeps_nothing(
        program(operator.itemgetter(1), Fold(None, operator.add, max), str.split, int, re.compile("a"))
    )
    assert not keeps_nothing(program([]))
    assert not keeps_nothing(program(functools.partial(int, base=2)))  # no harm, but its arguments can be changed


def test_a_class_of_a_module_is_shared_anyway() -> None:
    assert keeps_nothing(of(functools.reduce))
    assert keeps_nothing(of(functools.partial))  # the class
