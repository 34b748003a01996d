"""A fused chain does what its operators do, one after another, or is left alone."""

# ruff: noqa: B023, E731
from __future__ import annotations

import dis
import functools
import operator
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import length_hint
from typing import Any, NoReturn

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.compute.fuse import fuse
from gristmill.compute.pipes.narrow import NARROW
from gristmill.plan.functions import Call, Fold

FACTOR = 2
ADD = Fold(None, operator.add, operator.add)


def call(how: str, *functions: Any) -> Call:
    return Call(how, functions, name=how)


def plainly(calls: list[Call], records: Iterator[Any]) -> Iterator[Any]:
    """The same by the operators."""
    stream = records
    for one in calls:
        stream = NARROW[one.how](None, one, (stream,))  # type: ignore[arg-type]
    return stream


def folded(calls: list[Call], fold: Fold, records: list[Any]) -> dict[Any, Any]:
    """What is folded by hand, of what comes out of the operators."""
    groups: dict[Any, Any] = {}
    for key, value in plainly(calls, iter(records)):
        if key in groups:
            groups[key] = fold.merge_value(groups[key], value)
        else:
            groups[key] = value if fold.create is None else fold.create(value)
    return groups


def grouped(calls: list[Call], fold: Fold, records: list[Any]) -> dict[Any, Any]:
    fused = fuse(calls, fold)
    assert fused is not None
    groups: dict[Any, Any] = {}

    def first(key: Any, value: Any) -> None:
        assert key not in groups
        groups[key] = value if fold.create is None else fold.create(value)

    fused(groups, iter(records), first)
    return groups


def streamed(calls: list[Call], records: Iterator[Any]) -> Iterator[Any]:
    fused = fuse(calls)
    assert fused is not None
    return fused(records)


def calls_of(fused: Callable[..., Any] | None) -> int:
    """How many functions it calls, that is, does not have within itself."""
    assert fused is not None
    return sum(name.startswith(".f") and name != ".first" for name in fused.__code__.co_varnames) - (
        ".folded" in fused.__code__.co_varnames
    )


# What word count becomes


def test_a_word_count_is_one_loop_with_nothing_but_the_split_called() -> None:
    calls = [call("flat_map", str.split), call("map", lambda word: (word, 1))]
    fused = fuse(calls, ADD)
    assert calls_of(fused) == 1
    assert grouped(calls, ADD, ["a b a", "", "c a"]) == {"a": 3, "b": 1, "c": 1}


def test_it_is_as_small_as_what_one_writes_by_hand() -> None:
    def by_hand(groups: Any, records: Any, first: Any, missing: Any, split: Any) -> None:
        for line in records:
            for word in split(line):
                try:
                    found = groups[word]
                except missing:
                    first(word, 1)
                else:
                    groups[word] = found + 1

    fused = fuse([call("flat_map", str.split), call("map", lambda word: (word, 1))], ADD)
    assert fused is not None
    fused_steps, own_steps = ([step.opname for step in dis.get_instructions(f)] for f in (fused, by_hand))
    assert [name for name in fused_steps if name != "NOP"] == [name for name in own_steps if name != "NOP"]


# Functions of all kinds

late = 1


def expression(x: Any) -> Any:
    """One expression after a docstring."""
    return (x, late)


def statements(x: Any) -> Any:
    y = x * 2
    return y


def generator(x: int) -> Iterator[int]:
    yield x
    yield x + 1


def with_defaults(x: int, step: int = 3, *, scale: int = 2) -> int:
    return x * scale + step


def variadic(*some: int) -> int:
    return some[0]


@functools.lru_cache
def cached(x: int) -> int:
    return x + 7


def adder(n: int) -> Callable[[int], int]:
    return lambda x: x + n


class Shift:
    by = 5

    def __call__(self, x: int) -> int:
        return x + self.by

    def method(self, x: int) -> int:
        return x - self.by

    __hidden = 9
    mangled = lambda x: x + Shift.__hidden


class Watched(list[Any]):
    """Remembers what was asked of it."""


