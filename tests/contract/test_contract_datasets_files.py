"""What datasets read from files and write to them, on every fleet; the oracles are Python's and Arrow's own readers."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dataset_functions as f
import fastavro
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.orc
import pyarrow.parquet
import pytest
from dataset_fleets import EACH_FLEET, on_fleets, session_for, session_on
from dataset_values import exact
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gristmill import JobFailed, OutputExists, Session

SPLIT_BYTES = 64  # so that some lines make several tasks
FORMATS = ("csv", "jsonl", "parquet", "orc", "avro")
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module", params=EACH_FLEET)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session_for(request, tmp_path_factory, split_size=SPLIT_BYTES) as opened:
        yield opened


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session_on("inline", tmp_path_factory.mktemp("here"), split_size=SPLIT_BYTES) as opened:
        yield opened


# Text


def texts_in(folder: Path, seed: int) -> list[str]:
    """Write some files, in folders, packed ones too; the lines in the order in which they are to be read."""
    chance = random.Random(seed)
    words = ["a", "the", "é", "日本", "", "x" * 40, "\x85", "tab\t", "\udcff"]
    files = {
        "a.txt": lambda data: data,
        "b.txt.gz": gzip.compress,
        "empty.txt": lambda _: b"",
        "sub/c.txt": lambda data: data,
        "sub/d.txt.bz2": bz2.compress,
        "_hidden.txt": lambda _: b"never read\n",
    }
    lines: list[str] = []
    for name, pack in files.items():
        own = [" ".join(chance.choices(words, k=chance.randrange(6))) for _ in range(chance.randrange(1, 30))]
        end = chance.choice(["\n", "\r\n"])
        text = end.join(own) + end * chance.randrange(2)
        if own[-1] == "" and not text.endswith(end * 2):  # a last line without an end, and without anything else
            text += end
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(text.encode("utf-8", "surrogateescape")))
        if not name.startswith(("_", "empty")):
            lines += own
    return lines


@on_fleets("seed", range(3), "012")
def test_lines_come_in_order(session: Session, tmp_path: Path, seed: int) -> None:
    lines = texts_in(tmp_path / "in", seed)
    assert session.read_text(tmp_path / "in").collect() == lines
    assert session.read_text([tmp_path / "in" / "*.txt*", tmp_path / "in" / "sub"]).take(7) == lines[:7]
    assert session.read_text(str(tmp_path / "in" / "**")).zip_with_index().collect() == [
        (line, place) for place, line in enumerate(lines)
    ]


def test_words_are_counted(session: Session, tmp_path: Path) -> None:
    words = Counter(word for line in texts_in(tmp_path / "in", 5) for word in line.split())
    counts = session.read_text(tmp_path / "in").flat_map(str.split).map(lambda word: (word, 1)).reduce_by_key(f.add)
    assert dict(counts.collect()) == words
    ordered = counts.sort_by(lambda pair: (-pair[1], pair[0])).collect()
    assert ordered == sorted(words.items(), key=lambda pair: (-pair[1], pair[0]))


def test_whole_files(session: Session, tmp_path: Path) -> None:
    for name, text in {"b": "two\nlines", "a": "", "c": "é\udc80"}.items():
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    found = session.read_whole_files(tmp_path).collect()
    assert [(Path(path).name, text) for path, text in found] == [("a", ""), ("b", "two\nlines"), ("c", "é\udc80")]


def test_text_is_written_and_read(session: Session, tmp_path: Path) -> None:
    lines = texts_in(tmp_path / "in", 9)
    session.read_text(tmp_path / "in").write_text(tmp_path / "out")
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert session.read_text(tmp_path / "out").collect() == lines


# Rows


def rows_of(count: int, seed: int = 0) -> Rows:
    """Rows of several types, each None at times."""
    chance = random.Random(seed)

    def or_none(value: Any) -> Any:
        return None if chance.random() < 0.2 else value

    return [
        {
            "id": place,
            "year": 2020 + place % 3,
            "name": or_none(chance.choice(["a", "b é", 'quo"te,', "日本"])),
            "score": or_none(chance.random() * 10),
            "flag": or_none(chance.random() < 0.5),
            "day": date(2024, 1, 1 + place % 28),
        }
        for place in range(count)
    ]


def written_by_arrow(rows: Rows, folder: Path, format: str) -> None:
    """The rows in two files."""
    folder.mkdir()
    half = len(rows) // 2
    for name, part in (("a", rows[:half]), ("b", rows[half:])):
        table = pa.Table.from_pylist(part, pa.Table.from_pylist(rows).schema)
        path = folder / f"{name}.{format}"
        if format == "csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(part)
        elif format == "jsonl":
            path.write_text("".join(json.dumps(row, default=str) + "\n" for row in part))
        elif format == "parquet":
            pa.parquet.write_table(table, path, row_group_size=5)
        elif format == "orc":
            pa.orc.write_table(table, path)
        else:
            with path.open("wb") as file:
                fastavro.writer(file, AVRO, part)


AVRO = {
    "type": "record",
    "name": "row",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "year", "type": "long"},
        {"name": "name", "type": ["null", "string"]},
        {"name": "score", "type": ["null", "double"]},
        {"name": "flag", "type": ["null", "boolean"]},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    ],
}


def as_kept(row: dict[str, Any], format: str) -> dict[str, Any]:
    """A row as a format gives it back."""
    if format == "csv":
        return {name: "" if value is None else str(value) for name, value in row.items()}
    if format == "jsonl":
        return {name: str(value) if isinstance(value, date) else value for name, value in row.items()}
    return row


@on_fleets("format", FORMATS, FORMATS)
def test_rows_of_others_are_read(session: Session, tmp_path: Path, format: str) -> None:
    rows = rows_of(40)
    written_by_arrow(rows, tmp_path / "in", format)
    read: Callable[..., Any] = getattr(session, f"read_{format}")
    kept = [as_kept(row, format) for row in rows]
    assert exact(read(tmp_path / "in").collect()) == exact(kept)
    few = read(tmp_path / "in", columns=["name", "id"]).collect()
    assert few == [{"name": row["name"], "id": row["id"]} for row in kept]
    some = read(tmp_path / "in", filter=[("id", ">=", 10), ("id", "<", 31), ("year", "!=", 2021)]).collect()
    assert exact(some) == exact(
        [new for row, new in zip(rows, kept, strict=True) if 10 <= row["id"] < 31 and row["year"] != 2021]
    )


@on_fleets("format", FORMATS, FORMATS)
def test_rows_are_written_and_read(session: Session, tmp_path: Path, format: str) -> None:
    rows = rows_of(30, seed=2)
    made = session.from_items(rows, partitions=4)
    getattr(made, f"write_{format}")(tmp_path / "out")
    read = getattr(session, f"read_{format}")(tmp_path / "out").collect()
    wanted = [as_kept(row, format) for row in rows]
    if format == "csv":  # as JSON says it, or as Python does
        for row in (*read, *wanted):
            row["flag"] = row["flag"].lower()
    assert exact(read) == exact(wanted)


@on_fleets("format", FORMATS, FORMATS)
def test_folders_are_columns(session: Session, tmp_path: Path, format: str) -> None:
    rows = [{**row, "name": row["name"] and row["name"] + "/=%"} for row in rows_of(30, seed=3)]
    wanted = sorted((exact_row(as_kept(row, format)) for row in rows), key=repr)
    made = session.from_items(rows, partitions=3)
    getattr(made, f"write_{format}")(tmp_path / "out", partition_by=["year", "name"])
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"year=2020", "year=2021", "year=2022"}
    read = getattr(session, f"read_{format}")
    found = read(tmp_path / "out").collect()
    for row in found:
        row["name"] = "" if format == "csv" and row["name"] is None else row["name"]
        row["year"] = str(row["year"]) if format == "csv" else row["year"]
        if format == "csv":
            row["flag"] = row["flag"].capitalize()
    assert sorted(map(exact_row, found), key=repr) == wanted
    assert read(tmp_path / "out", filter=[("year", "==", 2021)]).count() == sum(row["year"] == 2021 for row in rows)


def exact_row(row: dict[str, Any]) -> Any:
    return exact(dict(sorted(row.items())))


@on_fleets("format", ("text", *FORMATS), ("text", *FORMATS))
def test_modes(session: Session, tmp_path: Path, format: str) -> None:
    def write(ids: range, **wishes: Any) -> None:
        rows: list[Any] = [{"id": place} for place in ids]
        made = session.from_items(rows if format != "text" else [f"{place}" for place in ids], partitions=2)
        getattr(made, f"write_{format}")(tmp_path / "out", **wishes)

    def ids() -> list[int]:
        found = getattr(session, f"read_{format}")(tmp_path / "out").collect()
        return sorted(int(row["id"] if isinstance(row, dict) else row) for row in found)

    write(range(5))
    with pytest.raises(OutputExists):
        write(range(3))
    assert ids() == [0, 1, 2, 3, 4]
    write(range(5, 8), mode="append")
    assert ids() == [0, 1, 2, 3, 4, 5, 6, 7]
    write(range(2), mode="append")
    assert ids() == [0, 0, 1, 1, 2, 3, 4, 5, 6, 7]
    write(range(3), mode="overwrite")
    assert ids() == [0, 1, 2]


def test_files_of_some_size(session: Session, tmp_path: Path) -> None:
    lines = [f"{place:09d}" for place in range(2000)]
    session.from_items(lines, partitions=2).write_text(tmp_path / "out", target_size=2000)
    sizes = [path.stat().st_size for path in (tmp_path / "out").glob("part-*")]
    assert len(sizes) >= 5
    assert max(sizes) <= 4000
    assert session.read_text(tmp_path / "out").collect() == lines


def test_a_failed_write_leaves_nothing(session: Session, tmp_path: Path) -> None:
    made = session.from_items(range(8), partitions=4).map(lambda value: 1 // (5 - value))
    with pytest.raises(JobFailed, match="ZeroDivisionError"):
        made.write_jsonl(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == []


def test_what_is_read_while_it_is_overwritten(session: Session, tmp_path: Path) -> None:
    session.from_items(["a", "b"], partitions=2).write_text(tmp_path / "out")
    session.read_text(tmp_path / "out").map(str.upper).write_text(tmp_path / "out", mode="overwrite")
    assert session.read_text(tmp_path / "out").collect() == ["A", "B"]


# Tables

TABLE = pa.table(
    {
        "whole": pa.array([1, None, 3], pa.int64()),
        "text": ["a", None, "é"],
        "moment": pa.array([datetime(2024, 1, 1, tzinfo=UTC), None, None], pa.timestamp("us", "UTC")),
        "list": [[1], [], None],
        "amount": [Decimal("1.50"), None, Decimal("2.25")],
    }
)


@on_fleets("partitions", (None, 1, 2, 5), ("default", "1", "2", "5"))
def test_tables(session: Session, partitions: int | None) -> None:
    made = session.from_arrow(TABLE, partitions=partitions)
    assert exact(made.collect()) == exact(TABLE.to_pylist())
    assert made.to_arrow().equals(TABLE)
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None]})
    assert session.from_pandas(frame, partitions=partitions).collect() == [
        {"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3, "b": None},
    ]  # fmt: skip
    assert session.from_pandas(frame, partitions=partitions).to_pandas().to_dict("list")["a"] == [1, 2, 3]


@on_fleets("size", (1, 2, 100), ("1", "2", "100"))
def test_batches(session: Session, size: int) -> None:
    made = session.range(10, partitions=3).map(lambda value: {"value": value})

    def doubled(batch: pa.RecordBatch) -> pa.Table:
        assert batch.num_rows <= size
        return pa.table({"value": pc.multiply(batch["value"], 2)})

    def odd(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["value"] % 2 == 1]

    assert made.map_batches(doubled, batch_size=size).collect() == [{"value": 2 * value} for value in range(10)]
    found = made.map_batches(odd, batch_size=size, format="pandas").collect()
    assert found == [{"value": value} for value in range(1, 10, 2)]


RANGES = (((10,), None), ((0,), 3), ((5, 20, 4), 2), ((10, 0, -3), 4), ((0, 2**40, 2**37), None), ((3,), 7))


@on_fleets("arguments,partitions", RANGES, [str(case) for case in RANGES])
def test_ranges(session: Session, arguments: tuple[int, ...], partitions: int | None) -> None:
    made = session.range(*arguments, partitions=partitions)
    assert made.collect() == list(range(*arguments))
    assert partitions is None or len(made.glom().collect()) == partitions


@on_fleets("partitions", (None, 1, 3, 20), ("default", "1", "3", "20"))
def test_items_are_cut_evenly(session: Session, partitions: int | None) -> None:
    parts = session.from_items(range(14), partitions=partitions).glom().collect()
    assert [item for part in parts for item in part] == list(range(14))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert partitions in (None, len(parts))


# Drawn rows

_NAMES = ("a", "b c", "é")
_CELLS: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "text": st.text(max_size=5),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[Rows, int]:
    """Rows of one schema, each cell None at times, and into how many partitions they go."""
    kinds = draw(st.lists(st.sampled_from(sorted(_CELLS)), min_size=1, max_size=3))
    columns = dict(zip(_NAMES, map(_CELLS.__getitem__, kinds), strict=False))
    row = st.tuples(*(st.none() | cell for cell in columns.values())).map(
        lambda cells: dict(zip(columns, cells, strict=True))
    )
    # The first row says what the columns hold.
    first = {name: draw(cell) for name, cell in columns.items()}
    return [first, *draw(st.lists(row, max_size=6))], draw(st.integers(1, 3))


def round_trip(session: Session, folder: Path, drawn: tuple[Rows, int], format: str) -> None:
    rows, partitions = drawn
    out = folder / format
    schema = pa.Table.from_pylist(rows).schema
    wishes = {"schema": schema} if format in ("parquet", "orc", "avro") else {}
    getattr(session.from_items(rows, partitions=partitions), f"write_{format}")(out, mode="overwrite", **wishes)
    found = getattr(session, f"read_{format}")(out).collect()
    assert exact(found) == exact(rows)
    if format == "parquet":  # as others read it
        assert exact(pyarrow.dataset.dataset(out, exclude_invalid_files=True).to_table().to_pylist()) == exact(rows)


TYPED = ("jsonl", "parquet", "orc")  # of avro, names are not any text


@pytest.mark.parametrize("format", TYPED)
def test_some_drawn_rows(inline: Session, tmp_path_factory: pytest.TempPathFactory, format: str) -> None:
    folder = tmp_path_factory.mktemp("drawn")

    @settings(max_examples=8, derandomize=True)
    @given(tables())
    def run(drawn: tuple[Rows, int]) -> None:
        round_trip(inline, folder, drawn, format)

    run()


@pytest.mark.soak
@pytest.mark.parametrize("format", TYPED)
def test_many_drawn_rows(session: Session, tmp_path_factory: pytest.TempPathFactory, format: str) -> None:
    folder = tmp_path_factory.mktemp("drawn")

    @settings(max_examples=150, phases=(Phase.generate,))
    @given(tables())
    def run(drawn: tuple[Rows, int]) -> None:
        round_trip(session, folder, drawn, format)

    run()
