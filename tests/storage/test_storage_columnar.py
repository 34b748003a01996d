"""Parquet, orc and avro: columns, filters, statistics, splits, and Arrow's batches."""

from __future__ import annotations

import operator
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_kit import BIG, offsets, options, read, splits_of

from gristmill.errors import InputUnreadable, RecordMalformed, UsageError
from gristmill.storage.contracts import Split
from gristmill.storage.formats import open_batches, open_split
from gristmill.storage.inputs import plan_tasks, resolve_inputs
from gristmill.storage.pruning import Condition, NotComparable

ROWS = [{"n": n, "s": f"row {n}", "x": None if n % 3 else n / 2} for n in range(1000)]


def write(folder: Path, format: str, rows: list[dict[str, Any]] = ROWS, name: str = "a") -> Path:
    """A file of several row groups, stripes or blocks."""
    file = folder / f"{name}.{format}"
    file.parent.mkdir(parents=True, exist_ok=True)
    if format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=100)
    elif format == "orc":
        wide = [{**row, "s": row["s"] * 40} for row in rows]
        orc.write_table(pa.Table.from_pylist(wide), file, stripe_size=2000, compression="uncompressed", batch_size=100)
    else:
        fields = [
            {"name": "n", "type": "long"},
            {"name": "s", "type": "string"},
            {"name": "x", "type": ["null", "double"]},
        ]
        with file.open("wb") as stream:
            fastavro.writer(stream, {"type": "record", "name": "row", "fields": fields}, rows, sync_interval=500)
    return file


def expected(format: str, rows: list[dict[str, Any]] = ROWS) -> list[dict[str, Any]]:
    return [{**row, "s": row["s"] * 40} for row in rows] if format == "orc" else rows


@pytest.mark.parametrize("format", ["parquet", "orc", "avro"])
class TestRecords:
    @pytest.mark.parametrize("split_bytes", [1, 700, 3000, BIG])
    def test_each_record_comes_once_in_order_however_it_is_cut(
        self, tmp_path: Path, format: str, split_bytes: int
    ) -> None:
        file = write(tmp_path, format)
        splits = splits_of(file, split_bytes=split_bytes)
        assert len(splits) > 3 or split_bytes == BIG
        assert read(file, split_bytes=split_bytes) == expected(format)

    def test_columns_come_in_the_order_asked_for(self, tmp_path: Path, format: str) -> None:
        file = write(tmp_path, format)
        found = read(file, options(columns=["x", "n"]))
        assert [list(row.items()) for row in found[:4]] == [[("x", row["x"]), ("n", row["n"])] for row in ROWS[:4]]

    def test_a_filter_keeps_the_records_that_fit_and_their_places(self, tmp_path: Path, format: str) -> None:
        file = write(tmp_path, format)
        given = options(columns=["s"], filter=[("n", ">=", 250), ("n", "in", [1, 250, 251, 999]), ("x", "!=", 125.0)])
        kept = [row for row in expected(format) if row["n"] in (250, 251, 999) and row["x"] != 125.0]
        assert read(file, given, split_bytes=1000) == [{"s": row["s"]} for row in kept]
        if format != "avro":
            assert offsets(file, given, split_bytes=1000) == [row["n"] for row in kept]

    def test_no_columns_are_still_records(self, tmp_path: Path, format: str) -> None:
        file = write(tmp_path, format)
        assert read(file, options(columns=[])) == [{}] * 1000
        assert read(file, options(columns=[], filter=[("n", "<", 7)])) == [{}] * 7

    def test_a_column_that_is_not_there_is_named(self, tmp_path: Path, format: str) -> None:
        file = write(tmp_path, format)
        for asked in (options(columns=["zz"]), options(filter=[("zz", "==", 1)])):
            with pytest.raises((InputUnreadable, RecordMalformed), match=r"no column 'zz'; there are: n, s, x\."):
                read(file, asked)

    def test_an_order_that_does_not_exist_is_named(self, tmp_path: Path, format: str) -> None:
        file = write(tmp_path, format)
        with pytest.raises(
            RecordMalformed, match=r"a\.\w+ cannot be read: its column 'n' holds int, which .* n < 'abc'"
        ):
            read(file, options(filter=[("n", "<", "abc")]))

    def test_an_empty_file_has_no_records(self, tmp_path: Path, format: str) -> None:
        if format == "avro":
            file = write(tmp_path, format, [])
        else:
            file = tmp_path / f"a.{format}"
            table = pa.table({"n": pa.array([], pa.int64())})
            pq.write_table(table, file) if format == "parquet" else orc.write_table(table, file)
        assert read(file) == []

    def test_a_file_that_is_cut_short_or_another_one_is_named(self, tmp_path: Path, format: str) -> None:
        file = write(tmp_path, format)
        (split,) = splits_of(file)
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2])
        with pytest.raises(RecordMalformed, match=rf"a\.{format} cannot be read: it is not a whole {format} file"):
            list(open_split(split, BIG))
        file.write_bytes(b"something else" * 100)
        with pytest.raises((InputUnreadable, RecordMalformed), match=rf"a\.{format} "):
            read(file)

    def test_compressed_as_a_whole_it_is_refused(self, tmp_path: Path, format: str) -> None:
        (tmp_path / f"a.{format}.gz").write_bytes(b"x")
        with pytest.raises(InputUnreadable, match=f"a compressed {format} file. Unpack it first"):
            resolve_inputs([tmp_path], None)


