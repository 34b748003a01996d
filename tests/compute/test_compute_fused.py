"""What a fused collector writes is what any other writes."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from functools import reduce
from operator import length_hint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.compute import collect, fused
from gristmill.compute.collect import Collector, stable_partition
from gristmill.compute.combine import fan_in
from gristmill.compute.folding import fold_combiner
from gristmill.compute.fuse import fuse
from gristmill.compute.fused import FusedCollector
from gristmill.compute.group import groups
from gristmill.compute.pipes.narrow import NARROW
from gristmill.errors import KeyTypeRefused, UserCodeError
from gristmill.plan.functions import Call, Fold
from gristmill.records.keys import encode_key
from gristmill.shuffle.blocks import read_segment
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.merge import merge

SUM = Fold(None, operator.add, operator.add)
FOLDS = {
    "sum": SUM,
    "largest": Fold(None, max, max),
    "count": Fold(lambda _: 1, lambda held, _: held + 1, operator.add),
    "mean": Fold(lambda value: (value, 1), lambda a, b: (a[0] + b, a[1] + 1), lambda a, b: (a[0] + b[0], a[1] + b[1])),
    "joined": Fold(lambda value: (value,), lambda held, value: (*held, value), operator.add),
    "list": Fold(lambda value: [value], lambda held, value: [*held, value], operator.add),
    "grows late": Fold(None, lambda a, b: a + b if isinstance(a, int) and b % 3 else [a, b], lambda a, b: [a, b]),
}
CALLS = [
    Call("filter", (lambda pair: pair[1] != 7,), name="filter"),
    Call("map_values", (lambda value: value,), name="map_values"),
]
KEYS = st.sampled_from(
    [1, 1.0, True, "a", "b", None, math.nan, float("nan"), (1, float("nan")), (1, math.nan), -2, b"c"]
)
Pairs = list[tuple[Any, Any]]


def plain(records: Iterator[Any]) -> Iterator[Any]:
    for call in CALLS:
        records = NARROW[call.how](None, call, (records,))  # type: ignore[arg-type]
    return records


def collector(folder: Path, fold: Fold, partitions: int = 1) -> FusedCollector:
    grouping = fuse(CALLS, fold)
    assert grouping is not None
    return FusedCollector(partitions, folder / "scratch", folder / "block", None, fold, grouping)


def contents(block: BlockInfo, folder: Path, partitions: int, fold: Fold) -> list[list[tuple[Any, Any]]]:
    result = []
    for partition in range(partitions):
        combiner = fold_combiner(fold)
        merged, numbers, _ = fan_in([block] if block.path else [], [partition], folder / f"merge-{partition}", combiner)
        rows = sum(block.segment(numbers[0]).rows for block in merged)
        pieces = merge([read_segment(block, numbers[0]) for block in merged], rows)
        result.append([pair for key, grouped in groups(pieces) for pair in combiner(key, grouped) or ()])
    return result


def expected(pairs: Pairs, partitions: int, fold: Fold) -> list[list[tuple[Any, Any]]]:
    found: list[dict[bytes, tuple[Any, list[Any]]]] = [{} for _ in range(partitions)]
    for key, value in plain(iter(pairs)):
        found[stable_partition(key, partitions)].setdefault(encode_key(key), (key, []))[1].append(value)

    def folded(values: list[Any]) -> Any:
        return reduce(fold.merge_value, values[1:], values[0] if fold.create is None else fold.create(values[0]))

    return [[(part[e][0], folded(part[e][1])) for e in sorted(part)] for part in found]


@given(
    pairs=st.lists(st.tuples(KEYS, st.integers(0, 9)), max_size=60),
    partitions=st.integers(1, 3),
    name=st.sampled_from(sorted(FOLDS.keys() - {"grows late"})),
    small=st.booleans(),
)
@settings(deadline=None)
def test_the_meaning_is_that_of_reduce(
    pairs: Pairs, partitions: int, name: str, small: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fused")
    fold = FOLDS[name]
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(collect, "RUN_BYTES", 1000)
            patch.setattr(fused, "_STEP", 2)
        into = collector(folder, fold, partitions)
        into.group(iter(pairs), plain)
        made = contents(into.finish(), folder, partitions, fold)
    assert repr(made) == repr(expected(pairs, partitions, fold))


def test_what_begins_as_numbers_may_go_on_as_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_STEP", 3)
    monkeypatch.setattr(fused, "_STEP_A_KEY", 1)
    pairs = [(number % 4, number) for number in range(50)]
    fold = FOLDS["grows late"]
    into = collector(tmp_path, fold)
    into.group(iter(pairs), plain)
    assert contents(into.finish(), tmp_path, 1, fold) == expected(pairs, 1, fold)


def test_runs_are_cut_when_there_are_many_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "RUN_BYTES", 20_000)
    pairs = [(f"key {number * 7 % 1000}", 1) for number in range(3000)]
    into = collector(tmp_path, SUM, 2)
    into.group(iter(pairs), plain)
    block = into.finish()
    assert into.spilled_bytes
    assert contents(block, tmp_path, 2, SUM) == expected(pairs, 2, SUM)


def test_it_writes_the_bytes_that_others_write(tmp_path: Path) -> None:
    pairs = [(f"key {number % 100}", number) for number in range(1000)]
    into = collector(tmp_path, SUM, 3)
    into.group(iter(pairs), plain)
    other = Collector(3, tmp_path / "other", tmp_path / "other.block", None, None, SUM)
    other.consume(plain(iter(pairs)))
    assert Path(into.finish().path).read_bytes() == Path(other.finish().path).read_bytes()


def test_nothing_makes_no_block(tmp_path: Path) -> None:
    into = collector(tmp_path, SUM)
    into.group(iter([]), plain)
    assert into.finish() == BlockInfo("", ())


@pytest.mark.parametrize("values", [(1, 1), ("text", "more")])
def test_the_record_in_work_is_known(values: Pairs, tmp_path: Path) -> None:
    records = iter([("a", values[0]), ("a", values[1]), 5, ("b", 1)])
    with pytest.raises(TypeError):
        collector(tmp_path, SUM).group(records, plain)
    assert length_hint(records) == 1


def test_a_key_that_cannot_be_shuffled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyTypeRefused):
        collector(tmp_path, SUM).group(iter([(object(), 1)]), plain)


def test_what_comes_as_pairs_after_a_failure_is_named(tmp_path: Path) -> None:
    into = collector(tmp_path, SUM)
    pairs: Pairs = [("a", 1), ("a", "text")]
    with pytest.raises(TypeError):
        into.group(iter(pairs), plain)
    with pytest.raises(UserCodeError) as caught:
        into.consume(plain(iter(pairs[1:])))
    assert caught.value.report.function == "merge_value"


def test_a_key_whose_equality_fails_is_no_new_key(tmp_path: Path) -> None:
    class Odd(tuple[int, ...]):
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            raise KeyError("odd")

    with pytest.raises(KeyError, match="odd"):
        collector(tmp_path, SUM).group(iter([(Odd((1,)), 1), (Odd((2,)), 1)]), plain)