add_one, twice = lambda x: x + 1, lambda x: x * 2
# fmt: off
over_lines = (lambda x:
              x
              - 4)
# fmt: on

INT_TO_INT: dict[str, Any] = {
    "add_one": add_one,
    "twice": twice,
    "over_lines": over_lines,
    "statements": statements,
    "with_defaults": with_defaults,
    "variadic": variadic,
    "cached": cached,
    "closure": adder(10),
    "another closure": adder(20),
    "instance": Shift(),
    "method": Shift().method,
    "mangled": Shift.mangled,
    "partial": functools.partial(operator.sub, 100),
    "abs": abs,
    "float": float,
    "conditional": lambda x: x // 2 if x % 2 == 0 else 3 * x + 1,
    "short circuit": lambda x: (x > 3 and x) or -x,
    "chained": lambda x: int(0 < x < 10),
    "global": lambda x: x * FACTOR + late,
    "default of a loop": [lambda x, n=n: x + n for n in range(3)][1],
    "list comprehension": lambda x: sum([x * y for y in (1, 2, 3) if y != x]),
    "set and dict comprehension": lambda x: len({y % 3 for y in range(abs(int(x)))}) + len({y: x for y in (1, x)}),
    "generator within": lambda x: sum(1 for _ in range(abs(int(x)))),
    "generator that holds it": lambda x: sum(x + y for y in (1, 2)),
    "lambda within": lambda x: sorted([x, -x], key=lambda y: -y)[0],
    "lambda that holds it": lambda x: (lambda y: x + y)(1),
    "walrus": lambda x: (y := x + 1) * y,
    "shadowed": lambda x: sum([x for x in [x, x]]),
    "text": lambda x: len(f"{x!r:>5}-{x + 1}"),
    "starred": lambda x: max(*[x, 3], 1),
    "keywords": lambda x: int(str(abs(int(x))), base=10),
    "frames": lambda x: locals()["x"],
    "slice": lambda x: [1, 2, 3, 4][: int(x) % 4][-1:] == [1],
    "lambda at once": (lambda f: lambda x: f(f(x)))(add_one),
}
INT_TO_INTS: dict[str, Any] = {
    "range": lambda x: range(abs(int(x)) % 4),
    "generator": generator,
    "loops": lambda x: (y + x for y in range(3) if y != 1 if x),
    "loops in loops": lambda x: (a * b for a in (x, 2) for b in range(abs(int(a)) % 5) if b),
    "loops that take apart": lambda x: (a + b for a, (b, *_) in [(x, (1, 2)), (2, (x,))]),
    "pairs": lambda x: ((y, x)[0] for y in (1, 2)),
    "reads before it binds": lambda x: (b for a in (1, 2) for b in (b, 2)),  # noqa: F821
    "same name twice": lambda x: (a for a in [(x, 1)] for a in a),
    "shadowing loops": lambda x: (x for x in (x, 1)),
    "lambda in loops": lambda x: (f() for f in [lambda: y for y in (1, x)]),
    "lazy in loops": lambda x: (next(g) for g in [(y + z for z in (1, 2)) for y in (x, 1)]),
    "list": lambda x: [x, x + 1],
    "nothing": lambda x: (),
    "displays": lambda x: (int(x), 1),
}
TO_PAIR: dict[str, Any] = {
    "expression": expression,
    "display": lambda x: (x % 3, x),
    "in pairs": lambda x: ((x, "k"), (x, (1, x))),
    "constant": lambda x: ("k", 1),
    "list": lambda x: [x % 2, x],
    "text": lambda x: "ab",
    "called": lambda x: divmod(x, 3),
    "one of two": lambda x: (x, 1) if x % 2 else (1, x),
    "starred": lambda x: (*[x], 1),
    "divmod": lambda x, divmod=divmod: divmod(x, 2),
}
PAIR_TO_INT: dict[str, Any] = {
    "first": lambda pair: len(str(pair[0])),
    "both": lambda pair: hash(pair[0]) % 5 + len(str(pair[1])),
    "last": lambda pair: len(repr(pair[-1])),
    "whole": lambda pair: len(pair),
    "deep": lambda pair: len(repr(pair[1][0])) if isinstance(pair[1], tuple) else 1,
    "list comprehension": lambda pair: len([pair[0] for _ in (1, 2)]),
    "builtin": len,
    "true": lambda pair: len(str(pair[True])),
}
SIMPLE = st.sampled_from(sorted(INT_TO_INT)).map(lambda name: ("map", INT_TO_INT[name]))
TESTS = st.sampled_from(sorted(INT_TO_INT)).map(lambda name: ("filter", INT_TO_INT[name]))
FLAT = st.sampled_from(sorted(INT_TO_INTS)).map(lambda name: ("flat_map", INT_TO_INTS[name]))
PAIRED = st.sampled_from(sorted(TO_PAIR)).map(lambda name: ("map", TO_PAIR[name]))
KEYED = st.sampled_from(sorted(INT_TO_INT)).map(lambda name: ("key_by", INT_TO_INT[name]))
ON_VALUES = st.one_of(
    st.sampled_from(sorted(INT_TO_INT)).map(lambda name: ("map_values", INT_TO_INT[name])),
    st.sampled_from(sorted(INT_TO_INTS)).map(lambda name: ("flat_map_values", INT_TO_INTS[name])),
    st.sampled_from(sorted(PAIR_TO_INT)).map(lambda name: ("filter", PAIR_TO_INT[name])),
    st.sampled_from(sorted(TO_PAIR)).map(lambda name: ("map_values", TO_PAIR[name])),
    st.sampled_from(sorted(PAIR_TO_INT)).map(lambda name: ("key_by", PAIR_TO_INT[name])),
)
BACK = st.one_of(
    st.sampled_from([("keys",), ("values",)]),
    st.sampled_from(sorted(PAIR_TO_INT)).map(lambda name: ("map", PAIR_TO_INT[name])),
)
INTS = st.lists(st.one_of(SIMPLE, SIMPLE, TESTS, FLAT), max_size=4)
PAIRS = st.builds(
    lambda ints, to_pair, rest: [*ints, to_pair, *rest], INTS, PAIRED | KEYED, st.lists(ON_VALUES, max_size=3)
)
MERGES: dict[str, Any] = {
    "add": operator.add,
    "max": max,
    "min": min,
    "lambda": lambda a, b: a + b,
    "later": lambda a, b: b,
    "counts": lambda a, b, n=1: a + n,
    "statements": lambda a, b: (lambda c: c)(a),
    "pairs": lambda a, b: (a, b) if isinstance(a, int) else a,
}