@pytest.mark.parametrize("format", ["parquet", "orc"])
def test_batches_hold_the_same_records(tmp_path: Path, format: str) -> None:
    write(tmp_path / "d" / "day=7", format)
    for asked in (
        (),
        options(columns=["s", "day"], filter=[("n", ">", 333)]),
        options(columns=[], filter=[("n", ">", 3)]),
    ):
        batches = [batch for split in splits_of(tmp_path / "d", asked) for batch in open_batches(split)]
        assert [row for batch in batches for row in batch.to_pylist()] == read(tmp_path / "d", asked)
        assert len({batch.schema for batch in batches}) == 1
        assert all(batch.num_rows for batch in batches)


# Statistics


def damage_row_groups(file: Path, groups: set[int]) -> None:
    """Overwrite the data of some row groups, so that reading them fails."""
    metadata = pq.read_metadata(file)
    data = bytearray(file.read_bytes())
    for group in groups:
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    file.write_bytes(data)


def test_row_groups_that_hold_nothing_are_not_read(tmp_path: Path) -> None:
    file = write(tmp_path, "parquet")
    damage_row_groups(file, {0, 1, 2, 5, 6, 7, 8, 9})
    given = options(filter=[("n", ">=", 300), ("n", "<", 500), ("s", "!=", "row 350")])
    assert read(file, given) == [row for row in ROWS[300:500] if row["n"] != 350]
    assert [(split.start, split.length) for split in splits_of(file, given)] == [(3, 2)]
    apart = options(filter=[("n", "in", [310, 499, 5000])])
    assert [row["n"] for row in read(file, apart)] == [310, 499]
    with pytest.raises(RecordMalformed, match="not a whole parquet file"):
        read(file, options(filter=[("n", ">=", 250)]))


