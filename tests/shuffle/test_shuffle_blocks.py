"""Blocks: what is read is what was written, or an error that says which file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gristmill.errors import BlockCorrupt, BlockMissing
from gristmill.records.columns import decode_values, encode_values
from gristmill.shuffle.blocks import BlockWriter, read_index, read_segment
from gristmill.shuffle.contracts import BlockInfo, PackedSegments, SegmentInfo
from gristmill.shuffle.groups import BATCH_BYTES, INT, STR, key_kind, keys_of, lists_of, make_batch, split_batch


def batch_of(groups: dict[Any, list[Any]]) -> Any:
    keys = list(groups)
    flat = [value for values in groups.values() for value in values]
    return make_batch(key_kind(keys), keys, keys, [len(v) for v in groups.values()], encode_values(flat))


def rows_of(batches: Any) -> list[tuple[Any, list[Any]]]:
    return [
        (key, decode_values(lists_of(batch.slice(i, 1)).flatten()))
        for batch in batches
        for i, key in enumerate(keys_of(batch))
    ]


@pytest.fixture
def block(tmp_path: Path) -> BlockInfo:
    with BlockWriter(tmp_path / "b", 4) as writer:
        writer.write(0, batch_of({"a": [1, 2], "b": [3]}))
        writer.write(2, batch_of({1: ["x"], 5: ["y", "z"]}))
        writer.write(2, batch_of({7: ["w"]}))
        return writer.finish()


def test_each_partition_gives_its_rows(block: BlockInfo) -> None:
    assert rows_of(read_segment(block, 0)) == [("a", [1, 2]), ("b", [3])]
    assert rows_of(read_segment(block, 1)) == []
    assert rows_of(read_segment(block, 2)) == [(1, ["x"]), (5, ["y", "z"]), (7, ["w"])]
    assert rows_of(read_segment(block, 3)) == []
    assert [segment.rows for segment in block.segments] == [3, 0, 4, 0]


def test_packed_segments_are_what_they_were() -> None:
    segments = tuple(SegmentInfo(n << 33, n << 32, n << 31, 0xFFFFFFFF - n) for n in range(20))
    packed = PackedSegments(segments)
    assert tuple(packed) == segments
    assert (len(packed), packed[7], packed[-1], packed[3:5]) == (20, segments[7], segments[-1], list(segments[3:5]))
    with pytest.raises(IndexError):
        packed[20]
    assert BlockInfo("b", packed).segment(7) == segments[7]


def test_the_file_holds_its_own_index(block: BlockInfo) -> None:
    assert read_index(Path(block.path)) == block
    assert BlockInfo.from_json(block.to_json()) == block


def test_every_flipped_byte_of_a_segment_is_noticed(block: BlockInfo) -> None:
    path = Path(block.path)
    whole = path.read_bytes()
    segment = block.segments[0]
    for place in range(segment.offset, segment.offset + segment.length, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BlockCorrupt, match="damaged") as caught:
            list(read_segment(block, 0))
        assert caught.value.report.details["block"] == block.path


def test_truncation_and_absence_are_told_apart(block: BlockInfo) -> None:
    path = Path(block.path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BlockCorrupt, match="cut off"):
        list(read_segment(block, 2))
    with pytest.raises(BlockCorrupt):
        read_index(path)
    path.unlink()
    with pytest.raises(BlockMissing, match="is gone"):
        list(read_segment(block, 0))


def test_nothing_appears_unless_it_is_finished(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), BlockWriter(tmp_path / "b", 1) as writer:
        writer.write(0, batch_of({"a": [1]}))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_batches_are_cut_by_bytes_and_a_hot_row_among_several() -> None:
    groups = {"a": [1], "hot": list(range(100_000)), "z": ["w" * 400_000], "zz": ["v"]}
    kinds = {key: batch_of({key: values}) for key, values in groups.items()}
    hot = split_batch(kinds["hot"])
    assert len(hot) > 3
    assert all(piece.nbytes < 2 * BATCH_BYTES for piece in hot)
    assert [v for _, values in rows_of(hot) for v in values] == groups["hot"]
    assert len(split_batch(kinds["z"])) == 1  # one value cannot be cut
    many = batch_of({f"{i:06d}": [i] for i in range(50_000)})
    pieces = split_batch(many)
    assert max(piece.nbytes for piece in pieces) <= 2 * BATCH_BYTES
    assert rows_of(pieces) == rows_of([many])


def test_the_plainest_kind_of_key_is_chosen() -> None:
    assert key_kind(["a", "b"]) == STR
    assert key_kind([1, 2]) == INT
    assert key_kind([1, 2**63]) == key_kind([1, "a"]) == key_kind([True]) == key_kind([(1,)])
