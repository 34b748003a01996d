"""Where datasets come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_kit import session, words

import gristmill as gm
from gristmill.api.datasets.sources import Sources

__all__ = ["session", "words"]


def test_lines_come_file_by_file(session: gm.Session, words: Path) -> None:
    assert session.read_text(words).collect() == ["b a", "c", "a a"]
    assert session.read_text([words / "b.txt", str(words / "a.txt")]).collect() == ["a a", "b a", "c"]
    assert session.read_text(f"{words}/*.txt").count() == 3


def test_whole_files_come_with_their_names(session: gm.Session, words: Path) -> None:
    found = session.read_whole_files(words).collect()
    assert found == [(str(words / "a.txt"), "b a\nc\n"), (str(words / "b.txt"), "a a\n")]


def test_rows_are_dicts(session: gm.Session, tmp_path: Path) -> None:
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "rows.csv").write_text("a,b\n1,x\n2,\n", encoding="utf-8")
    assert session.read_parquet(tmp_path / "rows.parquet").collect() == rows
    assert session.read_jsonl(tmp_path / "rows.jsonl").collect() == rows
    assert session.read_csv(tmp_path / "rows.csv").collect() == [{"a": "1", "b": "x"}, {"a": "2", "b": ""}]


def test_columns_rows_and_folders_are_chosen_while_reading(session: gm.Session, tmp_path: Path) -> None:
    for year in (2023, 2024):
        (tmp_path / "rows" / f"year={year}").mkdir(parents=True)
        rows = pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]})
        pq.write_table(rows, tmp_path / "rows" / f"year={year}" / "part.parquet")
    found = session.read_parquet(
        tmp_path / "rows", columns=["a", "year"], filter=[("year", "==", 2024), ("a", "in", [1, 3])]
    )
    assert found.collect() == [{"a": 1, "year": 2024}, {"a": 3, "year": 2024}]
    assert session.read_parquet(tmp_path / "rows", partitioning="").first() == {"a": 1, "b": "x"}
    (tmp_path / "rows.csv").write_text("1;x\n2;y\n", encoding="utf-8")
    plain = session.read_csv(tmp_path / "rows.csv", header=False, delimiter=";", filter=[("_1", "!=", "1")])
    assert plain.collect() == [{"_1": "2", "_2": "y"}]


def test_a_missing_input_fails_at_the_first_action(session: gm.Session, tmp_path: Path) -> None:
    lines = session.read_text(tmp_path / "nothing.txt")
    with pytest.raises(gm.InputMissing, match=r"nothing\.txt does not exist"):
        lines.count()


def test_items_keep_their_order_and_kind(session: gm.Session) -> None:
    items: list[Any] = [None, "ä", b"\xff", 1.5, (1, [2]), {"a": 1}, float("inf"), 10**30, "\udcff"]
    for partitions in (None, 1, 3, 20):
        assert session.from_items(items, partitions).collect() == items
    assert session.from_items([]).collect() == []
    assert session.from_items(iter(range(3))).collect() == [0, 1, 2]


def test_items_are_copied_at_once(session: gm.Session) -> None:
    item = [1]
    dataset = session.from_items([item])
    item.append(2)
    assert dataset.collect() == [[1]]


def test_the_number_of_partitions_depends_on_the_items_alone(session: gm.Session) -> None:
    assert [len(part) for part in session.from_items(range(20)).glom().collect()] == [2, 3, 2, 3, 2, 3, 2, 3]
    assert [len(part) for part in session.from_items(range(3)).glom().collect()] == [1, 1, 1]
    assert [len(part) for part in session.range(3, partitions=2).glom().collect()] == [1, 2]
    assert session.from_items([1], partitions=3).glom().collect() == [[], [], [1]]


def test_ranges_are_those_of_python(session: gm.Session) -> None:
    assert session.range(5).collect() == [0, 1, 2, 3, 4]
    assert session.range(2, 5).collect() == [2, 3, 4]
    assert session.range(10, 0, -3).collect() == [10, 7, 4, 1]
    assert session.range(0).collect() == []
    assert session.range(10**20, 10**20 + 2).collect() == [10**20, 10**20 + 1]
    with pytest.raises(gm.UsageError, match="must not be zero"):
        session.range(0, 5, 0)


def test_tables_and_frames_give_dicts(session: gm.Session) -> None:
    rows = [{"a": n, "b": str(n) if n else None} for n in range(5)]
    table = pa.Table.from_pylist(rows)
    assert session.from_arrow(table).collect() == rows
    assert session.from_arrow(table, partitions=2).count() == 5
    assert session.from_arrow(table.to_batches()[0]).collect() == rows
    frame = pd.DataFrame({"a": [1.5, None], "b": ["x", None]})
    assert session.from_pandas(frame).collect() == [{"a": 1.5, "b": "x"}, {"a": None, "b": None}]
    assert session.from_arrow(table.slice(0, 0)).collect() == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gm.from_items("abc"), "takes a list of elements"),
        (lambda: gm.from_items([1], partitions=0), "at least 1; this is 0"),
        (lambda: gm.from_items([1], partitions=True), "this is True"),
        (lambda: gm.from_items([(n for n in ())]), "cannot be sent"),
        (lambda: gm.read_text([]), r"read_text\(\) was given no path"),
        (lambda: gm.read_parquet("x", columns="a"), r"columns=\['a'\]"),
        (lambda: gm.read_parquet("x", filter=[("a", "=", 1)]), "not an operator of a filter"),
        (lambda: gm.read_parquet("x", filter=["a"]), "no condition of a filter"),
        (lambda: gm.read_parquet("x", filter=[("a", "==", object())]), "filters compare with texts"),
        (lambda: gm.read_csv("x", delimiter=",,"), "cannot be a delimiter"),
        (lambda: gm.read_orc("x", partitioning="date"), "is no partitioning"),
        (lambda: gm.from_arrow(7), "takes a table"),
        (lambda: gm.from_pandas(7), "cannot become"),
    ],
)
def test_wrong_use_is_told_at_once(make: Any, message: str) -> None:
    with pytest.raises(gm.UsageError, match=message):
        make()


def test_the_package_has_all_sources() -> None:
    for name in dir(Sources):
        if not name.startswith("_"):
            assert callable(getattr(gm, name)), name
            assert name in dir(gm)
    assert "range" not in gm.__all__  # `from gristmill import *` must not hide Python's own
