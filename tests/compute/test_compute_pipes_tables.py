"""Elements as rows of Arrow batches, and lines through a program."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pipes_kit import Task, piped

from gristmill.compute.pipes import PIPES
from gristmill.compute.pipes.tables import BatchStream, columns_of
from gristmill.errors import UserCodeError
from gristmill.plan.functions import Call

Point = namedtuple("Point", "x y")


@dataclass
class Place:
    name: str
    size: int


@pytest.mark.parametrize(
    ("elements", "columns"),
    [
        ([{"a": 1}, {"b": 2}], {"a": [1, None], "b": [None, 2]}),
        ([(1, "x"), (2, "y")], {"_1": [1, 2], "_2": ["x", "y"]}),
        ([Point(1, 2)], {"x": [1], "y": [2]}),
        ([Place("a", 1), Place("b", 2)], {"name": ["a", "b"], "size": [1, 2]}),
        ([1, None, 3], {"value": [1, None, 3]}),
        ([[1], [2, 3]], {"value": [[1], [2, 3]]}),
        ([()], {"value": [()]}),
    ],
)
def test_columns_of_elements(elements: list[Any], columns: dict[str, list[Any]]) -> None:
    assert columns_of(elements, "map_batches") == columns


@pytest.mark.parametrize("elements", [[{"a": 1}, 2], [(1, 2), (1, 2, 3)], [(1,), "x"], [Place("a", 1), Point(1, 2)]])
def test_rows_that_are_not_alike_are_named(elements: list[Any]) -> None:
    with pytest.raises(UserCodeError, match="in one batch"):
        columns_of(elements, "map_batches")


def test_batches_have_their_size() -> None:
    sizes: list[int] = []

    def note(batch: pa.RecordBatch) -> pa.RecordBatch:
        sizes.append(batch.num_rows)
        return batch

    rows = [{"a": n} for n in range(7)]
    assert piped("map_batches", rows, note, 3, "arrow") == rows
    assert sizes == [3, 3, 1]
    assert piped("map_batches", [], note, 3, "arrow") == []


def test_batches_that_are_there_are_not_made_again() -> None:
    table = pa.table({"a": pa.array(range(5), pa.int32())})
    stream = BatchStream(iter(table.to_pylist()), lambda: iter(table.to_batches()))
    seen: list[pa.RecordBatch] = []
    call = Call("map_batches", (lambda batch: seen.append(batch) or batch, 3, "arrow"), name="map_batches")
    assert list(PIPES["map_batches"](Task(), call, (stream,))) == [{"a": n} for n in range(5)]
    assert [batch.num_rows for batch in seen] == [3, 2] and seen[0].schema.field("a").type == pa.int32()
    assert next(stream) == {"a": 0}


def test_a_frame_in_and_a_frame_out() -> None:
    def double(frame: pd.DataFrame) -> pd.DataFrame:
        assert isinstance(frame, pd.DataFrame)
        return frame.assign(b=frame["a"] * 2)

    assert piped("map_batches", [{"a": 1}, {"a": 2}], double, 10, "pandas") == [{"a": 1, "b": 2}, {"a": 2, "b": 4}]


def test_a_function_may_return_tables_and_several_batches() -> None:
    def table(batch: pa.RecordBatch) -> pa.Table:
        return pa.Table.from_batches([batch, batch])

    assert piped("map_batches", [1, 2], table, 10, "arrow") == [{"value": n} for n in (1, 2, 1, 2)]
    assert piped("map_batches", [1, 2], lambda batch: [batch, pd.DataFrame({"value": [3]})], 10, "arrow") == [
        {"value": n} for n in (1, 2, 3)
    ]
    assert piped("map_batches", [1, 2], lambda batch: (), 10, "arrow") == []


@pytest.mark.parametrize("made", [None, 7, "x", {"a": [1]}, [1]])
def test_what_is_no_batch_is_named(made: Any) -> None:
    with pytest.raises(UserCodeError, match="must return a batch"):
        piped("map_batches", [1], lambda batch: made, 10, "arrow")


def test_a_column_of_none_has_the_type_that_it_had_before() -> None:
    types: list[pa.DataType] = []

    def note(batch: pa.RecordBatch) -> pa.RecordBatch:
        types.append(batch.schema.field("value").type)
        return batch

    piped("map_batches", [1, None], note, 1, "arrow")
    assert types == [pa.int64(), pa.int64()]


def test_values_of_several_types_in_a_column_are_named() -> None:
    with pytest.raises(UserCodeError, match="The column 'value' of a batch cannot be made"):
        piped("map_batches", [1, "x"], lambda batch: batch, 10, "arrow")


def test_text_that_is_not_utf8_becomes_bytes() -> None:
    [stream] = piped("to_arrow", ["a", b"\xff".decode("utf-8", "surrogateescape")])
    assert pa.ipc.open_stream(stream).read_all().column("value").to_pylist() == [b"a", b"\xff"]


def command(elements: list[Any], *words: str, check: bool = True, **env: str) -> list[Any]:
    return piped("command", elements, words, env, check)


def test_lines_go_through_a_program() -> None:
    assert command(["b", "a"], "sort") == ["a", "b"]
    assert command([1, None], "cat") == ["1", "None"]
    assert command([], "cat") == []
    assert command(["x"], "sh", "-c", "printf 'no end'") == ["no end"]
    assert command(["x"], "sh", "-c", "echo $GREETING", GREETING="hello") == ["hello"]


def test_more_than_fits_in_pipes() -> None:
    lines = [f"{n:0200}" for n in range(20_000)]
    assert command(lines, "cat") == lines
    assert command(lines, "wc", "-l") == ["20000"]


def test_bytes_that_are_not_utf8_come_through() -> None:
    odd = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert command([odd], "cat") == [odd]


def test_a_program_need_not_read_everything() -> None:
    assert command([str(n) for n in range(100_000)], "head", "-n", "1") == ["0"]


def test_a_program_that_fails() -> None:
    with pytest.raises(UserCodeError, match="The program sh ended with exit code 3"):
        command(["x"], "sh", "-c", "exit 3")
    assert command(["x"], "sh", "-c", "echo so far; exit 3", check=False) == ["so far"]
    with pytest.raises(UserCodeError, match="The program no-such-program cannot be run"):
        command(["x"], "no-such-program")
    with pytest.raises(UserCodeError, match="ended by signal 9"):
        command(["x"], "sh", "-c", "kill -9 $$")


def test_a_program_ends_with_whoever_reads_it() -> None:
    lines = PIPES["command"](None, Call("command", (("yes",), {}, True)), (iter(()),))  # type: ignore[arg-type]
    assert next(lines) == "y"
    lines.close()  # type: ignore[attr-defined]


def test_an_error_on_the_way_to_the_program_is_the_users() -> None:
    def elements() -> Any:
        yield "a"
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        piped("command", elements(), ("cat",), {}, True)  # type: ignore[arg-type]
