"""The shuffle from pairs to groups, against an oracle of dicts and sorts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.compute import collect, combine
from gristmill.compute.collect import Collector, stable_partition
from gristmill.compute.combine import fan_in
from gristmill.compute.group import groups
from gristmill.compute.inline import inline_mapper
from gristmill.errors import KeyTypeRefused, UserCodeError
from gristmill.records.keys import encode_key
from gristmill.shuffle.blocks import read_segment
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.merge import merge

Pairs = list[tuple[Any, Any]]

key_sets = st.sampled_from(
    [
        st.text("abé\udc80\x00", max_size=2),
        st.integers(-3, 3),
        st.sampled_from([1, 1.0, True, Decimal(1), 2, 0, -0.0, False, "1", b"1", None, math.nan, (1, "a"), (1.0, "a")]),
        st.tuples(st.integers(0, 2), st.text("ab", max_size=1)),
    ]
)
values = st.sampled_from([st.integers(), st.text(max_size=3), st.none() | st.integers(), st.tuples(st.integers())])
tasks_of_pairs = st.tuples(key_sets, values).flatmap(
    lambda kinds: st.lists(st.lists(st.tuples(*kinds), max_size=30), min_size=1, max_size=6)
)


def sums(key: Any, numbers: Iterator[int]) -> Iterator[tuple[Any, int]]:
    yield key, sum(numbers)


def joined(key: Any, texts: Iterator[str]) -> Iterator[tuple[Any, str]]:
    yield key, "".join(texts)


def shuffle(
    tasks: list[Pairs], folder: Path, partitions: int, combiner: Any = None, partitioner: Any = None
) -> list[list[tuple[Any, list[Any]]]]:
    blocks = []
    for number, pairs in enumerate(tasks):
        collector = Collector(partitions, folder / f"{number}", folder / f"block-{number}", combiner, partitioner)
        collector.consume(iter(pairs))
        blocks.append(collector.finish())
    return [reduce_side(blocks, partition, folder, combiner) for partition in range(partitions)]


def reduce_side(blocks: list[BlockInfo], partition: int, folder: Path, combiner: Any) -> list[tuple[Any, list[Any]]]:
    merged, numbers, _ = fan_in(blocks, [partition], folder / f"merge-{partition}", combiner)
    rows = sum(block.segment(numbers[0]).rows for block in merged)
    pieces = merge([read_segment(block, numbers[0]) for block in merged], rows)
    return [(key, list(grouped)) for key, grouped in groups(pieces)]


def oracle(tasks: list[Pairs], partitions: int) -> list[list[tuple[Any, list[Any]]]]:
    expected: list[dict[bytes, tuple[Any, list[Any]]]] = [{} for _ in range(partitions)]
    for key, value in itertools.chain.from_iterable(tasks):
        found = expected[stable_partition(key, partitions)]
        found.setdefault(encode_key(key), (key, []))[1].append(value)
    return [[found[encoded] for encoded in sorted(found)] for found in expected]


def comparable(result: list[list[tuple[Any, list[Any]]]]) -> Any:
    return [[(repr(key), grouped) for key, grouped in partition] for partition in result]


@given(tasks=tasks_of_pairs, partitions=st.integers(1, 3), small=st.booleans())
@settings(max_examples=80)
def test_every_value_reaches_its_group_in_order(
    tasks: list[Pairs], partitions: int, small: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("shuffle")
    with pytest.MonkeyPatch.context() as patch:
        if small:  # many runs, batches of a row or two, a tree of merges
            patch.setattr(collect, "RUN_BYTES", 2000)
            patch.setattr(collect, "COMBINE_BYTES", 300)
            patch.setattr(collect, "_CHUNK", (3, 3))
            patch.setattr(combine, "FAN_IN", 2)
            patch.setattr("gristmill.shuffle.groups.BATCH_BYTES", 16)
        assert comparable(shuffle(tasks, folder, partitions)) == comparable(oracle(tasks, partitions))


@given(tasks=st.lists(st.lists(st.tuples(st.text("abc", max_size=2), st.integers(-9, 9)), max_size=60), max_size=5))
@settings(max_examples=60)
def test_sums_are_the_same_however_they_are_cut(tasks: list[Pairs], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("shuffle")
    expected = [[(key, sum(grouped)) for key, grouped in partition] for partition in oracle(tasks, 2)]
    for name, patches in {"whole": {}, "cut": {"RUN_BYTES": 1500, "_CHUNK": (2, 2)}}.items():
        with pytest.MonkeyPatch.context() as patch:
            for constant, value in patches.items():
                patch.setattr(collect, constant, value)
            result = shuffle(tasks, folder / name, 2, sums) if (folder / name).mkdir() is None else []
            assert [[(key, sum(grouped)) for key, grouped in partition] for partition in result] == expected


def test_a_combiner_that_is_not_commutative_sees_values_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "RUN_BYTES", 4000)
    monkeypatch.setattr(collect, "_CHUNK", (16, 16))
    monkeypatch.setattr(combine, "FAN_IN", 3)
    letters = "abcdefghijklmnopqrstuvwxyz"
    tasks = [[(i % 3, letters[(i + t) % 26]) for i in range(500)] for t in range(7)]
    result = dict(itertools.chain.from_iterable(shuffle(tasks, tmp_path, 2, joined)))
    for key in range(3):
        assert "".join(result[key]) == "".join(v for pairs in tasks for k, v in pairs if k == key)


def test_a_hot_key_streams_through_batches_and_blocks(tmp_path: Path) -> None:
    tasks = [[("hot", i) for i in range(60_000)] + [("a", -1), ("z", -2)] for _ in range(3)]
    (result,) = shuffle(tasks, tmp_path, 1)
    assert [(key, len(grouped)) for key, grouped in result] == [("a", 3), ("hot", 180_000), ("z", 3)]
    assert result[1][1] == list(range(60_000)) * 3


def test_a_group_that_is_not_read_to_its_end_does_not_disturb_the_next(tmp_path: Path) -> None:
    blocks = []
    for number in range(2):
        collector = Collector(1, tmp_path, tmp_path / f"b{number}", None, None)
        collector.consume((key, i) for key in "abc" for i in range(50_000))
        blocks.append(collector.finish())
    pieces = merge([read_segment(block, 0) for block in blocks], sum(block.segment(0).rows for block in blocks))
    assert [(key, next(grouped), next(grouped)) for key, grouped in groups(pieces)] == [(k, 0, 1) for k in "abc"]


def test_key_kinds_may_differ_between_tasks_and_batches(tmp_path: Path) -> None:
    tasks: list[Pairs] = [
        [(i, "int") for i in range(40_000)] + [("a", "x")] * 5,
        [(i, "int") for i in range(40_000)],
        [(float(i), "float") for i in range(0, 40_000, 7)] + [("a", 5)],
        [("a", "y"), ("b", None)],
    ]
    assert comparable(shuffle(tasks, tmp_path, 1)) == comparable(oracle(tasks, 1))


def test_users_partitioner(tmp_path: Path) -> None:
    pairs = [(n, n) for n in range(10)]
    result = shuffle([pairs], tmp_path, 2, partitioner=lambda key, n: key % n)
    assert [[key for key, _ in partition] for partition in result] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    with pytest.raises(UserCodeError, match=r"gave 7 for the key 0"):
        shuffle([pairs], tmp_path, 2, partitioner=lambda key, n: 7)
    with pytest.raises(UserCodeError, match="ZeroDivisionError") as caught:
        shuffle([pairs], tmp_path, 2, partitioner=lambda key, n: 1 // 0)
    assert caught.value.report.function == "partitioner"


@pytest.mark.parametrize("combiner", [None, sums])
@pytest.mark.parametrize(("key", "named"), [([1], "list"), ((1, {}), "dict"), (frozenset(), "frozenset")])
def test_a_key_of_another_type_is_refused_at_once(tmp_path: Path, combiner: Any, key: Any, named: str) -> None:
    with pytest.raises(KeyTypeRefused, match=named):
        shuffle([[("a", 1), (key, 1)]], tmp_path, 2, combiner)


@pytest.mark.parametrize("combiner", [None, sums])
@pytest.mark.parametrize("bad", [1, (1,), (1, 2, 3), None])
def test_what_is_not_a_pair_is_a_users_error(tmp_path: Path, combiner: Any, bad: Any) -> None:
    with pytest.raises(UserCodeError, match=r"must yield pairs"):
        shuffle([[("a", 1), bad]], tmp_path, 2, combiner)


def test_a_sum_that_cannot_be_made_shows_the_users_combiner(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match="unsupported operand") as caught:
        shuffle([[("a", 1), ("a", "x")]], tmp_path, 2, sums)
    assert caught.value.report.frames[-1].source == "yield key, sum(numbers)"
    assert caught.value.report.function == "combiner"


def test_a_combiner_must_keep_its_key(tmp_path: Path) -> None:
    def changes(key: str, numbers: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield key.upper(), max(numbers)

    with pytest.raises(UserCodeError, match="was given the key 'a' and yielded the key 'A'"):
        shuffle([[("a", 1)]], tmp_path, 2, changes)


def test_users_errors_in_a_generator_pass_as_they_are(tmp_path: Path) -> None:
    def pairs() -> Iterator[tuple[str, int]]:
        yield "a", 1
        raise TypeError("cannot unpack my own things")

    for combiner in (None, sums):
        with pytest.raises(TypeError, match="my own things"):
            Collector(1, tmp_path, tmp_path / "b", combiner, None).consume(pairs())


def test_an_inlined_mapper_gives_the_same_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mapper(key: Any, line: str) -> Iterator[tuple[str, str]]:
        if line != "skip":
            yield line[:2], line

    monkeypatch.setattr(collect, "RUN_BYTES", 20_000)
    monkeypatch.setattr(collect, "_CHUNK", (16, 16))
    lines = [f"{n * 7919 % 1000}" for n in range(3000)] + ["skip"] * 50
    for combiner in (None, joined):
        by_generator = Collector(2, tmp_path / "g", tmp_path / "g.block", combiner, None)
        by_generator.consume(pair for line in lines for pair in mapper(None, line))
        inlined = Collector(2, tmp_path / "i", tmp_path / "i.block", combiner, None)
        prepared = inline_mapper(mapper, sums=False)
        assert prepared is not None
        inlined.group_inlined(*prepared, None, iter(lines))
        sides = [
            [reduce_side([block], p, tmp_path, None) for p in (0, 1)]
            for block in (by_generator.finish(), inlined.finish())
        ]
        if combiner is None:
            assert sides[0] == sides[1]
        else:
            flat = [{key: "".join(values) for part in side for key, values in part} for side in sides]
            assert flat[0] == flat[1]


def test_large_values_are_charged_though_small_ones_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By generator and inlined: what is held never grows far beyond a run, whatever came last."""
    monkeypatch.setattr(collect, "RUN_BYTES", 1_000_000)

    def mapper(key: Any, value: str) -> Iterator[tuple[str, str]]:
        yield value[:6], value

    lines = [f"{n:06d}" + "x" * (20_000 if n % 500 < 250 else 1) for n in range(2_000)]  # 20 MB in all
    prepared = inline_mapper(mapper, sums=False)
    assert prepared is not None
    for name in ("generator", "inlined"):
        collector = Collector(1, tmp_path / name, tmp_path / f"{name}.block", None, None)
        for start in range(0, len(lines), 50):
            block = lines[start : start + 50]
            if name == "inlined":
                collector.group_inlined(*prepared, None, iter(block))
            else:
                collector.consume(pair for line in block for pair in mapper(None, line))
        collector.finish()
        assert len(list((tmp_path / name).glob("run-*"))) >= 8