def outcome(make: Callable[[], Any]) -> Any:
    """What it gives, or that it fails."""
    try:
        return repr(make())
    except Exception:
        return "it fails"


@given(
    st.lists(
        st.one_of(PAIRS, PAIRS.flatmap(lambda pairs: BACK.map(lambda back: [*pairs, back]))), min_size=1, max_size=2
    )
)
def test_a_stream_is_that_of_the_operators(drawn: list[Any]) -> None:
    calls = [call(*one) for chain in drawn for one in chain]
    if len(drawn) > 1 and drawn[0][-1][0] not in ("keys", "values"):
        calls = [call(*one) for one in drawn[0]]
    fused = fuse(calls)
    if fused is None:
        assert len(calls) < 3
        return
    for record in range(-1, 6):
        assert outcome(lambda r=record: list(fused(iter([r])))) == outcome(
            lambda r=record: list(plainly(calls, iter([r])))
        )
    several = list(range(5))
    assert outcome(lambda: list(fused(iter(several)))) == outcome(lambda: list(plainly(calls, iter(several))))


@given(PAIRS, st.sampled_from(sorted(MERGES)), st.sampled_from([None, lambda value: [value]]))
def test_groups_are_those_of_the_operators(drawn: list[Any], merge: str, create: Any) -> None:
    calls = [call(*one) for one in drawn]
    fold = Fold(create, MERGES[merge], MERGES[merge])
    for records in ([3], [1, 2, 3], list(range(-2, 6))):
        assert outcome(lambda r=records: grouped(calls, fold, r)) == outcome(lambda r=records: folded(calls, fold, r))


