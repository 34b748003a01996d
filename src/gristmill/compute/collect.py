"""The map side of the shuffle: pairs come in, one sorted, combined, partitioned block comes out.

Pairs are grouped by key in a dict as they come: a key is then hashed, sorted and encoded once, however often it was
yielded. When what the dict holds reaches a constant of the job, it is cut off as a sorted **run** in the attempt's
scratch folder. Where runs are cut depends on the pairs alone, never on free memory or time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from operator import length_hint
from pathlib import Path
from typing import Any

from gristmill.compute.combine import combine_group, fan_in, merge_blocks
from gristmill.compute.culprit import check_pair, encode_or_refuse
from gristmill.compute.fold import is_sum
from gristmill.compute.folding import Folds, fold_combiner
from gristmill.compute.guard import locate, misuse, user_error
from gristmill.compute.inline import Inlined
from gristmill.compute.weight import weight
from gristmill.errors import GristmillError
from gristmill.plan.functions import Fold, Folder, Partitioner
from gristmill.records.keys import check_key, encode_descending, encode_key, holds_nan, stable_hash
from gristmill.shuffle.blocks import BlockWriter
from gristmill.shuffle.contracts import BlockInfo
from gristmill.shuffle.groups import ANY, key_kind, make_batch

RUN_BYTES = 32 * 1024 * 1024  # as Python holds it; encoded it is less
COMBINE_BYTES = 512 * 1024  # values held beyond this are combined while they are in the processor's cache
_WORTH_COMBINING = 16  # values of one key
_KEY_BYTES = 184  # what a key costs beside its own size: its place in the dict, its list
_CHUNK = 64, 4096  # pairs taken between two looks at their size: least, most
_CHUNK_BYTES = 256 * 1024
_SAMPLE = 16
_BATCH_VALUES = 32 * 1024
_SHARED_VALUES = 2 * 1024  # partitions smaller than this are encoded together, in one batch


class Collector:
    """Collects the pairs of one map attempt.

    Args:
        partitions: how many reducers there are.
        scratch: a folder for runs, made when the first is cut.
        target: where the finished block appears.
        combiner: called on each group before it is written, and when runs are merged.
        partitioner: (key, partitions) to a partition; the stable hash if None.
        fold: values are folded as they come, and when runs are merged. Not together with a combiner.
        descending: keys are sorted the other way around. Not together with a combiner or a fold.
    """

    def __init__(
        self,
        partitions: int,
        scratch: Path | str,
        target: Path | str,
        combiner: Folder | None,
        partitioner: Partitioner | None,
        fold: Fold | None = None,
        descending: bool = False,
    ) -> None:
        assert combiner is None or (fold is None and not descending), "these do not go together"
        assert fold is None or not descending, "what merges folded values sorts upwards"
        self._partitions = partitions
        self._scratch, self._target = scratch, target
        self._combiner, self._partitioner = combiner if fold is None else fold_combiner(fold), partitioner
        self._encode_key = encode_descending if descending else encode_key
        self._descending = descending
        self._runs: list[BlockInfo] = []
        self._key_bytes = self._value_bytes = self._combined_bytes = 0
        self._charged = 0  # for so many values ``_value_bytes`` was charged
        self._chunk = _CHUNK[0]
        self._sums = is_sum(combiner)
        self._folds = Folds(fold, self._charge_key) if fold is not None else None
        self._single = self._sums or fold is not None  # a key has one value, and no list of them
        self._groups: dict[Any, Any] = (
            self._folds if self._folds is not None  # an empty one is false
            else _Sums(self._charge_sum) if self._sums
            else _Lists(self._charge_key)
        )  # fmt: skip
        self.spilled_bytes = 0

    def consume(self, pairs: Iterator[tuple[Any, Any]]) -> None:
        """Take all of ``pairs``.

        Raises:
            KeyTypeRefused: a key is of a type without order and stable hash.
            UserCodeError: something that is not a pair was yielded.
        """
        if self._folds is not None:
            self._consume_folds(pairs, self._folds)
        elif self._sums:
            self._consume_sums(pairs)
        else:
            self._consume_lists(pairs)

    @property
    def sums(self) -> bool:
        """Whether pairs are added up as they come, and none is kept."""
        return self._sums

    def group_inlined(self, mapper: Inlined, yields: int, key: Any, records: Iterator[Any]) -> None:
        """Take all that ``mapper`` (see ``compute.inline``) puts into groups for ``records`` of one key."""
        groups = self._groups
        if self._sums:
            for record in records:
                mapper(groups, key, record)
            return
        step = max(1, _CHUNK[1] // yields)
        while left := length_hint(records):
            for record in islice(records, step):
                mapper(groups, key, record)
            # Keys that come again have their newest value last, and the newest keys stand last themselves.
            some = chain(islice(groups.values(), _SAMPLE // 2), islice(reversed(groups.values()), _SAMPLE // 2))
            sample = [values[-1] for values in some if values]
            self._charge_values(sample, min(left, step) * yields)
            self._shrink()

    def finish(self) -> BlockInfo:
        """Write the block."""
        if not self._runs:
            return self._write_groups(Path(self._target)) if self._groups else BlockInfo("", ())
        if self._groups:
            self._cut_run()
        partitions = range(self._partitions)
        runs, _, written = fan_in(self._runs, partitions, Path(self._scratch), self._combiner)
        self.spilled_bytes += written
        return merge_blocks(runs, partitions, Path(self._target), self._combiner)

    def _consume_sums(self, pairs: Iterator[tuple[Any, Any]]) -> None:
        sums = self._groups
        key = value = None
        try:
            for key, value in pairs:
                sums[key] += value
        except (TypeError, ValueError) as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise  # from user code, deeper down
            check_pair((key, value), None, "mapper", shuffled=True)
            if "unpack" in str(error):  # the pair is not in hand; whoever looks for the record will find it
                raise misuse(
                    None, "mapper", "A mapper must yield pairs (key, value).", "Write `yield key, value`."
                ) from error
            assert self._combiner is not None
            combine_group(self._combiner, key, iter([value]))  # raises as the user's own sum() does
            raise

    def _consume_folds(self, pairs: Iterator[tuple[Any, Any]], folds: Folds) -> None:
        while each := folds.take(pairs, self._chunk):
            self._set_chunk(each)
            if self._key_bytes + folds.held_bytes >= RUN_BYTES:
                folds.recount()
                # Not for little room: it would soon be full again, and counting takes time.
                if self._key_bytes + folds.held_bytes >= RUN_BYTES - RUN_BYTES // 8:
                    self._cut_run()

    def _consume_lists(self, pairs: Iterator[tuple[Any, Any]]) -> None:
        groups = self._groups
        while chunk := list(islice(pairs, self._chunk)):
            try:
                for key, value in chunk:
                    groups[key].append(value)
            except (TypeError, ValueError) as error:
                if error.__traceback__ is None or error.__traceback__.tb_next is None:
                    for pair in chunk:
                        check_pair(pair, None, "mapper", shuffled=True)
                raise
            self._charge_values([value for _, value in chunk[:: len(chunk) // _SAMPLE + 1]], len(chunk))
            self._shrink()

    def _charge_key(self, key: Any) -> None:
        if type(key) is str:  # the commonest: the same, in a third of the time
            self._key_bytes += _KEY_BYTES + key.__sizeof__()
            return
        check_key(key)
        self._key_bytes += _KEY_BYTES + weight(key)

    def _charge_sum(self, key: Any) -> None:
        self._charge_key(key)
        if self._key_bytes >= RUN_BYTES:
            self._cut_run()

    def _charge_values(self, sample: Sequence[Any], count: int) -> None:
        # One object yielded again and again (a file's name, say) costs a reference each time.
        distinct = {id(value): value for value in sample}
        each = 8 + sum(map(weight, distinct.values())) // max(1, len(sample))
        self._value_bytes += each * count
        self._charged += count
        self._set_chunk(each)

    def _set_chunk(self, each: int) -> None:
        """Choose how many pairs are taken next, if one takes so many bytes."""
        self._chunk = min(max(_CHUNK_BYTES // each, _CHUNK[0]), _CHUNK[1])

    def _shrink(self) -> None:
        """Combine when values have piled up, cut a run when that does not help."""
        if self._combiner is not None and self._value_bytes >= 2 * self._combined_bytes + COMBINE_BYTES:
            self._combine_groups(self._combiner)
        if self._key_bytes + self._value_bytes >= RUN_BYTES:
            self._recount()
            if self._key_bytes + self._value_bytes >= RUN_BYTES:
                self._cut_run()

    def _combine_groups(self, combiner: Folder) -> None:
        self._recount()
        groups = self._groups
        each = self._value_bytes // max(1, self._charged)
        held_bytes = count = 0
        for key, values in groups.items():
            if len(values) >= _WORTH_COMBINING:
                combined = groups[key] = combine_group(combiner, key, iter(values))
                held_bytes += sum(8 + weight(value) for value in combined)
                count += len(combined)
            else:
                held_bytes += each * len(values)
                count += len(values)
        self._value_bytes = self._combined_bytes = held_bytes
        self._charged = count

    def _recount(self) -> None:
        """Charge only the values that are held: a mapper may yield fewer than were charged for its records."""
        held = sum(map(len, self._groups.values()))
        if held < self._charged:
            self._value_bytes = self._value_bytes * held // self._charged
            self._charged = held

    def _cut_run(self) -> None:
        self._add_run(self._write_groups)

    def _add_run(self, write: Callable[[Path], BlockInfo]) -> None:
        scratch = Path(self._scratch)
        scratch.mkdir(parents=True, exist_ok=True)
        self._runs.append(write(scratch / f"run-{len(self._runs):05d}"))
        self.spilled_bytes += self._runs[-1].size_bytes

    def _write_groups(self, path: Path) -> BlockInfo:
        """Write what the dict holds, sorted, as a block, and empty the dict."""
        if self._folds is not None:
            self._folds.settle()
        self._combine_all()
        keys = list(self._groups)
        kind = key_kind(keys) if keys and not self._descending else ANY
        shown = self._encoded(keys) if kind == ANY else None
        with BlockWriter(path, self._partitions) as writer:
            for batch, rows in self._batches(kind, self._by_partition(keys, shown), shown):
                begin = 0
                for partition, count in rows:
                    writer.write(partition, batch if count == len(batch) else batch.slice(begin, count))
                    begin += count
            self._groups.clear()
            self._key_bytes = self._value_bytes = self._combined_bytes = self._charged = 0
            return writer.finish()

    def _combine_all(self) -> None:
        """Combine every group. A key without values is no key: a reducer must not see it."""
        if self._combiner is None or self._single:
            return
        for key in list(self._groups):
            if combined := combine_group(self._combiner, key, iter(self._groups[key])):
                self._groups[key] = combined
            else:
                del self._groups[key]

    def _encoded(self, keys: Sequence[Any]) -> dict[bytes, Any]:
        """Encoding → key. Keys that are equal here and not to Python (NaN) become one sum."""
        shown: dict[bytes, Any] = {}
        for key in keys:
            first = shown.setdefault(self._encode_key(key), key)
            if first is not key:
                self._groups[first] += self._groups[key]
        return shown

    def _by_partition(self, keys: Sequence[Any], shown: dict[bytes, Any] | None) -> list[list[Any]]:
        """The sortable forms of the keys, by partition."""
        count = self._partitions
        sortables: Sequence[Any] = keys if shown is None else list(shown)
        if count == 1 and self._partitioner is None:
            return [list(sortables)]
        buckets: list[list[Any]] = [[] for _ in range(count)]
        choose = stable_partition if self._partitioner is None else _checked(self._partitioner)
        for sortable in sortables:
            buckets[choose(sortable if shown is None else shown[sortable], count)].append(sortable)
        return buckets

    def _batches(
        self, kind: Any, buckets: Sequence[list[Any]], shown: dict[bytes, Any] | None
    ) -> Iterator[tuple[Any, list[tuple[int, int]]]]:
        """Batches, and how many rows of each belong to which partitions, one after another."""
        parts: list[_Part] = []
        pending = 0
        for partition, sortable in enumerate(buckets):
            if parts and pending + len(sortable) > _SHARED_VALUES:
                yield self._encode(kind, parts)
                parts, pending = [], 0
            sortable.sort()
            keys = sortable if shown is None else [shown[encoded] for encoded in sortable]
            begin, last = 0, len(keys) - 1
            for place, key in enumerate(keys):
                pending += 1 if self._single else len(self._groups[key])
                if pending >= _BATCH_VALUES or place == last:
                    parts.append((partition, sortable[begin : place + 1], keys[begin : place + 1]))
                    begin = place + 1
                if pending >= _BATCH_VALUES:
                    yield self._encode(kind, parts)
                    parts, pending = [], 0
        if parts:
            yield self._encode(kind, parts)

    def _encode(self, kind: Any, parts: Sequence[_Part]) -> tuple[Any, list[tuple[int, int]]]:
        keys = [key for _, _, some in parts for key in some]
        sortable = keys if kind != ANY else [encoded for _, some, _ in parts for encoded in some]
        share = len(parts) == 1  # else the batch is cut by partition
        held = list(map(self._groups.__getitem__, keys))
        values = held if self._single else list(chain.from_iterable(held))
        counts = [1] * len(keys) if self._single else list(map(len, held))
        batch = make_batch(kind, sortable, keys, counts, encode_or_refuse(values, share), share)
        return batch, [(partition, len(some)) for partition, _, some in parts]


_Part = tuple[int, list[Any], list[Any]]  # a partition, some of its keys as they are sorted, and as they are


class _Lists(dict[Any, Any]):
    """key → list of values."""

    def __init__(self, charge: Callable[[Any], None]) -> None:
        self._charge = charge
        self._nans: dict[bytes, Any] = {}  # encoding → the first such key, which has the values of all

    def __missing__(self, key: Any) -> list[Any]:
        if type(key) is not str and holds_nan(key):
            first = self._nans.setdefault(encode_key(key), key)
            if first is not key:
                found: list[Any] = self[first]
                return found
        self._charge(key)
        values: list[Any] = []
        self[key] = values
        return values


class _Sums(dict[Any, Any]):
    """key → sum of values. A new key may empty the dict first: the value is then the first of the next run."""

    def __init__(self, charge: Callable[[Any], None]) -> None:
        self._charge = charge

    def __missing__(self, key: Any) -> int:
        self._charge(key)
        return 0


def stable_partition(key: Any, partitions: int) -> int:
    """Where a key goes if the job does not say."""
    return stable_hash(key) % partitions


def _checked(partitioner: Partitioner) -> Partitioner:
    def choose(key: Any, partitions: int) -> int:
        try:
            partition = partitioner(key, partitions)
        except GristmillError:
            raise
        except Exception as error:  # whatever user code raises
            raise locate(user_error(error, "partitioner"), record=key, source="") from error
        if not isinstance(partition, int) or not 0 <= partition < partitions:
            message = f"The partitioner gave {partition!r} for the key {key!r} and {partitions} partitions."
            raise misuse(partitioner, "partitioner", message, f"It must return an int from 0 to {partitions - 1}.")
        return partition

    return choose
