"""Sorts of lines that stay in columns give what sorts of Python values give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.compute.columns import ColumnCollector
from gristmill.compute.group import groups
from gristmill.compute.pipes.groups import groups_ahead, groups_of_pairs
from gristmill.compute.ranges import bounds_of
from gristmill.compute.sorting import Sortable, column_key_of, pairs_of, sorted_columns, sorted_elements
from gristmill.compute.streams import Columns, Records
from gristmill.records.block import RecordBlock
from gristmill.records.lines import decode_lines, encode_lines
from gristmill.shuffle.blocks import read_segment
from gristmill.shuffle.merge import merge
from gristmill.storage.readers.blocks import LineBlock

WIDTH = 3
around = 2

KEYS: list[Callable[[str], Any]] = [
    lambda line: line,
    lambda line: line[:WIDTH],
    lambda line: line[1:],
    lambda line: line[1:4],
    lambda line: line[-2:],
    lambda line: line[::2],
    lambda line: len(line),
    lambda line: line.lower(),
    lambda line: None if line < "b" else line,
]
chunks = st.lists(
    st.text("ab\r é\u4e2d\U0001f600", max_size=6).map(lambda line: line.encode()) | st.binary(max_size=3), max_size=8
).map(lambda lines: b"\n".join(lines) + b"\n")


@given(chunk=chunks)
def test_lines_are_the_same_in_an_array(chunk: bytes) -> None:
    for data in (chunk, chunk.removesuffix(b"\n")):
        array = encode_lines(data) if data else None
        if array is not None:
            assert array.to_pylist() == decode_lines(data)


def test_what_is_no_utf_8_is_not_made_an_array() -> None:
    assert encode_lines(b"a\n\xff\n") is None


@pytest.mark.parametrize("known", range(4))
def test_the_beginning_of_a_line_is_taken_in_columns(known: int) -> None:
    assert column_key_of(KEYS[known]) is not None


@pytest.mark.parametrize("other", range(4, len(KEYS)))
def test_no_other_key_is(other: int) -> None:
    assert column_key_of(KEYS[other]) is None


def test_a_key_that_is_counted_from_the_end_is_not_taken_in_columns() -> None:
    end = -1
    assert column_key_of(lambda line: line[:end]) is None
    assert column_key_of(lambda line: line[:around]) is not None
    assert column_key_of(str) is None


@given(texts=st.lists(chunks, min_size=1, max_size=4), number=st.integers(0, len(KEYS) - 1), parts=st.integers(1, 3))
def test_a_sort_of_lines_is_that_of_python(
    texts: list[bytes], number: int, parts: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("sorting")
    key = KEYS[number]
    lines = [line for text in texts for line in decode_lines(text)]
    keys = list(map(key, lines))
    counts: list[int] = []
    blocks: Iterator[RecordBlock] = iter([LineBlock(text, len(text), "f", lambda _: 0) for text in texts])
    records = Records(blocks, lambda: iter(()), lambda rows, _bytes: counts.append(rows))
    collector = ColumnCollector(parts, folder / "runs", folder / "block", None, bounds_of(keys, parts, False))
    collector.consume(Sortable(records, key))
    block = collector.finish()
    assert sum(counts) == len(lines)
    found: list[Any] = []
    by_groups: list[Any] = []
    for partition in range(parts):
        rows = block.segment(partition).rows
        found += Columns(sorted_columns(merge([read_segment(block, partition)], rows), lambda _: None))
        by_groups += sorted_elements(groups(merge([read_segment(block, partition)], rows)))
    assert found == by_groups
    none, others = ([n for n, key in enumerate(keys) if (key is None) is wanted] for wanted in (True, False))
    assert found == [lines[n] for n in none] + [lines[n] for n in sorted(others, key=lambda n: keys[n])]


def test_elements_of_other_types_come_out_as_they_went_in(tmp_path: Path) -> None:
    elements = [3, None, True, "a", b"b", (1, 2), 2.5, 1, "a", None, frozenset((1,))]
    key = lambda element: element if isinstance(element, (int, str, bytes)) else 0  # noqa: E731
    whole = list(map(key, elements))
    collector = ColumnCollector(1, tmp_path / "runs", tmp_path / "block", None, bounds_of(whole, 1, False))
    collector.consume(Sortable(iter(elements), key))
    block = collector.finish()
    pieces = merge([read_segment(block, 0)], len(elements))
    found = list(Columns(sorted_columns(pieces, lambda _: None)))
    expected = [None, (1, 2), 2.5, None, frozenset((1,)), True, 1, 3, "a", "a", b"b"]
    assert list(map(repr, found)) == list(map(repr, expected))
    assert sorted(map(repr, (pair for pair in pairs_of(key, elements))))[0] == repr(("a", None))


@given(st.lists(st.tuples(st.integers(0, 3) | st.sampled_from([1.0, True, "a", (1,)]), st.integers())))
def test_groups_with_foresight_are_the_same(pairs: list[tuple[Any, int]]) -> None:
    pairs = sorted(pairs, key=lambda pair: (str(type(pair[0])), repr(pair[0])))
    for copies in (1, 12):
        many = [pair for pair in pairs for _ in range(copies)]
        assert _listed(groups_ahead(many)) == _listed(groups_of_pairs(many))


def test_values_that_nobody_takes_are_passed_over() -> None:
    pairs = [(key, n) for key in "ab" for n in range(40)]
    assert [key for key, _ in groups_ahead(pairs)] == ["a", "b"]
    assert [(key, next(values)) for key, values in groups_ahead(pairs)] == [("a", 0), ("b", 0)]


def test_nan_is_one_key() -> None:
    pairs = [(float("nan"), n) for n in range(3)]
    assert [list(values) for _, values in groups_ahead(pairs)] == [[0, 1, 2]]


def _listed(grouped: Iterator[tuple[Any, Iterator[Any]]]) -> list[tuple[str, list[Any]]]:
    return [(repr(key), list(values)) for key, values in grouped]