@pytest.mark.parametrize("name", sorted(INT_TO_INT))
def test_each_function_alone(name: str) -> None:
    calls = [call("map", INT_TO_INT[name]), call("map", lambda x: x), call("filter", lambda x: x is not None)]
    assert list(streamed(calls, iter(range(6)))) == list(plainly(calls, iter(range(6))))


@pytest.mark.parametrize(
    "name",
    [
        "statements", "variadic", "cached", "instance", "method", "mangled", "partial", "abs", "walrus", "shadowed",
        "generator that holds it", "lambda that holds it", "frames",
    ],
)  # fmt: skip
def test_functions_that_are_called(name: str) -> None:
    fused = fuse([call("map", INT_TO_INT[name]), call("map", lambda x: (x, 1))], ADD)
    assert calls_of(fused) == 1


@pytest.mark.parametrize(
    "name",
    [
        "add_one", "twice", "over_lines", "closure", "conditional", "short circuit", "chained", "global",
        "list comprehension", "set and dict comprehension", "generator within", "lambda within", "text", "starred",
        "keywords", "slice", "lambda at once",
    ],
)  # fmt: skip
def test_functions_that_are_written_out(name: str) -> None:
    fused = fuse([call("map", INT_TO_INT[name]), call("map", lambda x: (x, 1))], ADD)
    assert calls_of(fused) == 0


@pytest.mark.parametrize("name", ["loops", "loops in loops", "loops that take apart"])
def test_generators_that_become_loops(name: str) -> None:
    fused = fuse([call("flat_map", INT_TO_INTS[name]), call("map", lambda x: (x, 1))], ADD)
    assert calls_of(fused) == 0
    assert fused is not None
    assert not [constant for constant in fused.__code__.co_consts if hasattr(constant, "co_code")]


# Names and scopes


def test_a_global_that_changes_meanwhile_is_read_anew() -> None:
    def change(x: int) -> int:
        global late
        late += 1
        return x

    calls = [call("map", change), call("map", lambda x: (x, late))]
    global late
    late = 1
    assert list(streamed(calls, iter("ab"))) == [("a", 2), ("b", 3)]


def test_a_cell_that_changes_meanwhile_is_read_anew() -> None:
    seen = 0

    def change(x: int) -> int:
        nonlocal seen
        seen += 1
        return x

    calls = [call("map", change), call("map", lambda x: (x, seen))]
    assert list(streamed(calls, iter("ab"))) == [("a", 1), ("b", 2)]


def test_a_variable_that_is_not_bound_yet_is_an_error_of_its_own() -> None:
    calls = [call("map", lambda x: unbound + x), call("map", lambda x: (x, 1))]
    with pytest.raises(NameError, match="free variable"):
        list(streamed(calls, iter([1])))
    unbound = 1
    assert list(streamed(calls, iter([1]))) == [(2, 1)]


def test_equal_lambdas_have_closures_of_their_own() -> None:
    made = [adder(1), adder(10), adder(100)]
    assert list(streamed([call("map", one) for one in made], iter([0]))) == [111]


def test_what_holds_a_parameter_is_not_shared_between_records() -> None:
    calls = [call("map", lambda x: (x + y for y in (0, 10))), call("map", lambda x: x)]
    assert [list(one) for one in list(streamed(calls, iter([1, 2])))] == [[1, 11], [2, 12]]
    calls = [call("map", lambda x: [lambda: (x, y) for y in "ab"]), call("map", lambda x: x)]
    assert [one() for some in list(streamed(calls, iter([1, 2]))) for one in some] == [
        (1, "b"), (1, "b"), (2, "b"), (2, "b"),
    ]  # fmt: skip


