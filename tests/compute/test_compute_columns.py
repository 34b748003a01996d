"""A sort in columns gives what a Collector gives."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.compute import collect, columns, combine
from gristmill.compute.collect import Collector
from gristmill.compute.columns import ColumnCollector
from gristmill.compute.combine import fan_in
from gristmill.compute.group import groups
from gristmill.compute.ranges import RangePartitioner, bounds_of
from gristmill.errors import KeyTypeRefused, UserCodeError
from gristmill.shuffle.blocks import read_segment
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.merge import merge
from gristmill.shuffle.ordering import sort_order

Pairs = list[tuple[Any, Any]]

texts = st.text("ab\x00é\udc80", max_size=3) | st.text("a", min_size=7, max_size=10)
kinds = [texts, st.integers(-3, 3), st.integers(), st.binary(max_size=3), st.sampled_from([1, 1.0, "a", None, (1,)])]
values = st.sampled_from([st.integers(), st.text(max_size=3), st.none() | st.integers(), st.tuples(st.integers())])
task = st.tuples(st.sampled_from(kinds), values).flatmap(lambda some: st.lists(st.tuples(*some), max_size=40))
# Now and then the keys change their type on the way.
tasks_of_pairs = st.lists(st.one_of(task, st.builds(list.__add__, task, task)), min_size=1, max_size=4)


def blocks_of(
    kind: type[Collector],
    tasks: list[Pairs],
    folder: Path,
    partitions: int,
    choose: RangePartitioner | None,
    descending: bool = False,
) -> list[BlockInfo]:
    blocks = []
    for number, pairs in enumerate(tasks):
        target = folder / f"{kind.__name__}-{number}"
        scratch = target.with_suffix(".runs")
        collector = kind(partitions, scratch, target, None, choose, descending=descending)
        for start in range(0, len(pairs), 7):
            collector.consume(iter(pairs[start : start + 7]))
        blocks.append(collector.finish())
    return blocks


def read(blocks: list[BlockInfo], partition: int, folder: Path) -> list[tuple[Any, list[Any]]]:
    merged, numbers, _ = fan_in(blocks, [partition], folder / f"merge-{partition}", None)
    rows = sum(block.segment(numbers[0]).rows for block in merged)
    pieces = merge([read_segment(block, numbers[0]) for block in merged], rows)
    return [(key, list(grouped)) for key, grouped in groups(pieces)]


@given(
    tasks=tasks_of_pairs,
    partitions=st.integers(1, 4),
    small=st.booleans(),
    how=st.sampled_from(["hashed", "up", "down"]),
)
@settings(max_examples=100)
def test_it_gives_what_a_collector_gives(
    tasks: list[Pairs], partitions: int, small: bool, how: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("sorted")
    descending, choose = how == "down", None
    if how != "hashed":
        choose = bounds_of([key for pairs in tasks for key, _ in pairs][::3], partitions, descending)
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(collect, "RUN_BYTES", 300)
            patch.setattr(collect, "_CHUNK", (3, 5))
            patch.setattr(columns, "_MANY", 4)
            patch.setattr(combine, "FAN_IN", 2)
            patch.setattr("gristmill.shuffle.groups.BATCH_BYTES", 16)
        both = [
            [read(blocks, partition, folder / kind.__name__) for partition in range(partitions)]
            for kind in (Collector, ColumnCollector)
            for blocks in [blocks_of(kind, tasks, folder, partitions, choose, descending)]
        ]
    assert repr(both[1]) == repr(both[0])


@pytest.mark.parametrize("common", ["", "https://example.org/a/rather/long/beginning/"])
@pytest.mark.parametrize("distinct", [50, 100_000])
def test_sort_order_is_stable_and_that_of_bytes(common: str, distinct: int) -> None:
    texts = [common + "x" * (n % 3) + str(n * 7919 % distinct) for n in range(20_000)]
    keys = pa.array(texts, pa.binary())
    assert sort_order(keys).to_pylist() == sorted(range(len(texts)), key=texts.__getitem__)
    assert sort_order(keys).to_pylist() == pc.array_sort_indices(keys).to_pylist()


def test_a_large_sort_is_cut_in_runs_and_comes_out_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "RUN_BYTES", 300_000)
    lines = [f"{n * 7919 % 30_011:05d} line {n}" for n in range(30_000)]
    choose = bounds_of([line[:5] for line in lines[::100]], 3, descending=False)
    collector = ColumnCollector(3, tmp_path / "runs", tmp_path / "block", None, choose)
    collector.consume((line[:5], line) for line in lines)
    block = collector.finish()
    assert collector.spilled_bytes > 700_000
    rows = [value for p in range(3) for _, grouped in read([block], p, tmp_path) for value in grouped]
    assert rows == sorted(lines)
    assert min(segment.rows for segment in block.segments) > 8_000


def test_the_same_pairs_give_the_same_bytes_however_they_come(tmp_path: Path) -> None:
    pairs = [(f"{n * 7919 % 1000}", n) for n in range(10_000)]
    choose = bounds_of([key for key, _ in pairs[:50]], 3, descending=False)
    made = []
    for name, size in (("one", 10_000), ("two", 33)):
        collector = ColumnCollector(3, tmp_path / name, tmp_path / f"{name}.block", None, choose)
        for start in range(0, len(pairs), size):
            collector.consume(iter(pairs[start : start + size]))
        collector.finish()
        made.append((tmp_path / f"{name}.block").read_bytes())
    assert made[0] == made[1]


def test_nothing_makes_no_file(tmp_path: Path) -> None:
    collector = ColumnCollector(2, tmp_path / "runs", tmp_path / "block", None, bounds_of(["a"], 2, descending=False))
    collector.consume(iter(()))
    assert collector.finish() == BlockInfo("", ())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [1, (1,), (1, 2, 3), None])
def test_what_is_not_a_pair_is_a_users_error(tmp_path: Path, bad: Any) -> None:
    collector = ColumnCollector(2, tmp_path / "runs", tmp_path / "block", None, bounds_of(["a"], 2, descending=False))
    with pytest.raises(UserCodeError, match="must yield pairs"):
        collector.consume(iter([("a", 1), bad]))


def test_a_key_without_order_is_refused(tmp_path: Path) -> None:
    collector = ColumnCollector(2, tmp_path / "runs", tmp_path / "block", None, bounds_of(["a"], 2, descending=False))
    pairs: Iterator[tuple[Any, Any]] = itertools.chain([("a", 1), ([1], 1)], zip("bcd" * 9000, itertools.count()))
    with pytest.raises(KeyTypeRefused, match="list"):
        collector.consume(pairs)
