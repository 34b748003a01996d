"""Formats and compression: what comes out, where it came from, and what is said of what cannot be read."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.errors import RecordMalformed, RecordTooLong
from gristmill.records.block import MalformedRecord, RecordBlock
from gristmill.storage.contracts import Split
from gristmill.storage.formats import open_split
from gristmill.storage.inputs import plan_tasks, resolve_inputs
from gristmill.storage.readers import csv as csv_reader

BIG = 1 << 26


def blocks(file: Path, format: str | None = None, split_bytes: int = BIG, limit: int = BIG) -> Iterator[RecordBlock]:
    for task in plan_tasks(resolve_inputs([file], format), split_bytes):
        for split in task:
            yield from open_split(split, limit)


def values(file: Path, format: str | None = None, split_bytes: int = BIG, limit: int = BIG) -> list[Any]:
    found: list[Any] = []
    for block in blocks(file, format, split_bytes, limit):
        assert block.malformed == sum(isinstance(value, MalformedRecord) for value in block.values)
        found.extend(block.values)
    return found


def compress(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(data)
    if suffix == ".bz2":
        return bz2.compress(data)
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


# Text and whole


def test_a_byte_order_mark_is_not_part_of_the_first_line(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo")
    assert values(file) == ["one", "\ufefftwo"]
    file.write_bytes(b"\xef\xbb\xbf")
    assert values(file) == []


def test_whole_is_one_record_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\n\xff")
    (tmp_path / "b.txt").write_bytes(b"")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"packed"))
    monkeypatch.chdir(tmp_path)
    found = [(block.key, *block.values) for block in blocks(Path(), "whole")]
    assert found == [("a.txt", "one\r\ntwo\n\udcff"), ("b.txt", ""), ("c.txt.gz", "packed")]
    (bad,) = values(Path("a.txt"), "whole", limit=5)
    assert isinstance(bad.error, RecordTooLong)


# Compression


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
class TestCompression:
    content = b"".join(b"line %d \xff\r\n" % number for number in range(50_000)) + b"last"

    def test_read_as_a_stream_of_blocks(self, tmp_path: Path, suffix: str) -> None:
        file = tmp_path / f"a.txt{suffix}"
        file.write_bytes(compress(self.content, suffix))
        found = list(blocks(file, split_bytes=1000))
        assert len(found) > 1
        assert sum(block.nbytes for block in found) == file.stat().st_size
        lines = [value for block in found for value in block.values]
        assert lines == self.content.decode("utf-8", "surrogateescape").replace("\r\n", "\n").split("\n")
        offset = found[-1].offset_of(len(found[-1].values) - 1)
        assert self.content[offset:] == b"last"

    def test_several_members(self, tmp_path: Path, suffix: str) -> None:
        file = tmp_path / f"a{suffix}"
        file.write_bytes(compress(b"one\ntw", suffix) + compress(b"", suffix) + compress(b"o\nthree\n", suffix))
        assert values(file) == ["one", "two", "three"]

    def test_cut_short(self, tmp_path: Path, suffix: str) -> None:
        file = tmp_path / f"a{suffix}"
        file.write_bytes(compress(self.content, suffix)[:-20])
        with pytest.raises(RecordMalformed, match=rf"a{suffix} cannot be read"):
            values(file)

    def test_damaged(self, tmp_path: Path, suffix: str) -> None:
        file = tmp_path / f"a{suffix}"
        data = bytearray(compress(self.content, suffix))
        begin = 4 if suffix == ".zst" else len(data) // 2  # Arrow's zstd has no checksum: only its structure can tell
        for place in range(begin, begin + 50):
            data[place] ^= 0xFF
        file.write_bytes(data)
        with pytest.raises(RecordMalformed, match="cannot be read"):
            values(file)

    def test_not_compressed_at_all(self, tmp_path: Path, suffix: str) -> None:
        file = tmp_path / f"a{suffix}"
        file.write_bytes(b"plain text, whatever the name says\n" * 100)
        with pytest.raises(RecordMalformed) as caught:
            values(file)
        assert caught.value.report.source == str(file)
        assert "suffix" in caught.value.report.advice

    def test_every_format(self, tmp_path: Path, suffix: str) -> None:
        (tmp_path / f"a.csv{suffix}").write_bytes(compress(b"x,y\n1,2\n", suffix))
        (tmp_path / f"b.jsonl{suffix}").write_bytes(compress(b'{"x": 1}\n', suffix))
        assert values(tmp_path) == [{"x": "1", "y": "2"}, {"x": 1}]


@pytest.mark.parametrize("format", ["text", "whole", "csv", "jsonl", "parquet"])
def test_a_file_that_vanished(tmp_path: Path, format: str) -> None:
    with pytest.raises(RecordMalformed, match="gone"):
        list(open_split(Split(str(tmp_path / "gone"), 0, 10, 10, format), BIG))


# jsonl


def test_jsonl_sets_bad_lines_apart_with_their_place(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    lines = [b'{"a": 1}', b"{bad", b"", b"1 2", b"  [1]  ", b'"\xff"', b"[" * 100_000, b"nil", b"2"]
    file.write_bytes(b"\n".join(lines))
    found = values(file)
    assert found[0] == {"a": 1}
    assert found[3:5] == [[1], "\udcff"]
    assert found[7] == 2
    for index, line in ((1, 1), (2, 3), (5, 6), (6, 7)):
        error = found[index].error
        assert isinstance(error, RecordMalformed)
        assert error.report.offset == len(b"\n".join(lines[:line])) + 1
        assert error.report.source == str(file)
        assert lines[line][:100].decode() in error.report.record


# csv


def test_csv_records_are_dicts(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b'\xef\xbb\xbfid,"na\nme"\r\n\r\n1,"two\r\nlines"\n2,"say ""hi"""\n\n3,\xff\n')
    (block,) = blocks(file)
    assert block.values == [
        {"id": "1", "na\nme": "two\r\nlines"},
        {"id": "2", "na\nme": 'say "hi"'},
        {"id": "3", "na\nme": "\udcff"},
    ]
    content = file.read_bytes()
    assert [content[block.offset_of(i) :][:2] for i in range(3)] == [b"1,", b"2,", b"3,"]
    assert block.nbytes == len(content)