def test_row_groups_that_lie_apart_are_splits_of_their_own(tmp_path: Path) -> None:
    file = write(tmp_path, "parquet", [{"n": 1 if n // 100 % 2 else 2} for n in range(600)])
    given = options(filter=[("n", "==", 1)])
    assert [(split.start, split.length) for split in splits_of(file, given)] == [(1, 1), (3, 1), (5, 1)]
    assert offsets(file, given) == [n for n in range(600) if n // 100 % 2]


def test_a_file_of_which_no_row_group_fits_makes_no_split(tmp_path: Path) -> None:
    file = write(tmp_path, "parquet")
    assert splits_of(file, options(filter=[("n", ">", 1000)])) == []
    assert splits_of(file, options(filter=[("x", "==", None), ("n", "<", 0)])) == []


def test_only_columns_that_are_read_count_as_input(tmp_path: Path) -> None:
    file = write(tmp_path, "parquet")
    (all_columns,), (one,) = splits_of(file), splits_of(file, options(columns=["x"]))
    assert 0 < one.size_bytes < all_columns.size_bytes / 2


TYPED = pa.table(
    {
        "date": [date(2024, 1, 1), date(2024, 6, 1), None],
        "utc": pa.array([datetime(2024, 1, 1, 12, tzinfo=UTC), None, datetime(2024, 6, 1, tzinfo=UTC)]),
        "local": [None, datetime(2024, 1, 1), datetime(2024, 6, 1, 0, 0, 1)],
        "ns": pa.array([1_700_000_000_000_000_001, 1_700_000_000_000_000_999, None], pa.timestamp("ns")),
        "money": [Decimal("1.50"), Decimal("2.00"), None],
        "raw": [b"\x00", b"a", b"\xff"],
        "flag": [True, False, None],
        "real": [1.5, float("nan"), None],
        "nothing": pa.nulls(3, pa.int64()),
        "word": pa.array(["a", "b", None]).dictionary_encode(),
    }
)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (("date", ">", "2024-02-01"), [1]),
        (("date", "==", None), [2]),
        (("date", "!=", "2024-01-01"), [1, 2]),
        (("utc", "<", "2024-01-01T12:00:01+00:00"), [0]),
        (("utc", "<", "2024-01-01T12:00:01"), [0]),
        (("local", ">", "2024-06-01"), [2]),
        (("ns", "==", "2023-11-14T22:13:20"), [0, 1]),
        (("money", "<=", "1.5"), [0]),
        (("money", ">", 1.75), [1]),
        (("raw", ">=", "a"), [1, 2]),
        (("flag", "==", True), [0]),
        (("flag", "!=", True), [1, 2]),
        (("real", "<", 2), [0]),
        (("real", "!=", 1.5), [1, 2]),
        (("nothing", "!=", 1), [0, 1, 2]),
        (("nothing", ">", 1), []),
        (("nothing", "in", [None, 3]), [0, 1, 2]),
        (("word", "in", ["b", "c"]), [1]),
    ],
    ids=str,
)
def test_texts_in_filters_stand_for_dates_times_and_decimals(
    tmp_path: Path, condition: tuple[str, str, Any], rows: list[int]
) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(TYPED, file)
    assert offsets(file, options(filter=[condition])) == rows
    pq.write_table(TYPED, file, row_group_size=1)
    assert offsets(file, options(filter=[condition])) == rows


ops = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


@given(
    st.one_of(
        st.lists(st.one_of(st.none(), st.integers(-3, 3))),
        st.lists(st.one_of(st.none(), st.sampled_from([0.5, float("nan"), -0.0, 2.0]))),
        st.lists(st.one_of(st.none(), st.sampled_from(["", "0", "1", "ä", "a" * 100]))),
    ),
    ops,
    st.one_of(st.integers(-3, 3), st.sampled_from([0.5, float("nan"), "0", "ä", "a" * 99, "1"])),
)
def test_bounds_never_leave_out_what_a_condition_keeps(values: list[Any], op: str, value: Any) -> None:
    condition = Condition("x", op, value)
    try:
        keeps = any([condition.test()(found) for found in values])
    except NotComparable:
        return
    ordered = [found for found in values if found is not None and found == found]  # bounds take no notice of NaN
    low, high = (min(ordered), max(ordered)) if ordered else (None, None)
    assert condition.may_hold(low, high, values.count(None), len(values)) or not keeps


@settings(max_examples=40)
@given(st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=1), ops, st.integers(-3, 3), st.integers(1, 5))
def test_filters_of_parquet_are_pythons(values: list[int | None], op: str, value: int, rows: int) -> None:
    orders = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
    plain = {"==": operator.eq, "!=": operator.ne, **orders}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.parquet"
        pq.write_table(pa.table({"x": pa.array(values, pa.int64())}), file, row_group_size=rows)
        found = [row["x"] for row in read(file, options(filter=[("x", op, value)]))]
    assert found == [each for each in values if not (op in orders and each is None) and plain[op](each, value)]


# Options


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "parquet")
    (tmp_path / "a.txt").write_text("x\n")
    for asked, words in [
        (options(colums="[]"), "'colums' is not an option of inputs"),
        (options(filter=[("n", "=", 1)]), "'=' is not an operator"),
        (options(filter=[("n", "<", None)]), "None is in no order"),
        (options(filter=[("n", "in", 3)]), "takes a list"),
        (options(filter=[("n", "==", [3])]), "takes a list"),
        (options(columns=["n", "n"]), "twice"),
        ((("columns", "n"),), "not a value of the option 'columns'"),
        (options(partitioning="dir"), "'dir' is no partitioning"),
        (options(delimiter=";"), "options of csv"),
    ]:
        with pytest.raises(UsageError, match=words):
            read(file, asked)
    with pytest.raises(UsageError, match="text have no columns"):
        read(tmp_path / "a.txt", options(columns=["n"]))


