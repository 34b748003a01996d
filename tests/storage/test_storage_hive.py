"""Folders that are columns, and columns and filters of csv and jsonl."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from reading_kit import BIG, offsets, options, read, splits_of

from gristmill.errors import RecordMalformed
from gristmill.storage.formats import open_split
from gristmill.storage.inputs import plan_tasks, resolve_inputs
from gristmill.storage.writers.hive import folder_of

YEARS = ["year=2023/month=12", "year=2024/month=01", "year=2024/month=02"]


def write(folder: Path, format: str, rows: list[dict[str, Any]], name: str = "part-0") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.{format}"
    if format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif format == "csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        file.write_text("\n".join(lines) + "\n")
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
class TestFolders:
    @pytest.fixture
    def place(self, tmp_path: Path, format: str) -> Path:
        for number, folder in enumerate(YEARS):
            write(tmp_path / "in" / folder, format, [{"x": f"{number}-{row}"} for row in range(2)])
        return tmp_path / "in"

    def test_they_are_columns_of_all_records(self, place: Path, format: str) -> None:
        assert read(place) == [
            {"x": f"{number}-{row}", "year": year, "month": month}
            for number, (year, month) in enumerate([(2023, 12), (2024, 1), (2024, 2)])
            for row in range(2)
        ]
        assert read(place, options(partitioning=""))[0] == {"x": "0-0"}

    def test_they_are_those_below_what_was_named(self, place: Path, format: str) -> None:
        assert read(f"{place}/year=2024/month=02")[0] == {"x": "2-0"}
        assert read(f"{place}/year=2024")[0] == {"x": "1-0", "month": 1}
        assert read(f"{place}/year=2024/month=*")[0] == {"x": "1-0", "month": 1}
        assert read(f"{place}/year=20*/month=*/*.{format}")[0] == {"x": "0-0", "year": 2023, "month": 12}
        assert read(f"{place}/**/*.{format}")[0] == {"x": "0-0", "year": 2023, "month": 12}
        file = f"{place}/year=2024/month=01/part-0.{format}"
        assert read(file)[0] == {"x": "1-0"}
        assert read(file, options(partitioning="hive"))[0] == {"x": "1-0", "year": 2024, "month": 1}

    def test_files_that_a_filter_leaves_out_are_not_opened(self, place: Path, format: str) -> None:
        (place / "year=2023" / "month=12" / f"part-0.{format}").write_bytes(b"\x00 no such format\n\xff")
        given = options(
            filter=[("year", ">", 2023), ("month", "in", ["1", 2]), ("x", "!=", "1-1")], columns=["month", "x"]
        )
        assert read(place, given) == [{"month": 1, "x": "1-0"}, {"month": 2, "x": "2-0"}, {"month": 2, "x": "2-1"}]
        assert read(place, options(filter=[("year", "<", 2000)])) == []

    def test_a_folder_wins_over_a_column_of_the_file(self, tmp_path: Path, format: str) -> None:
        write(tmp_path / "k=1", format, [{"k": "inside", "x": "a"}])
        assert read(tmp_path) == [{"k": 1, "x": "a"}]
        assert read(tmp_path, options(filter=[("k", "==", 1)])) == [{"k": 1, "x": "a"}]


def test_types_are_told_by_all_folders(tmp_path: Path) -> None:
    for folder in ["n=1/s=1/z=__HIVE_DEFAULT_PARTITION__", "n=-2/s=x%3Dy%2Fz/z=__HIVE_DEFAULT_PARTITION__",
                   "n=__HIVE_DEFAULT_PARTITION__/s=99999999999999999999/z=__HIVE_DEFAULT_PARTITION__"]:  # fmt: skip
        write(tmp_path / folder, "parquet", [{"x": 0}])
    found = read(tmp_path)
    assert sorted(found, key=str) == sorted(
        [
            {"x": 0, "n": 1, "s": "1", "z": None},
            {"x": 0, "n": -2, "s": "x=y/z", "z": None},
            {"x": 0, "n": None, "s": "99999999999999999999", "z": None},
        ],
        key=str,
    )


def test_types_are_those_that_arrow_tells(tmp_path: Path) -> None:
    for folder in ["n=1/s=1", "n=-2/s=x%3Dy%2Fz", "n=__HIVE_DEFAULT_PARTITION__/s=99999999999999999999", "n=007/s=-"]:
        write(tmp_path / folder, "parquet", [{"x": 0}])
    theirs = pads.dataset(tmp_path, partitioning="hive").to_table().to_pylist()
    assert sorted(map(str, read(tmp_path))) == sorted(map(str, theirs))


@pytest.mark.parametrize("value", ["a b", "ä/ü", "100%", "x=1", "", None, 7, -1, "\udcff", "2024-01-01 10:00:00"])
def test_what_is_written_as_a_folder_is_read_as_it_was(tmp_path: Path, value: Any) -> None:
    write(tmp_path / folder_of(["key"], [value]), "jsonl", [{"x": 1}])
    assert read(tmp_path) == [{"x": 1, "key": value or None}]


def test_text_has_no_columns(tmp_path: Path) -> None:
    folder = tmp_path / "year=2024"
    folder.mkdir()
    (folder / "a.txt").write_text("one\n")
    assert read(tmp_path) == ["one"]


def test_splits_of_files_without_options_are_as_ever(tmp_path: Path) -> None:
    write(tmp_path, "parquet", [{"x": 1}])
    assert splits_of(tmp_path)[0].options == ()


# Csv and jsonl


def test_csv_fields_are_compared_with_numbers_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,s\n5,a\n-1,b\n12,c\n,d\nx,e\n5.0,f\n")
    for condition, rows in [
        (("n", ">", 4), "acf"), (("n", "==", 5), "af"), (("n", "==", "5"), "a"), (("n", "!=", 5), "bcde"),
        (("n", "<", "2"), "bcd"), (("s", ">=", "e"), "ef"), (("n", "in", [12, "x"]), "ce"),
    ]:  # fmt: skip
        assert "".join(row["s"] for row in read(tmp_path, options(filter=[condition]))) == rows


def test_csv_without_a_header_and_with_another_delimiter(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('1;"a;b"\n2;c,d\n3\n\n4;e\n')
    given = options(header="false", delimiter=";")
    assert read(file, given) == [
        {"_1": "1", "_2": "a;b"},
        {"_1": "2", "_2": "c,d"},
        "A record has 1 fields; the header has 2.",
        {"_1": "4", "_2": "e"},
    ]
    assert offsets(file, given) == [0, 8, 14, 17]
    assert read(file, options(delimiter=";"))[0] == {"1": "2", "a;b": "c,d"}
    assert read(file, options(header="false", delimiter=";", columns=["_2"])) == [
        {"_2": "a;b"},
        {"_2": "c,d"},
        "A record has 1 fields; the header has 2.",
        {"_2": "e"},
    ]
    file.write_text("same,same")
    assert read(file, options(header="false")) == [{"_1": "same", "_2": "same"}]
    file.write_text('a,b\n"same')
    assert "never closed" in read(file, options(header="false"))[1]
    file.write_text('"same')
    assert "never closed" in read(file, options(header="false"))[0]
    file.write_text("")
    assert read(file, options(header="false")) == []
    file.write_text("a,b\n1,2\n")
    with pytest.raises(RecordMalformed, match="no column 'c'; there are: a, b"):
        read(file, options(columns=["c"]))


def test_csv_in_small_pieces_keeps_each_record_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("".join(f"{n},{'x' * 50}\n" for n in range(20_000)))
    given = options(header="false", filter=[("_1", ">=", 15_000)])
    assert [row["_1"] for row in read(file, given)] == [str(n) for n in range(15_000, 20_000)]
    data = file.read_bytes()
    (split,) = splits_of(file, given)
    blocks = [block for block in open_split(split, BIG) if block.values]
    assert len(blocks) > 1
    for block in blocks:
        for index in (0, len(block.values) - 1):
            assert block.offset_of(index) == data.index(f"\n{block.values[index]['_1']},".encode()) + 1


def test_jsonl_objects_may_lack_columns(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows: list[Any] = [{"a": 1, "b": 2}, {"b": 3}, 7, {"a": None}, {"a": "x"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read(file) == rows
    no_object = "A record is no object, so it has none of the columns that were asked for."
    assert read(file, options(columns=["b"])) == [{"b": 2}, {"b": 3}, no_object, {}, {}]
    assert read(file, options(filter=[("a", "==", None)])) == [{"b": 3}, no_object, {"a": None}]
    assert read(file, options(filter=[("a", "==", 1)])) == [{"a": 1, "b": 2}, no_object]
    assert offsets(file, options(filter=[("a", "==", 1)])) == [0, 26]


# Outputs as inputs


def test_only_files_that_an_output_lists_are_read(tmp_path: Path) -> None:
    out = tmp_path / "data" / "out"
    for name in ["part-r-00000", "sub=1/part-r-00001", "part-r-00009-other"]:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(f"{name}\n")
    (tmp_path / "data" / "loose").write_text("loose\n")
    listed = [{"name": name, "bytes": 10, "rows": 1} for name in ("part-r-00000", "sub=1/part-r-00001")]
    (out / "_SUCCESS").write_text(json.dumps({"job_id": "1", "files": listed}))
    assert read(out) == ["part-r-00000", "sub=1/part-r-00001"]
    assert read(tmp_path / "data") == ["loose", "part-r-00000", "sub=1/part-r-00001"]
    (out / "part-r-00000").unlink()
    with pytest.raises(Exception, match=r"out lacks part-r-00000, which its _SUCCESS lists"):
        read(out)
    (out / "_SUCCESS").write_text("")
    assert read(out) == ["part-r-00009-other", "sub=1/part-r-00001"]


def test_reading_a_local_csv_loads_no_arrow(tmp_path: Path) -> None:
    (tmp_path / "k=1").mkdir()
    (tmp_path / "k=1" / "a.csv").write_text("x\n1\n")
    code = f"""
import sys
from gristmill.storage.formats import open_split
from gristmill.storage.formats import open_split
from gristmill.storage.inputs import plan_tasks, resolve_inputs
((split,),) = plan_tasks(resolve_inputs([{str(tmp_path)!r}], None), None)
print(*[value for block in open_split(split, 1000) for value in block.values], "pyarrow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "{'x': '1', 'k': 1} False\n"


def test_the_same_file_named_twice_comes_once(tmp_path: Path) -> None:
    write(tmp_path / "k=1", "jsonl", [{"x": 1}])
    files = resolve_inputs([tmp_path, tmp_path / "k=1"], None)
    assert len(files) == 1
    assert len(plan_tasks(files, None)) == 1