def test_a_builtin_that_the_module_hides() -> None:
    scope: dict[str, Any] = {"len": lambda x: 42}
    hides = types_function(INT_TO_INT["text"], scope)
    assert list(streamed([call("map", hides), call("map", lambda x: len(str(x)))], iter([1]))) == [2]


def types_function(function: Any, scope: dict[str, Any]) -> Any:
    return type(function)(function.__code__, scope, function.__name__)


def test_functions_of_another_home_are_called() -> None:
    elsewhere = types_function(add_one, {})
    fused = fuse([call("map", add_one), call("map", elsewhere), call("map", lambda x: (x, 1))], ADD)
    assert calls_of(fused) == 1


def test_functions_that_travelled_are_still_at_one_home() -> None:
    calls = cloudpickle.loads(cloudpickle.dumps([call("map", lambda x: x * FACTOR), call("map", lambda x: (x, late))]))
    assert calls_of(fuse(calls, ADD)) == 0
    assert list(grouped(calls, ADD, [1])) == [2]


def test_several_lambdas_on_one_line() -> None:
    # fmt: off
    calls = [call("map", f) for f in (lambda x: x + 1, lambda x: x + 2, lambda y: y + 1, lambda x: x + 1.0)]
    # fmt: on
    [result] = streamed(calls, iter([0]))
    assert repr(result) == "5.0"
    assert calls_of(fuse([*calls, call("map", lambda x: (x, True))], ADD)) == 0


