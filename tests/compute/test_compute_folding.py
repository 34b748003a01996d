"""Folding as pairs come, against ``functools.reduce`` over all values of a key in their order."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.compute import collect, combine
from gristmill.compute.collect import Collector, stable_partition
from gristmill.compute.combine import fan_in
from gristmill.compute.folding import fold_combiner
from gristmill.compute.group import groups
from gristmill.errors import KeyTypeRefused, UserCodeError
from gristmill.plan.functions import Fold
from gristmill.records.keys import encode_key
from gristmill.shuffle.blocks import read_segment
from gristmill.shuffle.merge import merge

Pairs = list[tuple[Any, Any]]

SUM = Fold(None, add, add)
LISTS = Fold(lambda value: [value], lambda held, value: held + [value], add)  # noqa: RUF005
COUNTS = Fold(lambda _: 1, lambda held, _: held + 1, add)

keys = st.sampled_from(
    [
        st.text("abé\udc80\x00", max_size=2),
        st.integers(-3, 3),
        st.sampled_from([1, 1.0, True, Decimal(1), "1", None, math.nan, float("nan"), (math.nan, 1), (1, "a")]),
    ]
)
values = st.sampled_from(
    [
        st.integers(-9, 9),
        st.text("xy", max_size=3),
        st.lists(st.integers(0, 9), max_size=2),
        st.tuples(st.integers(0, 9)),
        st.builds(Fraction, st.integers(0, 9)),
        st.booleans(),
    ]
)
tasks_of_pairs = st.tuples(keys, values).flatmap(
    lambda kinds: st.lists(st.lists(st.tuples(*kinds), max_size=40), min_size=1, max_size=4)
)


def fold_all(tasks: list[Pairs], folder: Path, partitions: int, fold: Fold) -> list[list[tuple[Any, Any]]]:
    """Each partition's keys with what their values are folded to."""
    blocks = []
    for number, pairs in enumerate(tasks):
        collector = Collector(partitions, folder / f"{number}", folder / f"block-{number}", None, None, fold)
        collector.consume(iter(pairs))
        blocks.append(collector.finish())
    result = []
    for partition in range(partitions):
        combiner = fold_combiner(fold)
        merged, numbers, _ = fan_in(blocks, [partition], folder / f"merge-{partition}", combiner)
        rows = sum(block.segment(numbers[0]).rows for block in merged)
        pieces = merge([read_segment(block, numbers[0]) for block in merged], rows)
        result.append([pair for key, grouped in groups(pieces) for pair in combiner(key, grouped) or ()])
    return result


def expected(tasks: list[Pairs], partitions: int, fold: Fold) -> list[list[tuple[Any, Any]]]:
    found: list[dict[bytes, tuple[Any, list[Any]]]] = [{} for _ in range(partitions)]
    for pairs in tasks:
        for key, value in pairs:
            found[stable_partition(key, partitions)].setdefault(encode_key(key), (key, []))[1].append(value)

    def folded(grouped: list[Any]) -> Any:
        first = grouped[0] if fold.create is None else fold.create(grouped[0])
        return reduce(fold.merge_value, grouped[1:], first)

    return [[(part[e][0], folded(part[e][1])) for e in sorted(part)] for part in found]


@given(tasks=tasks_of_pairs, partitions=st.integers(1, 3), small=st.booleans(), lists=st.booleans())
@settings(max_examples=120)
def test_the_meaning_is_that_of_reduce(
    tasks: list[Pairs], partitions: int, small: bool, lists: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fold")
    fold = LISTS if lists else SUM
    given = repr(tasks)
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(collect, "RUN_BYTES", 2000)
            patch.setattr(collect, "_CHUNK", (3, 11))
            patch.setattr(combine, "FAN_IN", 2)
        assert repr(fold_all(tasks, folder, partitions, fold)) == repr(expected(tasks, partitions, fold))
    assert repr(tasks) == given, "the values are the user's"


def test_a_value_alone_is_not_touched(tmp_path: Path) -> None:
    pairs: Pairs = [("a", True), ("b", -0.0), ("c", None), ("d", [1])]
    [result] = fold_all([pairs], tmp_path, 1, SUM)
    assert repr(result) == repr(pairs)


def test_a_list_that_is_the_users_is_not_changed(tmp_path: Path) -> None:
    shared = [1]
    [result] = fold_all([[("a", shared), ("a", [2]), ("b", shared), ("b", [3])]], tmp_path, 1, SUM)
    assert result == [("a", [1, 2]), ("b", [1, 3])]
    assert shared == [1]


def test_a_fold_may_change_what_it_created_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def append(held: list[int], value: int) -> list[int]:
        held.append(value)
        return held

    def extend(held: list[int], more: list[int]) -> list[int]:
        held.extend(more)
        return held

    monkeypatch.setattr(collect, "RUN_BYTES", 20_000)
    tasks: list[Pairs] = [[(n % 7, n) for n in range(5000)] for _ in range(2)]
    [result] = fold_all(tasks, tmp_path, 1, Fold(lambda value: [value], append, extend))
    assert result == [(key, [n for n in range(5000) if n % 7 == key] * 2) for key in range(7)]


def test_keys_of_nan_are_one_and_shown_as_the_first(tmp_path: Path) -> None:
    first, others = Decimal("nan"), [math.nan, float("nan")]
    pairs = [(first, "a"), (others[0], "b"), (first, "c"), (others[1], "d"), (others[0], "e")]
    [[(key, folded)]] = fold_all([pairs], tmp_path, 1, SUM)
    assert isinstance(key, Decimal)
    assert folded == "abcde"


@pytest.mark.parametrize("kind", ["lists", "sets", "texts", "sketches", "in tuples"])
def test_what_folded_values_hold_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """20 000 pairs that keep 36 bytes or more each: a run may hold 100 kB, which is a seventh of it or less."""

    def keep(held: Any, value: int) -> Any:
        if kind == "texts":
            return held + f"{value:060d}"
        into = held[1] if kind == "in tuples" else held
        into.add(value) if kind == "sets" else into.append(value)
        return held

    create = {
        "lists": lambda value: [value],
        "sets": lambda value: {value},
        "texts": lambda value: f"{value:060d}",
        "sketches": lambda value: [value] * 300,
        "in tuples": lambda value: (0, [value]),
    }[kind]
    monkeypatch.setattr(collect, "RUN_BYTES", 100_000)
    count = 600 if kind == "sketches" else 10
    collector = Collector(1, tmp_path / "runs", tmp_path / "b", None, None, Fold(create, keep, add))
    collector.consume((n % count, n * 1000) for n in range(20_000))
    assert len(list((tmp_path / "runs").glob("run-*"))) >= 4
    assert collector.spilled_bytes > 0


def test_a_fold_that_does_not_grow_cuts_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "RUN_BYTES", 200_000)
    for number, fold in enumerate((SUM, COUNTS, Fold(None, max, max), Fold(lambda _: (0, 0), lambda h, _: h, add))):
        collector = Collector(1, tmp_path / f"{number}", tmp_path / f"b{number}", None, None, fold)
        collector.consume((f"key {n % 300}", n) for n in range(50_000))
        assert collector.finish().segment(0).rows == 300
        assert collector.spilled_bytes == 0


