"""Transformations without keys, from the user's side."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
from dataset_kit import session

import gristmill as gm

__all__ = ["session"]


def test_a_chain_computes_nothing_before_an_action(session: gm.Session) -> None:
    def fails(_: Any) -> Any:
        raise AssertionError("nobody asked")

    chain = session.range(5).map(fails).filter(fails).flat_map(fails).sample(0.5).repartition(2).zip_with_index()
    assert "not computed" in repr(chain)


def test_elements_keep_their_order(session: gm.Session) -> None:
    numbers = session.range(10, partitions=3)
    assert numbers.map(lambda x: x * x).filter(lambda x: x % 2).flat_map(lambda x: [x, -x]).collect() == [
        signed for x in range(10) if x % 2 for signed in (x * x, -x * x)
    ]
    assert numbers.map_partitions(lambda part: [sum(part)]).collect() == [3, 12, 30]
    assert numbers.glom().collect() == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]


def test_unions_come_one_after_another(session: gm.Session) -> None:
    low, high = session.range(3), session.range(10, 12)
    assert low.union(high, low).collect() == [0, 1, 2, 10, 11, 0, 1, 2]
    assert low.union().collect() == [0, 1, 2]
    assert low.union(low.map(lambda x: -x)).map(str).collect() == ["0", "1", "2", "0", "-1", "-2"]


def test_repartition_deals_elements_out(session: gm.Session) -> None:
    numbers = session.range(10, partitions=2)
    parts = numbers.repartition(3).glom().collect()
    assert sorted(map(len, parts)) == [3, 3, 4]
    assert sorted(x for part in parts for x in part) == list(range(10))
    assert parts == numbers.repartition(3).glom().collect()
    assert len(session.from_items([]).repartition(3).glom().collect()) == 3


def test_coalesce_keeps_the_order(session: gm.Session) -> None:
    numbers = session.range(10, partitions=5)
    assert numbers.coalesce(2).glom().collect() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]]
    assert numbers.coalesce(20).collect() == list(range(10))
    both = session.range(3).union(session.range(10, 13))
    assert both.coalesce(1).glom().collect() == [[0, 1, 2, 10, 11, 12]]
    assert both.coalesce(4).collect() == both.collect()


def test_elements_are_numbered_through_all_tasks(session: gm.Session) -> None:
    letters = session.from_items(list("abcdefg"), partitions=3)
    numbered = [(letter, place) for place, letter in enumerate("abcdefg")]
    assert letters.zip_with_index().collect() == numbered
    # The second child of a union: its tasks have other numbers in their stage.
    assert session.range(2).union(letters.zip_with_index().map(lambda pair: pair[1])).collect() == [0, 1, *range(7)]
    assert letters.filter(lambda letter: letter > "c").zip_with_index().collect() == list(
        zip("defg", range(4), strict=True)
    )
    assert session.from_items([]).zip_with_index().collect() == []
    assert letters.cache().zip_with_index().collect() == numbered


def test_datasets_are_zipped_by_place(session: gm.Session) -> None:
    letters = session.from_items(list("abcde"), partitions=2)
    numbers = session.range(5, partitions=3)
    assert letters.zip(numbers).collect() == list(zip("abcde", range(5), strict=True))
    assert letters.zip(letters.map(str.upper)).collect() == list(zip("abcde", "ABCDE", strict=True))
    assert letters.zip(letters.filter(lambda x: True)).collect() == list(zip("abcde", "abcde", strict=True))
    assert session.from_items([]).zip(session.range(0)).collect() == []
    everything = letters.union(letters).zip(numbers.union(session.range(5, 10)))
    assert everything.collect() == list(zip("abcdeabcde", range(10), strict=True))


def test_datasets_of_different_lengths_are_not_zipped(session: gm.Session) -> None:
    with pytest.raises(gm.JobFailed, match="the first has 5 elements, the other 4"):
        session.range(5).zip(session.range(4)).collect()


def test_a_sample_is_the_same_wherever_it_is_used(session: gm.Session) -> None:
    numbers = session.range(1000, partitions=4)
    sample = numbers.sample(0.1, seed=3)
    taken = sample.collect()
    assert 60 < len(taken) < 140
    assert session.range(2).union(sample).collect() == [0, 1, *taken]
    assert numbers.sample(0.1, seed=4).collect() != taken
    twice = numbers.union(numbers).sample(0.1, seed=3).collect()
    both = twice[: twice.index(max(twice)) + 1]
    assert both != twice[len(both) :]  # the halves differ
    assert numbers.sample(3, with_replacement=True).count() > 2000


def test_batches(session: gm.Session) -> None:
    rows = [{"a": n} for n in range(10)]
    dataset = session.from_items(rows, partitions=2)
    assert dataset.map_batches(lambda batch: batch.slice(1), batch_size=3).collect() == [
        {"a": n} for n in (1, 2, 4, 6, 7, 9)
    ]
    assert dataset.map_batches(lambda frame: frame[frame.a > 7], format="pandas").collect() == [{"a": 8}, {"a": 9}]


def test_batches_of_files_keep_their_types(session: gm.Session, tmp_path: Path) -> None:
    table = pa.table({"a": pa.array(range(10), pa.int16()), "b": [str(n) for n in range(10)]})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=4)

    def only_small(batch: pa.RecordBatch) -> pa.RecordBatch:
        assert batch.schema == pa.schema([("a", pa.int16())]) and batch.num_rows <= 3
        return batch.filter(pa.compute.less(batch.column("a"), 5))

    rows = session.read_parquet(tmp_path / "rows.parquet", columns=["a"], filter=[("b", "!=", "2")])
    assert rows.map_batches(only_small, batch_size=3).collect() == [{"a": n} for n in (0, 1, 3, 4)]


def test_lines_go_through_a_program(session: gm.Session) -> None:
    assert session.from_items(["b", "a", "c"], partitions=1).pipe("sort -r").collect() == ["c", "b", "a"]
    assert session.range(3, partitions=1).pipe(["sh", "-c", "cat; echo $X"], env={"X": "y"}).collect() == [
        "0", "1", "2", "y",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda numbers: numbers.map(3), r"map\(\) takes a function; 3 is none"),
        (lambda numbers: numbers.sample(1.5), "from 0 to 1; this is 1.5"),
        (lambda numbers: numbers.sample(-1, with_replacement=True), "at least 0"),
        (lambda numbers: numbers.sample(float("nan")), "from 0 to 1"),
        (lambda numbers: numbers.repartition(0), "at least 1; this is 0"),
        (lambda numbers: numbers.coalesce(2.5), "this is 2.5"),
        (lambda numbers: numbers.map_batches(len, format="polars"), "and not 'polars'"),
        (lambda numbers: numbers.map_batches(len, batch_size=0), "batch_size must be"),
        (lambda numbers: numbers.pipe(""), "needs a program"),
        (lambda numbers: numbers.persist("CLOUD"), "'CLOUD' is not a storage level"),
        (lambda numbers: numbers.cache().persist("DISK"), "kept already"),
    ],
)
def test_wrong_use_is_told_at_once(session: gm.Session, make: Any, message: str) -> None:
    with pytest.raises(gm.UsageError, match=message):
        make(session.range(3))


def test_datasets_of_two_sessions_do_not_mix(session: gm.Session) -> None:
    with gm.Session(on="inline") as other, pytest.raises(gm.UsageError, match="different sessions"):
        session.range(3).union(other.range(3))


def test_a_dataset_within_a_function_is_refused(session: gm.Session) -> None:
    small = session.range(3)
    with pytest.raises(gm.UnpicklableCode, match="join the two datasets instead"):
        session.range(3).map(lambda x: small.count() + x).collect()


def test_what_cannot_be_sent_is_named_with_the_line_that_built_the_step(session: gm.Session) -> None:
    lock = threading.Lock()

    def locked(x: int) -> int:
        with lock:
            return x

    with pytest.raises(gm.UnpicklableCode, match="locked uses the variable 'lock' of the function around it") as raised:
        session.range(3).map(locked).count()
    assert "The step was built at" in str(raised.value) and "test_api_dataset_narrow.py:" in str(raised.value)
    with pytest.raises(gm.UnpicklableCode, match="uses the variable 'lock'"):
        session.range(3).key_by(str).reduce_by_key(lambda left, right: locked(left) + right).count()
