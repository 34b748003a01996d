"""What brings a dataset here."""

from __future__ import annotations

import math
from operator import add
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from dataset_kit import session, words

import gristmill as gm

__all__ = ["session", "words"]


def test_elements_in_their_order(session: gm.Session) -> None:
    numbers = session.range(20, partitions=4).map(lambda x: x * 3 % 20)
    plain = [x * 3 % 20 for x in range(20)]
    assert numbers.collect() == list(numbers.iterate()) == plain
    assert numbers.take(7) == plain[:7] and numbers.take(0) == [] and numbers.take(99) == plain
    assert numbers.first() == plain[0]
    assert numbers.count() == 20
    assert numbers.top(3) == [19, 18, 17]
    assert numbers.top(2, key=lambda x: -x) == numbers.take_ordered(2) == [0, 1]
    assert numbers.take_ordered(0) == [] and numbers.top(50) == sorted(plain, reverse=True)
    assert not numbers.is_empty() and session.from_items([]).is_empty()


def test_first_tasks_may_be_empty(session: gm.Session) -> None:
    late = session.range(100, partitions=10).filter(lambda x: x > 95)
    assert late.first() == 96 and late.take(2) == [96, 97]
    assert late.reduce(add) == 96 + 97 + 98 + 99
    assert (late.min(), late.max()) == (96, 99)


def test_one_value_of_all(session: gm.Session) -> None:
    words = session.from_items(["a", "b", "c", "d", "e"], partitions=3)
    assert words.reduce(add) == "abcde"
    assert words.fold("", add) == "abcde"
    assert words.aggregate([], lambda seen, word: [*seen, word], add) == ["a", "b", "c", "d", "e"]
    assert session.from_items([]).fold(0, add) == 0
    assert session.from_items([]).aggregate(0, add, add) == 0
    assert words.max() == "e" and words.min(key=lambda word: -ord(word)) == "e"


def test_a_zero_is_not_changed_from_task_to_task(session: gm.Session) -> None:
    def put(into: list[int], element: int) -> list[int]:
        into.append(element)
        return into

    numbers = session.range(6, partitions=3)
    assert numbers.aggregate([], put, add) == [0, 1, 2, 3, 4, 5]


def test_figures_of_numbers(session: gm.Session) -> None:
    numbers = session.from_items([1, 2, 3, 4], partitions=2)
    assert (numbers.sum(), numbers.mean()) == (10, 2.5)
    stats = numbers.stats()
    assert (stats.count, stats.sum, stats.mean, stats.min, stats.max) == (4, 10, 2.5, 1, 4)
    assert (stats.variance, stats.sample_variance) == (1.25, pytest.approx(5 / 3))
    assert stats.stdev == math.sqrt(1.25) and stats.sample_stdev == pytest.approx(math.sqrt(5 / 3))
    nothing = session.from_items([])
    assert nothing.sum() == 0 and nothing.stats().count == 0
    assert math.isnan(nothing.stats().stdev) and nothing.stats().min is None
    floats = session.from_items([0.1] * 10)
    assert floats.sum() == 1.0 and floats.mean() == 0.1


def test_histograms(session: gm.Session) -> None:
    numbers = session.range(51)
    assert numbers.histogram(2) == ([0, 25, 50], [25, 26])
    assert numbers.histogram([0, 5, 25, 50]) == ([0, 5, 25, 50], [5, 20, 26])
    assert session.from_items(["ab", "ac", "b", "bd", "ef"]).histogram(["a", "b", "c"]) == (["a", "b", "c"], [2, 2])
    assert session.from_items([3, 3]).histogram(4) == ([3, 3], [2])
    assert session.from_items([1.0, 2.0]).histogram(2) == ([1.0, 1.5, 2.0], [1, 1])
    assert session.from_items([]).histogram([0, 1]) == ([0, 1], [0])
    assert session.from_items([None, 0, math.nan, 4, 1]).histogram(2) == ([0, 2, 4], [2, 1])
    with pytest.raises(gm.JobFailed, match="cannot compare 'a' with the bounds"):
        session.from_items([1, "a"]).histogram([0, 1])
    with pytest.raises(gm.UsageError, match="infinities"):
        session.from_items([1, math.inf]).histogram(2)


def test_counts_by_value_and_key(session: gm.Session, words: Path) -> None:
    tokens = session.read_text(words).flat_map(str.split)
    assert tokens.count_by_value() == {"a": 3, "b": 1, "c": 1}
    assert tokens.map(lambda word: (word, None)).count_by_key() == {"a": 3, "b": 1, "c": 1}
    assert session.from_items([None, 1, 1.0, True, (1, "x")]).count_by_value() == {None: 1, 1: 3, (1, "x"): 1}


