"""Writing, from the user's side; the formats have tests of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.dataset as pds
import pyarrow.parquet as pq
import pytest
from dataset_kit import session

import gristmill as gm

__all__ = ["session"]


def lines(folder: Path) -> list[str]:
    return [line for part in sorted(folder.glob("part-*")) for line in part.read_text().splitlines()]


def test_text_is_a_line_for_each_element(session: gm.Session, tmp_path: Path) -> None:
    result = session.from_items(["b", "a", 7], partitions=2).write_text(tmp_path / "out")
    assert lines(tmp_path / "out") == ["b", "a", "7"]
    assert (tmp_path / "out" / "_SUCCESS").exists() and result.output == tmp_path / "out"


def test_rows_come_back_as_they_were(session: gm.Session, tmp_path: Path) -> None:
    rows = [{"a": n, "b": f"x{n}"} for n in range(5)]
    dataset = session.from_items(rows, partitions=2)
    for format in ("parquet", "jsonl", "orc", "avro"):
        getattr(dataset, f"write_{format}")(tmp_path / format)
        assert getattr(session, f"read_{format}")(tmp_path / format).collect() == rows, format
    dataset.write_csv(tmp_path / "csv")
    assert session.read_csv(tmp_path / "csv").collect() == [{"a": str(n), "b": f"x{n}"} for n in range(5)]


def test_modes(session: gm.Session, tmp_path: Path) -> None:
    out = tmp_path / "out"
    session.range(2).write_text(out)
    with pytest.raises(gm.OutputExists):
        session.range(3).write_text(out)
    assert lines(out) == ["0", "1"]
    session.range(3).write_text(out, mode="overwrite")
    assert lines(out) == ["0", "1", "2"]
    session.range(1).write_text(out, mode="append")
    assert sorted(lines(out)) == ["0", "0", "1", "2"]


def test_columns_become_folders(session: gm.Session, tmp_path: Path) -> None:
    rows = [{"year": 2023 + n % 2, "n": n} for n in range(6)]
    session.from_items(rows, partitions=2).write_parquet(tmp_path / "out", partition_by=["year"])
    assert sorted(folder.name for folder in (tmp_path / "out").iterdir() if folder.is_dir()) == [
        "year=2023", "year=2024",
    ]  # fmt: skip
    table = pds.dataset(tmp_path / "out", partitioning="hive").to_table()
    assert sorted(table.to_pylist(), key=lambda row: row["n"]) == [{"n": row["n"], "year": row["year"]} for row in rows]


def test_wishes_reach_the_files(session: gm.Session, tmp_path: Path) -> None:
    pairs = session.from_items([(n, f"{n:050}") for n in range(3000)], partitions=1)
    pairs.write_jsonl(tmp_path / "small", target_size="20KiB")
    assert len(list((tmp_path / "small").glob("part-*"))) > 3
    pairs.write_parquet(tmp_path / "named", columns=["n", "text"], compression="gzip")
    [part] = (tmp_path / "named").glob("part-*")
    assert pq.read_schema(part).names == ["n", "text"]
    assert pq.ParquetFile(part).metadata.row_group(0).column(0).compression == "GZIP"
    assert sorted(map(json.loads, lines(tmp_path / "small"))) == [[n, f"{n:050}"] for n in range(3000)]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"mode": "replace"}, "'replace' is not a mode of writing"),
        ({"color": 1}, r"write_jsonl\(\) has no option 'color'"),
        ({"compression": "lzma"}, "not a compression of jsonl"),
        ({"target_size": "big"}, "not a size"),
    ],
)
def test_wrong_use_is_told_at_once(session: gm.Session, tmp_path: Path, wishes: Any, message: str) -> None:
    with pytest.raises(gm.UsageError, match=message):
        session.range(3).write_jsonl(tmp_path / "out", **wishes)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_if_something_fails(session: gm.Session, tmp_path: Path) -> None:
    with pytest.raises(gm.JobFailed):
        session.range(10).map(lambda x: 1 // (x - 9)).write_text(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