def test_a_chain_over_several_lines() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.calls: list[Call] = []

        def map(self, function: Any) -> Recorder:
            self.calls.append(call("map", function))
            return self

    # fmt: off
    calls = (Recorder().map(lambda x: x + 1)
             .map(lambda x:
                  x * 10)
             .map(lambda x: (x,
                             x)).calls)
    # fmt: on
    fused = fuse(calls, ADD)
    assert calls_of(fused) == 0
    assert grouped(calls, ADD, [1]) == {20: 20}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("f = lambda x: x + 1", "f = lambda x: x + 2"),
        ("f = lambda x: [y + 1 for y in x]", "f = lambda x: [y + 2 for y in x]"),
        ("f = lambda x: x + 1", "f = lambda x: x + True"),
        ("f = lambda x: x + 0.0", "f = lambda x: x + -0.0"),
        ("f = lambda x: x in (1, 2)", "f = lambda x: x in (True, 2)"),
        ("f = lambda x: x + 1", "f = (lambda x:"),
        ("f = lambda x: x + 1", ""),
    ],
)
def test_source_that_is_not_what_runs_is_not_used(tmp_path: Any, before: str, after: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(before)
    scope: dict[str, Any] = {}
    exec(compile(before, str(script), "exec"), scope)
    calls = [call("map", scope["f"]), call("map", lambda x: (1, x))]
    assert calls_of(fuse(calls, ADD)) == 1  # it is of another file

    fresh: dict[str, Any] = {}
    script.write_text(after)
    exec(compile("\n\n" + before, str(script), "exec"), fresh)
    script.write_text("\n\n" + after)
    assert calls_of(fuse([call("map", fresh["f"])], ADD)) == 1


def test_code_without_source_is_called() -> None:
    scope: dict[str, Any] = {}
    exec("f = lambda x: (x, 1)", scope)
    assert calls_of(fuse([call("map", scope["f"])], ADD)) == 1
    assert grouped([call("map", scope["f"])], ADD, [1, 1]) == {1: 2}


# Pairs, keys and values


def test_a_pair_that_is_taken_apart_need_not_be_a_tuple() -> None:
    class Both:
        def __iter__(self) -> Iterator[int]:
            return iter((1, 2))

        def __getitem__(self, place: int) -> int:
            return place + 10

    calls = [call("filter", lambda pair: pair[0]), call("keys"), call("map", lambda x: x)]
    assert list(streamed(calls, iter([Both(), {5: 0, 6: 1, 0: 2} and [3, 4]]))) == [1, 3]
    calls = [call("map_values", lambda x: x), call("map", lambda pair: (pair[0], pair[1]))]
    assert list(streamed(calls, iter([Both()]))) == [(1, 2)]
    keep = [call("flat_map_values", lambda x: [x]), call("filter", lambda p: p[0] == 1), call("map", lambda p: p)]
    assert list(streamed(keep, iter([Both()]))) == [(1, 2)]


def test_a_pair_is_built_once() -> None:
    seen: list[Any] = []
    calls = [call("map", lambda x: (x, [])), call("filter", lambda p: not seen.append(p)), call("map", lambda p: p)]
    made = list(streamed(calls, iter([1, 2])))
    assert all(here is there for here, there in zip(made, seen, strict=True))


def test_pairs_in_pairs_are_built_once_too() -> None:
    seen: list[Any] = []
    calls = [
        call("map", lambda x: (x, (x, []))),
        call("filter", lambda p: not seen.append(p)),
        call("map_values", lambda v: v),
        call("filter", lambda p: not seen.append(p[1])),
        call("values"),
    ]
    [made] = streamed(calls, iter([1]))
    assert made is seen[1] is seen[0][1]


def test_a_tuple_of_two_that_is_only_merged_is_never_built() -> None:
    merge = lambda a, b: (a[0] + b[0], a[1] + b[1])
    calls = [call("map", lambda x: (x % 2, (x, 1)))]
    fused = fuse(calls, Fold(None, merge, merge))
    assert fused is not None
    built = [step.opname for step in dis.get_instructions(fused)].count("BUILD_TUPLE")
    assert built == 2  # for a new key, and what is merged
    assert grouped(calls, Fold(None, merge, merge), [1, 2, 3, 5]) == {1: (9, 3), 0: (2, 1)}


def test_what_is_not_used_is_evaluated_all_the_same() -> None:
    calls = [call("map", lambda x: (x, 1 // x)), call("keys"), call("map", lambda x: x)]
    with pytest.raises(ZeroDivisionError):
        list(streamed(calls, iter([0])))


def test_values_are_not_changed_in_place() -> None:
    mine = [1]
    assert grouped([], ADD, [("a", mine), ("a", [2]), ("a", [3])]) == {"a": [1, 2, 3]}
    assert mine == [1]


def test_a_value_that_stays_alone_is_not_touched() -> None:
    assert repr(grouped([], ADD, [("a", True), (1, -0.0)])) == "{'a': True, 1: -0.0}"


def test_missing_keys_are_told_from_other_key_errors() -> None:
    def merge(here: Any, there: Any) -> NoReturn:
        raise KeyError("a user's own")

    with pytest.raises(KeyError, match="a user's own"):
        grouped([call("map", lambda x: (x, 1))], Fold(None, merge, merge), [1, 1])
    with pytest.raises(KeyError, match="in it"):
        grouped([call("map", lambda x: (x, {}["in it"]))], ADD, [1])
    with pytest.raises(KeyError, match="merged"):
        grouped([], Fold(None, lambda a, b: {}["merged"], operator.add), [(1, 1), (1, 1)])


def test_each_nan_is_told() -> None:
    nan = float("nan")
    fused = fuse([call("map", lambda x: (x, 1))], ADD)
    assert fused is not None
    told: list[Any] = []
    fused({}, iter([nan, nan, float("nan")]), lambda key, value: told.append(value))
    assert told == [1, 1, 1]


@pytest.mark.parametrize("merge", sorted(MERGES))
def test_merging(merge: str) -> None:
    fold = Fold(None, MERGES[merge], MERGES[merge])
    records = [("a", 3), ("b", 1), ("a", 1), ("a", 2), ("b", 1.0)]
    assert repr(grouped([], fold, records)) == repr(folded([], fold, records))


# What happens when


def test_effects_come_in_the_order_of_the_operators() -> None:
    log: list[Any] = []

    def say(what: Any) -> Any:
        log.append(what)
        return what

    calls = [
        call("flat_map", lambda x: (say((x, y)) for y in "ab")),
        call("filter", lambda p: say(("kept", p)) and p[1] == "a"),
        call("map", lambda p: (say("key"), say("value"))),
        call("map_values", lambda v: say(v + "!")),
    ]
    expected = list(plainly(calls, iter([1, 2])))
    in_order, log[:] = list(log), []
    assert list(streamed(calls, iter([1, 2]))) == expected
    assert log == in_order


def test_a_list_is_whole_before_the_next_operator_sees_any_of_it() -> None:
    seen: set[int] = set()
    calls = [call("flat_map", lambda x: [y for y in x if y not in seen]), call("filter", lambda y: not seen.add(y))]
    assert list(streamed(calls, iter([(1, 1), (1, 2, 2)]))) == [1, 1, 2, 2]


def test_no_record_is_taken_ahead() -> None:
    records = iter([1, 2, 3])
    stream = streamed([call("map", lambda x: x), call("flat_map", lambda x: (y for y in (x, x)))], records)
    assert length_hint(records) == 3
    assert [next(stream), next(stream)] == [1, 1]
    assert length_hint(records) == 2


def test_the_record_in_work_is_known_when_it_fails() -> None:
    records = iter([2, 1, 0, 5])
    fused = fuse([call("map", lambda x: (x, 1 // x))], ADD)
    assert fused is not None
    with pytest.raises(ZeroDivisionError):
        fused({}, records, lambda key, value: None)
    assert length_hint(records) == 1


def test_the_end_of_a_users_iterator_is_not_the_end_of_the_stream() -> None:
    calls = [call("map", lambda x: next(iter(())) if x else x), call("map", lambda x: (x, 1))]
    with pytest.raises(RuntimeError):
        list(streamed(calls, iter([0, 1, 2])))
    with pytest.raises(StopIteration):
        grouped(calls, ADD, [0, 1, 2])


def test_tracebacks_show_the_users_own_line() -> None:
    calls = [
        call("map", lambda x: x),
        call("map", lambda x: (int(x), 1)),  # here
        call("filter", lambda x: x),
    ]
    with pytest.raises(ValueError, match="invalid literal") as caught:
        list(streamed(calls, iter(["1", "x"])))
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert last.filename == __file__
    assert last.line == 'call("map", lambda x: (int(x), 1)),  # here'


def test_what_is_not_in_a_lambda_is_at_the_line_that_asked_for_it() -> None:
    here = sys._getframe().f_lineno
    calls = [call("map", lambda x: x), replace(call("keys"), where=f"test_compute_fuse.py:{here}")]
    with pytest.raises(TypeError) as caught:
        list(streamed(calls, iter([1])))
    assert traceback.extract_tb(caught.value.__traceback__)[-1].lineno == here


def test_python_warns_of_the_users_code_but_once(tmp_path: Any) -> None:
    script = tmp_path / "script.py"
    script.write_text("f = lambda x: x is 1")
    scope: dict[str, Any] = {}
    with pytest.warns(SyntaxWarning):
        exec(compile(script.read_text(), str(script), "exec"), scope)
    assert calls_of(fuse([call("map", scope["f"])], ADD)) == 0


# What is left alone


@pytest.mark.parametrize(
    "calls",
    [
        [call("map_partitions", list)],
        [call("map")],
        [call("map", None)],
        [call("map", abs, abs)],
        [call("keys", abs)],
        [replace(call("map", abs), inputs=2)],
        [replace(call("map", abs), sides=(1,))],
        [call("flat_map", list)] * 16,
        [call("flat_map", lambda x: (b for a in x for b in a))] * 8,
    ],
)
def test_anything_unusual_is_left_alone(calls: list[Call]) -> None:
    assert fuse(calls, ADD) is None
    assert fuse(calls) is None


@pytest.mark.parametrize("calls", [[], [call("flat_map", str.split)], [call("flat_map", str.split), call("map", len)]])
def test_what_would_not_be_faster_is_left_alone(calls: list[Call]) -> None:
    assert fuse(calls) is None
    assert fuse(calls, ADD) is not None