def test_what_is_done_where_it_is_computed(session: gm.Session, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def note(element: Any) -> None:
        with log.open("a") as file:
            file.write(f"{element}\n")

    assert session.range(3).foreach(note) is None  # type: ignore[func-returns-value]
    session.range(4, partitions=2).for_each_partition(lambda part: note(sum(part)))
    assert sorted(log.read_text().split()) == ["0", "1", "1", "2", "5"]


def test_tables(session: gm.Session) -> None:
    rows = [{"a": n, "b": str(n)} for n in range(5)]
    table = session.from_items(rows).to_arrow()
    assert table.to_pylist() == rows and table.schema == pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert session.from_items([(1, "x"), (2, None)], partitions=2).to_arrow().to_pydict() == {
        "_1": [1, 2], "_2": ["x", None],
    }  # fmt: skip
    assert session.range(3).to_pandas()["value"].tolist() == [0, 1, 2]
    assert session.from_items([]).to_arrow().num_rows == 0
    assert session.from_items([{"a": 1}, {"a": 1.5, "b": 2}], partitions=2).to_arrow().to_pylist() == [
        {"a": 1.0, "b": None}, {"a": 1.5, "b": 2},
    ]  # fmt: skip
    with pytest.raises(gm.GristmillError, match="do not fit in one Arrow table"):
        session.from_items([{"a": 1}, {"a": "x"}], partitions=2).to_arrow()


@pytest.mark.parametrize(
    "action",
    [
        lambda nothing: nothing.first(),
        lambda nothing: nothing.reduce(add),
        lambda nothing: nothing.mean(),
        lambda nothing: nothing.min(),
        lambda nothing: nothing.max(),
        lambda nothing: nothing.histogram(3),
    ],
)
def test_nothing_to_tell_of_nothing(session: gm.Session, action: Any) -> None:
    with pytest.raises(gm.EmptyDataset, match="of a dataset without elements"):
        action(session.from_items([]))
    with pytest.raises(ValueError):
        action(session.range(5).filter(lambda x: x > 5))


def test_too_much_is_not_brought_here(session: gm.Session) -> None:
    numbers = session.range(10_000).map(str)
    for action in (numbers.collect, numbers.to_arrow):
        with pytest.raises(gm.CollectTooLarge, match=r"at most 1\.0 KiB"):
            action(limit="1KiB")
    assert len(numbers.collect(limit=None)) == len(numbers.collect(limit="1GiB")) == 10_000


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda numbers: numbers.take(-1), r"take\(\) takes a number of elements; this is -1"),
        (lambda numbers: numbers.top(1.5), r"top\(\) takes a number"),
        (lambda numbers: numbers.histogram(0), "at least one bucket"),
        (lambda numbers: numbers.histogram([1]), "two or more in ascending order"),
        (lambda numbers: numbers.histogram([1, 3, 2]), "ascending"),
        (lambda numbers: numbers.reduce(None), r"reduce\(\) takes a function"),
        (lambda numbers: numbers.collect(limit="many"), "not a size"),
    ],
)
def test_wrong_use_is_told_at_once(session: gm.Session, action: Any, message: str) -> None:
    with pytest.raises(gm.UsageError, match=message):
        action(session.range(3))


def test_a_function_that_fails_is_shown_with_its_line_and_the_line_that_built_the_step(session: gm.Session) -> None:
    def invert(x: int) -> float:
        return 1 / x

    broken = session.range(3).map(invert)
    with pytest.raises(gm.JobFailed, match="ZeroDivisionError") as failed:
        broken.sum()
    report = failed.value.report
    assert report is not None
    assert (report.function, report.record) == ("map", "0")
    assert report.frames[-1].function == "invert"
    assert str(report.details["built"]).startswith(__file__) or "test_api_dataset_actions.py:" in str(
        report.details["built"]
    )


def test_an_iterator_that_is_left_leaves_nothing_behind(tmp_path: Path) -> None:
    with gm.Session(on="inline", data_dir=tmp_path) as own:
        elements = own.range(1000).iterate()
        assert next(elements) == 0
        kept = [path for path in tmp_path.rglob("*") if path.is_file() and "block" in path.as_posix()]
        assert kept
        elements.close()  # type: ignore[attr-defined]
        assert own.range(1).count() == 1  # in this process, what is forgotten goes when the next job runs
        assert not any(path.exists() for path in kept)


def test_few_elements_need_few_tasks(session: gm.Session, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def note(element: int) -> int:
        with log.open("a") as file:
            file.write("x")
        return element

    numbers = session.range(200, partitions=100).map(note)
    assert numbers.take(2) == [0, 1] and log.stat().st_size == 2
    assert numbers.first() == 0 and log.stat().st_size == 3
    log.unlink()
    assert session.range(2).union(numbers).take(3) == [0, 1, 0]
    assert log.stat().st_size < 20  # one task, then eight
    assert numbers.filter(lambda x: x > 197).take(5) == [198, 199]
