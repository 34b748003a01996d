"""Elements of datasets in files: what a column is, where a file ends, and which folder a row lies in."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import dataset, orc

from gristmill.errors import DiskFull, OutputNotWritable, OutputUnencodable, UsageError
from gristmill.storage.commit import OutputCommit
from gristmill.storage.contracts import PartFile
from gristmill.storage.manifest import read_manifest
from gristmill.storage.targets import LocalTarget
from gristmill.storage.writers import partitioned
from gristmill.storage.writers.hive import NULL, folder_of
from gristmill.storage.writers.options import PAIRS, WriteOptions
from gristmill.storage.writers.partitioned import PartitionedParts
from gristmill.storage.writers.parts import PartFiles, open_parts

COLUMN_FORMATS = ("csv", "parquet", "orc", "avro")
TYPED_FORMATS = ("parquet", "orc", "avro")


class Color(Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: str


@dataclass(frozen=True)
class Person:
    name: str
    age: int | None


def write(
    folder: Path, format: str, elements: Iterable[Any], options: WriteOptions | None = None, chunk: int = 1000
) -> tuple[PartFile, ...]:
    elements = list(elements)
    pairs = (options or WriteOptions()).to_pairs()
    parts = open_parts(folder, "job-s1-t00003-a1", 3, "r", format, pairs, folder)
    try:
        for start in range(0, len(elements), chunk):
            some = elements[start : start + chunk]
            parts.write([None] * len(some), some)
        files = parts.close()
    finally:
        parts.discard()
    assert sum(file.rows for file in files) == len(elements)
    for file in files:
        assert (folder / file.staged).stat().st_size == file.size_bytes
    assert len({file.final for file in files}) == len(files)
    return files


def written(folder: Path, format: str, elements: Iterable[Any], **options: Any) -> bytes:
    [file] = write(folder, format, elements, WriteOptions.of(format, **options))
    return (folder / file.staged).read_bytes()


def rows_of(data: bytes, format: str) -> list[dict[str, Any]]:
    if format == "csv":
        return list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    if format == "avro":
        return list(fastavro.reader(io.BytesIO(data)))  # type: ignore[arg-type]
    table = pq.read_table(io.BytesIO(data)) if format == "parquet" else orc.read_table(io.BytesIO(data))
    found: list[dict[str, Any]] = table.to_pylist()
    return found


# Options


def test_options_travel_as_strings() -> None:
    options = WriteOptions.of(
        "parquet",
        partition_by=["year", "month"],
        target_size="1MiB",
        compression="ZSTD",
        schema=pa.schema([("x", pa.list_(pa.int8())), ("é", pa.string())]),
    )
    assert WriteOptions.from_pairs(options.to_pairs()) == options
    assert options.target_bytes == 1 << 20
    assert options.arrow_schema() == pa.schema([("x", pa.list_(pa.int8())), ("é", pa.string())])
    assert WriteOptions.from_pairs(WriteOptions().to_pairs()) == WriteOptions()
    assert WriteOptions.from_pairs(()) == PAIRS
    assert WriteOptions.of("csv", partition_by="year").partition_by == ("year",)


@pytest.mark.parametrize(
    ("format", "options", "message"),
    [
        ("xml", {}, "not an output format"),
        ("csv", {"compression": "snappy"}, "not a compression of csv"),
        ("csv", {"schema": pa.schema([("x", pa.int8())])}, "csv has no schema"),
        ("csv", {"columns": ["a", "a"]}, "twice"),
        ("csv", {"columns": ["a", 1]}, "names of columns"),
        ("csv", {"partition_by": ["_1"]}, "begin with _"),
        ("csv", {"partition_by": ["a"], "columns": ["a"]}, "at least one must be left"),
        ("csv", {"partition_by": ["a"], "columns": ["b"]}, "not among the columns"),
        ("csv", {"target_size": "much"}, "not a size"),
        ("parquet", {"columns": ["a"], "schema": pa.schema([("x", pa.int8())])}, "different columns"),
    ],
)
def test_options_that_make_no_sense(format: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WriteOptions.of(format, **options)


# Elements


@pytest.mark.parametrize(
    ("element", "line"),
    [
        ("a\tb", b"a\tb\n"),
        ("", b"\n"),
        (None, b"None\n"),
        (b"\xff\t", b"\xff\t\n"),
        ("\udcff\r", b"\xff\r\n"),
        ("x\ny", b"x\\ny\n"),
        (b"x\ny", b"x\\ny\n"),
        (("a", 1), b"('a', 1)\n"),
        (1.5, b"1.5\n"),
        ("%s\\n", b"%s\\n\n"),
        (Point(1, "b"), b"Point(x=1, y='b')\n"),
    ],
)
def test_text(tmp_path: Path, element: Any, line: bytes) -> None:
    assert written(tmp_path, "text", [element]) == line
    assert written(tmp_path, "text", [element, "z", element, "x\n"]) == line + b"z\n" + line + b"x\\n\n"


@given(st.lists(st.binary(max_size=9).map(lambda data: data.replace(b"\n", b"")), max_size=9))
def test_lines_are_written_as_they_were_read(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("text")
    expected = b"".join(line + b"\n" for line in lines)
    assert written(folder, "text", [line.decode("utf-8", "surrogateescape") for line in lines]) == expected


@pytest.mark.parametrize(
    ("element", "line"),
    [
        ({"a": [1, {"b": None}]}, '{"a": [1, {"b": null}]}'),
        (("a", (1, 2)), '["a", [1, 2]]'),
        (Point(1, "b"), '{"x": 1, "y": "b"}'),
        (Person("é", None), '{"name": "é", "age": null}'),
        ([Person("a", 1)], '[{"name": "a", "age": 1}]'),
        (None, "null"),
        ("x\n\udcff", '"x\\n\\udcff"'),
        (date(2024, 1, 2), '"2024-01-02"'),
    ],
)
def test_jsonl(tmp_path: Path, element: Any, line: str) -> None:
    assert written(tmp_path, "jsonl", [element]).decode() == line + "\n"
    assert written(tmp_path, "jsonl", [element, 1]).decode() == f"{line}\n1\n"


def test_jsonl_with_columns(tmp_path: Path) -> None:
    elements = [("a", 1), {"y": 2, "x": "b", "z": 3}, Point(3, "c")]  # type: ignore[list-item]
    assert written(tmp_path, "jsonl", elements, columns=["x", "y"]) == (
        b'{"x": "a", "y": 1}\n{"x": "b", "y": 2}\n{"x": 3, "y": "c"}\n'
    )
    assert written(tmp_path, "jsonl", ["a"], columns=["word"]) == b'{"word": "a"}\n'
    with pytest.raises(OutputUnencodable, match="2 names were given"):
        written(tmp_path, "jsonl", [("a", 1), ("a", 1, 2)], columns=["x", "y"])


@pytest.mark.parametrize("format", COLUMN_FORMATS)
@pytest.mark.parametrize(
    ("elements", "options", "expected"),
    [
        ([{"a": 1, "b": "x"}, {"b": "y"}], {}, [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]),
        ([{"a": 1, "b": "x"}, {"b": "y", "c": 3}], {"columns": ["b"]}, [{"b": "x"}, {"b": "y"}]),
        ([Point(1, "x"), Point(2, "y")], {}, [{"x": 1, "y": "x"}, {"x": 2, "y": "y"}]),
        ([Point(1, "x"), Point(2, "y")], {"columns": ["y"]}, [{"y": "x"}, {"y": "y"}]),
        ([Person("a", 1), Person("b", None)], {}, [{"name": "a", "age": 1}, {"name": "b", "age": None}]),
        ([(1, "x"), (2, "y")], {}, [{"_1": 1, "_2": "x"}, {"_1": 2, "_2": "y"}]),
        ([(1, "x"), (2, "y")], {"columns": ["n", "s"]}, [{"n": 1, "s": "x"}, {"n": 2, "s": "y"}]),
        ([1, 2, None], {}, [{"value": 1}, {"value": 2}, {"value": None}]),
        ([b"a", b"b"], {"columns": ["b"]}, [{"b": b"a"}, {"b": b"b"}]),
        ([Color.RED], {}, [{"value": "RED"}]),
    ],
)
def test_columns(tmp_path: Path, format: str, elements: list[Any], options: Any, expected: list[Any]) -> None:
    found = rows_of(written(tmp_path, format, elements, **options), format)
    if format == "csv":
        texts = {None: "", b"a": "a", b"b": "b"}
        expected = [{name: texts.get(value, str(value)) for name, value in row.items()} for row in expected]
    assert found == expected


@pytest.mark.parametrize("format", COLUMN_FORMATS)
@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ([{"a": 1}, {"b": 1}], "a column 'b'"),
        ([{"a": 1}, 1], "not a dict"),
        ([(1, 2), (1, 2, 3)], "tuple of 2"),
        ([(1, 2), "ab"], "tuple of 2"),
        ([1, (1,)], "the first one had none"),
        ([1, {"a": 1}], "the first one had none"),
        ([Point(1, "x"), Person("a", 1)], "not the columns"),
        ([{1: 1}], "not named by a string"),
        ([()], "no columns"),
        ([{}], "no columns"),
    ],
)
def test_elements_without_the_columns_of_the_first(
    tmp_path: Path, format: str, elements: list[Any], message: str
) -> None:
    with pytest.raises(OutputUnencodable, match=message) as caught:
        write(tmp_path, format, elements)
    assert caught.value.report.record == repr(elements[-1])
    assert "--output-format" not in caught.value.report.advice
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("format", TYPED_FORMATS)
def test_a_wrong_type_is_named_with_its_row(tmp_path: Path, format: str) -> None:
    rows = [{"a": n, "b": "x"} for n in range(500)]
    with pytest.raises(OutputUnencodable, match="column 'a'") as caught:
        write(tmp_path, format, [*rows, {"a": "no", "b": "y"}])
    assert caught.value.report.record == "{'a': 'no', 'b': 'y'}"
    assert "schema" in caught.value.report.advice


@pytest.mark.parametrize("format", TYPED_FORMATS)
def test_types_come_back(tmp_path: Path, format: str) -> None:
    row = {
        "i": 1 << 40, "f": 0.1, "s": "é", "b": b"\xff", "t": True, "d": date(2024, 1, 2),
        "w": datetime(2024, 1, 2, 3, 4, 5, 6), "m": Decimal("1.25"), "l": [1, None, 3], "r": {"x": 1, "y": ["z"]},
        "n": None, "u": UUID(int=1), "p": Person("a", 1),
    }  # fmt: skip
    expected = {**row, "u": str(UUID(int=1)), "p": {"name": "a", "age": 1}}
    rows = [row, {name: None for name in row}, row]
    found = rows_of(written(tmp_path, format, rows), format)
    assert found[0] == found[2] == expected
    assert found[1] == {name: None for name in row} or found[1]["r"] == {"x": None, "y": None}


def test_avro_keeps_a_time_zone(tmp_path: Path) -> None:
    now = datetime(2024, 1, 2, 3, tzinfo=UTC)
    assert rows_of(written(tmp_path, "avro", [now]), "avro") == [{"value": now}]


def test_avro_refuses_names_that_it_has_not(tmp_path: Path) -> None:
    with pytest.raises(OutputUnencodable, match="cannot be named 'a b' in avro"):
        write(tmp_path, "avro", [{"a b": 1}])


@pytest.mark.parametrize("format", TYPED_FORMATS)
def test_a_given_schema(tmp_path: Path, format: str) -> None:
    schema = pa.schema([("a", pa.float64()), ("b", pa.int32()), ("c", pa.string())])
    elements = [{"a": 1, "b": None, "x": "dropped"}, {"b": 3, "a": 2.5}]
    data = written(tmp_path, format, elements, schema=schema)
    assert rows_of(data, format) == [{"a": 1.0, "b": None, "c": None}, {"a": 2.5, "b": 3, "c": None}]
    assert rows_of(written(tmp_path, format, [], schema=schema), format) == []
    if format == "parquet":
        assert pq.read_schema(io.BytesIO(data)) == schema
        assert pq.read_schema(io.BytesIO(written(tmp_path, format, [], schema=schema))) == schema
        nested = pa.schema([("m", pa.map_(pa.string(), pa.int64())), ("s", pa.struct([("x", pa.int8())]))])
        data = written(tmp_path, format, [{"m": {"k": 1}, "s": {}}, {"m": [("k", 2)]}], schema=nested)
        assert rows_of(data, format) == [{"m": [("k", 1)], "s": {"x": None}}, {"m": [("k", 2)], "s": None}]
    for wrong in (1.5, "x", 1 << 40, [1]):
        with pytest.raises(OutputUnencodable, match="column 'b'"):
            write(tmp_path, format, [{"b": wrong}], WriteOptions.of(format, schema=schema))
    tuples = rows_of(written(tmp_path, format, [(1, 2, "x")], schema=schema), format)
    assert tuples == [{"a": 1.0, "b": 2, "c": "x"}]


@pytest.mark.parametrize("format", ["csv", "parquet", "orc", "avro", "jsonl", "text"])
def test_no_elements(tmp_path: Path, format: str) -> None:
    data = written(tmp_path, format, [])
    if format in TYPED_FORMATS:
        assert rows_of(data, format) == []
    else:
        assert data == b""


# Compression


@pytest.mark.parametrize(("compression", "suffix"), [("gzip", ".gz"), ("bz2", ".bz2"), ("zstd", ".zst"), ("none", "")])
@pytest.mark.parametrize(("format", "dotted"), [("text", ""), ("csv", ".csv"), ("jsonl", ".jsonl")])
def test_files_that_are_compressed(tmp_path: Path, format: str, dotted: str, compression: str, suffix: str) -> None:
    elements = [f"line {n}" for n in range(5000)]
    options = WriteOptions.of(format, compression=compression)
    [file] = write(tmp_path, format, elements, options)
    assert file.final == f"part-r-00003{dotted}{suffix}"
    data = (tmp_path / file.staged).read_bytes()
    with pa.input_stream(pa.py_buffer(data), compression={"": None, ".zst": "zstd"}.get(suffix)) as stream:
        plain = {".gz": gzip.decompress, ".bz2": bz2.decompress}.get(suffix, lambda _: stream.read())(data)
    assert plain == written(tmp_path, format, elements)
    [again] = write(tmp_path, format, elements, options, chunk=7)
    assert (tmp_path / again.staged).read_bytes() == data


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
def test_parquet_compression(tmp_path: Path, compression: str) -> None:
    data = written(tmp_path, "parquet", ["x"] * 100, compression=compression)
    column = pq.read_metadata(io.BytesIO(data)).row_group(0).column(0)
    assert column.compression.lower() == {"none": "uncompressed"}.get(compression, compression)


@pytest.mark.parametrize(("format", "compressions"), [("orc", ["none", "zlib", "snappy", "lz4", "zstd"]),
                                                       ("avro", ["none", "deflate", "bzip2", "xz"])])  # fmt: skip
def test_other_compressions(tmp_path: Path, format: str, compressions: list[str]) -> None:
    for compression in compressions:
        data = written(tmp_path, format, ["x"] * 100, compression=compression)
        assert rows_of(data, format) == [{"value": "x"}] * 100


# The size of files


@pytest.mark.parametrize("format", ["text", "csv", "jsonl", "parquet", "orc", "avro"])
def test_files_of_a_wished_size(tmp_path: Path, format: str) -> None:
    elements = [f"{n:09d}" + "é" * (n % 50) + f"{n * 7919 % 1000003}" * 20 for n in range(30_000)]
    options = WriteOptions.of(format, target_size="1MiB", compression="none")
    files = write(tmp_path, format, elements, options)
    suffix = "" if format == "text" else f".{format}"
    assert [file.final for file in files] == [
        f"part-r-00003{f'-{n:04d}' if n else ''}{suffix}" for n in range(len(files))
    ]
    assert all(0.9 * (1 << 20) <= file.size_bytes <= 1.7 * (1 << 20) for file in files[:-1])
    assert len(files) > 2
    data = [(tmp_path / file.staged).read_bytes() for file in files]
    again = write(tmp_path, format, elements, options, chunk=77)
    assert [(tmp_path / file.staged).read_bytes() for file in again] == data
    if format in COLUMN_FORMATS:
        assert [row["value"] for part in data for row in rows_of(part, format)] == elements


def test_a_file_is_there_without_a_row_but_none_behind_the_last(tmp_path: Path) -> None:
    options = WriteOptions.of("text", target_size=1)
    assert [file.rows for file in write(tmp_path, "text", [], options)] == [0]
    assert [file.rows for file in write(tmp_path, "text", ["x"] * 512, options)] == [256, 256]


# Folders


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("a b", "a b"), ("a/b", "a%2Fb"), ("a=b%c", "a%3Db%25c"), ("é", "é"), ("\udcff", "%FF"), ("x\n", "x%0A"),
        (None, NULL), ("", NULL), (b"", NULL), (b"ab", "ab"), (1, "1"), (1.5, "1.5"), (True, "true"),
        (date(2024, 1, 2), "2024-01-02"), (datetime(2024, 1, 2, 3, 4), "2024-01-02 03%3A04%3A00"),
        (Decimal("1.0"), "1.0"), (Color.RED, "RED"), ("..", ".."), (math.inf, "inf"),
    ],
)  # fmt: skip
def test_names_of_folders(value: Any, name: str) -> None:
    assert folder_of(["k"], [value]) == f"k={name}"
    assert folder_of(["y", "a/b"], [1, value]) == f"y=1/a%2Fb={name}"


@pytest.mark.parametrize("value", [[1], {"a": 1}, "x" * 300, "\ud800", object()])
def test_values_that_name_no_folder(tmp_path: Path, value: Any) -> None:
    with pytest.raises(OutputUnencodable, match="partition_by"):
        write(tmp_path, "csv", [{"k": value, "v": 1}], WriteOptions.of("csv", partition_by="k"))


def in_folders(folder: Path, format: str, files: Sequence[PartFile]) -> dict[str, list[Any]]:
    found = {}
    for file in files:
        where, _, name = file.final.rpartition("/")
        assert name.startswith("part-r-00003")
        data = (folder / file.staged).read_bytes()
        if format in ("text", "jsonl"):
            rows: list[Any] = data.decode().splitlines()
            rows = [json.loads(row) for row in rows] if format == "jsonl" else rows
        else:
            rows = rows_of(data, format)
        found[where] = rows
    return found


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet", "orc", "avro"])
def test_rows_lie_in_folders_without_the_columns_that_name_them(tmp_path: Path, format: str) -> None:
    rows = [{"year": 2020 + n % 3, "x": str(n), "kind": "a" if n % 2 else None} for n in range(12)]
    files = write(tmp_path, format, rows, WriteOptions.of(format, partition_by=["kind", "year"]))
    assert in_folders(tmp_path, format, files) == {
        f"kind={kind}/year={year}": [
            {"x": row["x"]} for row in rows if row["year"] == year and (row["kind"] or NULL) == kind
        ]
        for kind in (NULL, "a")
        for year in (2020, 2021, 2022)
    }


@pytest.mark.parametrize(
    "elements", [[(1, "a"), (2, "b")], [Point(1, "a"), Point(2, "b")], [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]]
)
@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet", "text"])
def test_all_records_with_columns_can_lie_in_folders(tmp_path: Path, elements: list[Any], format: str) -> None:
    options = WriteOptions.of(format, partition_by="x", columns=["x", "y"])
    found = in_folders(tmp_path, format, write(tmp_path, format, elements, options))
    expected: dict[str, Any] = {"x=1": [{"y": "a"}], "x=2": [{"y": "b"}]}
    assert found == (expected if format != "text" else {"x=1": ["a"], "x=2": ["b"]})


def test_folders_are_read_by_others(tmp_path: Path) -> None:
    schema = pa.schema([("v", pa.int64())])
    rows = [{"k": key, "v": n} for n, key in enumerate(["a/b", None, "é =", "x%y", "a/b"])]
    for file in write(tmp_path, "parquet", rows, WriteOptions.of("parquet", partition_by="k", schema=schema)):
        target = tmp_path / "out" / file.final
        target.parent.mkdir(parents=True)
        (tmp_path / file.staged).rename(target)
    found = dataset.dataset(tmp_path / "out", partitioning="hive").to_table().to_pylist()
    assert sorted(map(str, found)) == sorted(map(str, rows)) or {row["v"]: row["k"] for row in found} == {
        row["v"]: row["k"] for row in rows
    }


@pytest.mark.parametrize(
    ("format", "elements", "message"),
    [
        ("csv", [{"x": 1}], "a column 'k'"),
        ("jsonl", [{"k": 1, "x": 1}, {"x": 1}], "a column 'k'"),
        ("csv", [1], "names columns, and it has none"),
        ("jsonl", [[1]], "names columns, and it has none"),
        ("csv", [{"k": 1}], "no column is left"),
        ("text", [{"k": 1, "x": 1, "y": 2}], "text has one column, and 2 are left: x, y"),
    ],
)
def test_elements_that_lie_in_no_folder(tmp_path: Path, format: str, elements: list[Any], message: str) -> None:
    with pytest.raises(OutputUnencodable, match=message):
        write(tmp_path, format, elements, WriteOptions.of(format, partition_by="k"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_task_without_rows_writes_no_file(tmp_path: Path) -> None:
    assert write(tmp_path, "csv", [], WriteOptions.of("csv", partition_by="k")) == ()


def test_too_many_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitioned, "MAX_FOLDERS", 50)
    rows = [{"k": n % 50, "v": n} for n in range(500)]
    options = WriteOptions.of("csv", partition_by="k")
    assert len(write(tmp_path, "csv", rows, options)) == 50
    with pytest.raises(OutputUnencodable, match="combinations of values"):
        write(tmp_path, "csv", [*rows, {"k": 50, "v": 0}], options)


def partition(folder: Path, format: str, rows: list[Any], held_bytes: int, chunk: int, target: int | None) -> list[Any]:
    """Each file's name and bytes."""
    options = WriteOptions.of(format, partition_by="k", target_size=target)
    files = PartFiles(LocalTarget(folder), "a", f"part-r-00003.{format}", format)
    parts = PartitionedParts(files, options, folder, held_bytes)
    for start in range(0, len(rows), chunk):
        some = rows[start : start + chunk]
        parts.write([None] * len(some), some)
    found = sorted((file.final, (folder / file.staged).read_bytes(), file.rows) for file in parts.close())
    assert sum(rows for _, _, rows in found) == len(rows)
    return found


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=400),
    st.sampled_from(["csv", "jsonl", "parquet"]),
    st.sampled_from([None, 2000]),
)
def test_what_is_spilled_comes_out_the_same(
    tmp_path_factory: pytest.TempPathFactory, keys: list[int], format: str, target: int | None
) -> None:
    folder = tmp_path_factory.mktemp("spilled")
    rows = [{"k": key, "v": n, "s": "x" * (n % 40)} for n, key in enumerate(keys)]
    spilled = partition(folder, format, rows, 1000, 13, target)
    assert spilled == partition(folder, format, rows, 1 << 30, 13, target)
    if format == "jsonl":
        found = {name: [json.loads(line) for line in data.splitlines()] for name, data, _ in spilled}
        for key in set(keys):
            mine = [row for name in sorted(found) if name.startswith(f"k={key}/") for row in found[name]]
            assert mine == [{"v": row["v"], "s": row["s"]} for row in rows if row["k"] == key]