def test_values_that_are_folded_away_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "RUN_BYTES", 200_000)

    def longest(held: list[int], value: str) -> list[int]:
        held[0] = max(held[0], len(value))
        return held

    collector = Collector(1, tmp_path / "r", tmp_path / "b", None, None, Fold(lambda _: [0], longest, max))
    collector.consume((n % 10, "x" * (n % 5000)) for n in range(5_000))
    collector.finish()
    assert collector.spilled_bytes == 0


def test_the_same_pairs_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "RUN_BYTES", 50_000)
    pairs = [(f"{n * 7919 % 1000}", n) for n in range(10_000)]
    made = []
    for name in ("one", "two"):
        collector = Collector(3, tmp_path / name, tmp_path / f"{name}.block", None, None, LISTS)
        collector.consume(iter(pairs))
        collector.finish()
        made.append((tmp_path / f"{name}.block").read_bytes())
    assert made[0] == made[1]


class Moody:
    """Adds badly."""

    def __add__(self, other: Any) -> Any:
        raise KeyError("my own key")


def fails(held: Any, value: Any) -> Any:
    raise KeyError("my own key")


@pytest.mark.parametrize(
    ("fold", "role"),
    [
        (Fold(None, add, add), "merge_value"),
        (Fold(None, fails, add), "merge_value"),
        (Fold(lambda value: {}[value], add, add), "create"),
    ],
)
def test_an_error_of_the_users_has_its_role_and_key(tmp_path: Path, fold: Fold, role: str) -> None:
    with pytest.raises(UserCodeError, match="KeyError") as caught:
        fold_all([[("here", Moody()), ("here", Moody())]], tmp_path, 1, fold)
    report = caught.value.report
    assert (report.function, report.record, report.exception) == (role, "'here'", "KeyError")
    assert report.frames[-1].file == __file__


def test_an_error_when_runs_are_merged_has_its_role_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "RUN_BYTES", 2000)
    with pytest.raises(UserCodeError, match="my own key") as caught:
        fold_all([[(n % 3, "x" * 60) for n in range(500)]], tmp_path, 1, Fold(None, add, fails))
    assert (caught.value.report.function, caught.value.report.record) == ("merge_combiners", "0")


def test_what_cannot_be_added_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match="unsupported operand") as caught:
        fold_all([[("a", 1), ("a", None)]], tmp_path, 1, SUM)
    assert (caught.value.report.function, caught.value.report.record) == ("merge_value", "'a'")


@pytest.mark.parametrize("fold", [SUM, LISTS])
@pytest.mark.parametrize(("key", "named"), [([1], "list"), ((1, {}), "dict"), (frozenset(), "frozenset")])
def test_a_key_of_another_type_is_refused_at_once(tmp_path: Path, fold: Fold, key: Any, named: str) -> None:
    for before in (0, 1, 50):
        with pytest.raises(KeyTypeRefused, match=named):
            fold_all([[*[("a", 1)] * before, (key, 1)]], tmp_path, 2, fold)


@pytest.mark.parametrize("fold", [SUM, LISTS])
@pytest.mark.parametrize("bad", [1, (1,), (1, 2, 3), None])
def test_what_is_not_a_pair_is_a_users_error(tmp_path: Path, fold: Fold, bad: Any) -> None:
    for before in (0, 1, 50):
        with pytest.raises(UserCodeError, match=r"must yield pairs"):
            fold_all([[*[("a", 1)] * before, bad]], tmp_path, 2, fold)


def test_errors_of_the_pairs_maker_pass_as_they_are(tmp_path: Path) -> None:
    def pairs() -> Iterator[tuple[str, int]]:
        yield "a", 1
        raise KeyError("my own")

    for fold in (SUM, LISTS):
        with pytest.raises(KeyError, match="my own"):
            Collector(1, tmp_path, tmp_path / "b", None, None, fold).consume(pairs())


def test_a_value_that_cannot_be_pickled_is_named(tmp_path: Path) -> None:
    message = re.escape("A record of type generator cannot be stored or sent: TypeError: cannot pickle")
    collector = Collector(1, tmp_path, tmp_path / "b", None, None, None)
    collector.consume(iter([("a", 1), ("b", (n for n in range(3)))]))
    with pytest.raises(UserCodeError, match=message):
        collector.finish()
