"""Every line exactly once: any bytes, any split size, any chunk size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.errors import RecordTooLong
from gristmill.records.block import MalformedRecord
from gristmill.storage.inputs import plan_tasks, resolve_inputs
from gristmill.storage.readers import jsonl, text

BIG = 1 << 26
PIECES = [b"\n", b"\n", b"\r\n", b"\r", b"a", b"word ", b"\xc3\xa9", b"\xc3", b"\xff", b"\xef\xbb\xbf", b"\x85"]
contents = st.one_of(st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join), st.binary(max_size=80))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lines") / "input.txt"


def lines_of(content: bytes) -> list[bytes]:
    """What the lines are, said as plainly as can be."""
    *ended, last = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [line.removesuffix(b"\r") for line in ended] + ([last] if last else [])


def read(file: Path, split_bytes: int, chunk_bytes: int, reader: Any = text, limit: int = BIG) -> list[tuple[int, Any]]:
    """Offsets and values of all splits' records."""
    found = []
    total = 0
    format = "jsonl" if reader is jsonl else "text"
    for task in plan_tasks(resolve_inputs([file], format), split_bytes):
        for split in task:
            for block in reader.read(split, limit, chunk_bytes):
                assert block.values
                assert block.key is None
                assert block.source == str(file)
                assert block.malformed == sum(isinstance(value, MalformedRecord) for value in block.values)
                total += block.nbytes
                found += [(block.offset_of(index), value) for index, value in enumerate(block.values)]
    assert total <= file.stat().st_size
    return found


@settings(max_examples=300, deadline=None)
@given(contents, st.integers(1, 90), st.integers(1, 90))
def test_every_line_once_for_any_split_and_chunk_size(file: Path, content: bytes, split: int, chunk: int) -> None:
    file.write_bytes(content)
    found = read(file, split, chunk)
    assert [value.encode("utf-8", "surrogateescape") for _, value in found] == lines_of(content)


@settings(max_examples=200, deadline=None)
@given(contents, st.integers(1, 90), st.integers(1, 90))
def test_offsets_point_at_the_lines(file: Path, content: bytes, split: int, chunk: int) -> None:
    file.write_bytes(content)
    for offset, value in read(file, split, chunk):
        raw = value.encode("utf-8", "surrogateescape")
        assert content[offset:].startswith(raw)
        assert offset in (0, 3) or content[offset - 1 : offset] == b"\n"


@settings(max_examples=200, deadline=None)
@given(contents, st.integers(1, 90), st.integers(1, 90), st.integers(1, 12))
def test_lines_over_the_limit_are_marked_and_the_others_kept(
    file: Path, content: bytes, split: int, chunk: int, limit: int
) -> None:
    file.write_bytes(content)
    found = read(file, split, chunk, limit=limit)
    expected = lines_of(content)
    if content.startswith(b"\xef\xbb\xbf"):  # whether a mark counts against the limit is nobody's concern
        found, expected = found[1:], expected[1:]
    assert len(found) == len(expected)
    for (offset, value), line in zip(found, expected, strict=True):
        if len(line) > limit:
            assert isinstance(value, MalformedRecord)
            assert isinstance(value.error, RecordTooLong)
            assert value.error.report.offset == offset
            assert value.error.report.details["bytes"] == len(line)
            assert content[offset:].startswith(line)
        else:
            assert value.encode("utf-8", "surrogateescape") == line


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.none() | st.integers() | st.text(max_size=8) | st.lists(st.integers(), max_size=3), max_size=20),
    st.lists(st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\r\n"]), min_size=20, max_size=20),
    st.integers(1, 90),
    st.integers(1, 90),
)
def test_every_json_value_once(file: Path, values: list[Any], ends: list[str], split: int, chunk: int) -> None:
    content = "".join(json.dumps(value) + end for value, end in zip(values, ends, strict=False)).encode()
    file.write_bytes(content)
    found = read(file, split, chunk, jsonl)
    assert [value for _, value in found] == values
    decoder = json.JSONDecoder()
    for offset, value in found:
        assert decoder.raw_decode(content[offset:].decode())[0] == value


def test_a_line_far_over_the_limit_is_skipped_in_bounded_memory(file: Path) -> None:
    import tracemalloc

    with file.open("wb") as out:
        out.write(b"first\n")
        for _ in range(64):
            out.write(b"x" * (1 << 20))
        out.write(b"\r\nlast\n")
    tracemalloc.start()
    try:
        found = read(file, BIG * 2, 1 << 18, limit=1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [value for _, value in found if isinstance(value, str)] == ["first", "last"]
    assert found[1][1].error.report.details["bytes"] == 64 << 20
    assert [offset for offset, _ in found] == [0, 6, 6 + (64 << 20) + 2]
    assert peak < 8 << 20


def test_blocks_are_of_bounded_size(file: Path) -> None:
    file.write_bytes(b"0123456789\n" * 200_000)
    (task,) = plan_tasks(resolve_inputs([file], None), BIG)
    blocks = list(text.read(task[0], BIG))
    assert sum(len(block.values) for block in blocks) == 200_000
    assert sum(block.nbytes for block in blocks) == 2_200_000
    assert max(block.nbytes for block in blocks) < (1 << 18) + 11