# Avro


def test_what_is_no_record_is_a_value(tmp_path: Path) -> None:
    with (tmp_path / "a.avro").open("wb") as stream:
        fastavro.writer(stream, "string", ["one", "two"])
    assert read(tmp_path / "a.avro") == ["one", "two"]
    assert read(tmp_path / "a.avro", options(columns=["x"]))[0].startswith("A record is no object")


def test_without_fastavro_the_package_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, "avro")
    code = f"""
import sys
sys.modules["fastavro"] = None  # as if it were not installed
from gristmill.errors import InputUnreadable, RecordMalformed
from gristmill.storage.contracts import Split
from gristmill.storage.formats import open_split
from gristmill.storage.inputs import resolve_inputs
try:
    resolve_inputs([{str(file)!r}], None)
except InputUnreadable as error:
    print(error)
try:
    list(open_split(Split({str(file)!r}, 0, 100, 100, "avro"), 1000))
except RecordMalformed as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("pip install gristmill[avro]") == 2


def test_a_large_avro_block_comes_in_pieces(tmp_path: Path) -> None:
    rows = [{"n": n, "s": "x" * 1000, "x": None} for n in range(1000)]
    fields = [{"name": "n", "type": "long"}, {"name": "s", "type": "string"}, {"name": "x", "type": "null"}]
    with (tmp_path / "a.avro").open("wb") as stream:
        fastavro.writer(stream, {"type": "record", "name": "r", "fields": fields}, rows, sync_interval=1 << 24)
    (split,) = splits_of(tmp_path / "a.avro")
    blocks = list(open_split(split, BIG))
    assert len(blocks) == 4
    assert [row for block in blocks for row in block.values] == rows


# Many files


@pytest.mark.parametrize("format", ["csv", "whole", "parquet", "text.gz"])
def test_many_small_files_are_packed_whatever_they_are(tmp_path: Path, format: str) -> None:
    kind, _, suffix = format.partition(".")
    row = pa.table({"x": ["a" * 4000]})
    for number in range(200):
        name = f"{number:05d}.{'gz' if suffix else 'x'}"
        if kind == "parquet":
            pq.write_table(row, tmp_path / name, compression="none", use_dictionary=False)
        else:
            (tmp_path / name).write_bytes(b"x" * 4096)
    files = resolve_inputs([tmp_path], kind)
    tasks = plan_tasks(files * 50, None)
    assert len(tasks) <= 8  # 10,000 files: 4 × 2 cores, and no more on more of them
    assert sum(len(task) for task in tasks) == 10_000
    assert isinstance(tasks[0][0], Split)
