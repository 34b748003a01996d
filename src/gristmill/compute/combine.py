"""Merging blocks into fewer: with the combiner where there is one, in a tree whose shape depends on the count alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gristmill.compute.culprit import encode_or_refuse
from gristmill.compute.group import groups
from gristmill.compute.guard import locate, misuse, user_error
from gristmill.errors import GristmillError
from gristmill.plan.functions import Folder
from gristmill.records.keys import encode_key
from gristmill.shuffle.blocks import BlockWriter, read_segment
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.groups import ANY, key_kind, make_batch, one_key_batch
from gristmill.shuffle.merge import HotGroup, Piece, merge

FAN_IN = 64
_PENDING_VALUES = 8 * 1024


def combine_group(combiner: Folder, key: Any, values: Iterator[Any]) -> list[Any]:
    """The values that a combiner makes of a group.

    Raises:
        UserCodeError: it raised, or gave its result another key: results of several runs could not be merged.
    """
    combined = []
    try:
        for shown, value in combiner(key, values) or ():
            if shown is not key and shown != key:
                raise misuse(
                    combiner, "combiner", f"The combiner was given the key {key!r} and yielded the key {shown!r}.",
                    "A combiner must keep the key; change keys in the mapper or the reducer.",
                )  # fmt: skip
            combined.append(value)
    except GristmillError:
        raise
    except Exception as error:  # whatever user code raises
        raise locate(user_error(error, "combiner"), record=key, source="") from error
    return combined


def combined_batches(pieces: Iterable[Piece], combiner: Folder) -> Iterator[Any]:
    """Grouped batches of what the combiner makes of each group of ``pieces``."""
    pending: list[tuple[Any, list[Any]]] = []
    count = 0
    for key, values in groups(pieces):
        combined = combine_group(combiner, key, values)
        if combined:
            pending.append((key, combined))
            count += len(combined)
        if count >= _PENDING_VALUES:
            yield _batch(pending)
            pending, count = [], 0
    if pending:
        yield _batch(pending)


def plain_batches(pieces: Iterable[Piece]) -> Iterator[Any]:
    """Grouped batches of ``pieces`` as they are, never decoded."""
    for piece in pieces:
        if isinstance(piece, HotGroup):
            for array in piece.arrays:
                yield one_key_batch(piece.row, array)
        else:
            yield piece


def merge_blocks(
    blocks: Sequence[BlockInfo], partitions: Sequence[int], path: Path, combiner: Folder | None
) -> BlockInfo:
    """One block of several. Its partition i is partition ``partitions[i]`` of each of ``blocks``."""
    with BlockWriter(path, len(partitions)) as writer:
        for number, partition in enumerate(partitions):
            sent = sum(block.segment(partition).rows for block in blocks)
            pieces = merge([read_segment(block, partition) for block in blocks], sent)
            batches = combined_batches(pieces, combiner) if combiner else plain_batches(pieces)
            for batch in batches:
                writer.write(number, batch)
        return writer.finish()


def fan_in(
    blocks: Sequence[BlockInfo], partitions: Sequence[int], scratch: Path, combiner: Folder | None
) -> tuple[Sequence[BlockInfo], Sequence[int], int]:
    """At most FAN_IN blocks that hold what ``blocks`` hold: neighbours are merged, level by level.

    Returns:
        The blocks, the numbers that ``partitions`` have in them, and how many bytes were written.
    """
    written = level = 0
    while len(blocks) > FAN_IN:
        scratch.mkdir(parents=True, exist_ok=True)
        made = []
        for start in range(0, len(blocks), FAN_IN):
            group = blocks[start : start + FAN_IN]
            path = scratch / f"merge-{level}-{start // FAN_IN:05d}"
            made.append(merge_blocks(group, partitions, path, combiner))
            written += made[-1].size_bytes
            if level:
                for block in group:
                    if block.path:
                        Path(block.path).unlink()
        blocks, partitions, level = made, range(len(partitions)), level + 1
    return blocks, partitions, written


def _batch(groups_: Sequence[tuple[Any, list[Any]]]) -> Any:
    keys = [key for key, _ in groups_]
    kind = key_kind(keys)
    sortable = list(map(encode_key, keys)) if kind == ANY else keys
    values = [value for _, combined in groups_ for value in combined]
    return make_batch(kind, sortable, keys, [len(combined) for _, combined in groups_], encode_or_refuse(values))