def test_csv_rows_that_do_not_fit_are_set_apart(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b'a,b\n1,2\n3\n4,5,6\n"x\ny",7\n8,\r9\n10,11\n12,"never closed\n13,14\n')
    found = values(file)
    assert [value for value in found if isinstance(value, dict)] == [
        {"a": "1", "b": "2"}, {"a": "x\ny", "b": "7"}, {"a": "10", "b": "11"},
    ]  # fmt: skip
    bad = [value.error.report for value in found if isinstance(value, MalformedRecord)]
    assert [report.message for report in bad][:2] == [
        "A record has 1 fields; the header has 2.",
        "A record has 3 fields; the header has 2.",
    ]
    assert "never closed" in bad[3].message
    content = file.read_bytes()
    assert [content[report.offset :][:2] for report in bad] == [b"3\n", b"4,", b"8,", b"12"]
    assert bad[1].record == "'4,5,6'"


def test_csv_with_a_header_alone_or_nothing_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n")
    (tmp_path / "b.csv").write_text("")
    (tmp_path / "c.csv").write_text("\n\n")
    assert values(tmp_path) == []


def test_csv_with_a_useless_header_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(RecordMalformed, match="'a' twice"):
        values(file)


def test_csv_rows_without_end_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b'a,b\n1,"' + b"x\n" * 1_000_000)
    with pytest.raises(RecordTooLong, match="no end") as caught:
        values(file, limit=300_000)
    assert "quote" in caught.value.report.advice
    file.write_bytes(b"a,b\n1,2\n3," + b"x" * 200 + b"\n4,5\n")
    found = values(file, limit=100)
    assert [value for value in found if isinstance(value, dict)] == [{"a": "1", "b": "2"}, {"a": "4", "b": "5"}]
    assert isinstance(found[1].error, RecordTooLong)
    assert found[1].error.report.offset == 8


cells = st.text(st.sampled_from('ab",\n\r é'), max_size=6)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(cells, cells), max_size=12), st.sampled_from(["\n", "\r\n"]), st.integers(1, 60), st.booleans()
)
def test_csv_written_by_python_is_read_back_in_any_chunks(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], end: str, chunk: int, final_end: bool
) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("x", "y"), *rows])
    file = tmp_path_factory.getbasetemp() / "property.csv"
    content = buffer.getvalue() if final_end else buffer.getvalue().removesuffix(end)
    file.write_text(content, "utf-8", newline="")
    size = file.stat().st_size
    found = []
    for block in csv_reader.read(Split(str(file), 0, size, size, "csv"), BIG, chunk):
        assert not block.malformed
        found += [(value, block.offset_of(index)) for index, value in enumerate(block.values)]
    assert [value for value, _ in found] == [{"x": x, "y": y} for x, y in rows]
    for (_, offset), row in zip(found, rows, strict=True):
        assert next(csv.reader(io.StringIO(content.encode()[offset:].decode(), newline=""))) == list(row)


# parquet


def test_parquet_row_groups_are_splits(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    table = pa.table({"n": list(range(10_000)), "s": [f"row {n}" * 20 for n in range(10_000)]})
    pq.write_table(table, file, row_group_size=1000)
    groups = plan_tasks(resolve_inputs([file], None), 1)
    assert [(split.start, split.length) for task in groups for split in task] == [(n, 1) for n in range(10)]
    (one,) = plan_tasks(resolve_inputs([file], None), BIG)
    assert (one[0].start, one[0].length) == (0, 10)
    for split_bytes in (1, one[0].size_bytes // 3, BIG):
        rows = 0
        nbytes = 0
        for block in blocks(file, split_bytes=split_bytes):
            assert block.offset_of(3) == rows + 3
            assert block.values[3] == {"n": rows + 3, "s": f"row {rows + 3}" * 20}
            rows += len(block.values)
            nbytes += block.nbytes
        assert rows == 10_000
        assert nbytes <= one[0].size_bytes


def test_parquet_values_are_python_values(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    when = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    table = pa.table(
        {
            "bytes": [b"\xff"],
            "none": [None],
            "list": [[1, 2]],
            "struct": [{"a": 1}],
            "nanos": pa.array([when], pa.timestamp("ns", "UTC")),
        }
    )
    pq.write_table(table, file)
    assert values(file) == [{"bytes": b"\xff", "none": None, "list": [1, 2], "struct": {"a": 1}, "nanos": when}]


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": list(range(100_000))}), file)
    tasks = plan_tasks(resolve_inputs([file], None), BIG)
    data = bytearray(file.read_bytes())
    data[100:50_000] = b"\x00" * 49_900
    file.write_bytes(data)
    with pytest.raises(RecordMalformed, match=r"a\.parquet cannot be read"):
        for block in open_split(tasks[0][0], BIG):
            json.dumps(block.values)
