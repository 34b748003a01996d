"""Rows received are rows sent, whatever way they take; a row more or less is an error, never an output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gristmill.compute.combine import FAN_IN, fan_in, merge_blocks
from gristmill.errors import BlockCorrupt
from gristmill.records.columns import encode_values
from gristmill.shuffle import blocks as blocks_module
from gristmill.shuffle.blocks import BlockWriter, read_segment
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.groups import key_kind, make_batch
from gristmill.shuffle.merge import HotGroup, merge


def block(path: Path, keys: Sequence[Any], each: int = 2, batches: int = 1) -> BlockInfo:
    """One partition in which each key has some values, the last key in every batch."""
    with BlockWriter(path, 1) as writer:
        step = -(-len(keys) // batches)
        for start in range(0, len(keys), step):
            some = list(keys[start : start + step])
            values = encode_values([number for _ in some for number in range(each)])
            writer.write(0, make_batch(key_kind(some), some, some, [each] * len(some), values))
        return writer.finish()


def rows_of(pieces: Iterator[Any], to_the_end: bool = True) -> int:
    count = 0
    for piece in pieces:
        if isinstance(piece, HotGroup):
            count += sum(map(len, piece.arrays)) if to_the_end else len(next(piece.arrays))
        else:
            count += sum(map(len, piece.column(piece.num_columns - 1).to_pylist()))
    return count


def hot(folder: Path, name: str) -> BlockInfo:
    """One key, whose values are in many batches."""
    with BlockWriter(folder / name, 1) as writer:
        for _ in range(5):
            writer.write(0, make_batch(key_kind(["k"]), ["k"], ["k"], [100], encode_values(list(range(100)))))
        return writer.finish()


@pytest.mark.parametrize("kind", ["apart", "shared", "several kinds", "hot", "batches"])
def test_all_rows_come_out_and_one_less_is_noticed(kind: str, tmp_path: Path) -> None:
    made = {
        "apart": lambda: [block(tmp_path / "a", ["a", "b"]), block(tmp_path / "b", ["c"])],
        "shared": lambda: [block(tmp_path / "a", ["a", "b"]), block(tmp_path / "b", ["a", "b", "c"])],
        "several kinds": lambda: [block(tmp_path / "a", ["a", "b"]), block(tmp_path / "b", [1, 2, 3])],
        "hot": lambda: [hot(tmp_path, "a"), hot(tmp_path, "b")],
        "batches": lambda: [block(tmp_path / n, [f"k{i:04d}" for i in range(500)], 3, 7) for n in "abc"],
    }[kind]()
    sent = sum(one.segment(0).rows for one in made)

    def streams() -> list[Iterator[Any]]:
        return [read_segment(one, 0) for one in made]

    assert rows_of(merge(streams(), sent)) == sent
    assert (
        rows_of(merge(streams(), sent), to_the_end=False) <= sent
    )  # a reducer need not take all of a hot key's values
    for wrong in (sent - 1, sent + 1, 0):
        with pytest.raises(BlockCorrupt, match=f"{wrong} values were sent"):
            rows_of(merge(streams(), wrong))


def test_a_batch_that_is_lost_on_the_way_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [block(tmp_path / name, [f"k{i}" for i in range(10)], batches=2) for name in "abc"]

    def forgetful(one: BlockInfo, partition: int) -> Iterator[Any]:
        batches = list(read_segment(one, partition))
        return iter(batches[:-1] if one.path.endswith("b") else batches)

    monkeypatch.setattr("gristmill.compute.combine.read_segment", forgetful)
    with pytest.raises(BlockCorrupt, match="60 values were sent"):
        merge_blocks(made, [0], tmp_path / "merged", None)
    assert not (tmp_path / "merged").exists()


def test_a_count_that_is_not_the_makers_is_noticed(tmp_path: Path) -> None:
    one = block(tmp_path / "a", ["a", "b"])
    segment = one.segments[0]
    for rows in (segment.rows - 1, segment.rows + 1):
        wrong = replace(one, segments=(segment._replace(rows=rows),))
        with pytest.raises(BlockCorrupt, match=f"where {rows} were written"):
            list(read_segment(wrong, 0))


def test_many_blocks_are_merged_without_loss(tmp_path: Path) -> None:
    empty = BlockInfo("", ())
    made = [block(tmp_path / str(n), [f"k{n % 7}", f"l{n}"]) if n % 5 else empty for n in range(3 * FAN_IN)]
    merged, numbers, written = fan_in(made, [0], tmp_path / "scratch", None)
    assert len(merged) <= FAN_IN and written > 0
    sent = sum(one.segment(0).rows for one in made)
    assert sum(one.segment(numbers[0]).rows for one in merged) == sent
    assert rows_of(merge([read_segment(one, numbers[0]) for one in merged], sent)) == sent


def test_a_merge_of_nothing_makes_no_file(tmp_path: Path) -> None:
    merged, _, written = fan_in([BlockInfo("", ())] * (FAN_IN + 1), [0], tmp_path / "scratch", None)
    assert written == 0
    assert [one.path for one in merged] == ["", ""]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_block_that_cannot_be_read_is_damaged(tmp_path: Path) -> None:
    """A disk that fails: the error names the block, and its maker runs again."""
    one = block(tmp_path / "a", [f"k{i}" for i in range(20_000)])
    small = block(tmp_path / "b", ["a"])
    assert one.segments[0].length > blocks_module._COPIED_BYTES > small.segments[0].length
    for bad in (one, small):
        Path(bad.path).unlink()
        Path(bad.path).mkdir()  # read() of it is an OSError
        with pytest.raises(BlockCorrupt, match="cannot be read") as caught:
            list(read_segment(bad, 0))
        assert caught.value.report.details["block"] == bad.path