def test_rows_that_are_held_are_gone_when_the_attempt_fails(tmp_path: Path, limit_files: Any) -> None:
    files = PartFiles(LocalTarget(tmp_path), "a", "part-r-00003.csv", "csv")
    parts = PartitionedParts(files, WriteOptions.of("csv", partition_by="k"), tmp_path, 10_000)
    limit_files(20_000)
    with pytest.raises(DiskFull):
        for n in range(100):
            parts.write([None] * 100, [{"k": key, "v": "x" * 50} for key in range(n, n + 100)])
        parts.close()
    parts.discard()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# One schema for all


def commit_parquet(folder: Path, tasks: Sequence[Sequence[Any]], **options: Any) -> Path:
    commit = OutputCommit.prepare(folder / "out", "job", False)
    files: list[PartFile] = []
    for number, elements in enumerate(tasks):
        pairs = WriteOptions.of("parquet", **options).to_pairs()
        parts = open_parts(commit.staging, f"a{number}", number, "r", "parquet", pairs, folder)
        parts.write([None] * len(elements), elements)
        files += parts.close()
    commit.commit(files, {"job_id": "job"})
    listed = read_manifest(folder / "out")
    assert listed is not None
    assert all((folder / "out" / file.name).stat().st_size == file.size_bytes for file in listed)
    assert sum(file.rows or 0 for file in listed) == sum(map(len, tasks))
    return folder / "out"