def test_strings_that_repeat_survive_every_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "RUN_BYTES", 20_000)
    tasks: list[Pairs] = [[(word % 50, f"file-{t}-{word % 3}") for word in range(3000)] for t in range(4)]
    tasks.append([(word % 50, f"{word}") for word in range(300)])
    assert comparable(shuffle(tasks, tmp_path, 2)) == comparable(oracle(tasks, 2))


def test_tuples_with_strings_that_repeat_survive_every_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "RUN_BYTES", 20_000)
    tasks: list[Pairs] = [
        [((f"town-{n % 2}", n % 70), (f"file-{n % kinds}", n)) for n in range(1500)] for kinds in (2, 1500, 3)
    ]
    assert comparable(shuffle(tasks, tmp_path, 1)) == comparable(oracle(tasks, 1))


def test_a_segment_holds_nothing_of_its_neighbours(tmp_path: Path) -> None:
    """Small partitions are encoded together; a dictionary, say, must not go into each of them."""
    pairs = [(key, f"a rather long name of a file, number {n}") for key in range(300) for n in range(3)]
    target = tmp_path / "block"
    collector = Collector(100, tmp_path, target, None, None)
    collector.consume(iter(pairs))
    block = collector.finish()
    assert sum(segment.rows for segment in block.segments) == len(pairs)
    assert max(segment.length / segment.rows for segment in block.segments if segment.rows) < 300
    assert comparable([reduce_side([block], p, tmp_path, None) for p in range(100)]) == comparable(oracle([pairs], 100))


