"""What an attempt reads of blocks: those of other machines are brought here, many are merged to few, all checked."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gristmill.compute.combine import fan_in, merge_blocks
from gristmill.compute.culprit import in_exchange
from gristmill.compute.group import Group, groups
from gristmill.compute.hot import MANY_ROWS, HotKeys
from gristmill.errors import BlockUnreachable, TaskError, UserCodeError
from gristmill.plan.functions import ExchangeFunctions, Folder, JobCode, StepFunctions
from gristmill.plan.stages import Reads, ShuffleSource, Source
from gristmill.runtime.contracts import TaskEnvironment, TaskSpec
from gristmill.runtime.process.whereabouts import machine_seen
from gristmill.shuffle.blocks import damaged_blocks, read_segment
from gristmill.shuffle.contracts import BlockInfo as BlockInfo  # those who read blocks through here name them, too
from gristmill.shuffle.contracts import BlockSource, owner_of
from gristmill.shuffle.contracts import SegmentInfo as SegmentInfo
from gristmill.shuffle.merge import Piece, merge
from gristmill.shuffle.shelf import located, touch

_TURN_BYTES = 16 * 1024 * 1024  # of results are brought at a time, if no block is larger
_FETCH_SHARE = 8  # of an executor's memory, so much may be in flight at once

OnRows = Callable[[int], None]


class BlockInputs:
    """The blocks of one attempt, by the sources of its branch."""

    def __init__(self, code: JobCode, spec: TaskSpec, env: TaskEnvironment) -> None:
        self._code, self._spec, self._env = code, spec, env
        self._sources: Sequence[Source] = spec.stage.branches[spec.branch].sources
        self._near: dict[int, BlockInfo] = {}  # place in the spec's blocks → where it was brought to
        self._far: set[int] = set()  # those that had to be brought here
        self._known: dict[str, str] = {}  # where a kept block lies in memory → the path by which others know it
        self._hot = HotKeys()
        self.turn = 0  # which of its parts is read
        self.spilled_bytes = 0

    def size_of(self, source: int) -> tuple[int, int]:
        """How many rows and bytes a source has."""
        blocks = [self._spec.blocks[place] for place in self._places(source)]
        segments = [block.segment(self._spec.partition) for block in blocks]
        return sum(segment.rows for segment in segments), sum(segment.length for segment in segments)

    def groups(self, source: int, on_rows: OnRows) -> Iterator[Group]:
        """The groups of a source's partition, in the order of keys, each with all its values."""
        return groups(self.pieces(source), on_rows)

    def pieces(self, source: int) -> Iterator[Piece]:
        """The same as Arrow arrays."""
        blocks, number, _ = self._few_blocks(source)
        sent = sum(block.segment(number).rows for block in blocks)
        pieces = merge([read_segment(block, number) for block in blocks], sent)
        return self._hot.watch(pieces) if sent >= MANY_ROWS else pieces

    def merged(self, source: int, target: Path) -> BlockInfo:
        """One block of all of a source's partition, its values combined."""
        blocks, number, combiner = self._few_blocks(source)
        with self._named(source):
            return merge_blocks(blocks, [number], target, combiner)

    @property
    def hot_keys(self) -> tuple[tuple[str, int], ...]:
        """The keys with the most rows of those that were read, for people."""
        return self._hot.found

    def _few_blocks(self, source: int) -> tuple[Sequence[BlockInfo], int, Folder | None]:
        """What a source has, in few blocks; the partition that is to be read of them; what makes values fewer."""
        partition = self._spec.partition
        shuffle = self._sources[source]
        assert isinstance(shuffle, ShuffleSource), "splits have no groups"
        step = self._code.steps[shuffle.step]
        blocks = [block for block in self._readable(source) if block.segment(partition).length]
        combiner = combiner_of(step) if shuffle.combine else None
        scratch = self._env.scratch / f"source-{source}" if source else self._env.scratch
        if self.turn:
            scratch = scratch / f"turn-{self.turn}"
        with self._named(source):
            merged, numbers, written = fan_in(blocks, [partition], scratch, combiner)
        self.spilled_bytes += written
        return merged, numbers[0], combiner

    @contextmanager
    def _named(self, source: int) -> Iterator[None]:
        """What fails of a source's exchange has its name."""
        try:
            yield
        except UserCodeError as error:
            shuffle = self._sources[source]
            step = self._code.steps[shuffle.step] if isinstance(shuffle, ShuffleSource) else None
            if isinstance(step, ExchangeFunctions):
                in_exchange(error, step)
            raise

    def rows(self, source: int, on_rows: OnRows) -> Iterator[list[Any]]:
        """The records of a source that is not merged: block after block, some at a time."""
        from gristmill.compute.rows import read_rows

        shuffle = self._sources[source]
        is_grouped = isinstance(shuffle, ShuffleSource) and shuffle.step >= 0  # written for an exchange
        read = _read_pairs if is_grouped else read_rows
        for block in self._readable(source):
            for rows in read(read_segment(block, self._spec.partition)):
                on_rows(len(rows))
                yield rows

    def are_kept(self, source: int) -> bool:
        """Whether the session keeps what a source has: then others are going to read it, too."""
        session = self._env.job.session
        places = self._places(source)
        return bool(session and places) and all(owner_of(self._spec.blocks[place]) == session for place in places)

    def identity_of(self, source: int) -> tuple[str, ...]:
        """What tells a source's data from all other data, as long as this process lives."""
        return tuple(self._spec.blocks[place].path for place in self._places(source))

    def all_damaged(self, error: TaskError) -> TaskError:
        """The same error, naming every block that is damaged: each alone would cost one attempt."""
        if isinstance(error, BlockUnreachable):
            return error  # it names them; to read all others would only take time
        near = [self._here(block) for place, block in enumerate(self._spec.blocks) if place not in self._far]
        named = str(error.report.details.get("blocks", "")).split("\n")
        paths = dict.fromkeys([*filter(None, named), *damaged_blocks(near, self._spec.partition)])
        first = str(error.report.details.get("block", ""))
        known = [self._known.get(path, path) for path in paths]
        details = {**error.report.details, "block": self._known.get(first, first), "blocks": "\n".join(known)}
        return type(error)(replace(error.report, details=details))

    def _places(self, source: int) -> range:
        """Where in the spec's blocks those are that are read of a source now."""
        shuffle = self._sources[source]
        is_whole = isinstance(shuffle, ShuffleSource) and shuffle.reads is Reads.ALL
        return self._spec.places_of(source, 0 if is_whole else self.turn)

    def _readable(self, source: int) -> Sequence[BlockInfo]:
        """A source's blocks, those of other machines brought here."""
        spec, job = self._spec, self._env.job
        if spec.sources or job.shuffle_dir:  # what is read in later turns is brought along: it is not much
            turns = range(max(1, len(spec.turns)) if spec.counts else 1)
            everything = [place for turn in turns for place in spec.places_of(source, turn)]
            self._fetch([place for place in everything if place not in self._near])
        places = self._places(source)
        return [self._near.get(place) or self._here(spec.blocks[place]) for place in places]

    def _here(self, block: BlockInfo) -> BlockInfo:
        """A block that this machine sees; one that the session keeps may lie in memory."""
        if not self._env.job.session or owner_of(block) != self._env.job.session:
            return block
        path = located(block.path)
        touch(path)
        self._known[path] = block.path
        return replace(block, path=path)

    def _fetch(self, places: Sequence[int]) -> None:
        from gristmill.shuffle.fetch import fetch_blocks, to_fetch
        from gristmill.shuffle.transfer import FetchSettings

        spec, job = self._spec, self._env.job
        blocks = [spec.blocks[place] for place in places]
        far = [places[number] for number in to_fetch(blocks, spec.sources, spec.machine)]
        self._far.update(far)
        budget = min(FetchSettings.budget_bytes, job.memory_bytes // _FETCH_SHARE)
        kept = [place for place in far if owner_of(spec.blocks[place]) == job.session]
        for owner, ticket, some in (
            (job.job, spec.ticket, [place for place in far if place not in kept]),
            (job.session, spec.session_ticket, kept),
        ):
            if not some:
                continue
            fetched = fetch_blocks(
                [spec.blocks[place] for place in some],
                spec.partition,
                spec.sources,
                self._env.scratch / f"fetched-{some[0]}" if some[0] else self._env.scratch,
                job=owner,
                ticket=ticket,
                settings=FetchSettings(budget_bytes=budget),
            )
            self._near.update(zip(some, fetched, strict=True))


def _read_pairs(batches: Iterable[Any]) -> Iterator[list[Any]]:
    """The pairs of grouped batches, in their order."""
    for batch in batches:
        yield [(key, value) for key, values in groups((batch,)) for value in values]


def records_of(block: BlockInfo) -> Iterator[list[Any]]:
    """The records of a block of rows that lies here, some at a time.

    Raises:
        BlockMissing: the file is gone.
        BlockCorrupt: the bytes are not those that were written.
    """
    from gristmill.compute.rows import read_rows

    return read_rows(read_segment(block, 0))


def bring(
    block: BlockInfo, sources: Sequence[BlockSource], scratch: Path, owner: str, secret: str, peers_ca: str = ""
) -> BlockInfo:
    """A block of rows, readable here: itself, if this process sees its file, else a copy below ``scratch``.

    Args:
        block: the block.
        sources: where workers are.
        scratch: a folder for the copy, made if need be.
        owner: the job, or the session, whose block it is.
        secret: what tickets for it are made of.
        peers_ca: a file with the CAs of workers; empty: as the environment says.

    Raises:
        TaskError: the block is gone, damaged, or cannot be reached.
    """
    from gristmill.shuffle.fetch import fetch_blocks, to_fetch
    from gristmill.shuffle.tickets import ticket_of

    if not to_fetch([block], sources, machine_seen()):
        return block
    ticket = ticket_of(secret, owner, "coordinator", time.time())
    return fetch_blocks([block], 0, sources, scratch, job=owner, ticket=ticket, peers_ca=peers_ca)[0]


def bring_in_turn(
    blocks: Sequence[BlockInfo],
    sources: Callable[[], Sequence[BlockSource]],
    machine: str,
    scratch: Path,
    owner: str,
    secret: str,
) -> Iterator[BlockInfo]:
    """Blocks of rows, readable here, one after the other. They are brought some at a time, when the first is asked for.

    Args:
        blocks: the blocks.
        sources: says where workers are now.
        machine: what this process sees.
        scratch: a folder for copies, made if need be; each goes when the next ones are brought.
        owner: the job, or the session, whose blocks they are.
        secret: what tickets for them are made of.

    Raises:
        TaskError: a block is gone, damaged, or cannot be reached.
    """
    from gristmill.shuffle.fetch import fetch_blocks, to_fetch
    from gristmill.shuffle.tickets import ticket_of

    folder = scratch / secrets.token_hex(8)  # others may read the same blocks at the same time
    for some in _some_at_a_time(blocks):
        at = sources()
        far = to_fetch(some, at, machine)
        ticket = ticket_of(secret, owner, "coordinator", time.time())
        try:
            brought = fetch_blocks([some[place] for place in far], 0, at, folder, job=owner, ticket=ticket)
            copies = dict(zip(far, brought, strict=True))
            for place, block in enumerate(some):
                yield copies.get(place) or replace(block, path=located(block.path))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _some_at_a_time(blocks: Sequence[BlockInfo]) -> Iterator[Sequence[BlockInfo]]:
    first = size_bytes = 0
    for place, block in enumerate(blocks):
        size_bytes += block.segment(0).length
        if size_bytes >= _TURN_BYTES:
            yield blocks[first : place + 1]
            first, size_bytes = place + 1, 0
    if first < len(blocks):
        yield blocks[first:]


def combiner_of(step: StepFunctions) -> Folder | None:
    """What makes fewer values of a key's, where blocks are merged."""
    if not isinstance(step, ExchangeFunctions) or step.fold is None:
        return step.combiner
    from gristmill.compute.folding import fold_combiner

    return fold_combiner(step.fold)