def test_all_files_of_an_output_have_one_schema(tmp_path: Path) -> None:
    tasks = [
        [{"a": None, "b": 1, "c": None}] * 300,
        [{"a": "x", "b": None, "c": [1, 2]}],
        [{"a": None, "b": 1.5}],
        [],
        [{"a": "y", "b": 2, "c": [3]}],
    ]
    output = commit_parquet(tmp_path, tasks, compression="zstd")
    wanted = pa.schema([("a", pa.string()), ("b", pa.float64()), ("c", pa.list_(pa.int64()))])
    files = sorted(output.glob("part-*"))
    assert [pq.read_schema(path) for path in files] == [wanted] * 4
    assert {pq.read_metadata(path).row_group(0).column(0).compression for path in files} == {"ZSTD"}
    found = dataset.dataset(files).to_table().to_pylist()
    assert found == [{"c": None, **row} for task in tasks for row in task]


def test_one_schema_across_folders(tmp_path: Path) -> None:
    rows = [{"k": n % 3, "v": None if n % 3 == 0 else n} for n in range(9)]
    output = commit_parquet(tmp_path, [rows[:5], rows[5:]], partition_by="k")
    assert {str(pq.read_schema(path)) for path in output.rglob("*.parquet")} == {"v: int64"}


@pytest.mark.parametrize("tasks", [[[{"a": 1}], [{"a": "x"}]], [[{"a": (1 << 60) + 1}], [{"a": 0.5}]]])
def test_what_no_schema_fits_stays_as_it_is(tmp_path: Path, tasks: list[list[Any]]) -> None:
    output = commit_parquet(tmp_path, tasks)
    found = [pq.read_table(path).to_pylist() for path in sorted(output.glob("part-*"))]
    assert found == tasks


def test_a_commit_that_ends_while_files_are_written_again_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    commit = OutputCommit.prepare(tmp_path / "out", "job", False, needed_by=tmp_path / "folder")
    files: list[PartFile] = []
    for number, value in enumerate([None, 1, None]):
        parts = open_parts(commit.staging, f"a{number}", number, "r", "parquet", WriteOptions().to_pairs())
        parts.write([None], [{"a": value}])
        files += parts.close()

    def fail(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr("gristmill.storage.commit.rename_new", fail)
    with pytest.raises(OutputNotWritable):
        commit.commit(files, {"job_id": "job"})
    monkeypatch.undo()
    commit.abort(tmp_path / "folder" / "staged")
    again = OutputCommit.adopt(tmp_path / "out", "job", False, files, kept=tmp_path / "folder" / "staged")
    assert all((again.staging / file.staged).stat().st_size == file.size_bytes for file in files)
    again.commit(files, {"job_id": "job"})
    assert {str(pq.read_schema(path)) for path in (tmp_path / "out").glob("part-*")} == {"a: int64"}