def test_values_of_nan_stay_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    nans = [math.nan, float("nan"), Decimal("nan")]
    tasks: list[Pairs] = [
        [((nans[n % 3], "x") if kind else nans[n % 3], n) for n in range(9)] for kind in (False, True)
    ]
    for number, task in enumerate(tasks):
        (tmp_path / f"{number}").mkdir()
        (result,) = shuffle([task, task], tmp_path / f"{number}", 1)
        assert [grouped for _, grouped in result] == [[*range(9), *range(9)]]


@pytest.mark.parametrize("small", [False, True])
def test_a_key_of_which_the_combiner_leaves_nothing_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    if small:
        monkeypatch.setattr(collect, "RUN_BYTES", 2000)
        monkeypatch.setattr(collect, "_CHUNK", (3, 3))

    def even(key: Any, numbers: Iterator[int]) -> Iterator[tuple[Any, int]]:
        for number in numbers:
            if number % 2 == 0:
                yield key, number

    tasks: list[Pairs] = [[(n % 4, n) for n in range(100)] for _ in range(2)]
    for partitions in (1, 3):
        (folder := tmp_path / f"{partitions}").mkdir()
        result = shuffle(tasks, folder, partitions, even)
        assert sorted(key for part in result for key, _ in part) == [0, 2]
